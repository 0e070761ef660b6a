"""How often to look at a job: often while it is young, rarely when it is old."""

from __future__ import annotations

import msgspec

from airflow_provider_mistral_batch.api.checks import check_positive

#: The next look comes after this share of the job's age. So a job's end is noticed at most that much later, or after
#: the shortest interval, whichever is longer.
AGE_SHARE = 0.05

DEFAULT_POLL_INTERVAL_MIN = 2.0
DEFAULT_POLL_INTERVAL = 60.0


class Cadence(msgspec.Struct, frozen=True, kw_only=True):
    """
    How often to look at a job: after every 5 % of its age, within bounds.

    :param shortest: Seconds between two looks, at least.
    :param longest: Seconds between two looks, at most.
    """

    shortest: float = DEFAULT_POLL_INTERVAL_MIN
    longest: float = DEFAULT_POLL_INTERVAL

    def __post_init__(self) -> None:
        check_positive("poll_interval_min", self.shortest)
        check_positive("poll_interval", self.longest)

    def interval(self, age: float) -> float:
        """
        Tell how many seconds to wait before the next look.

        :param age: Seconds since the job was created.
        """
        # If the shortest exceeds the longest, the longest wins: it is the one that users set.
        return min(max(age * AGE_SHARE, self.shortest), self.longest)
