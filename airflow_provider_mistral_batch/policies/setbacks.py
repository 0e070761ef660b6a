"""What a failed call means for a poll loop: which other calls fail too, and how long to pause."""

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
    """Which calls fail like the one that failed."""

    THIS_CALL = "only calls for the same job or listing"
    ALL_CALLS = "every call through the connection"
    UNKNOWN = "one or all: another call has to tell"


def scope(error: Exception) -> Scope:
    """
    Tell which calls fail like the one that failed.

    :param error: What the call raised.
    """
    if isinstance(error, (ServerError, MistralResponseError)):
        # The server may stumble over one job alone.
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
    Whether a call may have failed because the Airflow connection has the wrong host, so that it is worth reading anew.

    :param error: What the call raised.
    """
    return isinstance(error, (MistralConnectionError, MistralResponseError))


class Backoff:
    """
    How long to pause after calls that failed: doubling from 2 s to 2 min, or as long as the server asks.

    The first call that succeeds ends it.
    """

    FIRST = 2.0
    LONGEST = 120.0
    #: The server may ask for more by mistake.
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
        # 0 is no answer: servers that say "at once" may say it for ever.
        return min(retry_after, self.LONGEST_ASKED) + random.uniform(0.0, 1.0) if retry_after else pause


class Setbacks:
    """
    The failures of a poll loop that no success has ended yet.

    A failure that concerns all slows the loop down, once for all jobs; one that concerns a job puts that job off alone.
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
        """Note that a job could be read, or that nobody wants to read it any more."""
        self._of_job.pop(batch_id, None)

    def server_fails_for_others(self, batch_id: str) -> bool:
        """
        Note that the server stumbled over a job, and tell whether it does so over others.

        :param batch_id: The job's id.
        :return: Whether the call before this one failed for another job.
        """
        before, self._unreadable = self._unreadable, batch_id
        return before not in (None, batch_id)

    def pause_of_all(self, error: Exception) -> float:
        """
        Note a failure that concerns all jobs.

        :param error: What the call raised.
        :return: Seconds for which the loop pauses.
        """
        return self._of_all.failed(_retry_after(error))

    def pause_of_job(self, batch_id: str, error: Exception) -> float:
        """
        Note a failure that concerns one job.

        :param batch_id: The job's id.
        :param error: What the call raised.
        :return: Seconds for which the job is put off.
        """
        return self._of_job.setdefault(batch_id, Backoff()).failed(_retry_after(error))


def _retry_after(error: Exception) -> float | None:
    return error.retry_after if isinstance(error, MistralCallError) else None
