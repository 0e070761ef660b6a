"""Result rows as the API writes them: the fields that are read, at the depth at which they are read."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

import msgspec

from airflow_provider_mistral_batch.api.decoding import UNREADABLE, decoded, is_utf8


class Usage(msgspec.Struct, gc=False):
    """``usage`` of chat, FIM, embeddings, moderations, conversations and transcriptions."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_audio_seconds: int | float | None = None


class PageUsage(msgspec.Struct, gc=False):
    """``usage_info`` of OCR."""

    pages_processed: int | None = None


class Costs(msgspec.Struct, gc=False):
    """What an answer's body says about its costs."""

    usage: Usage | None = None
    usage_info: PageUsage | None = None


class Message(msgspec.Struct, gc=False):
    """``message`` of a choice."""

    content: Any = None


class Choice(msgspec.Struct, gc=False):
    """One of the ``choices`` of chat and FIM."""

    message: Message | None = None
    finish_reason: str | None = None


class Page(msgspec.Struct, gc=False):
    """One of the ``pages`` of OCR."""

    markdown: str | None = None


class Answer(Costs, gc=False):
    """An answer's body, whichever endpoint gave it."""

    model: str | None = None
    choices: list[Choice] | None = None
    pages: list[Page] | None = None
    outputs: list[Any] | None = None
    text: str | None = None


# Rows are read at two depths: splitting needs what an answer cost, reading needs all of it. If splitting decoded whole
# answers, too, a row would take 1.1 µs instead of 0.7 µs to decode, and the split would lose a tenth of its speed.
BodyT = TypeVar("BodyT", bound=Costs)


class ApiResponse(msgspec.Struct, Generic[BodyT], gc=False):
    """``response`` of a row."""

    status_code: int | None = None
    body: BodyT | None = None


class ApiRow(msgspec.Struct, Generic[BodyT], gc=False):
    """Any row."""

    custom_id: str | None = None
    response: ApiResponse[BodyT] | None = None
    error: Any = None


class SucceededResponse(ApiResponse[BodyT], Generic[BodyT], gc=False):
    """``response`` of a row whose request succeeded."""

    status_code: Annotated[int, msgspec.Meta(ge=200, lt=300)]
    body: BodyT


class SucceededRow(ApiRow[BodyT], Generic[BodyT], gc=False):
    """A row whose request succeeded: what decodes as this needs no further look. Most blocks have no other rows."""

    custom_id: str
    response: SucceededResponse[BodyT]
    error: None = None


_decode_row = msgspec.json.Decoder(ApiRow[Costs]).decode
_decode_anything = msgspec.json.Decoder().decode


def read_api_row(line: bytes) -> ApiRow[Costs] | None:
    """
    Decode a row of any shape.

    :param line: The row.
    :return: What can be read of it; None if it is not a JSON object.
    """
    if not is_utf8(line):
        return None
    try:
        return decoded(_decode_row, line)
    except UNREADABLE:
        pass
    fields = row_fields(line)
    if fields is None:
        return None
    custom_id, response, error = (fields.get(name) for name in ("custom_id", "response", "error"))
    read: ApiResponse[Costs] | None = None
    if isinstance(response, dict):
        body = response.get("body")
        read = ApiResponse(
            _whole(response.get("status_code")), None if body is None else odd_body(body, Costs)
        )
    return ApiRow(custom_id if isinstance(custom_id, str) else None, read, error)


def row_fields(line: bytes) -> dict[str, Any] | None:
    """Decode all fields of a row; None if it is not a JSON object."""
    try:
        fields = decoded(_decode_anything, line)
    except UNREADABLE:
        return None
    return fields if isinstance(fields, dict) else None


def odd_body(body: Any, as_type: type[BodyT]) -> BodyT:
    """
    Read what can be read of a body whose fields may have other types than the API documents.

    :param body: The decoded body.
    :param as_type: How much of it to read.
    """
    fields = body if isinstance(body, dict) else {}
    costs = {name: _amounts(fields.get(name)) for name in ("usage", "usage_info")}
    try:
        return msgspec.convert({**fields, **costs}, as_type)
    except msgspec.ValidationError:
        return msgspec.convert(costs, as_type)


def _amounts(usage: Any) -> dict[str, int | float]:
    fields = usage.items() if isinstance(usage, dict) else ()
    return {
        name: amount
        for name, amount in fields
        if _whole(amount) is not None or (name == "prompt_audio_seconds" and isinstance(amount, float))
    }


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
