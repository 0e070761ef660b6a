"""Decides which batch jobs are ours, by the metadata that we put into the server's record of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.api.models import BatchJobOut, BatchStatus

#: Metadata keys that are ours.
PREFIX = "airflow_"
KEY = "airflow_key"
PART = "airflow_part"
DEPLOYMENT = "airflow_deployment"
#: When a job was submitted, in epoch seconds of our own clock: some gateways do not report creation times.
SUBMITTED_AT = "airflow_submitted_at"
#: The completion window in hours, for whoever looks at the job: the API does not tell it.
WINDOW = "airflow_window_hours"

#: A job in one of these has not done its work and never will. A job in any other status, even an unknown one, is paid
#: for.
_LOST = frozenset({BatchStatus.FAILED, BatchStatus.EXPIRED, BatchStatus.CANCELLING, BatchStatus.CANCELLED})


class TaskIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """
    The task instance that a job belongs to. It excludes the try number, because a retry does the same work.

    :param map_index: -1 for a task that is not mapped.
    :param part: The job's place among several jobs of one task instance; empty if it has only one.
    :param deployment: Name of this Airflow among several that share a workspace; empty if there is only one.
    """

    dag_id: str
    task_id: str
    run_id: str
    map_index: int = -1
    part: str = ""
    deployment: str = ""

    def metadata(self) -> dict[str, str]:
        """Return the identity as metadata of a job."""
        return {
            "airflow_dag_id": self.dag_id,
            "airflow_task_id": self.task_id,
            "airflow_run_id": self.run_id,
            "airflow_map_index": str(self.map_index),
            **({PART: self.part} if self.part else {}),
            **({DEPLOYMENT: self.deployment} if self.deployment else {}),
        }


def identity_hash(identity: TaskIdentity) -> str:
    """
    Give a short name that no other task instance has.

    :param identity: The task instance.
    """
    return hashlib.sha256(msgspec.json.encode(identity)).hexdigest()[:12]


def ownership_metadata(identity: TaskIdentity, asked: Mapping[str, Any]) -> dict[str, str]:
    """
    Build the metadata by which a later try finds a job.

    :param identity: Whose job it is.
    :param asked: Everything that makes two jobs the same work, as JSON-like data.
    :return: The identity and ``airflow_key``, the SHA-256 of the identity and of what is asked.
    """
    metadata = identity.metadata()
    content = msgspec.json.encode([metadata, asked], order="deterministic")
    return {**metadata, KEY: hashlib.sha256(content).hexdigest()}


def merged_metadata(ours: Mapping[str, str], users: Mapping[str, str] | None) -> dict[str, str]:
    """
    Join the user's metadata with ours.

    :raises InvalidInputError: When the user's metadata has a key that is ours.
    """
    collisions = sorted(key for key in users or {} if str(key).startswith(PREFIX))
    if collisions:
        raise InvalidInputError(
            f"metadata has {', '.join(collisions)}, but keys that begin with {PREFIX!r} are reserved: rename them"
        )
    return {**(users or {}), **ours}


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """
    What to do before a job is submitted.

    :param attach_to: The job that already does this work; ``None`` if a new one must be submitted.
    :param reason: Why, for the log.
    :param cancel: Running jobs of this task instance whose results it no longer needs.
    :param duplicates: Other jobs that do or did the same work as ``attach_to``.
    """

    attach_to: BatchJobOut | None
    reason: str
    cancel: list[BatchJobOut] = []
    duplicates: list[BatchJobOut] = []


def decide(
    jobs: Iterable[BatchJobOut],
    ours: Mapping[str, str],
    *,
    keep_partial: bool = False,
    parts_prefix: str | None = None,
) -> Decision:
    """
    Decide whether to attach to an existing job or to submit a new one.

    We attach to a running or completed job with our key; if there are several, to the oldest. If that job failed,
    expired or was cancelled, a new one is submitted. A job of the same task instance with another key does other work,
    so it is cancelled if it still runs.

    :param jobs: Jobs of the workspace, any order.
    :param ours: What :func:`ownership_metadata` returned.
    :param keep_partial: If there is no such job, also attach to one that ended early but has results or used up its
        time. The caller asks again for the requests that are missing.
    :param parts_prefix: For a task instance with several jobs, how ``part`` begins for all jobs of the current batch.
        Running jobs with another ``part`` belong to an earlier batch and are cancelled.
    """
    identity = {key: value for key, value in ours.items() if key != KEY}
    anyones = sorted(jobs, key=lambda job: (job.created_at, job.id))
    same_task = [job for job in anyones if _has(job, identity)]
    same_work = [job for job in same_task if _has(job, ours)]
    usable = [job for job in same_work if job.status not in _LOST]
    if not usable and keep_partial:
        usable = [job for job in same_work if _did_what_it_could(job)]
    attach_to = usable[0] if usable else None
    stale = [] if parts_prefix is None else _stale_parts(anyones, identity, parts_prefix)
    cancel = [job for job in [*same_task, *stale] if runs(job) and job is not attach_to]
    if attach_to is not None:
        reason = f"it does the same work for this task instance and is {attach_to.status}"
    elif same_work:
        reason = f"the previous job {same_work[-1].id} is {same_work[-1].status}"
    elif same_task:
        reason = f"the requests or their parameters have changed since batch job {same_task[-1].id}"
    else:
        reason = "this task instance has no job yet"
    return Decision(
        attach_to=attach_to, reason=reason, cancel=cancel, duplicates=usable[1:] if attach_to else []
    )


def _did_what_it_could(job: BatchJobOut) -> bool:
    """Tell whether a job that ended early is worth keeping: it has rows that are paid for, or it used up its time."""
    has_rows = job.output_file_id is not None or job.error_file_id is not None
    return job.status == BatchStatus.EXPIRED or (job.is_terminal and has_rows)


def noted_number(job: BatchJobOut, name: str) -> int | None:
    """
    Read a whole number that we put into a job's metadata; ``None`` if it is missing or somebody changed it.

    :param job: The job.
    :param name: The metadata's key.
    """
    value = str((job.metadata or {}).get(name, ""))
    return int(value) if value.isascii() and value.isdigit() and len(value) < 12 else None


def running_jobs(jobs: Iterable[BatchJobOut], identity: TaskIdentity) -> Iterator[BatchJobOut]:
    """
    Choose the running jobs of a task instance, whatever their key and part.

    :param jobs: Jobs of the workspace, any order.
    :param identity: The task instance.
    :return: The jobs, lazily, so that a caller that stops early reads no further pages.
    """
    return filter(runs, jobs_of_task(jobs, identity))


def jobs_of_task(jobs: Iterable[BatchJobOut], identity: TaskIdentity) -> Iterator[BatchJobOut]:
    """
    Choose the jobs of a task instance, whatever their key, part and status.

    :param jobs: Jobs of the workspace, any order.
    :param identity: The task instance.
    :return: The jobs, lazily.
    """
    mine = msgspec.structs.replace(identity, part="").metadata()
    return (job for job in jobs if _has(job, mine))


def has_work(job: BatchJobOut) -> bool:
    """Tell whether a job does, did, or partly did its work, so that a task attaches to it."""
    return job.status not in _LOST or _did_what_it_could(job)


def runs(job: BatchJobOut) -> bool:
    """Tell whether a job will continue unless it is cancelled."""
    return job.status not in _LOST and not job.is_terminal


def _stale_parts(jobs: Iterable[BatchJobOut], identity: Mapping[str, str], prefix: str) -> list[BatchJobOut]:
    mine = {key: value for key, value in identity.items() if key != PART}
    return [
        job
        for job in jobs
        if _has(job, mine) and not str((job.metadata or {}).get(PART, "")).startswith(prefix)
    ]


def _has(job: BatchJobOut, metadata: Mapping[str, str]) -> bool:
    has = job.metadata or {}
    # An Airflow without a deployment name is not the same as one with a name.
    return has.get(DEPLOYMENT) == metadata.get(DEPLOYMENT) and all(
        has.get(key) == value for key, value in metadata.items()
    )
