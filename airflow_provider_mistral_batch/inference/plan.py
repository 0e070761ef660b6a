"""What a batch is at any moment: its rounds, their jobs and their request files. It survives a deferral."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from airflow_provider_mistral_batch.jsonl.requests.shards import Shard

_KEY_LENGTH = 16


class PlannedJob(msgspec.Struct, kw_only=True, omit_defaults=True):
    """
    One job of a round.

    :param input_files: Ids of its request files, as the API gave them.
    :param content: Hash of what is in them.
    :param request_count: Requests in them.
    :param batch_id: The job's id, once it is submitted.
    :param submitted_at: When that was (epoch seconds of our own clock).
    :param found_over: It was over already when it was found: an earlier try has seen its end.
    """

    input_files: list[str]
    content: str
    request_count: int
    batch_id: str | None = None
    submitted_at: float = 0.0
    found_over: bool = False


class BatchPlan(msgspec.Struct, kw_only=True, omit_defaults=True):
    """
    A batch under way: small enough to travel through Airflow's database, complete enough to go on anywhere.

    :param key: What this batch is about, as a hash: the requests and how they are asked.
    :param model: The model of all requests, if it is known.
    :param rounds: The jobs of each round: the first has all requests, each further one those that are asked again.
    :param room_deadline: When the wait for room in the workspace is given up (epoch seconds).
    :param given_up_at: When the deadline had passed and the jobs were told to stop (epoch seconds).
    """

    key: str
    model: str | None = None
    rounds: list[list[PlannedJob]]
    room_deadline: float | None = None
    given_up_at: float | None = None

    @property
    def batch_ids(self) -> list[str]:
        """Ids of all jobs so far, in their order."""
        return [job.batch_id for jobs in self.rounds for job in jobs if job.batch_id is not None]

    def part(self, job: int) -> str:
        """
        Name a job of the current round among those of its task instance.

        :param job: Its number in the round, from 0.
        """
        return f"{self.key[:_KEY_LENGTH]}/{len(self.rounds) - 1}/{job}"

    @property
    def parts_prefix(self) -> str:
        """How the names of this batch's jobs begin, and no other batch's."""
        return f"{self.key[:_KEY_LENGTH]}/"

    def as_builtins(self) -> dict[str, Any]:
        """The plan as it travels with a deferral."""
        plan: dict[str, Any] = msgspec.to_builtins(self)
        return plan

    @classmethod
    def from_builtins(cls, plan: Any) -> BatchPlan:
        """Read what :meth:`as_builtins` wrote."""
        return msgspec.convert(plan, cls)


def content_hash(shards: Iterable[Shard]) -> str:
    """
    Hash what is in some request files.

    :param shards: The files in order.
    """
    return hashlib.sha256("\n".join(shard.sha256 for shard in shards).encode()).hexdigest()


def jobs_of(shards: Sequence[Shard], *, files_per_job: int | None = None) -> list[list[Shard]]:
    """
    Group request files by the job that they go to.

    :param shards: The files in order.
    :param files_per_job: Files that a job can have at most; ``None`` when only their requests count.
    """
    if files_per_job == 1:
        return [[shard] for shard in shards]
    numbers = sorted({shard.job for shard in shards})
    return [[shard for shard in shards if shard.job == number] for number in numbers]
