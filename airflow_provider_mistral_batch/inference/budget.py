"""Keeps a batch within ``max_cost_usd``: before it is sent, and before each further round."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.api.texts import us_dollars

if TYPE_CHECKING:
    from airflow_provider_mistral_batch.inference.options import BatchOptions
    from airflow_provider_mistral_batch.inference.prices import Prices

log = logging.getLogger(__name__)


def check_cost(paths: Iterable[Path], options: BatchOptions, model: str | None) -> None:
    """
    Refuse a batch that may cost too much; without ``max_cost_usd`` nothing is estimated.

    :param paths: The batch's request files.
    :param options: The options of the batch.
    :param model: The model for all requests.
    :raises InvalidInputError: When the batch may cost more than ``max_cost_usd``, or its cost cannot be estimated.
    """
    if options.max_cost_usd is None:
        return
    # Imported late: parsing a Dag needs none of it.
    from airflow_provider_mistral_batch.inference.costs import estimate

    cost = estimate(paths, endpoint=options.endpoint, model=model, prices=options.prices)
    if cost.usd > options.max_cost_usd:
        raise InvalidInputError(
            f"max_cost_usd={options.max_cost_usd:g}: the batch may cost {cost}. Nothing was sent: increase the "
            "limit, lower max_tokens, or send fewer requests"
        )
    log.info("The batch may cost %s.", cost)


def check_no_documents(options: BatchOptions) -> None:
    """
    Refuse a limit of the cost before documents are uploaded, since nobody can tell what they cost.

    :param options: The options of a batch over documents.
    :raises InvalidInputError: When there is a limit.
    """
    if options.max_cost_usd is not None:
        raise InvalidInputError(
            f"max_cost_usd={options.max_cost_usd:g}: the cost depends on documents or recordings that only the API "
            "opens. Nothing was uploaded: leave max_cost_usd out"
        )


def can_afford(
    paths: Iterable[Path], options: BatchOptions, model: str | None, usages: Iterable[Mapping[str, float]]
) -> bool:
    """
    Tell whether another round stays within ``max_cost_usd``; log a warning if not.

    :param paths: The round's request files.
    :param options: The options of the batch.
    :param model: The model for all requests.
    :param usages: The usage of each round so far; not read without a limit.
    """
    if options.max_cost_usd is None or model is None:
        return True
    from airflow_provider_mistral_batch.inference.costs import estimate, price_usd

    try:
        prices = [price_usd(model, usage, options.prices) for usage in usages]
        more = estimate(paths, endpoint=options.endpoint, model=model, prices=options.prices).usd
    except Exception as error:
        # The rounds so far are paid for, and must land.
        log.warning("What another round costs cannot be told (%s): no request is asked again.", error)
        return False
    if None in prices:
        log.warning(
            "max_cost_usd=%g: what the rounds so far cost is not known, as some answers do not tell readably what they "
            "used: no request is asked again.",
            options.max_cost_usd,
        )
        return False
    spent = sum(filter(None, prices))
    if spent + more <= options.max_cost_usd:
        return True
    log.warning(
        "max_cost_usd=%g: the rounds so far cost about %s, and another one may cost %s, so no request is "
        "asked again.",
        options.max_cost_usd,
        us_dollars(spent),
        us_dollars(more),
    )
    return False


def estimated_cost(
    model: str | None, usage: Mapping[str, float], prices: Prices | None = None
) -> float | None:
    """
    Estimate what a batch has cost, from its usage.

    :param model: The model for all requests.
    :param usage: Sums of tokens and pages.
    :param prices: Prices of the user.
    :return: US dollars; ``None`` where an amount or its price is not known. Without the extra ``costs``, only prices of
        the user are.
    """
    from airflow_provider_mistral_batch.inference.costs import price_usd
    from airflow_provider_mistral_batch.jsonl.lines import MissingExtraError

    if model is None:
        return None
    try:
        return price_usd(model, usage, prices)
    except MissingExtraError:
        return None
    except Exception as error:
        # Whatever a price list has, the results are paid for, and must land.
        log.warning("The batch's cost cannot be estimated (%s: %s).", type(error).__name__, error)
        return None
