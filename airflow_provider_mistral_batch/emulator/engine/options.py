"""What the server tells the engine at its start: the upstream server that answers the rows, if there is one."""

from __future__ import annotations

import msgspec

#: Environment variable that has the options as JSON. Everybody on the machine can read a command line, and a key is
#: among them.
UPSTREAM_VARIABLE = "MISTRAL_EMULATOR_UPSTREAM"


class UpstreamOptions(msgspec.Struct, frozen=True):
    """
    An upstream server, and how it is asked.

    :param url: Its base URL, with or without ``/v1``.
    :param key: Bearer token for it.
    :param model: The model to ask, whatever rows and jobs name.
    :param concurrency: How many requests it is sent at the same time.
    """

    url: str
    key: str | None = None
    model: str | None = None
    concurrency: int = 4
