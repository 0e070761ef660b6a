"""When a poll loop looks at each of its jobs. All times are seconds of a monotonic clock."""

from __future__ import annotations

import math
import random

import msgspec

#: A look may come early by up to this share of the job's interval, to join a look at other jobs.
MAX_EARLINESS = 0.3

#: The next look comes early by a random share of the job's interval, up to this one, so that looks spread out.
MAX_JITTER = 0.15

#: About how many seconds a look at many jobs takes until it has shown the last one. Looks begin earlier by that...
LOOK_SECONDS = 0.5
#: ... but by no more than this share of a job's interval.
MAX_LOOK_SHARE = 0.25

#: Seconds that a new job waits for other new jobs, so that one look covers all of them...
GATHER_SECONDS = 0.2
#: ... and the most seconds that the first of them waits.
GATHER_SECONDS_AT_MOST = 2.0


class Schedule(msgspec.Struct):
    """
    When the next look at a job is due.

    :param next_look: The time of the next look.
    :param interval: Seconds between the last look and the next.
    """

    next_look: float
    interval: float = 0.0


class Timetable:
    """
    When the next look at each job of a poll loop is due.

    Only :meth:`add` adds a job. The other methods ignore a job that is not in the timetable: it may have been removed
    while the loop was looking at it, and a look planned for it would stay due for ever.
    """

    def __init__(self) -> None:
        self._schedules: dict[str, Schedule] = {}
        self._newcomers = Schedule(-math.inf)
        self._newcomers_wait_until = -math.inf

    def add(self, batch_id: str, now: float) -> float:
        """
        Plan an early look at a job that a new watch has joined, even if it already has other watches.

        :param batch_id: The job's id.
        :param now: The time now.
        :return: When the look at new jobs is due.
        """
        soon = self._newcomers_look(now)
        planned = self._schedules.get(batch_id)
        if planned is None or soon.next_look < planned.next_look:
            self._schedules[batch_id] = soon
        return soon.next_look

    def _newcomers_look(self, now: float) -> Schedule:
        """Return the schedule that all new jobs share; each of them delays it a bit, so that the next can join."""
        if now >= self._newcomers.next_look:
            # With so long an interval, the new jobs also join any look that happens before.
            self._newcomers = Schedule(now, GATHER_SECONDS_AT_MOST / MAX_EARLINESS)
            self._newcomers_wait_until = now + GATHER_SECONDS_AT_MOST
        self._newcomers.next_look = min(now + GATHER_SECONDS, self._newcomers_wait_until)
        return self._newcomers

    def seen(self, batch_id: str, interval: float, now: float) -> None:
        """
        Plan the next look at a job that was just seen, within its interval.

        :param batch_id: The job's id.
        :param interval: Seconds within which an end of the job must be noticed.
        :param now: The time now.
        """
        if batch_id in self._schedules:
            pause = interval * random.uniform(1.0 - MAX_JITTER, 1.0)
            next_look = now + pause - min(LOOK_SECONDS, interval * MAX_LOOK_SHARE)
            self._schedules[batch_id] = Schedule(next_look, interval)

    def put_off(self, batch_id: str, seconds: float, now: float) -> None:
        """
        Plan the next look at a job that could not be read.

        :param batch_id: The job's id.
        :param seconds: How long to wait.
        :param now: The time now.
        """
        if batch_id in self._schedules:
            self._schedules[batch_id] = Schedule(now + seconds, seconds)

    def stop(self, batch_id: str) -> None:
        """Plan no further look at a job until a new watch joins."""
        if batch_id in self._schedules:
            self._schedules[batch_id] = Schedule(math.inf)

    def remove(self, batch_id: str) -> None:
        """Forget a job that is no longer watched."""
        del self._schedules[batch_id]

    def due(self, now: float) -> list[str]:
        """
        Choose the jobs to look at now: jobs that are due or nearly due.

        :param now: The time now.
        """
        return [
            batch_id
            for batch_id, at in self._schedules.items()
            if at.next_look - at.interval * MAX_EARLINESS <= now
        ]

    def next_look(self) -> float:
        """Return when the next job is due; infinity if there is no job."""
        return min((at.next_look for at in self._schedules.values()), default=math.inf)
