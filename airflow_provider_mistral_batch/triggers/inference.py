"""The triggers of a task that runs a whole batch: one waits for its jobs, one for room to submit the next."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from airflow.triggers.base import TriggerEvent

from airflow_provider_mistral_batch.policies.cadence import DEFAULT_POLL_INTERVAL, DEFAULT_POLL_INTERVAL_MIN
from airflow_provider_mistral_batch.policies.outage import Outage
from airflow_provider_mistral_batch.submission.pending_limit import PendingLimit
from airflow_provider_mistral_batch.tasks.endings import is_permanent
from airflow_provider_mistral_batch.triggers.cancelling import cancel_if_abandoned
from airflow_provider_mistral_batch.triggers.looking import looking_hook
from airflow_provider_mistral_batch.triggers.resuming import ResumingTrigger
from airflow_provider_mistral_batch.triggers.threads import in_thread
from airflow_provider_mistral_batch.triggers.waiting import wait_for_job

__all__ = ["MistralBatchJobsTrigger", "MistralBatchRoomTrigger"]


class MistralBatchJobsTrigger(ResumingTrigger):
    """
    Wait until several batch jobs are over.

    Yields one event, a dict: empty when all are over, else with ``timed_out``, or with ``error`` and
    ``error_is_permanent`` when a job cannot be watched. The task reads from the API how the jobs ended.

    :param batch_ids: The jobs' ids.
    :param mistral_conn_id: The connection's id.
    :param deadline: When to give up (epoch seconds of our own clock).
    :param poll_interval: Seconds between two looks at a job, at most.
    :param poll_interval_min: Seconds between two looks at a job that has just been created.
    :param cancel_on_kill: Cancel the jobs when a user ends the task (Airflow 3.3 or newer tells the trigger).
    :param deferred_at: When a worker deferred the task (epoch seconds of its clock), which bounds how soon another one
        may continue.
    """

    def __init__(
        self,
        batch_ids: Sequence[str],
        mistral_conn_id: str = "mistral_default",
        *,
        deadline: float | None = None,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        poll_interval_min: float = DEFAULT_POLL_INTERVAL_MIN,
        cancel_on_kill: bool = False,
        deferred_at: float | None = None,
    ) -> None:
        super().__init__(deferred_at=deferred_at)
        self.batch_ids = list(batch_ids)
        self.mistral_conn_id = mistral_conn_id
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.poll_interval_min = poll_interval_min
        self.cancel_on_kill = cancel_on_kill

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the triggerer makes this trigger from."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "batch_ids": self.batch_ids,
                "mistral_conn_id": self.mistral_conn_id,
                "deadline": self.deadline,
                "poll_interval": self.poll_interval,
                "poll_interval_min": self.poll_interval_min,
                "cancel_on_kill": self.cancel_on_kill,
                **self.deferral(),
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for all jobs; the first that cannot be watched, or is not over in time, ends the wait."""
        outage = Outage()
        waits = [
            asyncio.create_task(
                wait_for_job(
                    batch_id,
                    self.mistral_conn_id,
                    deadline=self.deadline,
                    poll_interval=self.poll_interval,
                    poll_interval_min=self.poll_interval_min,
                    task_instance=self.task_instance,
                    outage=outage,
                )
            )
            for batch_id in self.batch_ids
        ]
        payload: dict[str, Any] = {}
        try:
            for wait in asyncio.as_completed(waits):
                told = await wait
                if told.timed_out:
                    payload = {"timed_out": True}
                    break
                if told.error:
                    payload = {"error": told.error, "error_is_permanent": told.error_is_permanent}
                    break
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        yield await self.resumption(payload)

    async def on_kill(self) -> None:
        """Cancel the jobs that nobody waits for any more."""
        if self.cancel_on_kill:
            await cancel_if_abandoned(self.batch_ids, self.mistral_conn_id, self.task_instance)


class MistralBatchRoomTrigger(ResumingTrigger):
    """
    Wait until a workspace has room for more requests.

    Yields one event, a dict: empty when there is room, else with ``timed_out``, or with ``error`` and
    ``error_is_permanent`` when the API cannot be asked.

    :param requests: How many requests the task is about to submit.
    :param limit: How many requests the workspace may have pending.
    :param mistral_conn_id: The connection's id.
    :param deadline: When to give up (epoch seconds of our own clock).
    :param poll_interval: Seconds between two looks.
    :param batch_ids: Ids of the jobs that the task has submitted already.
    :param cancel_on_kill: Cancel these when a user ends the task (Airflow 3.3 or newer tells the trigger).
    :param deferred_at: When a worker deferred the task (epoch seconds of its clock), which bounds how soon another one
        may continue.
    """

    def __init__(
        self,
        requests: int,
        limit: int,
        mistral_conn_id: str = "mistral_default",
        *,
        deadline: float,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        batch_ids: Sequence[str] = (),
        cancel_on_kill: bool = False,
        deferred_at: float | None = None,
    ) -> None:
        super().__init__(deferred_at=deferred_at)
        self.requests = requests
        self.limit = limit
        self.mistral_conn_id = mistral_conn_id
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.batch_ids = list(batch_ids)
        self.cancel_on_kill = cancel_on_kill

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the triggerer makes this trigger from."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "requests": self.requests,
                "limit": self.limit,
                "mistral_conn_id": self.mistral_conn_id,
                "deadline": self.deadline,
                "poll_interval": self.poll_interval,
                "batch_ids": self.batch_ids,
                "cancel_on_kill": self.cancel_on_kill,
                **self.deferral(),
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look again and again, until there is room."""
        hook = looking_hook(self.mistral_conn_id)
        limit = PendingLimit(hook, self.requests, self.limit)
        payload: dict[str, Any] = {"timed_out": True}
        try:
            while (left := self.deadline - time.time()) > 0:
                # Before the first look, too: the task has just learned that there is no room. Jittered, so that tasks
                # that wait for the same room do not all look at once.
                await asyncio.sleep(min(left, self.poll_interval * random.uniform(0.75, 1.25)))
                if await in_thread(limit.has_room):
                    payload = {}
                    break
        except Exception as error:
            # The reason is the worker's to say: both logs are shown as one.
            self.log.warning(
                "Whether the workspace has room cannot be found out any more, so the task continues on a worker."
            )
            payload = {"error": str(error), "error_is_permanent": is_permanent(error)}
        finally:
            hook.close()
        yield await self.resumption(payload)

    async def on_kill(self) -> None:
        """Cancel the jobs that nobody waits for any more."""
        if self.cancel_on_kill:
            await cancel_if_abandoned(self.batch_ids, self.mistral_conn_id, self.task_instance)
