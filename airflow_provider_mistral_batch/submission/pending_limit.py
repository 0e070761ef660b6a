"""PendingLimit for more requests in a workspace: looked at before a submission, and waited for."""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from airflow_provider_mistral_batch.api.errors import MistralBatchError, MistralCallError
from airflow_provider_mistral_batch.api.limits import MAX_TIMEOUT_HOURS
from airflow_provider_mistral_batch.api.models import BatchStatus
from airflow_provider_mistral_batch.policies.capacity import pending_requests
from airflow_provider_mistral_batch.tasks.endings import is_permanent

if TYPE_CHECKING:
    from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook

log = logging.getLogger(__name__)

#: No job is active for longer, and neither is a workspace full for longer because of one.
LONGEST = timedelta(hours=MAX_TIMEOUT_HOURS + 1)


class PendingLimitError(MistralBatchError):
    """A submission would exceed what the workspace may have pending. It fits later."""


class PendingLimit:
    """
    The room that a job needs.

    :param hook: How to talk to the API.
    :param requests: Requests in the job.
    :param limit: Requests that the workspace may have pending.
    """

    def __init__(self, hook: MistralBatchHook, requests: int, limit: int) -> None:
        self.hook = hook
        self.requests = requests
        self.limit = limit

    def check(self) -> None:
        """
        Look whether there is room.

        :raises PendingLimitError: When there is not.
        """
        since = datetime.now(tz=timezone.utc) - LONGEST
        pending = pending_requests(self.hook.iter_jobs(status=BatchStatus.ACTIVE, created_after=since))
        if pending + self.requests > self.limit:
            raise PendingLimitError(
                f"{pending:,} requests are pending in the workspace, so {self.requests:,} more do not fit: "
                f"it may have {self.limit:,}."
            )

    def has_room(self) -> bool:
        """
        Look whether there is room, for somebody who waits for it: says so in the log if not.

        :raises Exception: When only a person can change what is wrong.
        """
        try:
            self.check()
        except PendingLimitError as full:
            log.info("%s", full)
            return False
        except MistralCallError as error:
            if is_permanent(error):
                raise
            log.warning("%s Looking again later.", error)
            return False
        return True

    def wait(self, *, deadline: float, pause: float) -> bool:
        """
        Wait on a worker until there is room.

        :param deadline: When to give up (epoch seconds).
        :param pause: Seconds between two looks.
        :return: Whether there is room; if not, the deadline has passed.
        """
        while (left := deadline - time.time()) > 0:
            # First of all: that there is none just now is known already, or it is the API's own word.
            time.sleep(min(pause, left))
            if self.has_room():
                return True
        return False
