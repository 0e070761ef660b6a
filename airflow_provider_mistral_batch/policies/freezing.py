"""Decides which jobs have the frozen input of a task: what its source gave before the first of them was created."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from airflow_provider_mistral_batch.api.limits import MAX_METADATA_VALUE_LENGTH
from airflow_provider_mistral_batch.api.models import BatchJobOut
from airflow_provider_mistral_batch.policies.ownership import PART, PREFIX

#: Metadata key of the jobs of a first round whose source is alive, such as a function.
FROZEN = f"{PREFIX}frozen"


class FrozenNote(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """
    What a job's metadata says about the batch that it is part of.

    :param source: Hash of the task instance, its clear and the parameters: all of which the source was asked for.
    :param key: The batch's key.
    :param content: Hash of the content of the job's request files.
    :param jobs: How many jobs the first round has.
    :param model: The model for all requests, if known.
    """

    source: str
    key: str
    content: str
    jobs: int
    model: str | None = None

    def metadata(self) -> dict[str, str]:
        """Return the note as metadata of a job; empty if it is too long for that."""
        text = msgspec.json.encode(self).decode()
        return {FROZEN: text} if len(text) <= MAX_METADATA_VALUE_LENGTH else {}


class FrozenBatch(msgspec.Struct, kw_only=True):
    """
    The first round of a batch, as the jobs that were created for it tell.

    :param note: What all of them say; its ``content`` is of one of them.
    :param jobs: The jobs by their number in the round, with the hash of their request files' content.
    """

    note: FrozenNote
    jobs: dict[int, tuple[BatchJobOut, str]]

    @property
    def is_complete(self) -> bool:
        """Whether each job of the round was created, so that the request files of all are known."""
        return all(
            number in self.jobs and self.jobs[number][0].input_files for number in range(self.note.jobs)
        )


def frozen_batches(jobs: Iterable[BatchJobOut], source: str) -> list[FrozenBatch]:
    """
    Find the batches that have a task's frozen input, complete ones first, then the oldest.

    :param jobs: Jobs of the task instance.
    :param source: See :class:`FrozenNote`.
    """
    batches: dict[str, FrozenBatch] = {}
    for job in sorted(jobs, key=lambda job: (job.created_at, job.id)):
        note, number = _note(job), _number_in_first_round(job)
        if note is not None and number is not None and note.source == source and number < note.jobs:
            batch = batches.setdefault(note.key, FrozenBatch(note=note, jobs={}))
            batch.jobs.setdefault(number, (job, note.content))
    return sorted(batches.values(), key=lambda batch: not batch.is_complete)


def _note(job: BatchJobOut) -> FrozenNote | None:
    try:
        return msgspec.json.decode(str((job.metadata or {}).get(FROZEN, "")), type=FrozenNote)
    except msgspec.MsgspecError:
        # No such note, or somebody changed it.
        return None


def _number_in_first_round(job: BatchJobOut) -> int | None:
    _, found, number = str((job.metadata or {}).get(PART, "")).partition("/0/")
    return int(number) if found and number.isascii() and number.isdigit() and len(number) < 7 else None
