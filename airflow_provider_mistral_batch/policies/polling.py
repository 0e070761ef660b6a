"""How a poll loop spends its calls: what one round looks at, by which way, and how it slows down."""

from __future__ import annotations

import random
from collections.abc import Hashable, Mapping
from typing import TypeVar

import msgspec

K = TypeVar("K", bound=Hashable)

#: Share of a job's interval by which it may be looked at early, to go with a round that is made anyway.
EARLY_SHARE = 0.3

#: Seconds after which a loop forgets how long the listing was, and tries it again.
ESTIMATE_SECONDS = 600.0


class Schedule(msgspec.Struct):
    """
    When a job is looked at next. Times are seconds of a clock that never goes back.

    :param next_look: The time of the next look.
    :param interval: Seconds between the last look and the next.
    """

    next_look: float
    interval: float = 0.0


def due(schedules: Mapping[K, Schedule], now: float) -> list[K]:
    """
    Choose what a round looks at: all that is due, and what is nearly due goes along.

    :param schedules: When each job is looked at next.
    :param now: The time now.
    """
    return [key for key, at in schedules.items() if at.next_look - at.interval * EARLY_SHARE <= now]


def listing_pays(wanted: int, pages_left: int | None) -> bool:
    """
    Whether reading on in the listing costs fewer calls than reading the jobs one by one.

    :param wanted: Jobs not yet seen in this round.
    :param pages_left: Pages of the listing not yet read; ``None`` when nobody knows.
    """
    # An unknown listing is worth a first page as soon as that could spare a call.
    return wanted > (1 if pages_left is None else pages_left)


class Backoff:
    """
    How long a loop pauses after calls that failed: doubling from 2 s to 2 min, or as long as the server asks.

    One 429 slows the loop, not each task; the first call that succeeds ends it.
    """

    FIRST = 2.0
    LONGEST = 120.0
    #: Nobody waits longer on the server's word, were it a slip of some gateway.
    LONGEST_ASKED = 3600.0

    def __init__(self) -> None:
        self._failures = 0

    def succeeded(self) -> None:
        """Note that a call succeeded."""
        self._failures = 0

    def failed(self, retry_after: float | None) -> float:
        """
        Note that a call failed.

        :param retry_after: Seconds that the server asked for, if it did.
        :return: Seconds to pause.
        """
        pause = min(self.LONGEST, self.FIRST * 2.0**self._failures) * random.uniform(0.75, 1.25)
        self._failures = min(self._failures + 1, 16)
        # "Come again at once" has been said by servers that then said it again, for ever.
        return min(retry_after, self.LONGEST_ASKED) + random.uniform(0.0, 1.0) if retry_after else pause
