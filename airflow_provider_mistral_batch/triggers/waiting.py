"""``wait_for_job``: waits in the triggerer until one batch job is over."""

from __future__ import annotations

import logging
import time
from datetime import datetime, timezone
from typing import Any

from airflow_provider_mistral_batch.api.checks import check_id
from airflow_provider_mistral_batch.api.models import BatchJobOut
from airflow_provider_mistral_batch.policies.cadence import Cadence
from airflow_provider_mistral_batch.policies.outage import Outage
from airflow_provider_mistral_batch.policies.progress import Progress
from airflow_provider_mistral_batch.tasks.endings import is_permanent
from airflow_provider_mistral_batch.tasks.job_event import JobEvent
from airflow_provider_mistral_batch.triggers.sharing import shared_poller
from airflow_provider_mistral_batch.triggers.starting import resolve

log = logging.getLogger(__name__)

#: Seconds after which the wall clock is read again, in case somebody has set it.
_CLOCK_CHECK_SECONDS = 60.0


async def wait_for_job(
    batch_id: str | dict[str, str],
    mistral_conn_id: str,
    *,
    deadline: float | None,
    poll_interval: float,
    poll_interval_min: float,
    task_instance: Any,
    outage: Outage | None = None,
) -> JobEvent:
    """
    Wait until a job is over, cannot be watched, or its deadline passes; log its progress meanwhile.

    :param batch_id: The job's id, or where to find it
        (see :func:`~airflow_provider_mistral_batch.triggers.starting.reference`).
    :param mistral_conn_id: The connection's id.
    :param deadline: When to give up (epoch seconds of our own clock); ``None`` waits for ever.
    :param poll_interval: Seconds between two looks at the job, at most.
    :param poll_interval_min: Seconds between two looks at a job that has just been created.
    :param task_instance: The trigger's task instance.
    :param outage: What the task has logged about outages, if it waits for several jobs.
    :return: How the wait ended. Nothing is raised but a cancellation.
    """
    found: Any = batch_id
    job: BatchJobOut | None = None
    progress = Progress()
    try:
        found = await resolve(batch_id, task_instance)
        if deadline is not None:
            log.info("Waiting for batch job %s until %s.", found, _utc(deadline))
        check_id(found, field="batch_id")
        cadence = Cadence(shortest=poll_interval_min, longest=poll_interval)
        poller = shared_poller(mistral_conn_id)
        watch = poller.join(found, cadence, outage)
        try:
            while True:
                timeout = min(_seconds_until(deadline), _CLOCK_CHECK_SECONDS)
                job = await watch.changed(timeout) or job
                for level, news in watch.lines():
                    log.log(level, "%s", news)
                if job is not None:
                    # Also without a change: the last one may have come too soon after a line to get one of its own.
                    server_now = time.time() + watch.clock_offset
                    if line := progress.line(job, now=time.monotonic(), server_now=server_now):
                        log.info("Batch job %s: %s", found, line)
                    if job.is_terminal:
                        return JobEvent(batch_id=found, job=job)
                if _seconds_until(deadline) <= 0:
                    return JobEvent(batch_id=found, job=job, timed_out=True)
        finally:
            poller.leave(watch)
    except Exception as error:
        # The reason is the worker's to say: both logs are shown as one.
        log.warning("Batch job %s cannot be watched any more, so the task continues on a worker.", found)
        return JobEvent(
            batch_id=str(found), job=job, error=str(error), error_is_permanent=is_permanent(error)
        )


def _seconds_until(deadline: float | None) -> float:
    return float("inf") if deadline is None else deadline - time.time()


def _utc(epoch_seconds: float) -> str:
    return datetime.fromtimestamp(epoch_seconds, tz=timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
