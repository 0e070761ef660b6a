"""``MistralBatchJobTrigger``: waits in the triggerer until a batch job is over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import TriggerEvent

from airflow_provider_mistral_batch.policies.cadence import DEFAULT_POLL_INTERVAL, DEFAULT_POLL_INTERVAL_MIN
from airflow_provider_mistral_batch.triggers.cancelling import cancel_if_abandoned
from airflow_provider_mistral_batch.triggers.finishing import finish
from airflow_provider_mistral_batch.triggers.resuming import ResumingTrigger
from airflow_provider_mistral_batch.triggers.waiting import wait_for_job

__all__ = ["MistralBatchJobTrigger"]


class MistralBatchJobTrigger(ResumingTrigger):
    """
    Wait until a batch job is over. All triggers of the same connection share one poll loop.

    Airflow's database holds only the connection's id, never the key.

    :param batch_id: The job's id, or where to find it (see
        :func:`~airflow_provider_mistral_batch.triggers.starting.reference`).
    :param mistral_conn_id: The connection's id.
    :param deadline: When to give up (epoch seconds of our own clock): a point in time, so that a triggerer's restart
        does not move it. ``None`` waits for ever.
    :param poll_interval: Seconds between two looks at the job, at most.
    :param poll_interval_min: Seconds between two looks at a job that has just been created.
    :param cancel_on_kill: Cancel the job when a user ends the task (Airflow 3.3 or newer tells the trigger).
    :param finish_with: When the job ends well, end the task here, and return the job's XCom of this name. ``None``
        leaves that to a worker, which always ends a task whose job ended badly.
    :param max_failed_ratio: Share of requests that may fail in a job that ends well, 0 to 1.
    :param leave_link: Then also set the XCom of the link to the job in Mistral's console: no worker has done so.
    :param deferred_at: When a worker deferred the task (epoch seconds of its clock), which bounds how soon another one
        may continue.
    """

    def __init__(
        self,
        batch_id: str | dict[str, str],
        mistral_conn_id: str = "mistral_default",
        *,
        deadline: float | None = None,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        poll_interval_min: float = DEFAULT_POLL_INTERVAL_MIN,
        cancel_on_kill: bool = False,
        finish_with: str | None = None,
        max_failed_ratio: float = 1.0,
        leave_link: bool = False,
        deferred_at: float | None = None,
    ) -> None:
        super().__init__(deferred_at=deferred_at)
        self.batch_id = batch_id
        self.mistral_conn_id = mistral_conn_id
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.poll_interval_min = poll_interval_min
        self.cancel_on_kill = cancel_on_kill
        self.finish_with = finish_with
        self.max_failed_ratio = max_failed_ratio
        self.leave_link = leave_link

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the triggerer makes this trigger from."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "batch_id": self.batch_id,
                "mistral_conn_id": self.mistral_conn_id,
                "deadline": self.deadline,
                "poll_interval": self.poll_interval,
                "poll_interval_min": self.poll_interval_min,
                "cancel_on_kill": self.cancel_on_kill,
                "finish_with": self.finish_with,
                "max_failed_ratio": self.max_failed_ratio,
                "leave_link": self.leave_link,
                **self.deferral(),
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the job; yield one ``JobEvent``, or the task's end."""
        told = await wait_for_job(
            self.batch_id,
            self.mistral_conn_id,
            deadline=self.deadline,
            poll_interval=self.poll_interval,
            poll_interval_min=self.poll_interval_min,
            task_instance=self.task_instance,
        )
        end = None
        if (
            self.finish_with is not None
            and told.error is None
            and told.job is not None
            and told.job.is_terminal
        ):
            end = await finish(
                told.job,
                self.task_instance,
                return_key=self.finish_with,
                max_failed_ratio=self.max_failed_ratio,
                link_conn_id=self.mistral_conn_id if self.leave_link else None,
            )
        yield await self.resumption(told.as_payload()) if end is None else end

    async def on_kill(self) -> None:
        """Cancel the job that nobody waits for any more. Not done in ``cleanup``: a restart ends no paid work."""
        if self.cancel_on_kill:
            await cancel_if_abandoned([self.batch_id], self.mistral_conn_id, self.task_instance)
