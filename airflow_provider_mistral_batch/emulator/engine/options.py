"""What the server tells the engine when it starts it: which upstream server answers the rows, if one does."""

from __future__ import annotations

import msgspec

#: Environment variable that holds the options as JSON. They may include a key, and everybody on the machine can read
#: a command line.
UPSTREAM_VARIABLE = "MISTRAL_EMULATOR_UPSTREAM"


class UpstreamOptions(msgspec.Struct, frozen=True):
    """
    An upstream server, and how it is asked.

    :param url: Its base URL, with or without ``/v1``.
    :param key: Bearer token for it.
    :param model: The model to ask, whatever rows and jobs name.
    :param concurrency: How many requests are sent to it at the same time.
    """

    url: str
    key: str | None = None
    model: str | None = None
    concurrency: int = 4
