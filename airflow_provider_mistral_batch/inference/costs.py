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
from airflow_provider_mistral_batch.api.texts import WORD_LENGTH, excerpt, us_dollars
from airflow_provider_mistral_batch.inference.prices import Prices, own_price
from airflow_provider_mistral_batch.jsonl.lines import ANY_LENGTH, MissingExtraError, file_chunks, line_blocks
from airflow_provider_mistral_batch.jsonl.results.tally import NOT_MEASURED
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
#: Those of a message, of a piece of one, and of a conversation to be moderated.
_MESSAGE_TEXTS = ("content", "text", "messages")
#: Pieces of a message that need not name their type, for their fields do.
_UNNAMED_KINDS = ("image_url", "document_url", "input_audio", "file_id", "file")
_JSON_FIELDS = ("tools", "response_format", "prediction")
#: Fields with whose help the API reads what is not in the body, and runs tools on it.
_UNSHOWN = ("agent_id", "conversation_id", "library_ids", "connectors", "connector_ids")
#: Fields that make the API add a prompt of its own, and more tokens than it has.
_ADDED_TOKENS = {"safe_prompt": 100, "prompt_mode": 500}

#: Fields of our usage, and their names in ``genai-prices``.
_USAGE_NAMES = {
    "prompt_tokens": "input_tokens",
    "completion_tokens": "output_tokens",
    "cached_tokens": "cache_read_tokens",
    "pages_processed": "input_document_pages",
    "pages_processed_annotation": "input_annotated_document_pages",
    "prompt_audio_seconds": "input_audio_seconds",
}

#: What no other price covers, and the price of ``genai-prices`` that it needs. Cached tokens without a price
#: of their own cost what others do, and who pays by the page or by the hour pays for no tokens.
_NEEDED_PRICES = {
    "pages_processed": "input_document_kpages",
    "pages_processed_annotation": "input_annotated_document_kpages",
    "prompt_audio_seconds": "input_audio_hours",
}
_TOKEN_PRICES = {"prompt_tokens": "input_mtok", "completion_tokens": "output_mtok"}


class CostUnknownError(InvalidInputError):
    """
    The cost has no upper bound that can be estimated.

    :param reason: Why.
    :param remedy: What to do about it, if the cost must be known.
    """

    def __init__(self, reason: str, remedy: str = "") -> None:
        self.reason, self.remedy = reason, remedy
        super().__init__(f"max_cost_usd: {reason}: {remedy or 'leave max_cost_usd out'}")


class CostEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """
    An estimate of the most that a batch can cost. As a text it is a phrase for people.

    :ivar requests: Requests.
    :ivar prompt_tokens: Tokens in the requests.
    :ivar completion_tokens: Most tokens in the answers: the sum of ``max_tokens``.
    :ivar usd: The price at the batch discount, in US dollars.
    """

    requests: int
    prompt_tokens: int
    completion_tokens: int
    usd: float

    def __str__(self) -> str:
        return (
            f"about {us_dollars(self.usd)}, for {self.prompt_tokens:,} prompt tokens and at most "
            f"{self.completion_tokens:,} completion tokens"
        )


def price_usd(model: str, usage: Mapping[str, float], prices: Prices | None = None) -> float | None:
    """
    Price some usage at the batch discount.

    :param model: The model's name, as the API knows it.
    :param usage: The ``usage`` of a :class:`~airflow_provider_mistral_batch.jsonl.results.split.ResultsSummary`.
    :param prices: Prices of the user. Those of a model replace all that ``genai-prices`` has for it.
    :return: US dollars; ``None`` when something was used whose amount or price is not known.
    :raises MissingExtraError: When the extra ``costs`` is not installed, and the user gave no prices for the model.
    """
    if prices is not None and model in prices:
        own = None if usage.get(NOT_MEASURED) else own_price(prices[model], usage)
        return None if own is None else own * BATCH_SHARE
    try:
        import genai_prices
    except ImportError:
        raise MissingExtraError(
            "prices come from genai-prices, which is not installed: install airflow-provider-mistral-batch[costs]"
        ) from None
    if usage.get(NOT_MEASURED):
        return None
    used = [name for name in _USAGE_NAMES if usage.get(name)]
    try:
        counted = {_USAGE_NAMES[name]: math.ceil(usage[name]) for name in used}
        if "input_audio_seconds" in counted:
            counted["audio_seconds"] = counted["input_audio_seconds"]
        price = genai_prices.calc_price(
            genai_prices.Usage(**counted),
            model_ref=model,
            provider_id="mistral",
        )
    except (LookupError, ValueError, OverflowError, TypeError):
        # The model is not known, or the amounts are none that can be.
        return None
    return float(price.total_price) * BATCH_SHARE if _are_priced(used, price.model_price) else None


def _are_priced(used: list[str], prices: Any) -> bool:
    """Tell whether all that was used has a price."""
    needed = [_NEEDED_PRICES[name] for name in used if name in _NEEDED_PRICES]
    if not needed:
        needed = [_TOKEN_PRICES[name] for name in used if name in _TOKEN_PRICES]
    # A price of nothing is that of a trial, not of a batch.
    return all(getattr(prices, name, None) for name in needed)


def estimate(
    paths: Iterable[Any], *, endpoint: str, model: str | None, prices: Prices | None = None
) -> CostEstimate:
    """
    Estimate the most that some requests can cost.

    :param paths: Request files.
    :param endpoint: The job's endpoint.
    :param model: The model for all requests.
    :param prices: Prices of the user.
    :raises CostUnknownError: When the cost has no upper bound that can be estimated; names the reason.
    """
    if not ENDPOINTS[endpoint].tokens_known:
        raise CostUnknownError(
            f"the cost of {endpoint} depends on documents or recordings that only the API opens"
        )
    if model is None:
        raise CostUnknownError("prices depend on the model, and none is named", "pass model")
    writes = ENDPOINTS[endpoint].writes_tokens
    sample = {"prompt_tokens": 1_000_000, "completion_tokens": 1_000_000 if writes else 0}
    if price_usd(model, sample, prices) is None:
        lacking = (
            f"prices[{model!r}] has no price" if prices and model in prices else "genai-prices has no price"
        )
        raise CostUnknownError(
            f"{lacking} for all tokens of model {model!r}",
            f'pass prices={{{model!r}: {{"input": …, "output": …}}}}, or leave max_cost_usd out',
        )
    count = _token_counter()
    requests = prompt_tokens = completion_tokens = 0
    for body in _bodies(paths):
        requests += 1
        prompt_tokens += _prompt_tokens(body.fields, count, body.custom_id)
        if writes:
            completion_tokens += _max_tokens(body.fields, body.custom_id)
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    return CostEstimate(requests=requests, **usage, usd=price_usd(model, usage, prices) or 0.0)


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
        raise CostUnknownError(
            f"row {_shown(custom_id)} cannot be counted ({error})",
            "change the row, or leave max_cost_usd out",
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


def _shown(custom_id: str | None) -> str:
    return repr(None if custom_id is None else excerpt(custom_id, WORD_LENGTH))


def _prompt_tokens(body: Mapping[str, Any], count: Callable[[str], int], custom_id: str) -> int:
    _check_all_is_shown(body, custom_id)
    tokens = sum(most for name, most in _ADDED_TOKENS.items() if body.get(name))
    messages = body.get("messages")
    for value in (
        *(messages if isinstance(messages, list) else ()),
        *(body.get(name) for name in _TEXT_FIELDS),
    ):
        tokens += _content_tokens(value, count, custom_id)
    for name in _JSON_FIELDS:
        # A conversation has some of them among its arguments.
        for fields in (body, _arguments(body)):
            if fields.get(name):
                tokens += count(msgspec.json.encode(fields[name]).decode())
    return tokens


def _arguments(body: Mapping[str, Any]) -> Mapping[str, Any]:
    arguments = body.get("completion_args")
    return arguments if isinstance(arguments, dict) else {}


def _check_all_is_shown(body: Mapping[str, Any], custom_id: str) -> None:
    """Refuse a row of which the model reads more than the row has: what the API's tools give, an agent or a past."""
    tools = body.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        kind = tool.get("type", "function") if isinstance(tool, dict) else tool
        if kind != "function":
            raise CostUnknownError(
                f"row {_shown(custom_id)} has the tool {kind!r:.80}, which the API runs and whose tokens no prompt "
                "shows"
            )
    for name in _UNSHOWN:
        if body.get(name):
            raise CostUnknownError(f"row {_shown(custom_id)} has {name}, with tokens that no prompt shows")


def _content_tokens(value: Any, count: Callable[[str], int], custom_id: str) -> int:
    """Count the tokens of a text, a message, a part of a message, or a list of these."""
    if value is None:
        return 0
    if isinstance(value, str):
        return count(value)
    if isinstance(value, list):
        return sum(_content_tokens(item, count, custom_id) for item in value)
    if isinstance(value, dict):
        kind = value.get("type") or next((name for name in _UNNAMED_KINDS if value.get(name)), None)
        if kind == "image_url":
            return _IMAGE_TOKENS
        if kind in (None, "text") or "role" in value:
            calls = value.get("tool_calls")
            tokens = sum(_content_tokens(value.get(name), count, custom_id) for name in _MESSAGE_TEXTS)
            return _MESSAGE_TOKENS + tokens + (count(msgspec.json.encode(calls).decode()) if calls else 0)
        raise CostUnknownError(
            f"row {_shown(custom_id)} has content of type {kind!r:.80}, whose tokens cannot be counted in advance"
        )
    return 0


def _max_tokens(body: Mapping[str, Any], custom_id: str) -> int:
    value = body.get("max_tokens", _arguments(body).get("max_tokens"))
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise CostUnknownError(
            f"row {_shown(custom_id)} has no max_tokens of 0 or more, so its cost has no upper bound",
            "set max_tokens",
        )
    answers = 1 if body.get("n") is None else body["n"]
    if not isinstance(answers, int | float) or isinstance(answers, bool) or answers != int(answers):
        raise CostUnknownError(
            f"row {_shown(custom_id)} has n={answers!r:.80}, which is not a number of answers, so its cost has no "
            "upper bound",
            "write n as a whole number",
        )
    return value * max(int(answers), 1)
