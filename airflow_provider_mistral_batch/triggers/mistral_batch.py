"""``MistralBatchJobTrigger``: waits in the triggerer until a batch job is over."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from datetime import datetime, timezone
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_mistral_batch.api.checks import check_id
from airflow_provider_mistral_batch.api.models import BatchJobOut
from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
from airflow_provider_mistral_batch.links.mistral_batch import MistralBatchJobLink, console_url
from airflow_provider_mistral_batch.policies.cadence import (
    DEFAULT_POLL_INTERVAL,
    DEFAULT_POLL_INTERVAL_MIN,
    Cadence,
)
from airflow_provider_mistral_batch.policies.progress import Progress
from airflow_provider_mistral_batch.policies.verdict import judge
from airflow_provider_mistral_batch.tasks.endings import abandoned, is_permanent
from airflow_provider_mistral_batch.tasks.job_event import JobEvent
from airflow_provider_mistral_batch.tasks.xcoms import job_xcoms
from airflow_provider_mistral_batch.triggers.finishing import finish
from airflow_provider_mistral_batch.triggers.poller import watching
from airflow_provider_mistral_batch.triggers.starting import resolve
from airflow_provider_mistral_batch.triggers.threads import in_thread

# One for all triggers: ``self.log`` would be seven objects for each of thousands.
log = logging.getLogger(__name__)

#: Seconds after which the wall clock is looked at again, in case it was set meanwhile.
_CLOCK_CHECK_SECONDS = 60.0


class MistralBatchJobTrigger(BaseTrigger):
    """
    Wait until a batch job is over; the poll loop behind it is shared by all triggers of the same connection.

    Only the connection's id travels in the serialized trigger, never the key.

    :param batch_id: The job's id, or where to find it (see
        :func:`~airflow_provider_mistral_batch.triggers.starting.reference`).
    :param mistral_conn_id: The connection's id.
    :param deadline: When to give up (epoch seconds of our own clock). An absolute time, so that a triggerer's restart
        does not move it. ``None`` waits for ever.
    :param poll_interval: Seconds between two looks at the job, at most.
    :param poll_interval_min: Seconds between two looks at a job that has just been created.
    :param cancel_on_kill: Cancel the job when a user ends the task (Airflow 3.3 or newer tells triggers of it).
    :param finish_with: End the task here when the job ended well, returning the job's XCom of this name; ``None``
        leaves the end to a worker. A job that ended badly is always left to a worker.
    :param max_failed_ratio: Share of requests that may fail for that, 0 to 1.
    :param leave_link: Leave the task's link to the job in Mistral's console, too, for a task that no worker has seen.
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
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
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
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch the job; yield one :class:`JobEvent`, or the task's end."""
        told = await self._wait()
        if (
            self.finish_with is not None
            and told.error is None
            and told.job is not None
            and told.job.is_terminal
        ):
            verdict = judge(told.job, max_failed_ratio=self.max_failed_ratio)
            # Failed rows are worth a warning with a digest, which takes a download: a worker's business.
            if verdict.acceptable and not verdict.rows_failed:
                log.info("%s", verdict.message)
                xcoms = job_xcoms(told.job)
                return_value = xcoms[self.finish_with]
                if self.leave_link:
                    xcoms[MistralBatchJobLink().xcom_key] = console_url(told.job.id)
                try:
                    end = await finish(self.task_instance, xcoms, return_value=return_value)
                except Exception as error:
                    log.warning("The task cannot be ended here, so a worker ends it: %s", error)
                else:
                    yield end
                    return
        yield TriggerEvent(told.as_payload())

    async def on_kill(self) -> None:
        """Cancel the job that nobody waits for any more. Not done in ``cleanup``: a restart ends no paid work."""
        if not self.cancel_on_kill:
            return
        if not await in_thread(abandoned, self.task_instance):
            log.info("The task goes on elsewhere, so its batch job does, too.")
            return
        hook = MistralBatchHook(self.mistral_conn_id)
        batch_id = self.batch_id
        try:
            batch_id = await resolve(batch_id, self.task_instance)
            log.info("The task was ended: cancelling batch job %s.", batch_id)
            await in_thread(hook.cancel, batch_id)
        except Exception as error:
            log.warning("%s Batch job %s may go on running.", error, batch_id)
        finally:
            hook.close()

    async def _wait(self) -> JobEvent:
        batch_id: Any = self.batch_id
        progress = Progress()
        job: BatchJobOut | None = None
        try:
            batch_id = await resolve(batch_id, self.task_instance)
            if self.deadline is not None:
                log.info("Waiting for batch job %s until %s.", batch_id, _utc(self.deadline))
            check_id(batch_id, field="batch_id")
            cadence = Cadence(shortest=self.poll_interval_min, longest=self.poll_interval)
            async with watching(self.mistral_conn_id, batch_id, cadence) as watch:
                while True:
                    seen = await watch.changed(timeout=min(self._seconds_left(), _CLOCK_CHECK_SECONDS))
                    job = seen or job
                    if job is not None:
                        # Also without news: those of the last minute may not have been told.
                        server_now = time.time() + watch.clock_offset
                        if line := progress.line(job, now=time.monotonic(), server_now=server_now):
                            log.info("Batch job %s: %s", batch_id, line)
                        if job.is_terminal:
                            return JobEvent(batch_id=batch_id, job=job)
                    if self._seconds_left() <= 0:
                        return JobEvent(batch_id=batch_id, job=job, timed_out=True)
        except Exception as error:
            log.error("Batch job %s cannot be watched: %s", batch_id, error)
            return JobEvent(
                batch_id=str(batch_id), job=job, error=str(error), error_is_permanent=is_permanent(error)
            )

    def _seconds_left(self) -> float:
        return float("inf") if self.deadline is None else self.deadline - time.time()


def _utc(epoch_seconds: float) -> str:
    return datetime.fromtimestamp(epoch_seconds, tz=timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
