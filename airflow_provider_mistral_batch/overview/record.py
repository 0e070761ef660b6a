"""What is known of the jobs that one connection sees, and which few calls tell the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timezone

import msgspec

from airflow_provider_mistral_batch.api import limits
from airflow_provider_mistral_batch.api.dialects.base import JobFilter, Page
from airflow_provider_mistral_batch.api.errors import NotFoundError
from airflow_provider_mistral_batch.api.models import BatchJobOut, BatchStatus
from airflow_provider_mistral_batch.overview.jobs import JobView, job_view

ReadPage = Callable[[JobFilter, "str | None"], Page[BatchJobOut]]
ReadJob = Callable[[str], BatchJobOut]

#: Jobs that ended unseen, above which all jobs are read again instead of each of these.
_MOST_SINGLE_READS = 20

#: Pages of the past that a refresh reads again: where the server's count says that a job is missing, and where the
#: server does not count.
_PAGES_AGAIN, _PAGES_AGAIN_UNCOUNTED = 5, 1


class Record:
    """
    The jobs of one connection, read a few calls at a time.

    A job that is over does not change, and is not read again. Each refresh reads the newest jobs, then those of the
    jobs that run which were not among them. What calls are left go into the past, until all jobs since the given time
    are known. After that, the past is read again, a few pages at a time, when the server counts other jobs than are
    known: a job may become visible late, behind newer ones. Where the server does not count, that never ends.

    :param conn_id: The connection.
    :param since: Jobs created before do not count (epoch seconds).
    :param most_jobs: Most jobs to hold; the oldest are forgotten.
    :param status: Statuses of the jobs that are looked for; any if ``None``.
    """

    def __init__(
        self, conn_id: str, *, since: float, most_jobs: int, status: frozenset[str] | None = None
    ) -> None:
        self.conn_id = conn_id
        #: The jobs by id. Replaced by each refresh that finds something new, never changed in place.
        self.jobs: dict[str, JobView] = {}
        #: Whether all jobs since the given time were read.
        self.is_complete = False
        #: Counts the changes of ``jobs``.
        self.version = 0
        #: Calls made so far.
        self.calls = 0
        self._all = JobFilter(
            status=status, created_after=datetime.fromtimestamp(max(0, int(since)), tz=timezone.utc)
        )
        self._most_jobs = most_jobs
        self._running: set[str] = set()
        self._past: str | None = None
        self._past_pages = 0
        self._active: str | None = None
        self._unseen: set[str] | None = None
        self._to_read: set[str] = set()
        self._again: str | None = None
        #: By how many the server's count still differs from ours once all was read again: some count what they do not
        #: list, or no longer. Any other difference is news.
        self._known_difference = 0

    @property
    def has_running(self) -> bool:
        """Whether a known job is not over."""
        return bool(self._running)

    def refresh(self, read_page: ReadPage, read_job: ReadJob, most_calls: int) -> None:
        """
        Learn what is new.

        :param read_page: Reads a page of a listing.
        :param read_job: Reads one job.
        :param most_calls: Most calls to make.
        :raises MistralCallError: When a call fails; what was learned before stays.
        """
        until = self.calls + most_calls
        was_complete = self.is_complete
        seen, newest = self._read_newest(read_page, until)
        self._read_running(read_page, seen, until)
        self._read_single(read_job, until)
        if was_complete and self.is_complete and newest is not None:
            self._read_again(read_page, newest, until)
        self._read_past(read_page, until)

    def _read_newest(self, read_page: ReadPage, until: int) -> tuple[set[str], Page[BatchJobOut] | None]:
        """Read pages from the newest job to one that was known before; return the ids of all on them, and the last."""
        before = self.jobs.keys()
        seen: set[str] = set()
        cursor: str | None = None
        page: Page[BatchJobOut] | None = None
        while self.calls < until:
            page = self._page(read_page, self._all, cursor)
            seen.update(job.id for job in page.items)
            cursor = page.next
            if self._is_last(page):
                self.is_complete = True
                return seen, None
            if not before or any(job.id in before for job in page.items):
                break
        if not before:
            self._past, self._past_pages = cursor, 1
        elif cursor is not None and not any(job_id in before for job_id in seen):
            # More new jobs than calls: the pages that follow have some, too.
            self._begin_past(cursor)
        return seen, page

    def _read_again(self, read_page: ReadPage, newest: Page[BatchJobOut], until: int) -> None:
        """Go on through the past once more, if it may hold a job that was not visible before."""
        is_counted = newest.total is not None and self._all.status is None
        difference = (newest.total or 0) - len(self.jobs) if is_counted else 0
        if len(self.jobs) >= self._most_jobs:
            # What is missing was forgotten.
            self._again = None
            return
        if self._again is None:
            if is_counted and difference == self._known_difference:
                return
            self._again, self._known_difference = newest.next, difference
        until = min(until, self.calls + (_PAGES_AGAIN if is_counted else _PAGES_AGAIN_UNCOUNTED))
        while self._again is not None and self.calls < until:
            known = len(self.jobs)
            page = self._page(read_page, self._all, self._again)
            self._known_difference -= len(self.jobs) - known
            self._again = None if self._is_last(page) else page.next

    def _read_running(self, read_page: ReadPage, seen: set[str], until: int) -> None:
        """Go on through the listing of running jobs; those that it turns out not to have are over."""
        missing = self._running - seen - self._to_read
        if self._unseen is None:
            if len(missing) <= 1:
                # A page costs no less.
                self._to_read |= missing
                return
            self._unseen, self._active = missing, None
        wanted = msgspec.structs.replace(self._all, status=BatchStatus.ACTIVE)
        while self.calls < until and self._unseen:
            page = self._page(read_page, wanted, self._active)
            self._unseen -= {job.id for job in page.items} | seen
            self._active = page.next
            if self._is_last(page):
                self._to_read |= self._unseen & self._running
                self._unseen = None
                return
        if not self._unseen:
            self._unseen = None

    def _read_single(self, read_job: ReadJob, until: int) -> None:
        """Read single jobs: most of them have ended."""
        self._to_read &= self._running
        if len(self._to_read) > _MOST_SINGLE_READS:
            self._to_read.clear()
            self._begin_past(None)
        while self._to_read and self.calls < until:
            job_id = next(iter(self._to_read))
            self.calls += 1
            try:
                self._put([read_job(job_id)])
            except NotFoundError:
                self._forget([job_id])
            self._to_read.discard(job_id)

    def _read_past(self, read_page: ReadPage, until: int) -> None:
        """Go on into the past, from where the last refresh stopped."""
        while not self.is_complete and self.calls < until:
            page = self._page(read_page, self._all, self._past)
            self._past, self._past_pages = page.next, self._past_pages + 1
            is_enough = len(self.jobs) >= self._most_jobs <= self._past_pages * limits.PAGE_SIZE
            if self._is_last(page) or is_enough or self._past_pages >= limits.MAX_PAGES:
                self.is_complete = True
        if len(self.jobs) > self._most_jobs:
            oldest_first = sorted(self.jobs.values(), key=lambda job: job.created_at)
            self._forget(job.id for job in oldest_first[: len(self.jobs) - self._most_jobs])

    def _begin_past(self, cursor: str | None) -> None:
        self._past, self._past_pages, self.is_complete = cursor, 0, False

    def _page(self, read_page: ReadPage, wanted: JobFilter, cursor: str | None) -> Page[BatchJobOut]:
        self.calls += 1
        page = read_page(wanted, cursor)
        self._put(page.items)
        return page

    def _is_last(self, page: Page[BatchJobOut]) -> bool:
        return page.next is None or not page.items or self._all.is_before(page.items[-1])

    def _put(self, jobs: Iterable[BatchJobOut]) -> None:
        changed = {}
        for job in jobs:
            view = job_view(job, self.conn_id)
            if not self._all.is_before(job) and self.jobs.get(job.id) != view:
                changed[job.id] = view
        if not changed:
            return
        self.jobs = {**self.jobs, **changed}
        self.version += 1
        for view in changed.values():
            if view.is_over:
                self._running.discard(view.id)
            else:
                self._running.add(view.id)

    def _forget(self, job_ids: Iterable[str]) -> None:
        gone = set(job_ids)
        self._running -= gone
        self.jobs = {job_id: view for job_id, view in self.jobs.items() if job_id not in gone}
        self.version += 1
