"""Which ended jobs are news to an event trigger: those that match, ended since it began, and were not told before.

A listing is ordered by creation, and a job of a week ends long after younger ones. So a trigger keeps two bounds: below
``floor``, every end was told; before ``since``, no job was created that may still be told.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping
from typing import Any

import msgspec

from airflow_provider_mistral_batch.api.limits import MAX_TIMEOUT_HOURS
from airflow_provider_mistral_batch.api.models import BatchJobOut, BatchStatus

#: Seconds by which a listing may show a job, or its end, late.
LATE_SECONDS = 300

#: Seconds that a job may live: the longest completion window, and a day for its cancellation and for clocks.
LONGEST_LIFE_SECONDS = (MAX_TIMEOUT_HOURS + 24) * 3600

#: Jobs in one event; the others come with the next look.
MAX_JOBS = 500

#: Told jobs and active jobs that are remembered. Airflow warns of a state above 64 KiB, and these take up to 58 KB.
MAX_TOLD = 600
MAX_ACTIVE = 500


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
        return job.status in self.status and self.concerns(job)

    def concerns(self, job: BatchJobOut) -> bool:
        """Tell whether a job passes but for its status, which changes."""
        return (
            self.model in (None, job.model)
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
    :param active: When they were created, by the ids of the oldest jobs that were active at the last look: their ends
        are news, and whoever continues after a restart can read them one by one.
    """

    floor: int
    since: int
    looked_at: int
    looked_before: int
    told: dict[str, int] = {}
    active: dict[str, int] = {}

    @classmethod
    def begin(cls, now: float) -> Bookmark:
        """Begin now: what ended before is no news."""
        at = int(now)
        return cls(floor=at - 1, since=at - LATE_SECONDS, looked_at=at, looked_before=at)

    @property
    def recent(self) -> int:
        """Since when created jobs are listed at every look, as no look may have seen them active."""
        return self.looked_before - LATE_SECONDS


def newest(bookmarks: Iterable[Bookmark]) -> Bookmark | None:
    """
    Choose the one that tells furthest: each asset of a trigger keeps one, and not all may have taken the last.

    :param bookmarks: Those of one trigger.
    """
    # Several may be of one second.
    return max(bookmarks, key=lambda one: (one.looked_at, one.floor, len(one.told)), default=None)


def end_of(job: BatchJobOut, *, active: Container[str], now: float) -> int:
    """
    Tell when a job ended, as far as that matters to :func:`news`.

    A job that was active at the last look has ended since, whatever the clocks say.

    :param job: The job, which is over.
    :param active: Ids of the jobs that were active at the last look.
    :param now: When this look began.
    """
    stated = job.ended_at or job.created_at
    return max(stated, int(now)) if job.id in active else stated


def news(
    ended: Iterable[tuple[BatchJobOut, int]],
    bookmark: Bookmark,
    wanted: EndFilter,
    *,
    active: Mapping[str, int],
    now: float,
) -> tuple[list[BatchJobOut], Bookmark, bool]:
    """
    Choose the jobs to tell of.

    :param ended: Jobs that are over with the time of their end: at least all that were created since ``since``.
    :param bookmark: How far was told.
    :param wanted: Which jobs to tell of.
    :param active: When they were created, by the ids of jobs that are active or not found.
    :param now: When the look began.
    :return: The jobs, first ended first; the next bookmark; and whether there are more, which then are to be chosen
        with the same ``ended``.
    """
    fresh = {
        job.id: (end, job)
        for job, end in ended
        if (end > bookmark.floor or job.id in bookmark.active)
        and job.id not in bookmark.told
        and wanted.matches(job)
    }
    ordered = sorted(fresh.values(), key=lambda item: (item[0], item[1].id))
    chosen, left = ordered[:MAX_JOBS], ordered[MAX_JOBS:]
    floor = int(now) - LATE_SECONDS
    created = [bookmark.looked_at - LATE_SECONDS]
    oldest = sorted(active.items(), key=lambda item: item[1])
    # All of them were created later than the last one that is remembered.
    created.extend(at for _, at in oldest[MAX_ACTIVE : MAX_ACTIVE + 1])
    if left:
        # By what the jobs state: whoever continues after a restart did not see them active.
        floor = min(floor, *(min(end, job.ended_at or job.created_at) - 1 for end, job in left))
        created.extend(job.created_at for _, job in left)
    floor = max(floor, bookmark.floor)
    told = {**bookmark.told, **{job.id: end for end, job in chosen}}
    kept = sorted((item for item in told.items() if item[1] > floor), key=lambda item: item[1])
    if len(kept) > MAX_TOLD:
        # Rather a late job that is missed than one that is told twice.
        # Never that of an end which the next look may find: it may come in the same second.
        floor = min(kept[-MAX_TOLD - 1][1], int(now) - 1)
        kept = [item for item in kept if item[1] > floor]
    following = Bookmark(
        floor=floor,
        since=min(created),
        looked_at=int(now),
        looked_before=bookmark.looked_at if int(now) > bookmark.looked_at else bookmark.looked_before,
        told=dict(kept),
        active=dict(oldest[:MAX_ACTIVE]),
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
