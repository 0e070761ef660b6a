"""What a result row says: did its request succeed, why not, may another try pass, what did it cost."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec

#: ``error.code`` of rows that we fail ourselves: the API answered, but the answer is not what was asked for.
INVALID_OUTPUT = "invalid_output"

#: ``error.code`` of lines that are no result row at all. Their requests count as missing.
MALFORMED_ROW = "malformed_row"

#: Status codes of failures that can pass, beside all of 5xx. 0 is what gateways write when they got no answer.
_PASSING_STATUS_CODES = frozenset({0, 408, 409, 429})

_EXPIRED = re.compile(r"expired|timed?[ _-]?out", re.IGNORECASE)

_MAX_MESSAGE_LENGTH = 300


class TokenUsage(msgspec.Struct, gc=False):
    """``usage`` of chat, FIM, embeddings, moderations, conversations and transcriptions."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_audio_seconds: int | float | None = None


class PageUsage(msgspec.Struct, gc=False):
    """``usage_info`` of OCR."""

    pages_processed: int = 0


class AnswerHead(msgspec.Struct, gc=False):
    """The fields of an answer's body that are summed."""

    usage: TokenUsage | None = None
    usage_info: PageUsage | None = None


class Response(msgspec.Struct, gc=False):
    """``response`` of a result row."""

    status_code: int | None = None
    body: AnswerHead | None = None


class Outcome(msgspec.Struct, gc=False):
    """A result row, as far as its verdict and its costs go."""

    custom_id: str | None = None
    response: Response | None = None
    error: Any = None


class GoodResponse(msgspec.Struct, gc=False):
    """``response`` of a row that succeeded."""

    status_code: Annotated[int, msgspec.Meta(ge=200, lt=300)]
    body: AnswerHead


class GoodOutcome(msgspec.Struct, gc=False):
    """A result row that succeeded: what decodes as this needs no further look. Most blocks of rows are all good."""

    custom_id: str
    response: GoodResponse
    error: None = None


class LooseRow(msgspec.Struct, gc=False):
    """A result row of which nothing is known but that it is an object."""

    custom_id: Any = None
    response: Any = None
    error: Any = None


def succeeded(outcome: Outcome) -> bool:
    """
    Tell whether a row's request succeeded: no error, a status code of 2xx, and an answer.

    A null body with status 200 is no answer that anybody could use.
    """
    response = outcome.response
    return (
        response is not None
        and outcome.error is None
        and response.body is not None
        and response.status_code is not None
        and 200 <= response.status_code < 300
    )


def may_pass(status_code: int | None, error_code: str | None, message: str) -> bool:
    """
    Tell whether a failed request is worth another try.

    Time-outs, conflicts, rate limits, the server's own trouble and expired jobs pass; what the API refused (400, 422
    and the other 4xx) and answers that did not validate never do by themselves.

    :param status_code: HTTP status code of the row; None if there was no response.
    :param error_code: ``error.code`` of the row.
    :param message: The row's error message.
    """
    if error_code == INVALID_OUTPUT:
        return False
    if status_code is None and error_code is not None and re.fullmatch(r"[1-5][0-9][0-9]", error_code):
        # Without a response, the error's code is the status that the request would have had.
        status_code = int(error_code)
    if status_code is not None and status_code >= 300:
        return status_code in _PASSING_STATUS_CODES or 500 <= status_code <= 599
    if status_code == 0 or error_code == MALFORMED_ROW:
        return True
    # No status, or 2xx without an answer: only a stated reason other than expiry speaks against another try.
    return not (error_code or message) or bool(_EXPIRED.search(f"{error_code} {message}"))


class Failure(msgspec.Struct, gc=False):
    """
    Why a row failed.

    :param status_code: HTTP status code of the row; None if there was no response.
    :param code: The API's code of the error, if it gave one.
    :param message: The error's text, cut after 300 characters.
    :param may_pass: Whether another try can succeed.
    """

    status_code: int | None
    code: str | None
    message: str
    may_pass: bool


_decode_anything = msgspec.json.Decoder().decode


def failure(line: bytes) -> Failure:
    """
    Find out why a row failed, wherever the API or a gateway put the reason.

    :param line: The result row.
    """
    try:
        row = _decode_anything(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        row = None
    if not isinstance(row, dict):
        return Failure(None, MALFORMED_ROW, "the row is not a JSON object", True)
    response = row.get("response")
    status_code, body = None, None
    if isinstance(response, dict):
        body = response.get("body")
        status_code = response.get("status_code")
        if not isinstance(status_code, int) or isinstance(status_code, bool):
            status_code = None
    code, message = _reason(row.get("error"))
    if not message and not (status_code is not None and 200 <= status_code < 300):
        body_code, message = _reason(body)
        code = code or body_code
    return Failure(status_code, code, message, may_pass(status_code, code, message))


def _reason(value: Any) -> tuple[str | None, str]:
    if isinstance(value, dict):
        if isinstance(value.get("error"), (dict, str)):
            return _reason(value["error"])
        code = value.get("code")
        detail = value.get("message") or value.get("detail") or ""
        if isinstance(detail, dict):
            detail = detail.get("detail", detail)
        if isinstance(detail, list):
            detail = "; ".join(_field_error(item) for item in detail[:5])
        if not detail and code is None and value:
            detail = msgspec.json.encode(value).decode()
        return None if code is None else str(code), _cut(str(detail))
    if value is None:
        return None, ""
    return None, _cut(value if isinstance(value, str) else str(value))


def _field_error(item: Any) -> str:
    if not isinstance(item, dict):
        return str(item)
    location = item.get("loc")
    where = ".".join(map(str, location)) if isinstance(location, list) else ""
    return f"{where}: {item.get('msg')}" if where else str(item.get("msg"))


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _MAX_MESSAGE_LENGTH else f"{text[:_MAX_MESSAGE_LENGTH]}…"
