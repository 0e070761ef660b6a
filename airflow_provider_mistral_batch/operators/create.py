"""``MistralCreateBatchJobOperator``: creates a batch job and, if asked, waits until it is over."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from airflow_provider_mistral_batch.api.checks import (
    check_flag,
    check_positive,
    check_ratio,
    chosen_window,
)
from airflow_provider_mistral_batch.api.endpoints import DEFAULT_ENDPOINT
from airflow_provider_mistral_batch.api.errors import MistralCallError
from airflow_provider_mistral_batch.api.models import (
    BatchJobIn,
    BatchStatus,
)
from airflow_provider_mistral_batch.compat import AirflowException, AirflowFailException, conf
from airflow_provider_mistral_batch.links.mistral_batch import MistralBatchJobLink
from airflow_provider_mistral_batch.observability.lineage.told import Told, about_job
from airflow_provider_mistral_batch.operators.base import check_requests, check_requests_are_stable
from airflow_provider_mistral_batch.operators.submitting import MistralSubmittingOperator
from airflow_provider_mistral_batch.policies.cadence import (
    DEFAULT_POLL_INTERVAL,
    DEFAULT_POLL_INTERVAL_MIN,
    Cadence,
)
from airflow_provider_mistral_batch.policies.deadline import seconds_allowed, submitted_at
from airflow_provider_mistral_batch.policies.ownership import runs
from airflow_provider_mistral_batch.tasks import task_state
from airflow_provider_mistral_batch.tasks.endings import LeftRunningError, is_permanent
from airflow_provider_mistral_batch.tasks.outlets import describe_job
from airflow_provider_mistral_batch.tasks.worker_wait import (
    BACKSTOP_SECONDS,
    JobPoller,
    conclude,
    job_after_deferral,
)
from airflow_provider_mistral_batch.tasks.xcoms import push_xcoms

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_mistral_batch.api.models import BatchJobOut
    from airflow_provider_mistral_batch.jsonl.requests.inline import InlineRequests


class MistralCreateBatchJobOperator(MistralSubmittingOperator):
    """
    Create a batch job from uploaded request files or from inline requests; a retry attaches to the existing job.

    Returns the job's id, which is also the XCom ``batch_id``. A task that waits also leaves the sensor's XComs:
    ``status``, ``output_file_id``, ``error_file_id``, ``request_counts``.

    :param input_files: Ids of uploaded request files. Either these or ``requests``.
    :param requests: Up to 10,000 requests, each ``{"custom_id", "prompt"}`` or ``{"custom_id", "body"}``, or prompts as
        plain strings.
    :param endpoint: API endpoint that each request goes to.
    :param model: The model for all requests; by default the model that they name, or else the connection's
        ``default_model``, unless they name an agent.
    :param agent_id: An agent to use instead of a model.
    :param completion_window: Time that the job may take, ``"<n>h"`` or ``"<n>d"``, 1 hour to 7 days; by default
        ``"24h"``.
    :param timeout_hours: ``completion_window`` as a number of hours.
    :param metadata: Metadata of the job: keys of 1 to 32 characters, values of 1 to 512.
    :param wait_for_completion: Wait until the job is over, and fail if it did not end well.
    :param deferrable: Wait in the triggerer instead of on a worker.
    :param timeout: Seconds to wait for the job, counted from its creation; by default the completion window plus an
        hour.
    :param max_failed_ratio: Share of requests that may fail, 0 to 1; a job in which none succeeded fails in any case.
    :param poll_interval: Most seconds between two looks at the job.
    :param poll_interval_min: Least seconds between two looks at the job, which applies while it is young.
    :param force_new: Submit a new job whenever the task is cleared, even if an earlier job did the same work. Retries
        attach to the new job.
    :param cancel_on_kill: Cancel the running job when the task is killed, or fails, without a further try.
    :param cancel_on_timeout: Cancel the job when ``timeout`` has passed.
    :param finish_in_triggerer: Where a deferred task ends whose job ended well: in the triggerer (``True``), on a
        worker (``False``), or on a worker if OpenLineage is configured (``None``): it gets no event from a triggerer.
        Outlets, success callbacks and ``do_xcom_push=False`` need a worker in any case.
    :param mistral_conn_id: The connection's id.
    """

    template_fields: Sequence[str] = (
        "input_files",
        "requests",
        "endpoint",
        "model",
        "agent_id",
        "completion_window",
        "timeout_hours",
        "metadata",
        "wait_for_completion",
        "timeout",
        "max_failed_ratio",
        "poll_interval",
        "poll_interval_min",
        "force_new",
        "cancel_on_kill",
        "cancel_on_timeout",
        "mistral_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "input_files": "json",
        "requests": "json",
        "metadata": "json",
    }
    operator_extra_links = (MistralBatchJobLink(),)

    def __init__(
        self,
        *,
        input_files: Sequence[str] | None = None,
        requests: Sequence[Mapping[str, Any] | str] | None = None,
        endpoint: str = DEFAULT_ENDPOINT,
        model: str | None = None,
        agent_id: str | None = None,
        completion_window: str | None = None,
        timeout_hours: int | None = None,
        metadata: Mapping[str, str] | None = None,
        wait_for_completion: bool = False,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        timeout: float | timedelta | None = None,
        max_failed_ratio: float = 1.0,
        poll_interval: float | timedelta = DEFAULT_POLL_INTERVAL,
        poll_interval_min: float | timedelta = DEFAULT_POLL_INTERVAL_MIN,
        force_new: bool = False,
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = True,
        finish_in_triggerer: bool | None = None,
        mistral_conn_id: str = "mistral_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(mistral_conn_id=mistral_conn_id, **kwargs)
        self.input_files = input_files
        check_requests_are_stable(requests)
        self.requests = requests
        self.endpoint = endpoint
        self.model = model
        self.agent_id = agent_id
        self.completion_window = completion_window
        self.timeout_hours = timeout_hours
        self.metadata = metadata
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.timeout: Any = timeout
        self.max_failed_ratio = max_failed_ratio
        self.poll_interval: Any = poll_interval
        self.poll_interval_min: Any = poll_interval_min
        self.force_new = force_new
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        if finish_in_triggerer is not None:
            check_flag("finish_in_triggerer", finish_in_triggerer)
        self.finish_in_triggerer = finish_in_triggerer

    def told(self, *, succeeded: bool) -> Told:
        """Tell OpenLineage of the job."""
        about = about_job(self.job_seen) or {"model": self.model, "endpoint": self.endpoint}
        return Told(batch_ids=self.batch_ids, about=about)

    def run_batch_task(self, context: Context) -> str:
        """Create the job, or attach to the job of an earlier try; wait if the user wants that."""
        cadence = Cadence(shortest=self.poll_interval_min, longest=self.poll_interval)
        check_ratio("max_failed_ratio", self.max_failed_ratio)
        check_positive("timeout", self.timeout, or_none=True)
        asked = self._job()
        job = self.submission.submit(asked)
        self.job_seen = job
        push_xcoms(context["ti"], {"batch_id": job.id})
        task_state.keep(context, batch_ids=[job.id])
        if not self.wait_for_completion:
            describe_job(context, job)
            return job.id
        deadline = self._deadline(job, asked)
        if job.is_terminal:
            return self._conclude(context, job)
        # Past the deadline, the worker takes the last look.
        if self.may_defer and deadline > time.time():
            # Imported late: parsing a Dag needs none of it.
            from airflow_provider_mistral_batch.triggers.finishing import may_finish_in_triggerer
            from airflow_provider_mistral_batch.triggers.mistral_batch import MistralBatchJobTrigger

            self.defer(
                trigger=MistralBatchJobTrigger(
                    batch_id=job.id,
                    mistral_conn_id=self.mistral_conn_id,
                    deadline=deadline,
                    poll_interval=self.poll_interval,
                    poll_interval_min=self.poll_interval_min,
                    cancel_on_kill=self.cancel_on_kill,
                    # If there may be duplicate jobs, a worker has to look for them at the end.
                    finish_with=(
                        "batch_id"
                        if may_finish_in_triggerer(self) and not self.submission.may_have_duplicates
                        else None
                    ),
                    max_failed_ratio=self.max_failed_ratio,
                ),
                method_name="execute_complete",
                kwargs={"may_have_duplicates": self.submission.may_have_duplicates},
                timeout=timedelta(seconds=deadline - time.time() + BACKSTOP_SECONDS),
            )
        ended = JobPoller(self.hook, job.id).wait(deadline=deadline, cadence=cadence)
        return self._conclude(context, ended) if ended is not None else self._give_up(context, job.id)

    def execute_complete(
        self, context: Context, event: dict[str, Any], may_have_duplicates: bool = False
    ) -> str:
        """Continue after the trigger's event."""
        self.submission.resume([event["batch_id"]], may_have_duplicates=may_have_duplicates)
        job = job_after_deferral(event, self.hook)
        return self._conclude(context, job) if job is not None else self._give_up(context, event["batch_id"])

    def _job(self) -> BatchJobIn:
        """Check the fields of the create call, before anything is sent."""
        inline = self._inline_requests()
        job = BatchJobIn(
            input_files=self.input_files,
            requests=None if inline is None else inline.rows,
            endpoint=self.endpoint,
            completion_window=chosen_window(self.completion_window, self.timeout_hours),
            metadata=self.metadata,
            model=self.model,
            agent_id=self.agent_id,
        )
        return msgspec.structs.replace(
            job,
            model=self.hook.model_of_job(
                self.model,
                self.agent_id,
                named=None if inline is None else inline.model,
                named_agent=None if inline is None else inline.agent,
                input_files=self.input_files or (),
            ),
        )

    def _inline_requests(self) -> InlineRequests | None:
        if self.requests is None:
            return None
        # Imported late: parsing a Dag needs none of it.
        from airflow_provider_mistral_batch.jsonl.requests.inline import validate_inline

        check_requests(self.requests)
        return validate_inline(list(self.requests), endpoint=self.endpoint)

    def _deadline(self, job: BatchJobOut, asked: BatchJobIn) -> float:
        """Return when to stop waiting: counted from the job's submission, so that no retry moves it."""
        begun = submitted_at(job, clock_offset=self.hook.clock_offset, now=time.time())
        return begun + seconds_allowed(self.timeout, asked.timeout_hours)

    def _conclude(self, context: Context, job: BatchJobOut) -> str:
        self.job_seen = job
        verdict = conclude(job, hook=self.hook, ti=context["ti"], max_failed_ratio=self.max_failed_ratio)
        task_state.keep_job(context, job)
        if verdict.acceptable:
            describe_job(context, job)
            if self.submission.may_have_duplicates:
                self.submission.cancel_running(keep=[job.id])
            return job.id
        # A retry would attach to the same completed job and come to the same verdict.
        raise (AirflowException if verdict.new_job_may_help else AirflowFailException)(verdict.message)

    def _give_up(self, context: Context, batch_id: str) -> str:
        message = f"batch job {batch_id} was not over before its deadline"
        if not self.cancel_on_timeout:
            # A retry would attach to the same job, past the same deadline.
            raise LeftRunningError(f"{message} and was left running (cancel_on_timeout=False)")
        try:
            job = self.hook.cancel(batch_id)
        except MistralCallError as error:
            # The job may have ended just now. Then there is nothing to cancel, and its results are paid for.
            seen = JobPoller(self.hook, batch_id).look()
            if seen is None or runs(seen):
                if is_permanent(error):
                    raise LeftRunningError(
                        f"{message} and keeps running, because it cannot be cancelled: {error}"
                    ) from error
                # A retry will find the job past its deadline and try again to cancel it.
                raise AirflowException(
                    f"{message} and may keep running, because cancelling it failed: {error}"
                ) from error
            job = seen
        if job.is_terminal and job.status != BatchStatus.CANCELLED:
            return self._conclude(context, job)
        raise AirflowException(f"{message}, so its cancellation was requested (cancel_on_timeout=True)")
