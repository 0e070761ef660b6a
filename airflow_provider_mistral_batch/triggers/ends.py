"""``EndsPoller``: the poll loop behind all event triggers of a connection. It finds the jobs that have ended."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timezone
from weakref import WeakKeyDictionary

import msgspec

from airflow_provider_mistral_batch.api.models import BatchJobOut, BatchStatus
from airflow_provider_mistral_batch.api.retries import RetryPolicy
from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
from airflow_provider_mistral_batch.policies.news import Bookmark, end_of
from airflow_provider_mistral_batch.policies.outage import QUIET_SECONDS
from airflow_provider_mistral_batch.policies.setbacks import Setbacks
from airflow_provider_mistral_batch.triggers.threads import in_thread

log = logging.getLogger(__name__)

#: Seconds to wait for an answer at most.
_TIMEOUT_SECONDS = 30.0

#: How many looks more a job is expected that is in neither listing: one page may have hidden it.
_LOOKS_FOR_HIDDEN = 3


class Look(msgspec.Struct, frozen=True):
    """
    What one look found.

    :param ended: Jobs that are over, with the time of their end.
    :param oldest_active: When the oldest job was created that is active or hidden; ``None`` if there is none.
    :param now: When the look began, by the server's clock.
    """

    ended: list[tuple[BatchJobOut, int]]
    oldest_active: int | None
    now: float


class Subscriber:
    """
    One event trigger's place in the loop.

    :param interval: Seconds between two looks, at most.
    """

    def __init__(self, interval: float) -> None:
        self.interval = interval
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
        self._hook = self._new_hook()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"mistral-batch-ends-{mistral_conn_id}")
        self._subscribers: list[Subscriber] = []
        #: When they were created and how many looks have missed them since, by the ids of active jobs.
        self._active: dict[str, tuple[int, int]] = {}
        self._setbacks = Setbacks()
        self._said_at = float("-inf")
        self._is_in_trouble = False
        self._wake_up = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def _new_hook(self) -> MistralBatchHook:
        return MistralBatchHook(
            self.mistral_conn_id, retries=RetryPolicy(attempts=1), longest_timeout=_TIMEOUT_SECONDS
        )

    def join(self, subscriber: Subscriber) -> None:
        """Begin to hand looks to a subscriber."""
        self._subscribers.append(subscriber)
        self._wake_up.set()

    def leave(self, subscriber: Subscriber) -> None:
        """End that."""
        self._subscribers.remove(subscriber)
        self._wake_up.set()

    def look_again(self) -> None:
        """Look at once: a subscriber has more to tell."""
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
                if self._is_in_trouble:
                    self._is_in_trouble = False
                    log.info("Connection %r works again.", self.mistral_conn_id)
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
        self._hook = self._new_hook()
        pause = self._setbacks.pause_of_all(error)
        if time.monotonic() - self._said_at >= QUIET_SECONDS:
            self._said_at, self._is_in_trouble = time.monotonic(), True
            log.warning(
                "%s No end of a job is noticed through connection %r meanwhile. Looking again in %.0f s.",
                error,
                self.mistral_conn_id,
                pause,
            )
        until = time.monotonic() + pause
        while self._subscribers and (left := until - time.monotonic()) > 0:
            self._wake_up.clear()
            await self._pause(left)

    def _look(self, subscribers: list[Subscriber]) -> Look:
        """Read the active jobs, then the ended ones that may be news; blocks."""
        before = {batch_id: created for batch_id, (created, _) in self._active.items()}
        active: dict[str, tuple[int, int]] = {}
        started_at = time.time()
        for job in self._hook.iter_jobs(status=sorted(BatchStatus.ACTIVE)):
            active[job.id] = (job.created_at or int(self._hook.server_now), 0)
        # The first answer tells what time it is on the server.
        begun = started_at + self._hook.clock_offset
        left = set(before).difference(active)
        floors, reaches = [], [before[batch_id] for batch_id in left]
        for subscriber in subscribers:
            bookmark = subscriber.bookmark or Bookmark.begin(begun)
            floors.append(bookmark.floor)
            reaches.append(bookmark.since if subscriber.needs_all else bookmark.recent)
        floor, reach = min(floors), min(reaches)
        ended = []
        for job in self._hook.iter_jobs(
            status=sorted(BatchStatus.TERMINAL), created_after=datetime.fromtimestamp(reach, tz=timezone.utc)
        ):
            left.discard(job.id)
            end = end_of(job, active=before, now=begun)
            # Thousands of others may be listed; only what may be news is kept.
            if end > floor:
                ended.append((job, end))
        for batch_id in left:
            created, missed = self._active[batch_id]
            if missed < _LOOKS_FOR_HIDDEN:
                active[batch_id] = (created, missed + 1)
        self._active = active
        return Look(ended, min((created for created, _ in active.values()), default=None), begun)


_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, EndsPoller]] = WeakKeyDictionary()


def subscribe(mistral_conn_id: str, subscriber: Subscriber) -> EndsPoller:
    """
    Join the loop of a connection on the running event loop, and start it if there is none.

    :param mistral_conn_id: The connection's id.
    :param subscriber: Who wants to know.
    :return: The poller, to be left at the end.
    """
    loop = asyncio.get_running_loop()
    pollers = _pollers.setdefault(loop, {})
    poller = pollers.get(mistral_conn_id)
    if poller is None:
        poller = pollers[mistral_conn_id] = EndsPoller(mistral_conn_id)
        # In a context of its own: what the loop does and logs is not the first trigger's.
        poller.task = contextvars.Context().run(loop.create_task, _run(poller, pollers))
    poller.join(subscriber)
    return poller


async def _run(poller: EndsPoller, pollers: dict[str, EndsPoller]) -> None:
    try:
        await poller.run()
    finally:
        del pollers[poller.mistral_conn_id]
