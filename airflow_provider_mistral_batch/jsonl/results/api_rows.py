"""Result rows as the API writes them: the fields that are read, at the depth at which they are read."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec

from airflow_provider_mistral_batch.api.decoding import UNREADABLE, decoded, decoded_leniently, is_utf8
from airflow_provider_mistral_batch.jsonl.requests.nesting import is_too_deep

#: Most tokens, pages or seconds of one answer; a server that says more does not know. So all sums fit into a manifest,
#: whose numbers have 64 bits.
MOST = 10**10

Amount = Annotated[int, msgspec.Meta(ge=0, le=MOST)]
Seconds = Amount | Annotated[float, msgspec.Meta(ge=0, le=MOST)]

# What a row has whose request succeeded.
CustomId = Annotated[str, msgspec.Meta(min_length=1)]
Success = Annotated[int, msgspec.Meta(ge=200, lt=300)]

#: The documented reasons why an answer ended, but for ``error``. A row with any other is read field by field.
FinishReason = Literal["stop", "length", "model_length", "tool_calls"]


class PromptDetails(msgspec.Struct, gc=False):
    """``prompt_tokens_details`` of usage."""

    cached_tokens: Amount | None = None


class Usage(msgspec.Struct, gc=False):
    """``usage`` of chat, FIM, embeddings, moderations, conversations and transcriptions."""

    prompt_tokens: Amount | None = None
    completion_tokens: Amount | None = None
    total_tokens: Amount | None = None
    prompt_audio_seconds: Seconds | None = None
    prompt_tokens_details: PromptDetails | None = None


class PageUsage(msgspec.Struct, gc=False):
    """``usage_info`` of OCR."""

    pages_processed: Amount | None = None
    pages_processed_annotation: Amount | None = None


class Ending(msgspec.Struct, gc=False):
    """How one of the ``choices`` of chat and FIM ended."""

    finish_reason: FinishReason | None = None


class Image(msgspec.Struct, gc=False):
    """One of the ``images`` of a page."""

    image_annotation: Any = None


class PageOfImages(msgspec.Struct, gc=False):
    """One of the ``pages`` of OCR, as far as it says what it cost."""

    images: list[Image] | None = None


class Costs(msgspec.Struct, gc=False):
    """What an answer's body says about its costs, and whether it is an answer."""

    usage: Usage | None = None
    usage_info: PageUsage | None = None
    choices: Sequence[Ending] | None = None
    pages: Sequence[PageOfImages] | None = None
    document_annotation: Any = None
    #: Set by :func:`odd_costs`: some amount cannot be read, so the sums lack it.
    is_partly_unreadable: bool = msgspec.field(default=False, name="(unreadable amounts)")


class Message(msgspec.Struct, gc=False):
    """``message`` of a choice."""

    content: Any = None


class Choice(Ending, gc=False):
    """One of the ``choices`` of chat and FIM; it has ``messages`` where the server called tools meanwhile."""

    message: Message | None = None
    messages: list[Any] | None = None


class Page(PageOfImages, gc=False):
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

    status_code: Success
    body: BodyT


class SucceededRow(ApiRow[BodyT], Generic[BodyT], gc=False):
    """A row whose request succeeded: what decodes as this needs no further look. Most blocks have no other rows."""

    custom_id: CustomId
    response: SucceededResponse[BodyT]
    error: None = None


_decode_row = msgspec.json.Decoder(ApiRow[Costs]).decode
_decode_anything = msgspec.json.Decoder().decode


def read_api_row(line: bytes) -> ApiRow[Costs] | None:
    """
    Decode a row of any shape.

    :param line: The row.
    :return: What can be read of it; None if it is not a JSON object, or nested too deeply.
    """
    if not is_utf8(line) or is_too_deep(line):
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
            read_status(response.get("status_code")), None if body is None else odd_costs(body)
        )
    return ApiRow(custom_id if isinstance(custom_id, str) else None, read, error)


def row_fields(line: bytes) -> dict[str, Any] | None:
    """Decode all fields of a row; None if it is not a JSON object, or nested too deeply."""
    if is_too_deep(line):
        return None
    try:
        fields = decoded(_decode_anything, line)
    except UNREADABLE:
        try:
            fields = decoded_leniently(line)
        except (ValueError, RecursionError):
            return None
    return fields if isinstance(fields, dict) else None


def read_status(value: Any) -> int | None:
    """Read an HTTP status code, which may be a number or a text; None if it is neither."""
    status = _whole(_number(value))
    return status if status is not None and 0 <= status < 1_000 else None


def odd_costs(body: Any) -> Costs:
    """
    Read what can be summed of a body whose fields may have other types than the API documents.

    :param body: The decoded body.
    """
    fields = body if isinstance(body, dict) else {}
    usage, info, choices = (fields.get(name) for name in ("usage", "usage_info", "choices"))
    return Costs(
        _usage(usage, _countable),
        _page_usage(info, _countable),
        _choices(choices),
        _pages(fields.get("pages")),
        fields.get("document_annotation"),
        is_partly_unreadable=_has_uncountable(usage) or _has_uncountable(info),
    )


def odd_answer(body: Any) -> Answer:
    """
    Read a body whose fields may have other types than the API documents: each by itself, and amounts as they are given.

    :param body: The decoded body.
    """
    fields = body if isinstance(body, dict) else {}
    return Answer(
        _usage(fields.get("usage"), _number),
        _page_usage(fields.get("usage_info"), _number),
        _choices(fields.get("choices")),
        model=_text(fields.get("model")),
        pages=_pages(fields.get("pages")),
        outputs=_list(fields.get("outputs")),
        text=_text(fields.get("text")),
    )


def _usage(value: Any, read: Callable[[Any], Any]) -> Usage | None:
    if not isinstance(value, dict):
        return None
    amounts = {name: _whole(read(value.get(name))) for name in _TOKENS}
    return Usage(
        **amounts,
        prompt_audio_seconds=read(value.get("prompt_audio_seconds")),
        prompt_tokens_details=PromptDetails(_whole(read(_cached(value)))),
    )


def _page_usage(value: Any, read: Callable[[Any], Any]) -> PageUsage | None:
    if not isinstance(value, dict):
        return None
    return PageUsage(**{name: _whole(read(value.get(name))) for name in PageUsage.__struct_fields__})


def _has_uncountable(usage: Any) -> bool:
    """Tell whether some amount is there, but is none that can be summed; null says nothing."""
    if not isinstance(usage, dict):
        return usage is not None
    whole = [usage.get(name) for name in (*_TOKENS, *PageUsage.__struct_fields__)]
    whole.append(_cached(usage))
    seconds = usage.get("prompt_audio_seconds")
    return any(value is not None and _whole(_countable(value)) is None for value in whole) or (
        seconds is not None and _countable(seconds) is None
    )


_TOKENS = ("prompt_tokens", "completion_tokens", "total_tokens")


def _cached(usage: dict[str, Any]) -> Any:
    details = usage.get("prompt_tokens_details")
    return details.get("cached_tokens") if isinstance(details, dict) else details


def _choices(value: Any) -> list[Choice] | None:
    return [_choice(choice) for choice in value] if isinstance(value, list) else None


def _choice(value: Any) -> Choice:
    fields = value if isinstance(value, dict) else {}
    message = fields.get("message")
    return Choice(
        _text(fields.get("finish_reason")),
        Message(message.get("content")) if isinstance(message, dict) else None,
        _list(fields.get("messages")),
    )


def _pages(value: Any) -> list[Page] | None:
    if not isinstance(value, list):
        return None
    pages = [page if isinstance(page, dict) else {} for page in value]
    return [Page(_images(page.get("images")), _text(page.get("markdown"))) for page in pages]


def _images(value: Any) -> list[Image] | None:
    images = value if isinstance(value, list) else ()
    return [Image(image.get("image_annotation")) for image in images if isinstance(image, dict)]


def _list(value: Any) -> list[Any] | None:
    return value if isinstance(value, list) else None


def _text(value: Any) -> Any:
    return value if isinstance(value, str) else None


_DIGITS = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?", re.ASCII)


def _number(value: Any) -> int | float | None:
    """Read a number, which gateways also write as a text."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = float(value) if "." in value else int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if isinstance(value, int) or math.isfinite(value) else None


def _countable(value: Any) -> int | float | None:
    number = _number(value)
    return number if number is not None and 0 <= number <= MOST else None


def _whole(number: int | float | None) -> int | None:
    return int(number) if number is not None and number == int(number) else None
