"""The API's error bodies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Numeric codes that the API is known to give; every other error has none.
CODES = {"invalid_model": "1500", "rate_limited": "1300", "service_tier_capacity_exceeded": "3505"}


class ApiError(Exception):
    """An answer that is not a success.

    :param status: HTTP status code.
    :param kind: the body's ``type``.
    :param headers: further headers of the answer, such as ``Retry-After``.
    """

    def __init__(
        self,
        status: int,
        message: str,
        kind: str = "invalid_request_error",
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The body in Mistral's form."""
        return error_body(self.message, self.kind, self.param)

    def openai_body(self) -> dict[str, Any]:
        """The body in the OpenAI-compatible dialect's form."""
        body = self.body()
        del body["object"]
        return {"error": body}


def error_body(message: str, kind: str, param: str | None = None) -> dict[str, Any]:
    """``{"object": "error", "message", "type", "param", "code"}``."""
    return {"object": "error", "message": message, "type": kind, "param": param, "code": CODES.get(kind)}


class InvalidField(Exception):
    """A 422: one or more fields of a request are not as they must be.

    :param problems: ``(loc, msg, type)`` of each.
    """

    def __init__(self, *problems: tuple[tuple[str | int, ...], str, str]) -> None:
        super().__init__(problems[0][1])
        self.problems = [{"loc": list(loc), "msg": msg, "type": kind} for loc, msg, kind in problems]


def missing_field(*loc: str | int) -> InvalidField:
    """The 422 for a field that must be there and is not."""
    return InvalidField((loc, "Field required", "missing"))


def not_found(what: str, of: str) -> ApiError:
    """The 404 for an id that the caller's workspace does not have."""
    return ApiError(404, f"{what} {of} not found", "not_found_error")
