"""
Requests that a web page may have sent: they are refused.

A page that is open in a browser on this machine can send requests to the emulator. Whatever has no token must carry a
header that the browser does not let a foreign page send. A page whose own name suddenly leads to this machine (DNS
rebinding) is no foreign page to the browser: it is told by the header ``Host``.
"""

from __future__ import annotations

from ipaddress import ip_address

#: The header that a request to the control API must have, with any value.
CONTROL_HEADER = "X-Emulator-Control"

#: What needs no header: it changes nothing, and tells nothing.
_OPEN = "/emulator/health"


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def refusal(path: str, host: str | None, control: str | None, *, local: bool) -> str | None:
    """
    Say why a request is refused.

    :param path: The request's path.
    :param host: Its header ``Host``.
    :param control: Its header :data:`CONTROL_HEADER`.
    :param local: Whether the emulator listens to this machine alone.
    :return: The reason and the remedy; ``None`` if the request is not refused.
    """
    if local and host is not None and not is_loopback(_without_port(host)):
        return (
            f"The header Host is {host[:100]!r}, which is not this machine: call the emulator by 127.0.0.1 or"
            " localhost, or start it with --host to let other machines in"
        )
    if path.startswith("/emulator") and path != _OPEN and not control:
        return f"Requests to the control API need the header {CONTROL_HEADER}: 1, so that no web page can send them"
    return None


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
