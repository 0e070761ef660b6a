"""``estimate_cost``: what a batch may cost, before anything is sent. Works offline, without a connection."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_mistral_batch.api.checks import check_exactly_one, check_no_table, chosen_model
from airflow_provider_mistral_batch.api.endpoints import DEFAULT_ENDPOINT
from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.inference.costs import CostEstimate, CostUnknownError, estimate
from airflow_provider_mistral_batch.inference.prices import check_prices
from airflow_provider_mistral_batch.storage.paths import absolute_path

if TYPE_CHECKING:
    from airflow_provider_mistral_batch.tables import RowSource

__all__ = ["CostEstimate", "estimate_cost"]


def estimate_cost(
    *,
    requests: Iterable[Mapping[str, Any] | str] | None = None,
    path: Any = None,
    source: RowSource | None = None,
    key: str | Sequence[str] | None = None,
    prompt: str | None = None,
    prompt_file: Any = None,
    messages: Sequence[Mapping[str, Any]] | None = None,
    on_null: str = "fail",
    endpoint: str = DEFAULT_ENDPOINT,
    model: str | None = None,
    system: str | None = None,
    max_tokens: int | None = None,
    response_format: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
    response_model: type | Mapping[str, Any] | None = None,
    prices: Mapping[str, Mapping[str, float]] | None = None,
) -> CostEstimate:
    """
    Estimate the most that the first round of a batch can cost, as ``max_cost_usd`` does.

    Takes what ``MistralBatchInferenceOperator`` is asked for, under the same names, and reads the requests in constant
    memory. Needs the extra ``costs``.

    :param requests: Rows or prompts. Either these or ``path`` or ``source``.
    :param path: Request files: a path, a glob or a list of paths.
    :param source: The rows of a table: a source, a data frame, or dicts.
    :param key: The column, or columns, that tell the rows apart.
    :param prompt: The prompt of each row, a template over columns.
    :param prompt_file: A file with the prompt as a Jinja template over columns.
    :param messages: The messages of each row, with columns in their texts and URLs.
    :param on_null: What to do with a row whose prompt would have a null or be empty.
    :param endpoint: API endpoint that each request goes to.
    :param model: The model for all requests; by default the one that they name.
    :param system: System message before each prompt.
    :param max_tokens: Most tokens in an answer, for requests that do not set it.
    :param response_format: The API's ``response_format``.
    :param parameters: Any other fields of the endpoint's body.
    :param response_model: A pydantic model class or a JSON schema that each answer must match.
    :param prices: Your own prices, by model.
    :return: The estimate.
    :raises InvalidInputError: When a request cannot be sent, or the cost has no upper bound that can be estimated.
    :raises MissingExtraError: When the extra ``costs`` is not installed.
    """
    # Imported late: parsing a Dag needs none of it.
    from airflow_provider_mistral_batch.inference.structured_output import StructuredOutput
    from airflow_provider_mistral_batch.jsonl.requests.prepare import prepare_requests
    from airflow_provider_mistral_batch.jsonl.requests.template import RowTemplate

    check_exactly_one(requests=requests, path=path, source=source)
    check_prices(prices)
    if path is not None:
        several = isinstance(path, Sequence) and not isinstance(path, (str, bytes))
        paths = [absolute_path(one, field="path") for one in (path if several else [path])]
        path = paths if several else paths[0]
    if response_model is not None:
        response_format = StructuredOutput(response_model, endpoint).response_format
    template = RowTemplate(
        system=system,
        max_tokens=max_tokens,
        response_format=response_format,
        parameters=parameters or {},
    )
    with tempfile.TemporaryDirectory(prefix="mistral-batch-") as name:
        directory = Path(name)
        asked: Any = next(one for one in (requests, path, source) if one is not None)
        if prompt is prompt_file is messages is None:
            check_no_table(key=key, source=source)
        else:
            from airflow_provider_mistral_batch.tables.requests import TableQuestion, TableRequests

            question = TableQuestion(
                key=key,
                prompt=prompt,
                prompt_file=prompt_file,
                messages=messages,
                keep=(),
                on_null=on_null,
                endpoint=endpoint,
            )
            asked = TableRequests(asked, question, directory=directory)
        prepared = prepare_requests(
            asked, endpoint=endpoint, directory=directory / "requests", template=template
        )
        model = chosen_model(model, None, named=prepared.model, named_agent=prepared.agent)
        try:
            return estimate(prepared.paths, endpoint=endpoint, model=model, prices=prices)
        except CostUnknownError as unknown:
            remedy = f": {unknown.remedy}" if unknown.remedy else ""
            raise InvalidInputError(f"the cost cannot be estimated: {unknown.reason}{remedy}") from None
