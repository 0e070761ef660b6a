"""The waits of a task that runs a whole batch: until all its jobs are over, and until there is room for one more."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
from airflow_provider_mistral_batch.policies.cadence import DEFAULT_POLL_INTERVAL, DEFAULT_POLL_INTERVAL_MIN
from airflow_provider_mistral_batch.submission.pending_limit import PendingLimit
from airflow_provider_mistral_batch.tasks.endings import is_permanent
from airflow_provider_mistral_batch.triggers.mistral_batch import MistralBatchJobTrigger
from airflow_provider_mistral_batch.triggers.threads import in_thread

__all__ = ["MistralBatchJobsTrigger", "MistralBatchRoomTrigger"]


class MistralBatchJobsTrigger(BaseTrigger):
    """
    Wait until all of several batch jobs are over.

    Yields one event, a dict: ``timed_out``, and ``error`` with ``error_is_permanent`` when a job cannot be watched.
    How the jobs ended, the task reads from the API.

    :param batch_ids: The jobs' ids.
    :param mistral_conn_id: The connection's id.
    :param deadline: When to give up (epoch seconds of our own clock).
    :param poll_interval: Seconds between two looks at a job, at most.
    :param poll_interval_min: Seconds between two looks at a job that has just been created.
    :param cancel_on_kill: Cancel the jobs when a user ends the task (Airflow 3.3 or newer tells triggers of it).
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
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
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
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch all jobs; the first that cannot be watched, or is not over in time, ends the wait."""
        waits = [asyncio.ensure_future(self._wait_for(batch_id)) for batch_id in self.batch_ids]
        told: dict[str, Any] = {}
        try:
            for wait in asyncio.as_completed(waits):
                told = await wait
                if told.get("timed_out") or told.get("error"):
                    break
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        yield TriggerEvent(
            {key: told[key] for key in ("timed_out", "error", "error_is_permanent") if told.get(key)}
        )

    async def on_kill(self) -> None:
        """Cancel the jobs that nobody waits for any more."""
        if self.cancel_on_kill:
            await cancel_all(self.batch_ids, self.mistral_conn_id, self.task_instance)

    async def _wait_for(self, batch_id: str) -> dict[str, Any]:
        trigger = MistralBatchJobTrigger(
            batch_id,
            self.mistral_conn_id,
            deadline=self.deadline,
            poll_interval=self.poll_interval,
            poll_interval_min=self.poll_interval_min,
        )
        payloads = [event.payload async for event in trigger.run()]
        return dict(payloads[-1])


class MistralBatchRoomTrigger(BaseTrigger):
    """
    Wait until a workspace has room for some more requests.

    Yields one event, a dict: ``timed_out``, or ``error`` with ``error_is_permanent``, or nothing in it.

    :param requests: Requests that are to be submitted.
    :param limit: Requests that the workspace may have pending.
    :param mistral_conn_id: The connection's id.
    :param deadline: When to give up (epoch seconds of our own clock).
    :param poll_interval: Seconds between two looks.
    :param batch_ids: Jobs that the task has submitted already.
    :param cancel_on_kill: Cancel those when a user ends the task (Airflow 3.3 or newer tells triggers of it).
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
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
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
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look again and again, until there is room."""
        hook = MistralBatchHook(self.mistral_conn_id)
        room = PendingLimit(hook, self.requests, self.limit)
        payload: dict[str, Any] = {"timed_out": True}
        try:
            while (left := self.deadline - time.time()) > 0:
                # First of all: that there is none just now is known already, or it is the API's own word. Jittered, so
                # that those who wait for the same room do not all come at once.
                await asyncio.sleep(min(left, self.poll_interval * random.uniform(0.75, 1.25)))
                if await in_thread(room.has_room):
                    payload = {}
                    break
        except Exception as error:
            self.log.error("Nobody can say whether there is room: %s", error)
            payload = {"error": str(error), "error_is_permanent": is_permanent(error)}
        finally:
            hook.close()
        yield TriggerEvent(payload)

    async def on_kill(self) -> None:
        """Cancel the jobs that nobody waits for any more."""
        if self.cancel_on_kill:
            await cancel_all(self.batch_ids, self.mistral_conn_id, self.task_instance)


async def cancel_all(batch_ids: Sequence[str], mistral_conn_id: str, task_instance: Any) -> None:
    """
    Cancel what a killed task has running, if it gave it up.

    :param batch_ids: The jobs' ids.
    :param mistral_conn_id: The connection's id.
    :param task_instance: The trigger's task instance.
    """
    for batch_id in batch_ids:
        trigger = MistralBatchJobTrigger(batch_id, mistral_conn_id, cancel_on_kill=True)
        trigger.task_instance = task_instance
        await trigger.on_kill()
