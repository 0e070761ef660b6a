"""What a result row says: did its request succeed, why not, may another try pass, what did it cost."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec

from airflow_provider_mistral_batch.api.decoding import UNREADABLE, decoded, is_utf8
from airflow_provider_mistral_batch.api.error_bodies import read_error

#: ``error.code`` of rows that we fail ourselves: the API answered, but the answer is not what was asked for.
INVALID_OUTPUT = "invalid_output"

#: ``error.code`` of lines that are no result row at all. Their requests count as missing.
MALFORMED_ROW = "malformed_row"

#: ``error.code`` of rows that we write for requests without one.
MISSING_ROW = "missing_row"

#: ``error.code`` of rows that we write for those that are too long to be held.
ROW_TOO_LONG = "row_too_long"

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


class _IdOnly(msgspec.Struct, gc=False):
    custom_id: Any = None


class LooseRow(msgspec.Struct, gc=False):
    """A result row of which nothing is known but that it is an object."""

    custom_id: Any = None
    response: Any = None
    error: Any = None


_decode_anything = msgspec.json.Decoder().decode
_decode_outcome = msgspec.json.Decoder(Outcome).decode
_decode_loose = msgspec.json.Decoder(LooseRow).decode
_decode_id = msgspec.json.Decoder(_IdOnly).decode


def read_row(line: bytes) -> dict[str, Any] | None:
    """Decode a whole row; None if it is none."""
    try:
        row = decoded(_decode_anything, line)
    except UNREADABLE:
        return None
    return row if isinstance(row, dict) else None


def read_outcome(line: bytes) -> Outcome | None:
    """Decode a row whose shape may be odd; None if it is not a row at all."""
    if not is_utf8(line):
        return None
    try:
        return decoded(_decode_outcome, line)
    except UNREADABLE:
        pass
    try:
        loose = decoded(_decode_loose, line)
    except UNREADABLE:
        return None
    response = None
    if isinstance(loose.response, dict):
        response = Response(
            _whole(loose.response.get("status_code")), _answer_head(loose.response.get("body"))
        )
    return Outcome(loose.custom_id if isinstance(loose.custom_id, str) else None, response, loose.error)


def custom_ids(lines: list[bytes]) -> list[str | None]:
    """Give the ids of landed rows, whatever else is in them; None for a row without one."""
    try:
        rows = list(map(_decode_id, lines))
    except UNREADABLE:
        return [None if (row := read_outcome(line)) is None else row.custom_id for line in lines]
    return [row.custom_id if isinstance(row.custom_id, str) else None for row in rows]


def _answer_head(body: Any) -> AnswerHead | None:
    """Read what can be read of an answer's costs."""
    if body is None:
        return None
    found = body if isinstance(body, dict) else {}
    return AnswerHead(
        msgspec.convert(_amounts(found.get("usage")), TokenUsage),
        msgspec.convert(_amounts(found.get("usage_info")), PageUsage),
    )


def _amounts(usage: Any) -> dict[str, int | float]:
    fields = usage.items() if isinstance(usage, dict) else ()
    return {
        name: amount
        for name, amount in fields
        if _whole(amount) is not None or (name == "prompt_audio_seconds" and isinstance(amount, float))
    }


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


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
    if status_code == 0 or error_code in (MALFORMED_ROW, MISSING_ROW):
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


def failure(line: bytes) -> Failure:
    """
    Find out why a row failed, wherever the API or a gateway put the reason.

    :param line: The result row.
    """
    row = read_row(line)
    if row is None:
        return Failure(None, MALFORMED_ROW, "the row is not a JSON object", True)
    response = row.get("response")
    status_code, body = None, None
    if isinstance(response, dict):
        body = response.get("body")
        status_code = response.get("status_code")
        if not isinstance(status_code, int) or isinstance(status_code, bool):
            status_code = None
    said = read_error(row.get("error"))
    code, message = said.code, said.message
    if not message and not (status_code is not None and 200 <= status_code < 300):
        said = read_error(body)
        code, message = code or said.code, said.message
    message = _cut(message)
    return Failure(status_code, code, message, may_pass(status_code, code, message))


def _cut(text: str) -> str:
    # The text may be a whole answer.
    text = " ".join(text[: 4 * _MAX_MESSAGE_LENGTH].split())
    return text if len(text) <= _MAX_MESSAGE_LENGTH else f"{text[:_MAX_MESSAGE_LENGTH]}…"
