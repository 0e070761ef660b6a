"""What jobs used and cost: from the manifests of their batches, or estimated from the first rows of their results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from airflow_provider_mistral_batch.overview.jobs import JobView, TaskKey


def with_costs(jobs: Iterable[JobView], manifests: Mapping[TaskKey, Mapping[str, Any]]) -> list[JobView]:
    """
    Give jobs the usage and the cost that their batches' manifests tell.

    A manifest tells the sums of its batch. Each job gets its share, by requests that succeeded.

    :param jobs: The jobs, in any order; all those of a batch, for right shares.
    :param manifests: Manifests by task instance.
    """
    listed = list(jobs)
    batches: dict[str, Mapping[str, Any]] = {}
    for manifest in manifests.values():
        batch_ids = manifest.get("batch_ids")
        for batch_id in batch_ids if isinstance(batch_ids, list) else ():
            batches[str(batch_id)] = manifest
    completed: dict[int, int] = {}
    for job in listed:
        if job.id in batches:
            number = id(batches[job.id])
            completed[number] = completed.get(number, 0) + job.completed
    return [
        with_share(job, batches[job.id], completed=completed[id(batches[job.id])])
        if job.id in batches
        else job
        for job in listed
    ]


def with_share(job: JobView, manifest: Mapping[str, Any], *, completed: float) -> JobView:
    """
    Give a job its share of what its batch used and cost.

    :param job: The job, one of the batch's.
    :param manifest: The batch's manifest.
    :param completed: How many requests succeeded in all jobs of the batch.
    """
    jobs = len(manifest["batch_ids"])
    share = min(1.0, job.completed / completed) if completed and jobs > 1 else 1.0 / jobs
    usage = amounts(manifest.get("usage"))
    cost = amounts(manifest).get("estimated_cost_usd")
    return msgspec.structs.replace(
        job,
        usage={name: amount * share for name, amount in usage.items()} or None,
        cost_usd=None if cost is None else cost * share,
    )


def amounts(usage: Any) -> dict[str, float]:
    """
    Give the amounts in a usage, whatever else is in there.

    :param usage: What is said to be a manifest's usage.
    """
    if not isinstance(usage, Mapping):
        return {}
    return {
        str(name)[:50]: amount
        for name, amount in list(usage.items())[:50]
        if isinstance(amount, (int, float)) and not isinstance(amount, bool) and amount >= 0
    }


def scaled(usage: Mapping[str, float], rows: int, completed: int) -> dict[str, float]:
    """
    Estimate the usage of a job from that of some of its rows.

    :param usage: Sums over the rows.
    :param rows: How many rows.
    :param completed: How many requests of the job succeeded.
    """
    return {name: amount * completed / rows for name, amount in usage.items()} if rows else {}
