"""The limit of pending requests in a workspace: checks it before a job is created, and waits for room."""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from airflow_provider_mistral_batch.api.errors import MistralBatchError, MistralCallError
from airflow_provider_mistral_batch.api.limits import MAX_TIMEOUT_HOURS
from airflow_provider_mistral_batch.api.models import BatchStatus
from airflow_provider_mistral_batch.policies.capacity import pending_requests
from airflow_provider_mistral_batch.policies.outage import Outage
from airflow_provider_mistral_batch.tasks.endings import is_permanent

if TYPE_CHECKING:
    from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook

log = logging.getLogger(__name__)

#: No job is active for longer than this, so none counts towards the limit for longer.
LONGEST = timedelta(hours=MAX_TIMEOUT_HOURS + 1)


class PendingLimitError(MistralBatchError):
    """A job would exceed the limit of pending requests now, but may fit later."""


class PendingLimit:
    """
    The limit of pending requests, for one new job.

    :param hook: How to talk to the API.
    :param requests: Requests in the job.
    :param limit: Most requests that may be pending in the workspace.
    """

    def __init__(self, hook: MistralBatchHook, requests: int, limit: int) -> None:
        self.hook = hook
        self.requests = requests
        self.limit = limit
        self._outage = Outage()

    def check(self) -> None:
        """
        Check that the job fits.

        :raises PendingLimitError: When it does not.
        """
        since = datetime.now(tz=timezone.utc) - LONGEST
        pending = pending_requests(self.hook.known_jobs(status=BatchStatus.ACTIVE, created_after=since))
        if pending + self.requests > self.limit:
            raise PendingLimitError(
                f"The workspace has {pending:,} pending requests of at most {self.limit:,}, so the "
                f"{self.requests:,} requests of the next job have to wait."
            )

    def has_room(self) -> bool:
        """
        Tell whether the job fits, and log the reason if not.

        :raises MistralCallError: When the API cannot be asked, for a cause that does not pass by itself.
        """
        try:
            self.check()
        except PendingLimitError as full:
            self._answered()
            log.info("%s", full)
            return False
        except MistralCallError as error:
            if is_permanent(error):
                raise
            if line := self._outage.failed(error, time.monotonic()):
                log.warning("%s", line)
            return False
        self._answered()
        return True

    def _answered(self) -> None:
        if line := self._outage.over(time.monotonic()):
            log.info("%s", line)

    def wait(self, *, deadline: float, pause: float) -> bool:
        """
        Wait on a worker until the job fits.

        :param deadline: When to stop waiting (epoch seconds).
        :param pause: Seconds between two looks.
        :return: Whether it fits; if not, the deadline has passed.
        """
        while (left := deadline - time.time()) > 0:
            # Sleep first: a check or the API itself has just found the limit reached.
            time.sleep(min(pause, left))
            if self.has_room():
                return True
        return False
