"""One poll loop per connection: all triggers of a triggerer process that wait on the same account share it.

A trigger enters :func:`watching` and is handed snapshots of its job. The loop looks at the jobs that are due in as few
calls as that takes, one call at a time and in a thread, so that the event loop never waits for the network. It begins
with the first watcher of a connection and ends with the last.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import math
import random
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timezone
from functools import cache
from typing import TypeVar
from weakref import WeakKeyDictionary

from airflow_provider_mistral_batch.api.dialects.base import JobFilter
from airflow_provider_mistral_batch.api.errors import (
    AuthenticationError,
    MistralCallError,
    MistralConnectionError,
    MistralResponseError,
    ServerError,
)
from airflow_provider_mistral_batch.api.limits import PAGE_SIZE
from airflow_provider_mistral_batch.api.models import BatchJobOut, BatchStatus
from airflow_provider_mistral_batch.api.retries import RetryPolicy
from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
from airflow_provider_mistral_batch.policies.cadence import Cadence
from airflow_provider_mistral_batch.policies.polling import (
    EARLY_SHARE,
    ESTIMATE_SECONDS,
    Backoff,
    Schedule,
    due,
    listing_pays,
)
from airflow_provider_mistral_batch.tasks.endings import is_permanent
from airflow_provider_mistral_batch.triggers.threads import in_thread

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds that a newcomer waits for company, so that triggers that start together are looked at together; and that the
#: first one of a crowd waits at most.
_GATHER_SECONDS = 0.2
_GATHER_LONGEST = 2.0

#: Seconds to wait for an answer at most: all jobs of the loop wait with it.
_TIMEOUT_SECONDS = 30.0

#: Seconds that it takes, about, to come from the first job of a round to the last, and to learn how it ended.
_ROUND_SECONDS = 0.5

#: Failures of the listing, in a row and while single jobs can be read, after which it is left alone for a while.
_LISTING_FAILURES = 5


def watching(mistral_conn_id: str, batch_id: str, cadence: Cadence) -> Watch:
    """
    Watch a job as long as the context lasts: ``async with watching(...) as watch``.

    :param mistral_conn_id: Connection through which the job is read.
    :param batch_id: The job's id.
    :param cadence: How often to look at it.
    """
    return Watch(mistral_conn_id, batch_id, cadence)


def _poller_of(mistral_conn_id: str) -> ConnectionPoller:
    """The poller of a connection on the running event loop, begun if there is none."""
    loop = asyncio.get_running_loop()
    pollers = _pollers.setdefault(loop, {})
    poller = pollers.get(mistral_conn_id)
    if poller is None:
        _spare_the_garbage_collector()
        poller = pollers[mistral_conn_id] = ConnectionPoller(mistral_conn_id)
        # In a context of its own: what the loop does and logs is not the first trigger's.
        poller.task = contextvars.Context().run(loop.create_task, _run(poller, pollers))
    return poller


@cache
def _spare_the_garbage_collector() -> None:
    """
    Keep what a triggerer has imported out of the garbage collector's sight, once in a process.

    A full collection stops the event loop for as long as it takes to look at everything, and thousands of waiting
    triggers make one due: with 10,000 of them, 115 ms, of which their own objects are a fifth. Modules and classes,
    which are the rest, never go away; Airflow's executors freeze theirs, too.
    """
    gc.freeze()


#: Pollers by event loop and connection. A poller is in here exactly as long as its loop runs.
_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, ConnectionPoller]] = WeakKeyDictionary()


async def _run(poller: ConnectionPoller, pollers: dict[str, ConnectionPoller]) -> None:
    try:
        await poller.run()
    finally:
        # Nothing is awaited since the loop found itself without watchers: nobody can have joined meanwhile.
        del pollers[poller.mistral_conn_id]


class Watch:
    """
    One trigger's view of its job: the newest snapshot, or the error that ended the watching.

    There are thousands of them: a future and a timer wait with less than an event and ``wait_for`` would.
    """

    __slots__ = (
        "_alarm",
        "_conn_id",
        "_error",
        "_has_news",
        "_job",
        "_poller",
        "_waiter",
        "batch_id",
        "cadence",
        "clock_offset",
    )

    def __init__(self, mistral_conn_id: str, batch_id: str, cadence: Cadence) -> None:
        self.batch_id = batch_id
        self.cadence = cadence
        #: Seconds by which the server's clock is ahead of ours.
        self.clock_offset = 0.0
        self._conn_id = mistral_conn_id
        self._poller: ConnectionPoller | None = None
        self._job: BatchJobOut | None = None
        self._error: BaseException | None = None
        self._has_news = False
        self._waiter: asyncio.Future[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Watch:
        self._poller = _poller_of(self._conn_id)
        self._poller.join(self)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        if self._poller is not None:
            self._poller.leave(self)

    async def changed(self, timeout: float) -> BatchJobOut | None:
        """
        Wait until there is a snapshot that differs from the last.

        :param timeout: Seconds to wait at most; it may be less.
        :return: The job, or ``None`` when nothing changed in that time.
        :raises Exception: When the job cannot be watched any more.
        """
        if not self._has_news:
            loop = asyncio.get_running_loop()
            self._set_alarm(loop, loop.time() + max(0.0, timeout))
            self._waiter = loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if not self._has_news:
            return None
        self._has_news = False
        if self._error is not None:
            # One error for many: each would add its frames to the same traceback.
            raise self._error.with_traceback(None)
        return self._job

    def show(self, job: BatchJobOut, clock_offset: float) -> None:
        """Hand over a snapshot."""
        self.clock_offset = clock_offset
        if job != self._job:
            self._job = job
            self._has_news = True
            self._wake()

    def fail(self, error: BaseException) -> None:
        """End the watching with an error."""
        self._error = error
        self._has_news = True
        self._wake()

    def _set_alarm(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        """Wake up at a time, or before: an alarm that is set already will do."""
        if self._alarm is not None:
            if self._alarm.when() <= when:
                return
            self._alarm.cancel()
        self._alarm = loop.call_at(when, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class ConnectionPoller:
    """
    The poll loop of one connection on one event loop.

    :param mistral_conn_id: The connection's id.
    """

    def __init__(self, mistral_conn_id: str) -> None:
        self.mistral_conn_id = mistral_conn_id
        # A failed call is not repeated on the spot: the loop comes again, later and for all.
        self._hook = MistralBatchHook(
            mistral_conn_id, retries=RetryPolicy(attempts=1), longest_timeout=_TIMEOUT_SECONDS
        )
        # Of its own: the event loop's default one may be busy with what others do, or with XComs.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"mistral-batch-{mistral_conn_id}")
        self._watches: dict[str, list[Watch]] = {}
        self._schedules: dict[str, Schedule] = {}
        self._created_at: dict[str, int] = {}
        #: Of jobs that could not be read although others could.
        self._setbacks: dict[str, Backoff] = {}
        self._newcomers = Schedule(-math.inf)
        self._newcomers_wait_until = -math.inf
        self._crew_changed = asyncio.Event()
        self._wakes_at = -math.inf
        self._backoff = Backoff()
        #: The job that could not be read last, if no call has succeeded since.
        self._unreadable: str | None = None
        self._listings = {BatchStatus.ACTIVE: _Listing(), BatchStatus.TERMINAL: _Listing()}
        #: The running loop; held here, since the event loop itself holds tasks only weakly.
        self.task: asyncio.Task[None] | None = None

    def join(self, watch: Watch) -> None:
        """Begin to watch a job."""
        self._watches.setdefault(watch.batch_id, []).append(watch)
        # Newcomers want to see the job soon, also one that others have been watching for long.
        soon = self._next_look_of_newcomers()
        planned = self._schedules.get(watch.batch_id)
        if planned is None or soon.next_look < planned.next_look:
            self._schedules[watch.batch_id] = soon
        if soon.next_look < self._wakes_at:
            self._crew_changed.set()

    def _next_look_of_newcomers(self) -> Schedule:
        """One schedule for all who come one after the other: each puts it off a bit, for the next one to come along."""
        now = time.monotonic()
        if now >= self._newcomers.next_look:
            # The interval makes a round that is made meanwhile take them along.
            self._newcomers = Schedule(now, _GATHER_LONGEST / EARLY_SHARE)
            self._newcomers_wait_until = now + _GATHER_LONGEST
        self._newcomers.next_look = min(now + _GATHER_SECONDS, self._newcomers_wait_until)
        return self._newcomers

    def leave(self, watch: Watch) -> None:
        """Stop watching a job."""
        watches = self._watches[watch.batch_id]
        watches.remove(watch)
        if not watches:
            del self._watches[watch.batch_id], self._schedules[watch.batch_id]
            self._created_at.pop(watch.batch_id, None)
            self._setbacks.pop(watch.batch_id, None)
        if not self._watches:
            self._crew_changed.set()

    async def run(self) -> None:
        """Look at the jobs as they fall due, until nobody watches."""
        try:
            while self._watches:
                self._crew_changed.clear()
                self._wakes_at = min(at.next_look for at in self._schedules.values())
                pause = self._wakes_at - time.monotonic()
                if pause > 0:
                    await self._pause(pause)
                else:
                    await self._round()
        finally:
            self._hook.close()
            self._thread.shutdown(wait=False)

    async def _pause(self, seconds: float) -> None:
        """Pause; a watcher that comes and cannot wait as long ends it early, and so does the last one that leaves."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._crew_changed.wait(), seconds)

    async def _back_off(self, seconds: float) -> None:
        """Pause; unlike in other pauses newcomers have to wait. When nobody is left it ends."""
        until = time.monotonic() + seconds
        while self._watches and (left := until - time.monotonic()) > 0:
            self._crew_changed.clear()
            await self._pause(left)

    async def _round(self) -> None:
        """Look at everything that is due, or note that this does not work at present."""
        try:
            await self._look_at(due(self._schedules, time.monotonic()))
        except Exception as error:
            if is_permanent(error):
                await self._fail(list(self._watches), error)
                return
            await self._slow_down(error)

    async def _slow_down(self, error: Exception) -> None:
        if isinstance(error, (MistralConnectionError, MistralResponseError)):
            # It may be the connection that is wrong, and mended by the next time: it is read anew then.
            self._hook.close()
        pause = self._backoff.failed(getattr(error, "retry_after", None))
        log.warning(
            "%s The %d jobs watched through connection %r are looked at again in %.0f s.",
            error,
            len(self._watches),
            self.mistral_conn_id,
            pause,
        )
        await self._back_off(pause)

    async def _look_at(self, batch_ids: Iterable[str]) -> None:
        """Look at jobs in as few calls as possible."""
        missing, read_to_end = await self._read_listing(BatchStatus.ACTIVE, batch_ids)
        found = set()
        if read_to_end:
            # What has left the active jobs is over. If it was many at once, there is a listing of those, too.
            over = [batch_id for batch_id in missing if batch_id in self._created_at]
            found = set(over).difference((await self._read_listing(BatchStatus.TERMINAL, over))[0])
        for batch_id in missing:
            if batch_id not in found:
                await self._read_job(batch_id)

    async def _read_listing(
        self, statuses: frozenset[str], batch_ids: Iterable[str]
    ) -> tuple[list[str], bool]:
        """Look at jobs through a listing as far as that pays; return those not found, and whether it was all of it."""
        missing = dict.fromkeys(batch_id for batch_id in batch_ids if batch_id in self._watches)
        wanted = JobFilter(status=statuses, created_after=self._oldest(missing))
        listing = self._listings[statuses]
        cursor: str | None = None
        pages_left = listing.pages(time.monotonic())
        pages_read = 0
        asked_for = len(missing)
        while (
            self._watches and listing.is_usable(time.monotonic()) and listing_pays(len(missing), pages_left)
        ):
            at = cursor
            try:
                page = await self._call(lambda hook: hook.get_conn().jobs_page(wanted, at))  # noqa: B023 - awaited
            except MistralCallError as error:
                if await self._is_the_listings_fault(listing, error, next(iter(missing))):
                    log.warning(
                        "%s So jobs of connection %r are read one by one.", error, self.mistral_conn_id
                    )
                    break
                if is_permanent(error):
                    raise
                # On with the same page: begun anew each time, a long listing would never be read to its end.
                await self._slow_down(error)
                continue
            listing.works()
            pages_read += 1
            for job in page.items:
                missing.pop(job.id, None)
                # Also to those who are not due: they need no look of their own soon.
                self._show(job)
            if page.next is None or (page.items and wanted.is_before(page.items[-1])):
                listing.learned(pages_read, time.monotonic())
                return list(missing), True
            if page.total is not None:
                # Rounded up; a server's number may be too large for a float.
                pages = -(-page.total // PAGE_SIZE)
                listing.learned(pages, time.monotonic())
                pages_left = max(1, pages - pages_read)
            elif pages_read >= asked_for:
                # By now single calls would have cost less; nor does every server ever come to an end.
                listing.learned(pages_read + 1, time.monotonic())
                break
            cursor = page.next
        return list(missing), False

    async def _is_the_listings_fault(self, listing: _Listing, error: MistralCallError, batch_id: str) -> bool:
        """Whether single jobs can be read where the listing cannot, so that it had better be left alone."""
        if isinstance(error, AuthenticationError):
            return False
        if is_permanent(error):
            listing.rest(math.inf)
            return True
        if not isinstance(error, (ServerError, MistralResponseError)):
            return False
        # If single jobs cannot be read, either, it is the server that is in trouble.
        return await self._read_job(batch_id) and listing.failed(time.monotonic())

    def _oldest(self, batch_ids: Iterable[str]) -> datetime | None:
        """A time just before the oldest of some jobs was created; ``None`` when that of any is not known yet."""
        created_at = [self._created_at.get(batch_id) for batch_id in batch_ids]
        if None in created_at or not created_at:
            return None
        # Whether "after" includes that very second is the server's to say.
        oldest = min(at for at in created_at if at is not None) - 1
        return datetime.fromtimestamp(oldest, tz=timezone.utc)

    async def _read_job(self, batch_id: str) -> bool:
        """Look at one job; what is wrong with it alone ends its own watching alone. False: the server stumbled."""
        if batch_id not in self._watches:
            return True
        try:
            self._show(await self._call(lambda hook: hook.get(batch_id)))
        except MistralCallError as error:
            if is_permanent(error) and not isinstance(error, AuthenticationError):
                await self._fail([batch_id], error)
            elif isinstance(error, (ServerError, MistralResponseError)) and not self._others_fail(batch_id):
                self._put_off(batch_id, error)
                return False
            else:
                raise
        return True

    def _others_fail(self, batch_id: str) -> bool:
        """Note that a job could not be read; whether the last one that was tried could not be, either."""
        before, self._unreadable = self._unreadable, batch_id
        return before not in (None, batch_id)

    def _put_off(self, batch_id: str, error: Exception) -> None:
        """Look later at a job over which alone the server may stumble: the others do not wait for it."""
        pause = self._setbacks.setdefault(batch_id, Backoff()).failed(getattr(error, "retry_after", None))
        self._schedules[batch_id] = Schedule(time.monotonic() + pause, pause)
        log.warning("%s Batch job %s is looked at again in %.0f s.", error, batch_id, pause)

    async def _call(self, call: Callable[[MistralBatchHook], T]) -> T:
        answer = await in_thread(call, self._hook, executor=self._thread)
        self._backoff.succeeded()
        self._unreadable = None
        return answer

    def _show(self, job: BatchJobOut) -> None:
        """Hand a snapshot to the job's watchers and plan the next look."""
        watches = self._watches.get(job.id)
        if watches is None:
            return
        offset = self._hook.clock_offset
        self._created_at[job.id] = job.created_at
        self._setbacks.pop(job.id, None)
        age = max(0.0, time.time() + offset - job.created_at)
        interval = min(watch.cadence.interval(age) for watch in watches)
        # Jittered downwards only, and early enough for the round itself, so that the cadence is a promise.
        next_look = (
            time.monotonic() + interval * random.uniform(0.85, 1.0) - min(_ROUND_SECONDS, 0.25 * interval)
        )
        self._schedules[job.id] = Schedule(next_look, interval)
        for watch in watches:
            watch.show(job, offset)

    async def _fail(self, batch_ids: Iterable[str], error: BaseException) -> None:
        for number, batch_id in enumerate(batch_ids, start=1):
            for watch in self._watches.get(batch_id, ()):
                watch.fail(error)
            if batch_id in self._schedules:
                # Its watchers are about to leave.
                self._schedules[batch_id] = Schedule(math.inf)
            if number % PAGE_SIZE == 0:
                # All at once would block the event loop.
                await asyncio.sleep(0)


class _Listing:
    """What a loop knows of one listing: whether it can be used, and how many pages it has."""

    def __init__(self) -> None:
        self._rests_until = -math.inf
        self._failures = 0
        self._pages: int | None = None
        self._learned_at = -math.inf

    def is_usable(self, now: float) -> bool:
        return now >= self._rests_until

    def works(self) -> None:
        self._failures = 0

    def failed(self, now: float) -> bool:
        """Count a failure; true when there were so many in a row that the listing gets a rest."""
        self._failures += 1
        if self._failures < _LISTING_FAILURES:
            return False
        self.rest(now + ESTIMATE_SECONDS)
        return True

    def rest(self, until: float) -> None:
        self._rests_until = until

    def learned(self, pages: int, now: float) -> None:
        self._pages, self._learned_at = pages, now

    def pages(self, now: float) -> int | None:
        return self._pages if now - self._learned_at < ESTIMATE_SECONDS else None
