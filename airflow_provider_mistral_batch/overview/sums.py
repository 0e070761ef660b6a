"""Sums over jobs: batches, rows, tokens and cost by day, model or Dag, and what waits in the workspace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timezone

import msgspec

from airflow_provider_mistral_batch.api import limits
from airflow_provider_mistral_batch.api.checks import check_choice
from airflow_provider_mistral_batch.overview.jobs import JobView

#: Beyond year 9999 there are no dates.
_LAST_DAY = 253_402_300_799


class Sum(msgspec.Struct, frozen=True, kw_only=True):
    """
    A group of jobs, summed.

    :param name: The day (``2026-01-31``, UTC), model or Dag; empty if the jobs have none.
    :param jobs: How many jobs.
    :param running: How many of them are not over.
    :param requests: Requests in all jobs.
    :param completed: Requests that succeeded.
    :param failed: Requests that failed.
    :param tokens: Tokens that were read and written, as far as they are known.
    :param cost_usd: US dollars, as far as they are known; ``None`` if no job's cost is known.
    :param jobs_without_cost: Jobs with requests that succeeded whose cost is not in ``cost_usd``.
    :param expected_cost_usd: What jobs whose cost is not in ``cost_usd`` are expected to cost, as far as that is known;
        ``None`` if it is for no job.
    """

    name: str
    jobs: int = 0
    running: int = 0
    requests: int = 0
    completed: int = 0
    failed: int = 0
    tokens: float = 0
    cost_usd: float | None = None
    jobs_without_cost: int = 0
    expected_cost_usd: float | None = None


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """
    What is pending in a workspace, which takes a limited number of requests.

    :param jobs: Jobs that somebody may see and that are not over.
    :param requests: Their requests that are not done.
    :param limit: The API's published limit.
    :param share: Share of the limit that is used, from 0, also by other jobs: of the connection that sees most.
    """

    jobs: int
    requests: int
    limit: int
    share: float


_NAMES: dict[str, Callable[[JobView], str]] = {
    "day": lambda job: _day(job.created_at),
    "model": lambda job: job.model or "",
    "dag": lambda job: job.dag_id or "",
}

#: What sums can be made by.
GROUPS = tuple(_NAMES)


def sums(jobs: Iterable[JobView], by: str) -> list[Sum]:
    """
    Sum jobs by group.

    :param jobs: The jobs.
    :param by: ``day``, ``model`` or ``dag``.
    :return: Days in order; models and Dags with the most expensive and then the largest first.
    :raises InvalidInputError: When ``by`` is something else.
    """
    check_choice("by", by, GROUPS)
    name_of = _NAMES[by]
    groups: dict[str, list[JobView]] = {}
    for job in jobs:
        groups.setdefault(name_of(job), []).append(job)
    found = [summed(name, members) for name, members in groups.items()]
    if by == "day":
        return sorted(found, key=lambda one: one.name)
    return sorted(found, key=lambda one: (-(one.cost_usd or 0.0), -one.requests, one.name))


def summed(name: str, jobs: Iterable[JobView]) -> Sum:
    """
    Sum some jobs.

    :param name: What they have in common.
    :param jobs: The jobs.
    """
    members = list(jobs)
    costs = [job.cost_usd for job in members if job.cost_usd is not None]
    expected = [job.expected_cost_usd for job in members if job.expected_cost_usd is not None]
    return Sum(
        name=name,
        jobs=len(members),
        running=sum(not job.is_over for job in members),
        requests=sum(job.total for job in members),
        completed=sum(job.completed for job in members),
        failed=sum(job.failed for job in members),
        tokens=sum(job.tokens or 0 for job in members),
        cost_usd=sum(costs) if costs else None,
        jobs_without_cost=sum(job.cost_usd is None and job.completed > 0 for job in members),
        expected_cost_usd=sum(expected) if expected else None,
    )


def pending(seen: Iterable[JobView], all_jobs: Iterable[JobView]) -> Pending:
    """
    Sum what is pending.

    :param seen: The jobs that somebody may see.
    :param all_jobs: These and all others of the same connections, which take room in the workspaces, too.
    """
    running = [job for job in seen if not job.is_over]
    by_connection: Counter[str] = Counter()
    for job in all_jobs:
        if not job.is_over:
            for conn_id in job.connections:
                by_connection[conn_id] += _left(job)
    limit = limits.MAX_REQUESTS_PER_JOB
    return Pending(
        jobs=len(running),
        requests=sum(map(_left, running)),
        limit=limit,
        share=max(by_connection.values(), default=0) / limit,
    )


def _left(job: JobView) -> int:
    return max(0, job.total - job.completed - job.failed)


def _day(seconds: int) -> str:
    if not 0 < seconds <= _LAST_DAY:
        return ""
    return datetime.fromtimestamp(seconds, tz=timezone.utc).date().isoformat()
