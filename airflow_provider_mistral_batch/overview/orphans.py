"""Finds orphans: jobs that run, and are paid for, although no task waits for them any more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from airflow_provider_mistral_batch.api.models import BatchStatus
from airflow_provider_mistral_batch.overview.jobs import JobView, TaskKey

#: Seconds after its creation in which a job is no orphan, whatever Airflow's database says of its task.
YOUNG_SECONDS = 120.0

#: States in which a task instance waits for its jobs, or will find them again when it runs. ``None``: it was cleared.
_WAITING = frozenset(
    {None, "scheduled", "queued", "running", "restarting", "deferred", "up_for_retry", "up_for_reschedule"}
)

#: States of a Dag run in which another task, such as a sensor, may still wait for a job.
_RUN_GOES_ON = frozenset({"queued", "running"})


class TaskState(msgspec.Struct, frozen=True):
    """
    What Airflow's database says of a task instance.

    :param state: The state of the task instance; ``None`` if it has none yet, or none any more.
    :param run_state: The state of its Dag run.
    """

    state: str | None
    run_state: str | None


class Orphan(msgspec.Struct, frozen=True):
    """
    A job that no task waits for.

    :param reason: Why nobody waits for it, in one sentence without its full stop.
    """

    job: JobView
    reason: str


def orphan_reason(job: JobView, instance: TaskState | None, *, now: float) -> str | None:
    """
    Tell why no task waits for a job.

    :param job: The job. It has our metadata, and this Airflow submitted it.
    :param instance: Its task instance; ``None`` if there is none.
    :param now: The time by the API's clock (epoch seconds).
    :return: The reason, in one sentence; ``None`` if a task waits for the job, or the job runs no more.
    """
    if job.is_over or job.status == BatchStatus.CANCELLING or now - job.created_at < YOUNG_SECONDS:
        return None
    if instance is None:
        return (
            "its task instance no longer exists here (if another Airflow submitted the job, give each Airflow its own "
            "extra.deployment)"
        )
    if instance.state in _WAITING:
        return None
    if instance.state == "success":
        # Whoever creates a job leaves the wait to another task.
        return None if instance.run_state in _RUN_GOES_ON else f"its Dag run is over ({instance.run_state})"
    return f"its task is {instance.state}"


def find_orphans(
    jobs: Iterable[JobView],
    instances: Mapping[TaskKey, TaskState],
    *,
    deployments: Mapping[str, str],
    now: float,
) -> list[Orphan]:
    """
    Choose the jobs that no task waits for.

    :param jobs: Jobs of any kind.
    :param instances: What Airflow's database says of the task instances of :func:`candidates`.
    :param deployments: Name of this Airflow, by connection; jobs of others are left out.
    :param now: The time by the API's clock (epoch seconds).
    """
    found = []
    for job in candidates(jobs, deployments):
        assert job.task is not None
        reason = orphan_reason(job, instances.get(job.task), now=now)
        if reason is not None:
            found.append(Orphan(job, reason))
    return found


def candidates(jobs: Iterable[JobView], deployments: Mapping[str, str]) -> list[JobView]:
    """
    Choose the jobs that may be orphans: they run, and a task of this Airflow submitted them.

    :param jobs: Jobs of any kind.
    :param deployments: Name of this Airflow, by connection.
    """
    return [
        job
        for job in jobs
        if not job.is_over
        and job.task is not None
        and any(deployments.get(conn_id) == job.deployment for conn_id in job.connections)
    ]
