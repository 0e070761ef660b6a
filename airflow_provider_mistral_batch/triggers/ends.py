"""``EndsPoller``: the poll loop behind all event triggers of a connection. It finds the jobs that have ended."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timezone
from itertools import islice

import msgspec

from airflow_provider_mistral_batch.api.errors import InvalidInputError, MistralBatchError, MistralCallError
from airflow_provider_mistral_batch.api.limits import PAGE_SIZE
from airflow_provider_mistral_batch.api.models import BatchJobOut, BatchStatus
from airflow_provider_mistral_batch.api.texts import sentence
from airflow_provider_mistral_batch.policies.news import LONGEST_LIFE_SECONDS, Bookmark, EndFilter, end_of
from airflow_provider_mistral_batch.policies.outage import Outage
from airflow_provider_mistral_batch.policies.setbacks import Scope, Setbacks, scope
from airflow_provider_mistral_batch.triggers.looking import looking_hook
from airflow_provider_mistral_batch.triggers.sharing import shared
from airflow_provider_mistral_batch.triggers.threads import in_thread

log = logging.getLogger(__name__)

#: How many looks more a job is expected that is not there.
_LOOKS_FOR_HIDDEN = 10

#: Seconds after which the active jobs are listed again where the server cannot choose them.
_ACTIVE_LISTED_SECONDS = 600.0


class Look(msgspec.Struct, frozen=True):
    """
    What one look found.

    :param ended: Jobs that are over, with the time of their end.
    :param active: When they were created, by the ids of jobs that are active or hidden.
    :param now: When the look began, by the server's clock.
    """

    ended: list[tuple[BatchJobOut, int]]
    active: dict[str, int]
    now: float


class Subscriber:
    """
    One event trigger's place in the loop.

    :param interval: Seconds between two looks, at most.
    :param wanted: Which jobs it tells of.
    """

    def __init__(self, interval: float, wanted: EndFilter) -> None:
        self.interval = interval
        self.wanted = wanted
        #: ``None`` until the first look says what time it is on the server.
        self.bookmark: Bookmark | None = None
        #: Whether the next look must list all jobs since ``bookmark.since``: nobody has seen what was active.
        self.needs_all = True
        self.looks: asyncio.Queue[Look] = asyncio.Queue()


class EndsPoller:
    """
    The poll loop of one connection on one event loop; it ends when nobody subscribes any more.

    :param mistral_conn_id: The connection's id.
    """

    def __init__(self, mistral_conn_id: str) -> None:
        self.mistral_conn_id = mistral_conn_id
        self._hook = looking_hook(mistral_conn_id)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"mistral-batch-ends-{mistral_conn_id}")
        self._subscribers: list[Subscriber] = []
        #: When they were created and how many looks have missed them since, by the ids of active jobs that somebody
        #: waits for.
        self._active: dict[str, tuple[int, int]] = {}
        self._active_listed_at = float("-inf")
        self._setbacks = Setbacks()
        self._outage = Outage(repeats=True)
        self._wake_up = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def join(self, subscriber: Subscriber) -> None:
        """Begin to hand looks to a subscriber."""
        self._subscribers.append(subscriber)
        self._wake_up.set()

    def leave(self, subscriber: Subscriber) -> None:
        """End that."""
        self._subscribers.remove(subscriber)
        self._wake_up.set()

    async def run(self) -> None:
        """Look again and again, until nobody subscribes."""
        try:
            while self._subscribers:
                self._wake_up.clear()
                subscribers = list(self._subscribers)
                try:
                    look = await in_thread(self._look, subscribers, executor=self._thread)
                except Exception as error:
                    await self._slow_down(error)
                    continue
                self._setbacks.call_succeeded()
                if line := self._outage.over(time.monotonic()):
                    log.info("Connection %r: %s", self.mistral_conn_id, line)
                for subscriber in subscribers:
                    subscriber.looks.put_nowait(look)
                await self._pause(min(subscriber.interval for subscriber in subscribers))
        finally:
            self._hook.close()
            self._thread.shutdown(wait=False)

    async def _pause(self, seconds: float) -> None:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._wake_up.wait(), seconds)

    async def _slow_down(self, error: Exception) -> None:
        """Pause, and read the connection anew: somebody may have corrected it meanwhile."""
        self._hook.close()
        self._hook = looking_hook(self.mistral_conn_id)
        pause = self._setbacks.pause_of_all(error)
        if self._outage.is_to_be_said(time.monotonic()):
            log.warning(
                "%s No end of a job is noticed through connection %r meanwhile. Looking again in %.0f s.",
                sentence(error),
                self.mistral_conn_id,
                pause,
            )
        until = time.monotonic() + pause
        while self._subscribers and (left := until - time.monotonic()) > 0:
            self._wake_up.clear()
            await self._pause(left)

    def _look(self, subscribers: list[Subscriber]) -> Look:
        """Find the jobs that ended since the last look, and note the active ones; blocks."""
        before, started_at = self._active, time.time()
        ended: dict[str, BatchJobOut] = {}
        active: dict[str, tuple[int, int]] = {}

        def note(job: BatchJobOut) -> None:
            # Thousands of others may be listed.
            if not any(subscriber.wanted.concerns(job) for subscriber in subscribers):
                return
            if job.is_terminal:
                active.pop(job.id, None)
                ended[job.id] = job
            elif job.id not in ended:
                active[job.id] = (job.created_at or int(started_at), 0)

        if self._lists_active(subscribers):
            for job in self._jobs(BatchStatus.ACTIVE, started_at - LONGEST_LIFE_SECONDS):
                note(job)
            self._active_listed_at = time.monotonic()
        # The first answer tells what time it is on the server.
        now = started_at + self._hook.clock_offset
        bookmarks = [subscriber.bookmark or Bookmark.begin(now) for subscriber in subscribers]
        reach = min(
            bookmark.since if subscriber.needs_all else bookmark.recent
            for subscriber, bookmark in zip(subscribers, bookmarks, strict=True)
        )
        for job in self._jobs(BatchStatus.ALL, reach):
            note(job)
        now = started_at + self._hook.clock_offset
        remembered = {
            batch_id: (created, 0)
            for subscriber, bookmark in zip(subscribers, bookmarks, strict=True)
            if subscriber.needs_all
            for batch_id, created in bookmark.active.items()
        }
        for job in self._read_others({**remembered, **before}, {*active, *ended}, active):
            note(job)
        self._active = active
        floor = min(bookmark.floor for bookmark in bookmarks)
        ends = [(job, end_of(job, active=before, now=now)) for job in ended.values()]
        return Look(
            [(job, end) for job, end in ends if end > floor or job.id in remembered],
            {batch_id: created for batch_id, (created, _) in active.items()},
            now,
        )

    def _lists_active(self, subscribers: list[Subscriber]) -> bool:
        """Tell whether to list the active jobs: where the server cannot choose them, that takes all pages."""
        if any(subscriber.needs_all for subscriber in subscribers):
            return True
        is_cheap = self._hook.get_conn().dialect.filters_jobs
        return is_cheap or time.monotonic() - self._active_listed_at >= _ACTIVE_LISTED_SECONDS

    def _jobs(self, status: frozenset[str], created_after: float) -> Iterator[BatchJobOut]:
        since = datetime.fromtimestamp(max(0, min(created_after, time.time())), tz=timezone.utc)
        return self._hook.iter_jobs(
            status=None if status == BatchStatus.ALL else sorted(status), created_after=since
        )

    def _read_others(
        self, before: Mapping[str, tuple[int, int]], seen: set[str], active: dict[str, tuple[int, int]]
    ) -> Iterator[BatchJobOut]:
        """
        Read the jobs that were active at the last look and were not seen in this one: most of them have ended.

        Of a listing no more pages are read than single reads would take calls.
        """
        left = {batch_id: place for batch_id, place in before.items() if batch_id not in seen}
        if len(left) > 1:
            oldest = min(created for created, _ in left.values())
            # A server that cannot choose lists the active ones, too, which then need no call of their own.
            filters = self._hook.get_conn().dialect.filters_jobs
            listed = self._jobs(BatchStatus.TERMINAL if filters else BatchStatus.ALL, oldest)
            for job in islice(listed, len(left) * PAGE_SIZE):
                if left.pop(job.id, None) is not None:
                    yield job
                if not left:
                    return
        for batch_id, (created, missed) in left.items():
            found = self._read(batch_id)
            if isinstance(found, BatchJobOut):
                yield found
            # The server may stumble over it; but one that is not there may just be hidden for a moment.
            elif (missed := missed + _concerns_it_alone(found)) <= _LOOKS_FOR_HIDDEN:
                active[batch_id] = (created, missed)

    def _read(self, batch_id: str) -> BatchJobOut | MistralBatchError:
        """Read one job; return an error that does not concern the others."""
        try:
            return self._hook.get(batch_id)
        except InvalidInputError as error:
            # A gateway's id that no URL can have. Only listings tell of that job.
            return error
        except MistralCallError as error:
            if scope(error) is Scope.ALL_CALLS:
                raise
            return error


def _concerns_it_alone(error: MistralBatchError) -> bool:
    return isinstance(error, InvalidInputError) or scope(error) is Scope.THIS_CALL


def subscribe(mistral_conn_id: str, subscriber: Subscriber) -> EndsPoller:
    """
    Join the loop of a connection on the running event loop, and start it if there is none.

    :param mistral_conn_id: The connection's id.
    :param subscriber: Who wants to know.
    :return: The poller, to be left at the end.
    """
    poller = shared(EndsPoller, mistral_conn_id)
    poller.join(subscriber)
    return poller
