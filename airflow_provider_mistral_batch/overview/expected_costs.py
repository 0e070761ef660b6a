"""What jobs will cost: as much a request as the latest jobs of the same task did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from airflow_provider_mistral_batch.overview.jobs import JobView

#: Earlier jobs to go by: of some nights, so that one odd night does not decide.
_MOST_EARLIER = 5


class Kind(NamedTuple):
    """What jobs have in common whose requests cost about the same."""

    dag_id: str
    task_id: str
    model: str | None
    endpoint: str


def _kind(job: JobView) -> Kind | None:
    """Give the kind of a job; ``None`` if no task of this provider submitted it."""
    if job.dag_id is None or job.task_id is None:
        return None
    return Kind(job.dag_id, job.task_id, job.model, job.endpoint)


def earlier_jobs(jobs: Iterable[JobView], all_jobs: Iterable[JobView]) -> dict[Kind, list[JobView]]:
    """
    Find the jobs by which the cost of others can be told.

    :param jobs: Jobs, with their costs as far as they are known.
    :param all_jobs: All jobs, newest first.
    :return: For each kind of the jobs without a cost, the latest jobs of that kind with answers.
    """
    kinds = {_kind(job) for job in jobs if job.cost_usd is None}
    found: dict[Kind, list[JobView]] = {kind: [] for kind in kinds if kind is not None}
    if not found:
        return {}
    for job in all_jobs:
        if job.is_over and job.completed:
            kind = _kind(job)
            same = None if kind is None else found.get(kind)
            if same is not None and len(same) < _MOST_EARLIER:
                same.append(job)
    return found


def with_expected_costs(jobs: Iterable[JobView], earlier: Mapping[Kind, Iterable[JobView]]) -> list[JobView]:
    """
    Give jobs without a cost the cost that is expected.

    :param jobs: The jobs.
    :param earlier: What :func:`earlier_jobs` found, with costs.
    """
    prices = {}
    for kind, members in earlier.items():
        costed = [(job.cost_usd, job.completed) for job in members if job.cost_usd is not None]
        if costed:
            prices[kind] = sum(cost for cost, _ in costed) / sum(completed for _, completed in costed)
    if not prices:
        return list(jobs)
    return [_with_expected_cost(job, prices) for job in jobs]


def _with_expected_cost(job: JobView, prices: Mapping[Kind, float]) -> JobView:
    if job.cost_usd is not None or (kind := _kind(job)) is None or (price := prices.get(kind)) is None:
        return job
    # Requests that fail cost nothing.
    requests = job.completed if job.is_over else job.total - job.failed
    return msgspec.structs.replace(job, expected_cost_usd=price * max(0, requests))
