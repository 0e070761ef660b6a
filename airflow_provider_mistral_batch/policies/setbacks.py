"""What a failed call means for a poll loop: which other calls would fail too, and how long to pause."""

from __future__ import annotations

import random
from enum import Enum

from airflow_provider_mistral_batch.api.errors import (
    AuthenticationError,
    MistralAPIError,
    MistralCallError,
    MistralConnectionError,
    MistralResponseError,
    ServerError,
)


class Scope(Enum):
    """Which other calls fail for the same cause."""

    THIS_CALL = "only calls for the same job or listing"
    ALL_CALLS = "every call through the connection"
    UNKNOWN = "one or all calls: only another call can tell"


def scope(error: Exception) -> Scope:
    """
    Tell which other calls fail for the same cause.

    :param error: What the call raised.
    """
    if isinstance(error, MistralAPIError) and error.no_listing:
        # Some gateways say so with a 5xx.
        return Scope.THIS_CALL
    if isinstance(error, (ServerError, MistralResponseError)):
        # The server may have trouble with one job only.
        return Scope.UNKNOWN
    if (
        isinstance(error, MistralAPIError)
        and not error.transient
        and not isinstance(error, AuthenticationError)
    ):
        return Scope.THIS_CALL
    return Scope.ALL_CALLS


def connection_may_be_wrong(error: Exception) -> bool:
    """
    Tell whether a failure may be due to a wrong host in the Airflow connection, so that reading it again may help.

    :param error: What the call raised.
    """
    return isinstance(error, (MistralConnectionError, MistralResponseError))


class Backoff:
    """
    How long to pause after failed calls: from 2 s, doubling to 2 min, or as long as the server asks.

    The first call that succeeds resets it.
    """

    FIRST = 2.0
    LONGEST = 120.0
    #: A server may ask for a longer pause by mistake.
    LONGEST_ASKED = 3600.0

    def __init__(self) -> None:
        #: Calls that failed since the last one that succeeded; 16 stands for more.
        self.failures = 0

    def succeeded(self) -> None:
        """Note that a call succeeded."""
        self.failures = 0

    def failed(self, retry_after: float | None) -> float:
        """
        Note that a call failed.

        :param retry_after: Seconds that the server asked for; ``None`` if it did not ask.
        :return: Seconds to pause.
        """
        pause = min(self.LONGEST, self.FIRST * 2.0**self.failures) * random.uniform(0.75, 1.25)
        self.failures = min(self.failures + 1, 16)
        # 0 counts as no request: a server that says "at once" may say so for ever.
        return min(retry_after, self.LONGEST_ASKED) + random.uniform(0.0, 1.0) if retry_after else pause


class Setbacks:
    """
    The failures of a poll loop since its last success.

    A failure that affects all jobs slows the whole loop down. A failure that affects one job postpones only that job.
    """

    def __init__(self) -> None:
        self._of_all = Backoff()
        self._of_job: dict[str, Backoff] = {}
        self._unreadable: str | None = None

    def call_succeeded(self) -> None:
        """Note that some call succeeded."""
        self._of_all.succeeded()
        self._unreadable = None

    def job_succeeded(self, batch_id: str) -> None:
        """Note that a job was read, or that it is no longer watched."""
        self._of_job.pop(batch_id, None)

    def server_fails_for_others(self, batch_id: str) -> bool:
        """
        Note that the server failed to read a job, and tell whether it also fails for other jobs.

        :param batch_id: The job's id.
        :return: Whether the previous call also failed, for another job.
        """
        before, self._unreadable = self._unreadable, batch_id
        return before not in (None, batch_id)

    def pause_of_all(self, error: Exception) -> float:
        """
        Note a failure that affects all jobs.

        :param error: What the call raised.
        :return: Seconds for which the loop pauses.
        """
        return self._of_all.failed(_retry_after(error))

    def looks_that_failed(self, batch_id: str) -> int:
        """
        Count the looks at a job that failed since the last one that did not.

        :param batch_id: The job's id.
        """
        return self._of_job[batch_id].failures if batch_id in self._of_job else 0

    def pause_of_job(self, batch_id: str, error: Exception) -> float:
        """
        Note a failure that affects one job.

        :param batch_id: The job's id.
        :param error: What the call raised.
        :return: Seconds by which the job's next look is postponed.
        """
        return self._of_job.setdefault(batch_id, Backoff()).failed(_retry_after(error))


def _retry_after(error: Exception) -> float | None:
    return error.retry_after if isinstance(error, MistralCallError) else None
