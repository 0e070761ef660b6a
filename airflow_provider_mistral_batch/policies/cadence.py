"""When to look at a job again: young ones often, old ones seldom."""

from __future__ import annotations

import msgspec

from airflow_provider_mistral_batch.api.checks import check_positive

#: A job's end is noticed after this share of its age at most, on top of the floor below.
AGE_SHARE = 0.05

DEFAULT_POLL_INTERVAL_MIN = 2.0
DEFAULT_POLL_INTERVAL = 60.0


class Cadence(msgspec.Struct, frozen=True, kw_only=True):
    """
    How often a job is looked at: every 5 % of its age, within bounds.

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
        Seconds until the next look.

        :param age: Seconds since the job was created.
        """
        # Where they contradict each other, the ceiling wins: it is what people set.
        return min(max(age * AGE_SHARE, self.shortest), self.longest)
