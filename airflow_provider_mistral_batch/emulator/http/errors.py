"""Errors that a route raises, to be answered in the API's own form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from airflow_provider_mistral_batch.emulator.answers.errors import error_body, invalid_body


class ApiError(Exception):
    """
    An error with the API's error body.

    :param status: HTTP status code.
    :param message: The body's ``message``.
    :param kind: The body's ``type``.
    :param param: The body's ``param``: the field that the error is about.
    :param headers: Headers of the answer, such as ``Retry-After``.
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


class InvalidField(Exception):
    """
    A 422: fields of the request are not valid.

    :param problems: ``loc``, ``msg`` and ``type`` of each: where in the request, what is wrong, and its kind.
    """

    def __init__(self, *problems: tuple[Iterable[str | int], str, str]) -> None:
        super().__init__(problems[0][1])
        self._problems = problems

    def body(self) -> dict[str, Any]:
        """The body in Mistral's form."""
        return invalid_body(*self._problems)


def missing_field(*loc: str | int) -> InvalidField:
    """The 422 for a required field that is missing."""
    return InvalidField((loc, "Field required", "missing"))


def not_found(what: str, of: str) -> ApiError:
    """
    The 404 for an id that the caller's workspace does not have.

    :param what: What it would be the id of.
    :param of: The id.
    """
    return ApiError(404, f"{what} {of} not found", "not_found_error")
