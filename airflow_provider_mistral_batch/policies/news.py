"""Which ended jobs are news to an event trigger: those that match, ended since it began, and were not told before.

A listing is ordered by creation, and a job of a week ends long after younger ones. So a trigger keeps two bounds: below
``floor``, every end was told; before ``since``, no job was created that may still be told.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec

from airflow_provider_mistral_batch.api.models import BatchJobOut, BatchStatus

#: Seconds by which a listing may show a job, or its end, late.
LATE_SECONDS = 300

#: Jobs in one event; the others come with the next look.
MAX_JOBS = 1000

#: Told jobs that are remembered, so that the state stays below 200 kB.
MAX_TOLD = 4000


class EndFilter(msgspec.Struct, frozen=True, kw_only=True):
    """
    Which ended jobs an event trigger tells of; ``None`` means any.

    :param status: Terminal statuses.
    :param metadata: Keys and values that the job's metadata must have.
    """

    status: Collection[str] = BatchStatus.TERMINAL
    model: str | None = None
    endpoint: str | None = None
    metadata: Mapping[str, str] = {}

    def matches(self, job: BatchJobOut) -> bool:
        """Tell whether a job is over and passes."""
        return (
            job.status in self.status
            and self.model in (None, job.model)
            and self.endpoint in (None, job.endpoint)
            and all((job.metadata or {}).get(key) == value for key, value in self.metadata.items())
        )


class Bookmark(msgspec.Struct, frozen=True, kw_only=True):
    """
    How far a trigger has told. Times are epoch seconds of the server's clock.

    :param floor: Jobs that ended at this time or before are no news.
    :param since: Jobs created before are no news, and need not be listed.
    :param looked_at: When the last look began.
    :param looked_before: When the look before that began: a page may hide a job from one look.
    :param told: When they ended, by the ids of jobs that were told and ended after ``floor``.
    """

    floor: int
    since: int
    looked_at: int
    looked_before: int
    told: dict[str, int] = {}

    @classmethod
    def begin(cls, now: float) -> Bookmark:
        """Begin now: what ended before is no news."""
        at = int(now)
        return cls(floor=at - 1, since=at - LATE_SECONDS, looked_at=at, looked_before=at)

    @property
    def recent(self) -> int:
        """Since when created jobs are listed at every look, as no look may have seen them active."""
        return self.looked_before - LATE_SECONDS


def end_of(job: BatchJobOut, *, active: Mapping[str, int], now: float) -> int:
    """
    Tell when a job ended; some gateways do not say.

    :param job: The job, which is over.
    :param active: When they were created, by the ids of jobs that were active at the last look.
    :param now: When this look began.
    """
    return job.ended_at or (int(now) if job.id in active else job.created_at)


def news(
    ended: Iterable[tuple[BatchJobOut, int]],
    bookmark: Bookmark,
    wanted: EndFilter,
    *,
    oldest_active: int | None,
    now: float,
) -> tuple[list[BatchJobOut], Bookmark, bool]:
    """
    Choose the jobs to tell of.

    :param ended: Jobs that are over with the time of their end: at least all that were created since ``since``.
    :param bookmark: How far was told.
    :param wanted: Which jobs to tell of.
    :param oldest_active: When the oldest job was created that is active or not found; ``None`` if there is none.
    :param now: When the look began.
    :return: The jobs, first ended first; the next bookmark; and whether more is to be told at once.
    """
    fresh = {
        job.id: (end, job)
        for job, end in ended
        if end > bookmark.floor and job.id not in bookmark.told and wanted.matches(job)
    }
    ordered = sorted(fresh.values(), key=lambda item: (item[0], item[1].id))
    chosen, left = ordered[:MAX_JOBS], ordered[MAX_JOBS:]
    floor = int(now) - LATE_SECONDS
    created = [bookmark.looked_at - LATE_SECONDS]
    if oldest_active is not None:
        created.append(oldest_active)
    if left:
        floor = min(floor, left[0][0] - 1)
        created.extend(job.created_at for _, job in left)
    floor = max(floor, bookmark.floor)
    told = {**bookmark.told, **{job.id: end for end, job in chosen}}
    kept = sorted((item for item in told.items() if item[1] > floor), key=lambda item: item[1])
    if len(kept) > MAX_TOLD:
        # Rather a late job that is missed than one that is told twice.
        floor = kept[-MAX_TOLD - 1][1]
        kept = [item for item in kept if item[1] > floor]
    following = Bookmark(
        floor=floor,
        since=min(created),
        looked_at=int(now),
        looked_before=bookmark.looked_at,
        told=dict(kept),
    )
    return [job for _, job in chosen], following, bool(left)


def as_payload(jobs: Iterable[BatchJobOut]) -> dict[str, Any]:
    """
    Give the payload of an event.

    :param jobs: The jobs, at least one.
    """
    return {
        "jobs": [
            {
                "batch_id": job.id,
                "status": job.status,
                "endpoint": job.endpoint,
                "model": job.model,
                "output_file_id": job.output_file_id,
                "error_file_id": job.error_file_id,
                "request_counts": msgspec.to_builtins(job.request_counts),
                "created_at": job.created_at,
                "ended_at": job.ended_at,
                "metadata": job.metadata or {},
            }
            for job in jobs
        ]
    }
