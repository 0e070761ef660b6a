"""When a poll loop looks at each of its jobs. All times are seconds of a clock that never goes back."""

from __future__ import annotations

import math
import random

import msgspec

#: Share of a job's interval by which it may be looked at early, to go along with a look that happens anyway.
MAX_EARLINESS = 0.3

#: Share of a job's interval by which its next look is moved forward at random, so that looks spread out.
MAX_JITTER = 0.15

#: Seconds that a look at many jobs takes, about, until it has shown the last of them; looks begin earlier by that...
LOOK_SECONDS = 0.5
#: ... but by no more than this share of a job's interval.
MAX_LOOK_SHARE = 0.25

#: Seconds that a new job waits for others, so that waits that begin together are looked at together...
GATHER_SECONDS = 0.2
#: ... and seconds that the first of a crowd waits at most.
GATHER_SECONDS_AT_MOST = 2.0


class Schedule(msgspec.Struct):
    """
    When a job is looked at next.

    :param next_look: The time of the next look.
    :param interval: Seconds between the last look and the next.
    """

    next_look: float
    interval: float = 0.0


class Timetable:
    """
    When each job of a poll loop is looked at next.

    Only :meth:`add` takes a job in. The other methods ignore a job that is not in here: it may have been removed while
    the loop was looking at it, and a look that is planned for it would stay due for ever.
    """

    def __init__(self) -> None:
        self._schedules: dict[str, Schedule] = {}
        self._newcomers = Schedule(-math.inf)
        self._newcomers_wait_until = -math.inf

    def add(self, batch_id: str, now: float) -> float:
        """
        Plan to look soon at a job that somebody begins to watch, even if others have watched it for long.

        :param batch_id: The job's id.
        :param now: The time now.
        :return: When newcomers are looked at.
        """
        soon = self._newcomers_look(now)
        planned = self._schedules.get(batch_id)
        if planned is None or soon.next_look < planned.next_look:
            self._schedules[batch_id] = soon
        return soon.next_look

    def _newcomers_look(self, now: float) -> Schedule:
        """One schedule for all jobs that come one after the other: each puts it off a bit, for the next to join."""
        if now >= self._newcomers.next_look:
            # With an interval this long, a look that happens meanwhile takes the newcomers along.
            self._newcomers = Schedule(now, GATHER_SECONDS_AT_MOST / MAX_EARLINESS)
            self._newcomers_wait_until = now + GATHER_SECONDS_AT_MOST
        self._newcomers.next_look = min(now + GATHER_SECONDS, self._newcomers_wait_until)
        return self._newcomers

    def seen(self, batch_id: str, interval: float, now: float) -> None:
        """
        Plan the next look at a job that was just seen, no later than its interval allows.

        :param batch_id: The job's id.
        :param interval: Seconds until the job's end must be noticed.
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
        """Plan no further look at a job, until somebody new watches it."""
        if batch_id in self._schedules:
            self._schedules[batch_id] = Schedule(math.inf)

    def remove(self, batch_id: str) -> None:
        """Forget a job that nobody watches any more."""
        del self._schedules[batch_id]

    def due(self, now: float) -> list[str]:
        """
        Choose the jobs to look at now: those that are due, and with them those that are nearly due.

        :param now: The time now.
        """
        return [
            batch_id
            for batch_id, at in self._schedules.items()
            if at.next_look - at.interval * MAX_EARLINESS <= now
        ]

    def next_look(self) -> float:
        """When the next job is due; never, if there is no job."""
        return min((at.next_look for at in self._schedules.values()), default=math.inf)
