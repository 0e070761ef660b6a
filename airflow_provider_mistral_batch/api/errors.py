"""The exceptions of calls to the API, in one tree."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from airflow_provider_mistral_batch.api.error_bodies import decode_error
from airflow_provider_mistral_batch.api.texts import WORD_LENGTH, kept


class MistralBatchError(Exception):
    """Root of every error that this package raises on purpose."""


class InvalidInputError(MistralBatchError, ValueError):
    """A value that the caller passed is invalid; nothing was sent. A retry cannot help."""


class EmptyPartError(InvalidInputError):
    """A part of a source has no rows. That is no fault: the others may have all."""


class StorageError(MistralBatchError, OSError):
    """
    A disk or an object store failed: it does not answer, is full, or refuses. A retry may help.

    :param path: The path.
    :param failing: What fails, for what reason, and what to do, such as ``cannot be read (…): …``.
    :param refused: Whether the same will happen again until somebody changes something.
    """

    def __init__(self, path: str, failing: str, *, refused: bool = False) -> None:
        self.path = path
        self.failing = failing
        self.refused = refused
        super().__init__(f"{path} {failing}")

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), refused=self.refused), (self.path, self.failing)


class StoragePermissionError(StorageError, PermissionError):
    """A disk or an object store refuses."""


class MistralCallError(MistralBatchError):
    """
    A call to the API had no usable answer.

    :param message: What happened, in one sentence, without secrets.
    :param operation: Method and path of the call, for example ``GET /v1/batch/jobs/…``.
    :param may_have_acted: Whether the server may have carried out the call all the same. If so, check whether the
        resource exists before you repeat a ``POST`` that creates it.
    :param retry_after: Seconds to wait before the next call, if the server asked for a wait.
    """

    def __init__(
        self,
        message: str,
        *,
        operation: str = "",
        may_have_acted: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.operation = operation
        self.may_have_acted = may_have_acted
        self.retry_after = retry_after

    #: Whether the same call can succeed later, with nothing changed.
    transient = False


class MistralConnectionError(MistralCallError):
    """No answer came, or only a part of it: the connection was refused, broken or timed out."""

    transient = True


class MistralResponseError(MistralCallError):
    """The answer is not the API's: for example a proxy's HTML page with status 200."""

    transient = True


class MistralAPIError(MistralCallError):
    """
    The API answered with an error.

    Attributes, all from the API's error body or headers: ``status_code``, ``message``, ``code``, ``type``,
    ``param``, ``request_id``.
    """

    #: What the user can do about it; the end of the message.
    remedy = ""

    #: Whether the server says that it has no such listing at all.
    no_listing = False

    def __init__(
        self,
        message: str,
        *,
        # Needs a default, since pickle passes the message only and restores the attributes afterwards.
        status_code: int = 0,
        code: str | None = None,
        type: str | None = None,  # noqa: A002 - the API's own field name
        param: str | None = None,
        request_id: str | None = None,
        operation: str = "",
        may_have_acted: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, operation=operation, may_have_acted=may_have_acted, retry_after=retry_after)
        self.status_code = status_code
        self.code = code
        self.type = type
        self.param = param
        self.request_id = request_id

    def __str__(self) -> str:
        details = ", ".join(
            f"{name}={value}"
            for name, value in (
                ("code", self.code),
                ("type", self.type),
                ("param", self.param),
                ("request_id", self.request_id),
            )
            if value
        )
        text = f"{self.operation or 'The call'} was answered with {self.status_code}: {self.message}"
        if details:
            text += f" ({details})"
        if self.remedy:
            text += f". {self.remedy}"
        return text


class BadRequestError(MistralAPIError):
    """400, 422 and any other 4xx that has no class of its own: the API refused the call."""


class AuthenticationError(MistralAPIError):
    """401: the API key is unknown, revoked or of another account."""

    remedy = "Check the API key"


class PaymentRequiredError(MistralAPIError):
    """402: the account's plan does not allow batches."""

    remedy = "Batches need a paid plan: set up billing for this workspace in Mistral's console, then run the task again"


class PermissionDeniedError(MistralAPIError):
    """403: the API key may not do this."""

    remedy = "Use the API key of a workspace that owns the resource and may run batches"


class NotFoundError(MistralAPIError):
    """404 and 410: no such job or file in this workspace, or no longer."""

    remedy = "It was deleted, or it belongs to another workspace: check the id and the API key"


class RequestTooLargeError(MistralAPIError):
    """413: the upload is larger than the server accepts."""

    remedy = (
        "Split the request file: the API takes 512 MB at most, and a gateway in front of it may take less"
    )


class RateLimitError(MistralAPIError):
    """429: too many calls, or too many requests pending."""

    transient = True


class ServerError(MistralAPIError):
    """5xx, including 520 to 529 of a CDN, and 408: the server has trouble."""

    transient = True


_ERROR_CLASSES: Mapping[int, type[MistralAPIError]] = {
    401: AuthenticationError,
    402: PaymentRequiredError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: ServerError,
    410: NotFoundError,
    413: RequestTooLargeError,
    429: RateLimitError,
}


#: What helps when the API, an account or a gateway takes fewer requests or bytes at once than the documentation says.
SMALLER_JOBS = (
    "Split the request file: MistralBatchInferenceOperator makes several jobs, each with at most max_job_requests "
    "requests"
)

_TOO_MUCH = re.compile(
    r"too (?:many|much|large|big|long)|exceed|\blimit|maximum|\bmax\b|at most|(?:more|greater|larger) than",
    re.IGNORECASE,
)
_REQUESTS = re.compile(
    r"(?:request|row|line|record|entr(?:y|ie)|item|quer(?:y|ie)|prompt|input)s?\b|\b(?:batch|job|file)\b",
    re.IGNORECASE,
)
_OTHER_LIMITS = re.compile(r"character|metadata|token|hour|per (?:second|minute|day)|\brate\b", re.IGNORECASE)


def speaks_of_size(text: str) -> bool:
    """
    Tell whether an error says that a job or a request file has too many requests or bytes.

    :param text: What the API says.
    """
    return bool(_TOO_MUCH.search(text) and _REQUESTS.search(text)) and not _OTHER_LIMITS.search(text)


# How gateways say that a provider behind them has no such call. LiteLLM asks OpenAI if no model tells it the provider.
_NOT_SUPPORTED = re.compile(
    r"(?:does not|doesn't|do not|don't|not) (?:yet )?(?:support|implement|available)|unsupported|missing credentials",
    re.IGNORECASE,
)


def _has_no_listing(status_code: int, text: str) -> bool:
    return status_code in (404, 405, 501) or (
        status_code in (400, 422, 500) and _NOT_SUPPORTED.search(text) is not None
    )


def error_from_answer(
    status_code: int,
    content: bytes,
    *,
    operation: str,
    request_id: str | None = None,
    retry_after: float | None = None,
    remedies: Mapping[int, str] | None = None,
    conflict_passes: bool = False,
    is_listing: bool = False,
    without_secrets: Callable[[str], str] = str,
) -> MistralAPIError:
    """
    Build the error for an answer with a 4xx or 5xx status.

    :param status_code: HTTP status code of the answer.
    :param content: The answer's body.
    :param operation: Method and path of the call.
    :param request_id: The server's id of the call, which its support asks for.
    :param retry_after: Seconds from the ``Retry-After`` header.
    :param remedies: What the user can do, by status code, where the call tells more than the status.
    :param conflict_passes: Whether a 409 to this call can pass by itself, as while a file is still being processed.
    :param is_listing: Whether the call reads a listing, which some gateways do not have.
    :param without_secrets: Removes secrets from a text; applied before the text is cut.
    """
    body = decode_error(content)
    # The body itself says more than "no message".
    message = body.message or content.decode("utf-8", "replace")
    fields = {"code": body.code, "type": body.type, "param": body.param, "request_id": request_id}
    error = _ERROR_CLASSES.get(status_code, BadRequestError if status_code < 500 else ServerError)(
        kept(message, without_secrets) or "no message",
        status_code=status_code,
        operation=operation,
        retry_after=retry_after,
        # A 4xx means that nothing was done, except for a 408: some proxies send it when the server behind them is slow.
        # A 5xx leaves it open, except for a 503 that asks to come back later.
        may_have_acted=status_code == 408
        or (status_code >= 500 and not (status_code == 503 and retry_after is not None)),
        **{name: kept(text, without_secrets, WORD_LENGTH) if text else None for name, text in fields.items()},
    )
    # A 425 comes before the call is looked at, whatever the call. A 409 tells what stands against this call.
    error.transient = error.transient or status_code == 425 or (status_code == 409 and conflict_passes)
    if is_listing and _has_no_listing(status_code, message):
        error.no_listing, error.transient = True, False
    remedies = remedies or {}
    is_too_large = 413 in remedies and status_code in (400, 422) and speaks_of_size(message)
    error.remedy = remedies.get(413 if is_too_large else status_code, error.remedy)
    return error
