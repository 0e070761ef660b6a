"""How many pages of a listing a poll loop reads before it reads its own jobs one by one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime, timezone

from airflow_provider_mistral_batch.api.limits import PAGE_SIZE

#: Seconds after which a loop forgets the length of a listing and tries its first page again.
LENGTH_KNOWN_SECONDS = 600.0

#: Failures in a row, while single jobs can be read, after which a loop stops reading a listing...
FAILURES_BEFORE_REST = 5
#: ... and the seconds for which it stops.
REST_SECONDS = 600.0


class Listing:
    """What a poll loop remembers of a listing from look to look: whether it works, and how many pages it has."""

    def __init__(self) -> None:
        self._rests_until = -math.inf
        self._failures = 0
        self._pages = 0
        self._pages_known_until = -math.inf

    def is_usable(self, now: float) -> bool:
        """
        Tell whether the listing may be read.

        :param now: Seconds of a monotonic clock, here and in the other methods.
        """
        return now >= self._rests_until

    def works(self) -> None:
        """Note that a page was read."""
        self._failures = 0

    def failed(self, now: float) -> None:
        """Note that a page could not be read although single jobs can."""
        self._failures += 1
        if self._failures >= FAILURES_BEFORE_REST:
            self.rests(now)

    def rests(self, now: float) -> None:
        """Note that the listing is better left alone for a while."""
        self._rests_until = now + REST_SECONDS

    def is_refused(self) -> None:
        """Note that the server will never let us read the listing."""
        self._rests_until = math.inf

    def pages(self, now: float) -> int | None:
        """Return how many pages the listing has; ``None`` if that is unknown or was learned too long ago."""
        return self._pages if now < self._pages_known_until else None

    def has_pages(self, pages: int, now: float) -> None:
        """Note how many pages the listing has."""
        self._pages, self._pages_known_until = pages, now + LENGTH_KNOWN_SECONDS


class Reading:
    """
    One reading of a listing, page by page, as long as that costs fewer calls than reading the jobs one by one.

    :param listing: What is known of the listing.
    :param wanted: How many jobs the loop looks for.
    :param now: Seconds of a monotonic clock.
    """

    def __init__(self, listing: Listing, wanted: int, now: float) -> None:
        self.listing = listing
        #: Whether all pages were read, so that a job that did not appear is not in the listing.
        self.is_complete = False
        self._wanted = wanted
        self._pages_read = 0
        self._pages_left = listing.pages(now)
        self._has_cost_enough = False

    def goes_on(self, missing: int, now: float) -> bool:
        """
        Tell whether to read the next page.

        :param missing: How many of the wanted jobs have not appeared yet.
        :param now: The time now.
        """
        if self.is_complete or self._has_cost_enough or not self.listing.is_usable(now):
            return False
        # If the length is unknown, a first page is worth its call as soon as it can save another call.
        return missing > (1 if self._pages_left is None else self._pages_left)

    def page_came(self, *, is_last: bool, jobs_in_all: int | None, now: float) -> None:
        """
        Note that a page was read.

        :param is_last: Whether no further page can hold a wanted job.
        :param jobs_in_all: Jobs on all pages, if the server says.
        :param now: The time now.
        """
        self.listing.works()
        self._pages_read += 1
        if is_last:
            self.is_complete = True
            self.listing.has_pages(self._pages_read, now)
        elif jobs_in_all is not None:
            # Rounded up with integers: a server's number may be too large for a float.
            pages = -(-jobs_in_all // PAGE_SIZE)
            self.listing.has_pages(pages, now)
            self._pages_left = max(1, pages - self._pages_read)
        if not is_last and self._pages_read >= self._wanted:
            # Single calls would have cost no more by now, and some listings never end, whatever length they claim.
            self._has_cost_enough = True
            self.listing.has_pages(self._pages_read + 1, now)


def created_since(created_at: Iterable[int | None]) -> datetime | None:
    """
    Give a time that bounds a listing without leaving out a wanted job.

    :param created_at: When each wanted job was created (epoch seconds); ``None`` for a job not seen yet.
    :return: A time just before the oldest job; ``None``, meaning no bound, while one of the times is unknown.
    """
    known = []
    for at in created_at:
        if at is None:
            return None
        known.append(at)
    # A second earlier: "created after" may or may not include the second itself.
    return datetime.fromtimestamp(min(known) - 1, tz=timezone.utc) if known else None
