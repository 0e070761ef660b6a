"""Which calls to the API are retried, how often and for how long, as tenacity policies."""

from __future__ import annotations

import logging
import math
import random
import time
from datetime import timezone
from email.utils import parsedate_to_datetime

import msgspec
import tenacity

from airflow_provider_mistral_batch.api.checks import check_not_negative, check_whole
from airflow_provider_mistral_batch.api.errors import MistralCallError

log = logging.getLogger(__name__)


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """
    How often and for how long a call is attempted.

    :param attempts: Attempts in all, including the first; 1 means no retry.
    :param total_seconds: Seconds after the first attempt in which a new one may begin.
    :param first_wait: Most seconds before the second attempt; doubles before each further one. The wait is random.
    :param longest_wait: Most seconds between two attempts; the server's ``Retry-After`` is added to it.
    """

    attempts: int = 5
    total_seconds: float = 180.0
    first_wait: float = 1.0
    longest_wait: float = 30.0

    def __post_init__(self) -> None:
        check_whole("attempts", self.attempts, at_least=1, unit="attempts")
        for name in ("total_seconds", "first_wait", "longest_wait"):
            check_not_negative(name, getattr(self, name))

    def retrying(self, *, repeatable: bool) -> tenacity.Retrying:
        """
        Build the tenacity loop of one call.

        :param repeatable: Whether making the call twice has the same effect as making it once. If not, it is retried
            only after an error that proves that the server did not act.
        """

        def may_retry(error: BaseException) -> bool:
            return (
                isinstance(error, MistralCallError)
                and error.transient
                and (repeatable or not error.may_have_acted)
            )

        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(may_retry),
            wait=_wait_as_asked(
                tenacity.wait_random_exponential(multiplier=self.first_wait, max=self.longest_wait)
            ),
            stop=tenacity.stop_after_attempt(self.attempts) | tenacity.stop_before_delay(self.total_seconds),
            before_sleep=_log_retry,
            reraise=True,
        )

    def pause(self, number: int) -> float:
        """
        Choose how long to pause before something goes on that broke in the middle.

        :param number: Breaks in a row that brought little, from 1.
        :return: Seconds; at least half of what doubles with each break.
        """
        # Beyond that, a power of 2 is no float.
        longest = min(self.longest_wait, self.first_wait * 2.0 ** min(number - 1, 100))
        return random.uniform(longest / 2, longest)


class _wait_as_asked(tenacity.wait.wait_base):
    """Wait as long as the server's ``Retry-After`` asks, plus the wait of another policy."""

    def __init__(self, otherwise: tenacity.wait.wait_base) -> None:
        self.otherwise = otherwise

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        asked = error.retry_after if isinstance(error, MistralCallError) else None
        wait = self.otherwise(retry_state)
        # The random wait is added, so that clients that were refused together do not return together.
        return wait if asked is None else asked + wait


def _log_retry(retry_state: tenacity.RetryCallState) -> None:
    error = retry_state.outcome.exception() if retry_state.outcome else None
    wait = retry_state.next_action.sleep if retry_state.next_action else 0.0
    log.warning("Attempt %d follows in %.1f s: %s", retry_state.attempt_number + 1, wait, error)


def parse_retry_after(value: str | None, *, date: str | None = None) -> float | None:
    """
    Read a ``Retry-After`` header.

    :param value: Seconds, or an HTTP date.
    :param date: The answer's ``Date`` header: an HTTP date is in the server's time, and its clock may differ from ours.
    :return: Seconds from now, never negative; ``None`` if the header is missing or cannot be read.
    """
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        until, now = http_timestamp(value), http_timestamp(date)
        if until is None:
            return None
        seconds = until - (time.time() if now is None else now)
    return max(0.0, seconds) if math.isfinite(seconds) else None


def http_timestamp(http_date: str | None) -> float | None:
    """
    Read an HTTP date.

    :return: Epoch seconds; ``None`` if the date is missing or cannot be read.
    """
    if not http_date:
        return None
    try:
        moment = parsedate_to_datetime(http_date)
        # Times in HTTP are GMT even if they do not say so.
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
