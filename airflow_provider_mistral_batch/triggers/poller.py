"""``ConnectionPoller``: the poll loop behind all waits through one connection.

It looks at the jobs that are due in as few calls as that takes, one call at a time and in a thread, so that the event
loop never waits for the network. What to look at, and what a failure means, is decided in ``policies/``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from airflow_provider_mistral_batch.api.dialects.base import JobFilter
from airflow_provider_mistral_batch.api.errors import MistralCallError, MistralResponseError
from airflow_provider_mistral_batch.api.limits import PAGE_SIZE
from airflow_provider_mistral_batch.api.listings import ListingBounds
from airflow_provider_mistral_batch.api.models import BatchJobOut, BatchStatus
from airflow_provider_mistral_batch.api.texts import sentence
from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
from airflow_provider_mistral_batch.observability import metrics
from airflow_provider_mistral_batch.policies.cadence import Cadence
from airflow_provider_mistral_batch.policies.listing import Listing, Reading, created_since
from airflow_provider_mistral_batch.policies.outage import Outage
from airflow_provider_mistral_batch.policies.refusals import is_not_to_be_seen
from airflow_provider_mistral_batch.policies.setbacks import Scope, Setbacks, connection_may_be_wrong, scope
from airflow_provider_mistral_batch.policies.timetable import Timetable
from airflow_provider_mistral_batch.tasks.endings import is_permanent
from airflow_provider_mistral_batch.triggers.looking import looking_hook
from airflow_provider_mistral_batch.triggers.threads import in_thread
from airflow_provider_mistral_batch.triggers.watch import Watch

log = logging.getLogger(__name__)

T = TypeVar("T")

#: How many times more a job is looked for that was never seen and is not there: seconds, by the pauses in between.
_LOOKS_FOR_NEW_JOB = 2


class ConnectionPoller:
    """
    The poll loop of one connection on one event loop; it ends when nobody watches a job any more.

    :param mistral_conn_id: The connection's id.
    """

    def __init__(self, mistral_conn_id: str) -> None:
        self.mistral_conn_id = mistral_conn_id
        self._hook = looking_hook(mistral_conn_id)
        # Of its own: the event loop's default one may be busy with what others do, or with XComs.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"mistral-batch-{mistral_conn_id}")
        self._watches: dict[str, list[Watch]] = {}
        self._timetable = Timetable()
        self._created_at: dict[str, int] = {}
        self._setbacks = Setbacks()
        #: Why no job can be looked at, since the last call that succeeded.
        self._trouble: Exception | None = None
        self._outage = Outage(repeats=True)
        #: Of single jobs; each task says in its own log when its job can be looked at again.
        self._stumbles = Outage(repeats=True)
        self._listings = {BatchStatus.ACTIVE: Listing(), BatchStatus.TERMINAL: Listing()}
        #: Ends a pause: somebody has joined who cannot wait for its end, or nobody is left.
        self._wake_up = asyncio.Event()
        self._next_look = float("-inf")
        #: The running loop; held here, since the event loop itself holds tasks only weakly.
        self.task: asyncio.Task[None] | None = None

    def join(self, batch_id: str, cadence: Cadence, outage: Outage | None = None) -> Watch:
        """
        Begin to watch a job.

        :param batch_id: The job's id.
        :param cadence: How often to look at it.
        :param outage: What the waiting task has logged about outages; shared by all watches of the task.
        :return: The watch, for :meth:`leave` at the end.
        """
        watch = Watch(batch_id, cadence, outage)
        if self._trouble is not None:
            watch.trouble(self._trouble)
        self._watches.setdefault(batch_id, []).append(watch)
        if self._timetable.add(batch_id, time.monotonic()) < self._next_look:
            self._wake_up.set()
        return watch

    def leave(self, watch: Watch) -> None:
        """
        Stop watching a job.

        :param watch: What :meth:`join` returned.
        """
        watch.close()
        batch_id = watch.batch_id
        watches = self._watches[batch_id]
        watches.remove(watch)
        if not watches:
            del self._watches[batch_id]
            self._timetable.remove(batch_id)
            self._created_at.pop(batch_id, None)
            self._setbacks.job_succeeded(batch_id)
        if not self._watches:
            self._wake_up.set()

    async def run(self) -> None:
        """Look at the jobs as they fall due, until nobody watches."""
        try:
            while self._watches:
                self._wake_up.clear()
                self._next_look = self._timetable.next_look()
                pause = self._next_look - time.monotonic()
                if pause > 0:
                    await self._pause(pause)
                else:
                    await self._look()
        finally:
            metrics.watches(self.mistral_conn_id, 0)
            self._hook.close()
            self._thread.shutdown(wait=False)

    async def _pause(self, seconds: float) -> None:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._wake_up.wait(), seconds)

    async def _look(self) -> None:
        """Look at everything that is due, or note that this does not work at present."""
        metrics.looked(self.mistral_conn_id, len(self._watches))
        try:
            await self._look_at(self._timetable.due(time.monotonic()))
        except Exception as error:
            if is_permanent(error):
                await self._fail(list(self._watches), error)
            else:
                await self._slow_down(error)

    async def _look_at(self, batch_ids: Iterable[str]) -> None:
        """Look at jobs in as few calls as possible."""
        missing, is_complete = await self._read_listing(BatchStatus.ACTIVE, batch_ids)
        still_missing = set(missing)
        if is_complete:
            # A job that was seen and is active no more is over; there is a listing of such jobs, too.
            over = [batch_id for batch_id in missing if batch_id in self._created_at]
            not_listed, _ = await self._read_listing(BatchStatus.TERMINAL, over)
            still_missing -= set(over).difference(not_listed)
        for batch_id in missing:
            if batch_id in still_missing:
                await self._read_job(batch_id)

    async def _read_listing(
        self, statuses: frozenset[str], batch_ids: Iterable[str]
    ) -> tuple[list[str], bool]:
        """Look at jobs through a listing as far as that pays; return the missing ones, and whether it was all read."""
        missing = dict.fromkeys(batch_id for batch_id in batch_ids if batch_id in self._watches)
        wanted = JobFilter(status=statuses, created_after=created_since(map(self._created_at.get, missing)))
        reading = Reading(self._listings[statuses], len(missing), time.monotonic())
        bounds = ListingBounds(f"the API of connection {self.mistral_conn_id!r}")
        cursor: str | None = None
        while self._watches and reading.goes_on(len(missing), time.monotonic()):
            at = cursor
            try:
                page = await self._call(lambda hook: hook.get_conn().jobs_page(wanted, at))  # noqa: B023 - awaited
            except MistralCallError as error:
                # On with the same page: begun anew each time, a long listing would never be read to its end.
                await self._listing_failed(reading.listing, error, next(iter(missing)))
                continue
            for job in page.items:
                missing.pop(job.id, None)
                # Also a job that is not due: it needs no look of its own soon.
                self._show(job)
            is_last = page.next is None or bool(page.items and wanted.is_before(page.items[-1]))
            reading.page_came(is_last=is_last, jobs_in_all=page.total, now=time.monotonic())
            if is_last:
                break
            try:
                bounds.page_came(page)
                bounds.check_goes_on()
            except MistralResponseError as error:
                reading.listing.rests(time.monotonic())
                self._warn_of_listing(error)
            cursor = page.next
        return list(missing), reading.is_complete

    async def _listing_failed(self, listing: Listing, error: MistralCallError, batch_id: str) -> None:
        """Leave a listing alone that does not work although single jobs can be read; otherwise slow down."""
        concerned = scope(error)
        if concerned is Scope.THIS_CALL:
            listing.is_refused()
        elif concerned is Scope.UNKNOWN and await self._read_job(batch_id):
            listing.failed(time.monotonic())
        if not listing.is_usable(time.monotonic()):
            self._warn_of_listing(error)
        elif is_permanent(error):
            raise error
        else:
            await self._slow_down(error)

    def _warn_of_listing(self, error: Exception) -> None:
        log.warning(
            "%s The jobs of connection %r are read one by one instead.", sentence(error), self.mistral_conn_id
        )

    async def _read_job(self, batch_id: str) -> bool:
        """Look at one job; an error that concerns it alone ends or delays its watching alone. False: not readable."""
        if batch_id not in self._watches:
            return True
        try:
            self._show(await self._call(lambda hook: hook.get(batch_id)))
        except MistralCallError as error:
            concerned = scope(error)
            if self._may_appear(batch_id, error):
                self._put_off(batch_id, error)
            elif concerned is Scope.THIS_CALL:
                await self._fail([batch_id], error)
            elif concerned is Scope.UNKNOWN and not self._setbacks.server_fails_for_others(batch_id):
                self._put_off(batch_id, error)
                return False
            else:
                raise
        return True

    def _may_appear(self, batch_id: str, error: MistralCallError) -> bool:
        """Tell whether a job that was never seen is not there yet: then it is looked for a few times more."""
        if batch_id in self._created_at or not is_not_to_be_seen(error):
            return False
        return self._setbacks.looks_that_failed(batch_id) < _LOOKS_FOR_NEW_JOB

    async def _call(self, call: Callable[[MistralBatchHook], T]) -> T:
        answer = await in_thread(call, self._hook, executor=self._thread)
        self._setbacks.call_succeeded()
        if self._trouble is not None:
            self._trouble = None
            if line := self._outage.over(time.monotonic()):
                log.info("Connection %r: %s", self.mistral_conn_id, line)
            async for batch_id in _in_steps(self._watches):
                for watch in self._watches.get(batch_id, ()):
                    watch.answered()
        return answer

    def _show(self, job: BatchJobOut) -> None:
        """Hand a snapshot to the job's watches and plan the next look."""
        watches = self._watches.get(job.id)
        if watches is None:
            return
        offset = self._hook.clock_offset
        self._created_at[job.id] = job.created_at
        self._setbacks.job_succeeded(job.id)
        age = max(0.0, time.time() + offset - job.created_at)
        interval = min(watch.cadence.interval(age) for watch in watches)
        self._timetable.seen(job.id, interval, time.monotonic())
        for watch in watches:
            watch.show(job, offset)

    def _put_off(self, batch_id: str, error: MistralCallError) -> None:
        """Look later at a job over which alone the server may stumble: the others do not wait for it."""
        # Whoever watched it may have left while it was read.
        if batch_id in self._watches:
            pause = self._setbacks.pause_of_job(batch_id, error)
            self._timetable.put_off(batch_id, pause, time.monotonic())
            if self._stumbles.is_to_be_said(time.monotonic()):
                log.warning("%s Looking at batch job %s again in %.0f s.", sentence(error), batch_id, pause)
            for watch in self._watches[batch_id]:
                watch.trouble(error)

    async def _fail(self, batch_ids: Iterable[str], error: Exception) -> None:
        """End the watching of jobs."""
        async for batch_id in _in_steps(batch_ids):
            for watch in self._watches.get(batch_id, ()):
                watch.fail(error)
            # Its watches are about to leave.
            self._timetable.stop(batch_id)

    async def _slow_down(self, error: Exception) -> None:
        """Pause for all jobs, also those that somebody begins to watch meanwhile; end early when nobody is left."""
        if connection_may_be_wrong(error):
            # Somebody may have corrected it by the next call, which reads it anew.
            self._hook.close()
        pause = self._setbacks.pause_of_all(error)
        if self._outage.is_to_be_said(time.monotonic()):
            log.warning(
                "%s Looking at the %d jobs of connection %r again in %.0f s.",
                sentence(error),
                len(self._watches),
                self.mistral_conn_id,
                pause,
            )
        until = time.monotonic() + pause
        self._trouble = error
        async for batch_id in _in_steps(self._watches):
            for watch in self._watches.get(batch_id, ()):
                watch.trouble(error)
        while self._watches and (left := until - time.monotonic()) > 0:
            self._wake_up.clear()
            await self._pause(left)


async def _in_steps(batch_ids: Iterable[str]) -> AsyncIterator[str]:
    """Go through jobs, some of which may leave meanwhile; all at once would block the event loop."""
    for number, batch_id in enumerate(list(batch_ids), start=1):
        yield batch_id
        if number % PAGE_SIZE == 0:
            await asyncio.sleep(0)
