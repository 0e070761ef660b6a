"""``MistralCancelBatchJobOperator``: cancels a batch job and, if asked, waits until it is over."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_mistral_batch.api.checks import check_positive
from airflow_provider_mistral_batch.api.errors import BadRequestError
from airflow_provider_mistral_batch.api.models import BatchStatus
from airflow_provider_mistral_batch.compat import AirflowException
from airflow_provider_mistral_batch.links.mistral_batch import MistralBatchJobLink
from airflow_provider_mistral_batch.observability import metrics
from airflow_provider_mistral_batch.observability.lineage.told import Told, about_job
from airflow_provider_mistral_batch.operators.base import MistralBatchOperator
from airflow_provider_mistral_batch.policies.cadence import DEFAULT_POLL_INTERVAL_MIN, Cadence
from airflow_provider_mistral_batch.tasks.worker_wait import JobPoller
from airflow_provider_mistral_batch.tasks.xcoms import job_xcoms, push_xcoms

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_mistral_batch.api.models import BatchJobOut


class MistralCancelBatchJobOperator(MistralBatchOperator):
    """
    Cancel a batch job. If the job is already over, the task leaves it alone and succeeds.

    Returns the job's id. XComs: the sensor's, from the last look at the job. A cancelled job may have partial results.

    :param batch_id: The job's id.
    :param wait_for_completion: Wait until the job is over; the API takes some time to cancel a job.
    :param timeout: Most seconds to wait; also a ``timedelta``.
    :param poll_interval: Most seconds between two looks at the job; also a ``timedelta``.
    :param mistral_conn_id: The connection's id.
    """

    template_fields: Sequence[str] = (
        "batch_id",
        "wait_for_completion",
        "timeout",
        "poll_interval",
        "mistral_conn_id",
    )
    operator_extra_links = (MistralBatchJobLink(),)

    def __init__(
        self,
        *,
        batch_id: str,
        wait_for_completion: bool = False,
        timeout: float | timedelta = 3600.0,
        poll_interval: float | timedelta = 10.0,
        mistral_conn_id: str = "mistral_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(mistral_conn_id=mistral_conn_id, **kwargs)
        self.batch_id = batch_id
        self.wait_for_completion = wait_for_completion
        self.timeout: Any = timeout
        self.poll_interval: Any = poll_interval

    def told(self, *, succeeded: bool) -> Told:
        """Tell OpenLineage of the job."""
        return Told(batch_ids=[self.batch_id], about=about_job(self.job_seen))

    def run_batch_task(self, context: Context) -> str:
        """Cancel the job, and wait if the user wants that."""
        check_positive("timeout", self.timeout)
        cadence = Cadence(shortest=DEFAULT_POLL_INTERVAL_MIN, longest=self.poll_interval)
        job = self._cancel()
        if self.wait_for_completion and not job.is_terminal:
            deadline = time.time() + self.timeout
            ended = JobPoller(self.hook, job.id).wait(deadline=deadline, cadence=cadence)
            if ended is None:
                raise AirflowException(
                    f"batch job {job.id} was not over {self.timeout:g} s after its cancellation was requested: "
                    "increase timeout, or wait for the job with MistralBatchJobSensor"
                )
            job = ended
            metrics.job_ended(job)
        self.job_seen = job
        self.log.info("Batch job %s is %s.", job.id, job.status)
        push_xcoms(context["ti"], job_xcoms(job))
        return job.id

    def _cancel(self) -> BatchJobOut:
        """Cancel the job unless it is over; it may also end before the API gets our call."""
        job = self.hook.get(self.batch_id)
        if job.status == BatchStatus.CANCELLING:
            self.log.info("Batch job %s is already being cancelled.", job.id)
        elif not job.is_terminal:
            try:
                job = self.hook.cancel(self.batch_id)
            except BadRequestError as error:
                job = self.hook.get(self.batch_id)
                if not job.is_terminal:
                    raise
                self.log.info("%s", error)
            else:
                self.log.info("Asked the API to cancel batch job %s.", job.id)
        else:
            self.log.info("Batch job %s is already over, so there is nothing to cancel.", job.id)
        return job
