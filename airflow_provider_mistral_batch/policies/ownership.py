"""Which batch job is ours? The server's own record tells, by the metadata that we put there."""

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
#: When a job was submitted, in epoch seconds of our own clock: some gateways do not say when a job was created.
SUBMITTED_AT = "airflow_submitted_at"

#: A job in one of these did not do the work and will not; in any other, also one that nobody knows, it is paid for.
_LOST = frozenset({BatchStatus.FAILED, BatchStatus.EXPIRED, BatchStatus.CANCELLING, BatchStatus.CANCELLED})


class TaskIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """
    Which task instance a job belongs to. The try number is no part of it: a retry is the same work.

    :param map_index: -1 for a task that is not mapped.
    :param part: Which of several jobs of one task instance; empty where it has only one.
    :param deployment: Which of several Airflows that share a workspace; empty where there is only one.
    """

    dag_id: str
    task_id: str
    run_id: str
    map_index: int = -1
    part: str = ""
    deployment: str = ""

    def metadata(self) -> dict[str, str]:
        """The identity as metadata of a job."""
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
    Build the metadata by which a job is found again.

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

    :raises InvalidInputError: When the user's has a key that is ours.
    """
    collisions = sorted(key for key in users or {} if str(key).startswith(PREFIX))
    if collisions:
        raise InvalidInputError(
            f"metadata has {', '.join(collisions)}: keys that begin with {PREFIX!r} are the provider's own; rename them"
        )
    return {**(users or {}), **ours}


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """
    What to do instead of submitting blindly.

    :param attach_to: The job that does this work already; ``None``: submit a new one.
    :param reason: Why, for the log.
    :param cancel: Jobs of this task instance that run for nothing.
    :param duplicates: Further jobs that do or did the same work, besides ``attach_to``.
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
    Decide between a job of ours that exists and a new one.

    A running or completed job with our key is ours; of several, the oldest. One that failed, expired or was cancelled
    is followed by a new one. A job of the same task instance with another key was asked something else: it is cancelled
    if it still runs.

    :param jobs: Jobs of the workspace, any order.
    :param ours: What :func:`ownership_metadata` returned.
    :param keep_partial: Where there is none, a job that ended early is done, too, if it has results or its time was
        over: its caller asks again for what is missing.
    :param parts_prefix: For a task instance with several jobs, how the parts begin of what it is asked now: whatever
        else it still has running, it was asked before.
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
        reason = f"the job before it, {same_work[-1].id}, is {same_work[-1].status}"
    elif same_task:
        reason = f"what is asked has changed since {same_task[-1].id}"
    else:
        reason = "this task instance has none yet"
    return Decision(
        attach_to=attach_to, reason=reason, cancel=cancel, duplicates=usable[1:] if attach_to else []
    )


def _did_what_it_could(job: BatchJobOut) -> bool:
    """Whether a job that ended early leaves nothing but missing requests: paid rows, or all the time it was given."""
    has_rows = job.output_file_id is not None or job.error_file_id is not None
    return job.status == BatchStatus.EXPIRED or (job.is_terminal and has_rows)


def noted_number(job: BatchJobOut, name: str) -> int | None:
    """
    Read a whole number that we put into a job's metadata; anybody may have changed it.

    :param job: The job.
    :param name: The metadata's key.
    """
    value = str((job.metadata or {}).get(name, ""))
    return int(value) if value.isascii() and value.isdigit() and len(value) < 12 else None


def running_jobs(jobs: Iterable[BatchJobOut], identity: TaskIdentity) -> Iterator[BatchJobOut]:
    """
    Choose the jobs of a task instance that run, whatever they were asked and whichever part of its work they do.

    :param jobs: Jobs of the workspace, any order.
    :param identity: The task instance.
    :return: Them as they come: who stops early need not read all pages.
    """
    mine = msgspec.structs.replace(identity, part="").metadata()
    return (job for job in jobs if _has(job, mine) and runs(job))


def runs(job: BatchJobOut) -> bool:
    """Whether a job goes on unless it is cancelled."""
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
    # An Airflow without a name is another one than those that have one.
    return has.get(DEPLOYMENT) == metadata.get(DEPLOYMENT) and all(
        has.get(key) == value for key, value in metadata.items()
    )
