"""Bodies of answers that are errors: the API's error object, and the list of what is invalid in a request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

#: Numeric codes that the API is known to give; its other errors have none.
_CODES = {"invalid_model": "1500", "rate_limited": "1300", "service_tier_capacity_exceeded": "3505"}


class TooLarge(Exception):
    """An answer, or the work to find it, would be too large."""


def error_body(message: str, kind: str, param: str | None = None) -> dict[str, Any]:
    """
    The API's error object.

    :param kind: Its ``type``.
    :param param: The field that the error is about.
    """
    return {"object": "error", "message": message, "type": kind, "param": param, "code": _CODES.get(kind)}


def invalid_body(*problems: tuple[Iterable[str | int], str, str]) -> dict[str, Any]:
    """
    The body of a 422.

    :param problems: ``loc``, ``msg`` and ``type`` of each: where in the request, what is wrong, and its kind.
    """
    return {"detail": [{"loc": list(loc), "msg": message, "type": kind} for loc, message, kind in problems]}
