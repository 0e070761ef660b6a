"""Estimates what a batch costs: before it is sent, and afterwards from its usage. Works offline.

Prices come from the package ``genai-prices``, and ``mistral-common`` counts tokens; the extra ``costs`` installs both.
Mistral's invoice may differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from airflow_provider_mistral_batch.api.decoding import UNREADABLE
from airflow_provider_mistral_batch.api.endpoints import ENDPOINTS
from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.jsonl.lines import ANY_LENGTH, MissingExtraError, file_chunks, line_blocks
from airflow_provider_mistral_batch.jsonl.row_ids import row_ids

#: Share of the normal price that a batch costs: "50 % discount" (Mistral's documentation of the Batch API).
BATCH_SHARE = 0.5

#: About how many tokens mark the role and the ends of each message.
_MESSAGE_TOKENS = 4

#: Most tokens in an image: 1540 by 1540 pixels in patches of 28 by 28, and one token for each line (Mistral's
#: documentation of vision).
_IMAGE_TOKENS = 3080

#: Fields of a body that the model reads as text.
_TEXT_FIELDS = ("input", "inputs", "prompt", "suffix", "instructions")
_JSON_FIELDS = ("tools", "response_format")

#: Fields of our usage, and their names in ``genai-prices``.
_USAGE_NAMES = {
    "prompt_tokens": "input_tokens",
    "completion_tokens": "output_tokens",
    "pages_processed": "input_document_pages",
    "prompt_audio_seconds": "input_audio_seconds",
}


class CostEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """
    An estimate of the most that a batch can cost.

    :param prompt_tokens: Tokens in the requests.
    :param completion_tokens: Most tokens in the answers: the sum of ``max_tokens``.
    :param usd: The price at the batch discount, in US dollars.
    """

    prompt_tokens: int
    completion_tokens: int
    usd: float


def price_usd(model: str, usage: Mapping[str, float]) -> float | None:
    """
    Price some usage at the batch discount.

    :param model: The model's name, as the API knows it.
    :param usage: ``prompt_tokens``, ``completion_tokens``, ``pages_processed``, ``prompt_audio_seconds``.
    :return: US dollars; ``None`` if the model's price is unknown.
    :raises MissingExtraError: When the extra ``costs`` is not installed.
    """
    try:
        import genai_prices
    except ImportError:
        raise MissingExtraError(
            "prices come from genai-prices, which is not installed: install airflow-provider-mistral-batch[costs]"
        ) from None
    counted = {name: math.ceil(usage[ours]) for ours, name in _USAGE_NAMES.items() if usage.get(ours)}
    if "input_audio_seconds" in counted:
        counted["audio_seconds"] = counted["input_audio_seconds"]
    try:
        price = genai_prices.calc_price(
            genai_prices.Usage(**counted),
            model_ref=model,
            provider_id="mistral",
        )
    except LookupError:
        return None
    total = float(price.total_price)
    # A price of 0 for a usage above 0 means that the model is priced by something that we did not count.
    return None if total == 0 and counted else total * BATCH_SHARE


def estimate(paths: Iterable[Any], *, endpoint: str, model: str | None) -> CostEstimate:
    """
    Estimate the most that some requests can cost.

    :param paths: Request files.
    :param endpoint: The job's endpoint.
    :param model: The model for all requests.
    :raises InvalidInputError: When the cost has no upper bound that can be estimated; names the reason.
    """
    if not ENDPOINTS[endpoint].tokens_known:
        raise InvalidInputError(
            f"max_cost_usd: the cost of {endpoint} depends on documents or recordings that only the API opens: leave "
            "max_cost_usd out"
        )
    if model is None:
        raise InvalidInputError("max_cost_usd: prices depend on the model, and none is named: pass model")
    if price_usd(model, {"prompt_tokens": 1_000_000}) is None:
        raise InvalidInputError(
            f"max_cost_usd: genai-prices has no price for model {model!r}: install a newer genai-prices, or leave "
            "max_cost_usd out"
        )
    count = _token_counter()
    prompt_tokens = completion_tokens = 0
    for body in _bodies(paths):
        prompt_tokens += _prompt_tokens(body.fields, count, body.custom_id)
        if ENDPOINTS[endpoint].writes_tokens:
            completion_tokens += _max_tokens(body.fields, body.custom_id)
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    return CostEstimate(**usage, usd=price_usd(model, usage) or 0.0)


class _Body(msgspec.Struct, gc=False):
    custom_id: str
    fields: dict[str, Any] = msgspec.field(name="body")


_decode_body = msgspec.json.Decoder(_Body).decode


def _bodies(paths: Iterable[Any]) -> Iterator[_Body]:
    for path in paths:
        for block in line_blocks(file_chunks(path), max_line_bytes=ANY_LENGTH):
            yield from map(_body, filter(None, block.lines))


def _body(line: bytes) -> _Body:
    try:
        return _decode_body(line)
    except UNREADABLE as error:
        # Rows were checked to be JSON, but a JSON number may be too large to decode.
        (custom_id,) = row_ids([line])
        raise InvalidInputError(
            f"max_cost_usd: row {custom_id!r} cannot be counted ({error}): change the row, or leave max_cost_usd out"
        ) from None


def _token_counter() -> Callable[[str], int]:
    try:
        from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
    except ImportError:
        raise MissingExtraError(
            "max_cost_usd: mistral-common, which counts tokens, is not installed: install "
            "airflow-provider-mistral-batch[costs]"
        ) from None
    # The newest tokenizer in the package. Newer models' tokenizers need a download, and count much the same.
    encode = MistralTokenizer.v3(is_tekken=True).instruct_tokenizer.tokenizer.encode
    return lambda text: len(encode(text, bos=False, eos=False))


def _prompt_tokens(body: Mapping[str, Any], count: Callable[[str], int], custom_id: str) -> int:
    tokens = 0
    messages = body.get("messages")
    for value in (
        *(messages if isinstance(messages, list) else ()),
        *(body.get(name) for name in _TEXT_FIELDS),
    ):
        tokens += _content_tokens(value, count, custom_id)
    for name in _JSON_FIELDS:
        if body.get(name):
            tokens += count(msgspec.json.encode(body[name]).decode())
    return tokens


def _content_tokens(value: Any, count: Callable[[str], int], custom_id: str) -> int:
    """Count the tokens of a text, a message, a part of a message, or a list of these."""
    if value is None:
        return 0
    if isinstance(value, str):
        return count(value)
    if isinstance(value, list):
        return sum(_content_tokens(item, count, custom_id) for item in value)
    if isinstance(value, dict):
        kind = value.get("type")
        if kind == "image_url":
            return _IMAGE_TOKENS
        if kind in (None, "text") or "role" in value:
            text = value.get("text") if kind == "text" else value.get("content")
            calls = value.get("tool_calls")
            return (
                _MESSAGE_TOKENS
                + _content_tokens(text, count, custom_id)
                + (count(msgspec.json.encode(calls).decode()) if calls else 0)
            )
        raise InvalidInputError(
            f"max_cost_usd: row {custom_id!r} has content of type {kind!r}, whose tokens cannot be counted in "
            "advance: leave max_cost_usd out"
        )
    return 0


def _max_tokens(body: Mapping[str, Any], custom_id: str) -> int:
    arguments = body.get("completion_args")
    value = body.get("max_tokens", arguments.get("max_tokens") if isinstance(arguments, dict) else None)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidInputError(
            f"max_cost_usd: row {custom_id!r} has no max_tokens of 0 or more, so its cost has no upper bound: set "
            "max_tokens"
        )
    answers = body.get("n")
    return value * (answers if isinstance(answers, int) and answers > 0 else 1)
