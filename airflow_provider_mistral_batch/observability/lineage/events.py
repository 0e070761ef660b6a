"""Makes OpenLineage's own objects; imported by nobody but a process that has OpenLineage."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import attr
from airflow.providers.common.compat.openlineage.facet import (
    ExternalQueryRunFacet,
    InputDataset,
    OutputDataset,
    OutputStatisticsOutputDatasetFacet,
    RunFacet,
)
from airflow.providers.openlineage.extractors import OperatorLineage
from airflow.providers.openlineage.extractors.manager import ExtractorManager

from airflow_provider_mistral_batch.observability.lineage.datasets import datasets_of

if TYPE_CHECKING:
    from airflow_provider_mistral_batch.observability.lineage.told import Told

log = logging.getLogger(__name__)

#: The key of our run facet.
FACET = "mistral_batch"


@attr.define
class MistralBatchRunFacet(RunFacet):
    """
    Facts about a batch.

    :param batch_ids: Ids of its jobs.
    :param model: The model, if one is known for all requests.
    :param endpoint: The API's endpoint.
    :param counts: Requests by outcome.
    :param tokens: The manifest's ``usage``.
    :param estimated_cost_usd: US dollars; ``None`` if it is not known.
    :param rounds: How many times requests were asked.
    """

    batch_ids: list[str] = attr.field(factory=list)
    model: str | None = attr.field(default=None)
    endpoint: str | None = attr.field(default=None)
    counts: dict[str, int] | None = attr.field(default=None)
    tokens: dict[str, Any] | None = attr.field(default=None)
    estimated_cost_usd: float | None = attr.field(default=None)
    rounds: int | None = attr.field(default=None)


def operator_lineage(
    told: Told, *, inlets: Iterable[Any], outlets: Iterable[Any]
) -> OperatorLineage[Any, Any]:
    """
    Make what OpenLineage wants of what a task tells.

    :param told: What the task tells.
    :param inlets: The task's own, which OpenLineage would leave out otherwise.
    :param outlets: The task's own, which OpenLineage would leave out otherwise.
    """
    inputs = {name: InputDataset(*name) for value in told.inputs for name in datasets_of(value)}
    outputs = {
        name: OutputDataset(*name, outputFacets=_statistics(rows))
        for value, rows in told.outputs
        for name in datasets_of(value)
    }
    batch_ids = list(told.batch_ids)
    run_facets: dict[str, Any] = {FACET: MistralBatchRunFacet(batch_ids=batch_ids, **told.about)}
    if batch_ids:
        run_facets["externalQuery"] = ExternalQueryRunFacet(
            externalQueryId=",".join(batch_ids), source="mistral"
        )
    return OperatorLineage(
        inputs=_with_own(inputs, inlets), outputs=_with_own(outputs, outlets), run_facets=run_facets
    )


def _statistics(rows: int | None) -> dict[str, Any]:
    return {} if rows is None else {"outputStatistics": OutputStatisticsOutputDatasetFacet(rowCount=rows)}


def _with_own(datasets: dict[Any, Any], own: Iterable[Any]) -> list[Any]:
    found = list(datasets.values())
    for one in own:
        dataset = _translated(one)
        if dataset is not None and (dataset.namespace, dataset.name) not in datasets:
            found.append(dataset)
    return found


def _translated(value: Any) -> Any:
    """Translate an inlet or outlet of the user's, as OpenLineage does."""
    try:
        if hasattr(value, "uri"):
            from airflow.providers.common.compat.openlineage.utils.utils import translate_airflow_asset

            return translate_airflow_asset(value, None)
        # Its own datasets, and the files and tables of Airflow's lineage entities.
        return ExtractorManager.convert_to_ol_dataset(value)
    except Exception as error:
        log.info("OpenLineage is not told of %.200r: %s", value, error)
        return None
