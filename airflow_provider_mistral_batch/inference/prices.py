"""Prices that the user gives, for models whose price the list of ``genai-prices`` lacks or has wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from airflow_provider_mistral_batch.api.checks import check_choice
from airflow_provider_mistral_batch.api.errors import InvalidInputError

#: US dollars by what they are paid for, by model.
Prices = Mapping[str, Mapping[str, float]]

#: What a price is for, and how many of it cost that price.
UNITS: Mapping[str, float] = {
    "input": 1_000_000,
    "output": 1_000_000,
    "cached": 1_000_000,
    "page": 1,
    "annotated_page": 1,
    "audio_minute": 60,
}


def check_prices(prices: Any) -> None:
    """
    Check the option ``prices``.

    :param prices: What the user gave.
    :raises InvalidInputError: When it has another shape, an unknown name or a value that is no price.
    """
    if prices is None:
        return
    example = 'write {"mistral-small-latest": {"input": 0.1, "output": 0.3}}'
    if not isinstance(prices, Mapping):
        raise InvalidInputError(f"prices={prices!r:.80} is not a dict of prices by model: {example}")
    for model, of_model in prices.items():
        if not isinstance(model, str) or not model:
            raise InvalidInputError(
                f"prices has the key {model!r:.80}, which is not the name of a model: {example}"
            )
        field = f"prices[{model!r:.80}]"
        if not isinstance(of_model, Mapping) or not of_model:
            raise InvalidInputError(f"{field}={of_model!r:.80} has no prices: {example}")
        for name, price in of_model.items():
            check_choice(f"{field}: the name", name, tuple(UNITS))
            if not isinstance(price, (int, float)) or isinstance(price, bool) or not 0 <= price < math.inf:
                raise InvalidInputError(
                    f"{field}[{name!r}]={price!r:.80} is not a number of US dollars of 0 or more: pass such a number"
                )


def own_price(prices: Mapping[str, float], usage: Mapping[str, float]) -> float | None:
    """
    Price some usage with the prices of one model.

    Cached tokens without a price of their own cost what others do. Pages and minutes take the place of tokens: who pays
    by them pays for no tokens.

    :param prices: Prices by name.
    :param usage: Sums of tokens, pages and seconds.
    :return: US dollars without the discount; ``None`` if something was used that has no price here.
    """
    prompt, cached = usage.get("prompt_tokens") or 0, usage.get("cached_tokens") or 0
    pages, annotated = usage.get("pages_processed") or 0, usage.get("pages_processed_annotation") or 0
    seconds = usage.get("prompt_audio_seconds") or 0
    used = {"page": pages - annotated, "annotated_page": annotated, "audio_minute": seconds}
    if not any(used.values()):
        own_cached = cached if "cached" in prices else 0
        used = {
            "input": prompt - own_cached,
            "cached": own_cached,
            "output": usage.get("completion_tokens") or 0,
        }
    if not all(0 <= amount < math.inf for amount in (*used.values(), prompt - cached)):
        return None
    if any(amount and name not in prices for name, amount in used.items()):
        return None
    return float(sum(amount * prices[name] / UNITS[name] for name, amount in used.items() if amount))
