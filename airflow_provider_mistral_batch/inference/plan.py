"""The state of a batch: its rounds, their jobs and their request files. It survives a deferral."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_mistral_batch.policies.capacity import REQUESTS
from airflow_provider_mistral_batch.policies.freezing import FrozenNote

if TYPE_CHECKING:
    from airflow_provider_mistral_batch.jsonl.requests.shards import Shard

_KEY_LENGTH = 16


class PlannedJob(msgspec.Struct, kw_only=True, omit_defaults=True):
    """
    One job of a round.

    :param input_files: Ids of its request files, as the API gave them.
    :param content: Hash of the files' content.
    :param request_count: Requests in the files.
    :param batch_id: The job's id, once it is submitted.
    :param submitted_at: When the job was submitted (epoch seconds of our own clock).
    :param found_over: Whether the job was already over when this try attached to it.
    """

    input_files: list[str]
    content: str
    request_count: int
    batch_id: str | None = None
    submitted_at: float = 0.0
    found_over: bool = False


class BatchPlan(msgspec.Struct, kw_only=True, omit_defaults=True):
    """
    The state of a batch: small enough for Airflow's database, complete enough to continue on any worker.

    :param key: Hash of the requests and their parameters.
    :param model: The model for all requests, if known.
    :param rounds: The jobs of each round: the first has all requests, each later round the requests to ask again.
    :param room_deadline: When to stop waiting for room in the workspace (epoch seconds).
    :param given_up_at: When the jobs were cancelled after the deadline (epoch seconds).
    :param source: If the input is frozen, what its source was asked for: see
        :class:`~airflow_provider_mistral_batch.policies.freezing.FrozenNote`.
    """

    key: str
    model: str | None = None
    rounds: list[list[PlannedJob]]
    room_deadline: float | None = None
    given_up_at: float | None = None
    source: str = ""

    @property
    def batch_ids(self) -> list[str]:
        """Ids of all jobs so far, in order."""
        return [job.batch_id for jobs in self.rounds for job in jobs if job.batch_id is not None]

    def part(self, job: int) -> str:
        """
        Return the part of a job of the current round, which no other job of the task instance has.

        :param job: The job's number in the round, from 0.
        """
        return f"{self.round_prefix(len(self.rounds) - 1)}{job}"

    def round_prefix(self, number: int) -> str:
        """
        Return how the parts of one round's jobs begin, and no other round's.

        :param number: The round, from 0.
        """
        return f"{self.parts_prefix}{number}/"

    @property
    def parts_prefix(self) -> str:
        """How the parts of this batch's jobs begin, and no other batch's."""
        return f"{self.key[:_KEY_LENGTH]}/"

    def notes(self, job: int) -> dict[str, str]:
        """
        Return the provider's own metadata of a job of the current round, which is not part of the job's key.

        :param job: The job's number in the round, from 0.
        """
        planned = self.rounds[-1][job]
        notes = {REQUESTS: str(planned.request_count)}
        if not self.source or len(self.rounds) > 1:
            return notes
        note = FrozenNote(
            source=self.source,
            key=self.key,
            content=planned.content,
            jobs=len(self.rounds[0]),
            model=self.model,
        )
        return {**notes, **note.metadata()}

    def as_builtins(self) -> dict[str, Any]:
        """Return the plan in the form that a deferral carries."""
        plan: dict[str, Any] = msgspec.to_builtins(self)
        return plan

    @classmethod
    def from_builtins(cls, plan: Any) -> BatchPlan:
        """Read what :meth:`as_builtins` wrote."""
        return msgspec.convert(plan, cls)


def content_hash(shards: Iterable[Shard]) -> str:
    """
    Hash the content of some request files.

    :param shards: The files in order.
    """
    return hash_of_hashes(shard.sha256 for shard in shards)


def hash_of_hashes(hashes: Iterable[str]) -> str:
    """
    Hash the content of some files of which the hashes are known.

    :param hashes: Hexadecimal SHA-256 of each file's content, in order.
    """
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def jobs_of(shards: Sequence[Shard], *, files_per_job: int | None = None) -> list[list[Shard]]:
    """
    Group request files by job.

    :param shards: The files in order.
    :param files_per_job: Most files in a job; ``None`` if only the number of requests is limited.
    """
    if files_per_job == 1:
        return [[shard] for shard in shards]
    numbers = sorted({shard.job for shard in shards})
    return [[shard for shard in shards if shard.job == number] for number in numbers]
