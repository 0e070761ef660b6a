"""How a worker waits for a job: it polls the job itself, and judges it when it is over.

Waits in the triggerer are in ``triggers/``; the decisions that both share are in ``policies/``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_mistral_batch.api.errors import MistralBatchError, MistralCallError
from airflow_provider_mistral_batch.api.once import send_until_there
from airflow_provider_mistral_batch.compat import AirflowException, AirflowFailException
from airflow_provider_mistral_batch.observability import metrics
from airflow_provider_mistral_batch.policies.outage import Outage
from airflow_provider_mistral_batch.policies.progress import Progress
from airflow_provider_mistral_batch.policies.refusals import is_not_to_be_seen
from airflow_provider_mistral_batch.policies.verdict import Verdict, judge
from airflow_provider_mistral_batch.tasks.endings import is_permanent
from airflow_provider_mistral_batch.tasks.job_event import JobEvent
from airflow_provider_mistral_batch.tasks.xcoms import job_xcoms, push_xcoms

if TYPE_CHECKING:
    from airflow_provider_mistral_batch.api.models import BatchJobOut
    from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
    from airflow_provider_mistral_batch.policies.cadence import Cadence

log = logging.getLogger(__name__)

#: About how many bytes of an error file are read to name the most frequent errors.
_DIGEST_BYTES = 1 << 20

#: Seconds before each further look at a job that nobody has seen yet, and that is not there.
_SIGHT_PAUSES = (1.0, 2.0, 4.0)

#: Airflow ends a deferral this many seconds after the trigger's own deadline, in case the triggerer is down.
BACKSTOP_SECONDS = 600.0

#: The error with which Airflow resumes a task after a deferral that timed out
#: (``TriggerFailureReason.TRIGGER_TIMEOUT``).
_TRIGGER_TIMEOUT = "Trigger timeout"


def deferral_took_too_long(next_method: str, next_kwargs: Mapping[str, Any] | None) -> bool:
    """
    Tell whether Airflow resumes a task because its deferral timed out.

    :param next_method: As Airflow passes it to ``resume_execution``.
    :param next_kwargs: As Airflow passes it to ``resume_execution``.
    """
    return next_method == "__fail__" and (next_kwargs or {}).get("error") == _TRIGGER_TIMEOUT


class JobPoller:
    """
    Polls one job from a worker.

    :param hook: How to read the job.
    :param batch_id: The job's id.
    :param outage: What the task has logged about outages, if it waits for several jobs.
    """

    def __init__(self, hook: MistralBatchHook, batch_id: str, outage: Outage | None = None) -> None:
        self.hook = hook
        self.batch_id = batch_id
        self._progress = Progress()
        self._was_seen = False
        self._outage = outage or Outage()

    def look(self) -> BatchJobOut | None:
        """
        Look at the job once.

        :return: The job, or ``None`` if the API did not answer: the wait goes on.
        :raises MistralCallError: When the job cannot be read until somebody fixes the cause.
        """
        try:
            job = send_until_there(
                lambda: self.hook.get(self.batch_id),
                may_appear=lambda error: not self._was_seen and is_not_to_be_seen(error),
                pauses=_SIGHT_PAUSES,
                what="a job that was just created",
            )
        except MistralCallError as error:
            if is_permanent(error):
                raise
            if line := self._outage.failed(error, time.monotonic()):
                log.warning("%s", line)
            return None
        self._was_seen = True
        if line := self._outage.over(time.monotonic()):
            log.info("%s", line)
        line = self._progress.line(job, now=time.monotonic(), server_now=self.hook.server_now)
        if line:
            log.info("Batch job %s: %s", self.batch_id, line)
        return job

    def wait(self, *, deadline: float, cadence: Cadence) -> BatchJobOut | None:
        """
        Wait until the job is over.

        :param deadline: When to stop waiting (epoch seconds).
        :param cadence: How often to look.
        :return: The job, which is over, or ``None`` if the deadline passed first.
        """
        age = 0.0
        while True:
            job = self.look()
            if job is not None:
                if job.is_terminal:
                    return job
                age = self.hook.server_now - job.created_at
            left = deadline - time.time()
            if left <= 0:
                return None
            time.sleep(min(cadence.interval(age), left))


def job_after_deferral(event: Any, hook: MistralBatchHook) -> BatchJobOut | None:
    """
    Read from a trigger's event how the wait ended.

    :param event: The event that ``execute_complete`` received.
    :param hook: How to read the job.
    :return: The job, which is over, or ``None`` if the deadline passed first.
    :raises AirflowFailException: When the job cannot be watched until somebody fixes the cause.
    :raises AirflowException: When the job cannot be watched for another reason.
    """
    told = JobEvent.from_payload(event)
    if told.timed_out:
        # The trigger's last look may be a whole poll interval old, and the triggerer may have been down since.
        job = JobPoller(hook, told.batch_id).look()
        return job if job is not None and job.is_terminal else None
    if told.job is None or told.error is not None:
        raise (AirflowFailException if told.error_is_permanent else AirflowException)(told.error)
    return told.job


def conclude(job: BatchJobOut, *, hook: MistralBatchHook, ti: Any, max_failed_ratio: float) -> Verdict:
    """
    Conclude the wait for a job that is over: push its XComs, judge it, and log its failures.

    The XComs come first, so that a task that cleans up after a failure finds them.

    :param job: The job.
    :param hook: How to read the job's error file.
    :param ti: The running task instance.
    :param max_failed_ratio: Share of rows that may fail.
    :return: The verdict; its message ends with the most frequent row errors.
    """
    push_xcoms(ti, job_xcoms(job))
    metrics.job_ended(job)
    verdict = judge(job, max_failed_ratio=max_failed_ratio)
    if verdict.rows_failed:
        verdict = verdict.with_digest(_digest_of_error_file(hook, job))
    if verdict.acceptable:
        log.log(logging.WARNING if verdict.rows_failed else logging.INFO, "%s", verdict.message)
    return verdict


def _digest_of_error_file(hook: MistralBatchHook, job: BatchJobOut) -> str:
    """Name the most frequent errors in a job's error file; empty if the file cannot be read."""
    if job.error_file_id is None:
        return ""
    # Imported late: parsing a Dag needs none of it.
    from airflow_provider_mistral_batch.jsonl.results.digest import describe_error_rows

    try:
        return describe_error_rows(
            hook.stream_file(job.error_file_id),
            max_bytes=_DIGEST_BYTES,
            without_secrets=hook.get_conn().without_secrets,
        )
    except MistralBatchError as error:
        log.info("Could not read the error file to name its most frequent errors: %s", error)
        return ""
