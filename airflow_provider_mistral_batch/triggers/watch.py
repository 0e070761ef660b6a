"""``Watch``: one wait's view of its job, as a poll loop shows it."""

from __future__ import annotations

import asyncio
import logging
import time

from airflow_provider_mistral_batch.api.models import BatchJobOut
from airflow_provider_mistral_batch.policies.cadence import Cadence
from airflow_provider_mistral_batch.policies.outage import Outage


class Watch:
    """
    The newest snapshot of a job, or the error that ended the watching.

    There are thousands of these: a future and a timer wait with less memory than an event and ``wait_for`` would.

    :param batch_id: The job's id.
    :param cadence: How often to look at it.
    :param outage: What the waiting task has logged about outages.
    """

    __slots__ = (
        "_alarm",
        "_error",
        "_has_lines",
        "_has_news",
        "_is_in_trouble",
        "_job",
        "_lines",
        "_outage",
        "_waiter",
        "batch_id",
        "cadence",
        "clock_offset",
    )

    def __init__(self, batch_id: str, cadence: Cadence, outage: Outage | None = None) -> None:
        self.batch_id = batch_id
        self.cadence = cadence
        #: Seconds by which the server's clock is ahead of ours.
        self.clock_offset = 0.0
        self._job: BatchJobOut | None = None
        self._error: BaseException | None = None
        self._has_news = False
        self._has_lines = False
        self._outage = outage
        self._is_in_trouble = False
        self._lines: tuple[tuple[int, str], ...] = ()
        self._waiter: asyncio.Future[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None

    async def changed(self, timeout: float) -> BatchJobOut | None:
        """
        Wait until there is a snapshot that differs from the last, or a line to log.

        :param timeout: Seconds to wait at most; it may be less.
        :return: The job, or ``None`` when nothing changed in that time.
        :raises Exception: When the job cannot be watched any more.
        """
        if not self._has_news and not self._has_lines:
            loop = asyncio.get_running_loop()
            self._set_alarm(loop, loop.time() + max(0.0, timeout))
            self._waiter = loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        # Once for each line: whoever leaves the lines alone must not be woken for them for ever.
        self._has_lines = False
        if not self._has_news:
            return None
        self._has_news = False
        if self._error is not None:
            # Many watches share one error: without this, each would add its frames to the same traceback.
            raise self._error.with_traceback(None)
        return self._job

    def lines(self) -> tuple[tuple[int, str], ...]:
        """Return the lines that are to be logged by the waiting task, which has a log of its own: level and text."""
        lines, self._lines = self._lines, ()
        return lines

    def show(self, job: BatchJobOut, clock_offset: float) -> None:
        """Hand over a snapshot."""
        self.clock_offset = clock_offset
        self.answered()
        if job != self._job:
            self._job = job
            self._has_news = True
            self._wake()

    def trouble(self, error: Exception) -> None:
        """Note that the job cannot be looked at for now."""
        self._is_in_trouble = True
        # Made late: most watches never need one.
        self._outage = self._outage or Outage()
        self._say(logging.WARNING, self._outage.failed(error, time.monotonic()))

    def answered(self) -> None:
        """Note that the API answers."""
        # Another watch of the same task may still be in trouble.
        if self._is_in_trouble and self._outage is not None:
            self._is_in_trouble = False
            self._say(logging.INFO, self._outage.over(time.monotonic()))

    def fail(self, error: BaseException) -> None:
        """End the watching with an error."""
        self._error = error
        self._has_news = True
        self._wake()

    def close(self) -> None:
        """Leave no timer behind."""
        if self._alarm is not None:
            self._alarm.cancel()

    def _say(self, level: int, line: str | None) -> None:
        if line is not None:
            self._lines += ((level, line),)
            self._has_lines = True
            self._wake()

    def _set_alarm(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        """Wake up at a time, or before: an alarm that is set for an earlier time stays."""
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
