"""``KnownCosts``: what jobs used, cost and will cost, by the manifests in Airflow's database, kept for all who look."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import msgspec

from airflow_provider_mistral_batch.overview.airflow_database import landed_manifests
from airflow_provider_mistral_batch.overview.costs import with_costs
from airflow_provider_mistral_batch.overview.expected_costs import earlier_jobs, with_expected_costs
from airflow_provider_mistral_batch.overview.jobs import JobView, TaskKey

#: Seconds for which it is known what a task returned: its jobs ended lately, or long ago.
_LATELY_KNOWN, _KNOWN = 15.0, 600.0

#: Seconds since the end of a task's last job in which it may still land results.
_LATELY = 3600.0

#: Jobs in one look-up, between two looks at the clock; and most jobs to remember.
_AT_ONCE, _MOST_KEPT = 1000, 200_000


class _Known(NamedTuple):
    """What is known of a job's cost, and until when (seconds of the monotonic clock)."""

    until: float
    usage: dict[str, float] | None
    cost_usd: float | None


class KnownCosts:
    """
    Looks up what tasks returned, and keeps it for a while. Threads may share it.

    :param look_up: Gives the manifests of task instances.
    """

    def __init__(
        self, look_up: Callable[[Iterable[TaskKey]], Mapping[TaskKey, Mapping[str, Any]]] = landed_manifests
    ) -> None:
        self._look_up = look_up
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}

    def costed(
        self, jobs: Sequence[JobView], all_jobs: Sequence[JobView], *, now: float, seconds: float = 1.0
    ) -> tuple[list[JobView], bool]:
        """
        Give jobs with their usage and their cost, or else the expected cost.

        :param jobs: The jobs, those that matter most first.
        :param all_jobs: All jobs, newest first: those of the same batches are needed for right shares, and earlier
            jobs of the same tasks for expected costs.
        :param now: The time by the API's clock (epoch seconds).
        :param seconds: How long to look up; a look-up that has begun ends.
        :return: The jobs, and whether all was looked up.
        """
        is_all = self._read(jobs, all_jobs, now, seconds)
        filled = self._filled(jobs)
        earlier = earlier_jobs(filled, all_jobs)
        self._read(list(chain.from_iterable(earlier.values())), all_jobs, now, seconds)
        return with_expected_costs(
            filled, {kind: self._filled(some) for kind, some in earlier.items()}
        ), is_all

    def _read(
        self, wanted: Iterable[JobView], all_jobs: Iterable[JobView], now: float, seconds: float
    ) -> bool:
        """Look up what jobs cost; tell whether all was looked up."""
        begun = time.monotonic()
        with self._lock:
            unknown = [
                job for job in wanted if job.is_over and job.dag_id is not None and self._is_due(job, begun)
            ]
            if not unknown:
                return True
            if len(self._known) + len(unknown) > _MOST_KEPT:
                self._known = {job_id: known for job_id, known in self._known.items() if known.until > begun}
            by_task: dict[TaskKey | None, list[JobView]] = {}
            tasks = {job.task for job in unknown}
            for job in all_jobs:
                if (task := job.task) in tasks:
                    by_task.setdefault(task, []).append(job)
            for start in range(0, len(unknown), _AT_ONCE):
                if start and time.monotonic() - begun > seconds:
                    return False
                some = dict.fromkeys(task for job in unknown[start : start + _AT_ONCE] if (task := job.task))
                related = [job for task in some for job in by_task.get(task, ())]
                for job in with_costs(related, self._look_up(some)):
                    is_late = now - (job.ended_at or job.created_at) < _LATELY
                    self._known[job.id] = _Known(
                        begun + (_LATELY_KNOWN if is_late else _KNOWN), job.usage, job.cost_usd
                    )
        return True

    def _is_due(self, job: JobView, now: float) -> bool:
        known = self._known.get(job.id)
        return known is None or known.until <= now

    def _filled(self, jobs: Iterable[JobView]) -> list[JobView]:
        return [
            job
            if (known := self._known.get(job.id)) is None or known.usage is None is known.cost_usd
            else msgspec.structs.replace(job, usage=known.usage, cost_usd=known.cost_usd)
            for job in jobs
        ]
