"""``MistralBatchJobSensor``: waits for a batch job, so that downstream tasks run only if it ended well."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_mistral_batch.api.checks import check_flag, check_ratio
from airflow_provider_mistral_batch.compat import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)
from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
from airflow_provider_mistral_batch.links.mistral_batch import MistralBatchJobLink
from airflow_provider_mistral_batch.observability.lineage.reporting import ReportsLineage
from airflow_provider_mistral_batch.observability.lineage.told import Told, about_job
from airflow_provider_mistral_batch.policies.cadence import DEFAULT_POLL_INTERVAL_MIN
from airflow_provider_mistral_batch.tasks import task_state
from airflow_provider_mistral_batch.tasks.endings import ending_briefly, failing_for_good
from airflow_provider_mistral_batch.tasks.outlets import describe_job
from airflow_provider_mistral_batch.tasks.rendering import DataIsNoTemplate, read_arguments
from airflow_provider_mistral_batch.tasks.worker_wait import (
    BACKSTOP_SECONDS,
    JobPoller,
    conclude,
    deferral_took_too_long,
    job_after_deferral,
)
from airflow_provider_mistral_batch.triggers.finishing import may_finish_in_triggerer

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_mistral_batch.api.models import BatchJobOut
    from airflow_provider_mistral_batch.compat import AirflowException


#: Named, not imported: parsing a Dag needs none of it.
_TRIGGER = "airflow_provider_mistral_batch.triggers.mistral_batch.MistralBatchJobTrigger"


class MistralBatchJobSensor(ReportsLineage, DataIsNoTemplate, BaseSensorOperator):
    """
    Wait until a batch job is over, and fail if it did not end well.

    Returns ``output_file_id``. XComs, however the job ended: ``batch_id``, ``status``, ``output_file_id``,
    ``error_file_id``, ``request_counts``.

    If the job ended badly, the task fails without retries: looking at the job again cannot help. With ``soft_fail`` the
    task is skipped instead. If the API does not answer, the wait continues until ``timeout``.

    :param batch_id: The job's id.
    :param max_failed_ratio: Share of requests that may fail, 0 to 1; a job in which none succeeded fails in any case.
    :param deferrable: Wait in the triggerer instead of on a worker.
    :param start_from_trigger: Also start the wait in the triggerer, so that a job that ends well needs no worker. This
        needs Airflow 3.3 or newer, and a ``batch_id`` that is a plain string, another task's output, or a template
        like ``{{ params.batch_id }}``. Otherwise, a warning is shown when the Dag is parsed, and the task is deferred
        from a worker.
    :param finish_in_triggerer: Where a deferred task ends whose job ended well: in the triggerer (``True``), on a
        worker (``False``), or on a worker if OpenLineage is configured (``None``): it gets no event from a triggerer.
        Outlets, success callbacks and ``do_xcom_push=False`` need a worker in any case.
    :param mistral_conn_id: The connection's id.
    """

    template_fields: Sequence[str] = ("batch_id", "max_failed_ratio", "mistral_conn_id")
    operator_extra_links = (MistralBatchJobLink(),)
    ui_color = "#ffe8d6"

    def __init__(
        self,
        *,
        batch_id: str,
        max_failed_ratio: float = 1.0,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        start_from_trigger: bool = False,
        finish_in_triggerer: bool | None = None,
        mistral_conn_id: str = MistralBatchHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.batch_id = batch_id
        self.max_failed_ratio: Any = max_failed_ratio
        self.deferrable = deferrable or start_from_trigger
        self.mistral_conn_id = mistral_conn_id
        if finish_in_triggerer is not None:
            check_flag("finish_in_triggerer", finish_in_triggerer)
        self.finish_in_triggerer = finish_in_triggerer
        if start_from_trigger:
            self._start_from_trigger()

    @cached_property
    def hook(self) -> MistralBatchHook:
        """The hook of the connection."""
        return MistralBatchHook(self.mistral_conn_id)

    @property
    def linked_batch_id(self) -> str | None:
        """Id of the job that the task's button opens."""
        return self.batch_id

    @cached_property
    def _poller(self) -> JobPoller:
        return JobPoller(self.hook, self.batch_id)

    def told(self, *, succeeded: bool) -> Told:
        """Tell OpenLineage of the job."""
        return Told(batch_ids=[self.batch_id], about=about_job(self.job_seen))

    def execute(self, context: Context) -> Any:
        """Wait as ``mode`` and ``deferrable`` say."""
        with ending_briefly(), self._skipping_for_the_job_alone():
            self._check_arguments()
            if not self.deferrable:
                try:
                    return super().execute(context)
                except AirflowSensorTimeout:
                    self._time_out()
            # The worker is running anyway, so it looks once: a job that is already over needs no triggerer.
            over = self.poke(context)
            if not over:
                self._defer()
            return over.xcom_value

    def poke(self, context: Context) -> PokeReturnValue:
        """Look at the job once."""
        with failing_for_good():
            job = self._poller.look()
        if job is None or not job.is_terminal:
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value=self._conclude(context, job))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Continue after a deferral; if Airflow ended it because it took too long, time out like any other wait."""
        with ending_briefly(), self._skipping_for_the_job_alone():
            self._check_arguments()
            if not deferral_took_too_long(next_method, next_kwargs):
                return super().resume_execution(next_method, next_kwargs, context)
            # The triggerer may have been down, and the job may have been over for a long time.
            over = self.poke(context)
            return over.xcom_value if over else self._time_out()

    def execute_complete(self, context: Context, event: dict[str, Any]) -> str | None:
        """Continue after the trigger's event."""
        with failing_for_good():
            job = job_after_deferral(event, self.hook)
        return self._conclude(context, job) if job is not None else self._time_out()

    def _check_arguments(self) -> None:
        with failing_for_good():
            read_arguments(self)
            check_ratio("max_failed_ratio", self.max_failed_ratio)

    def _defer(self) -> None:
        # Imported late: parsing a Dag needs none of it.
        from airflow_provider_mistral_batch.triggers.mistral_batch import MistralBatchJobTrigger

        self.defer(
            trigger=MistralBatchJobTrigger(
                **self._trigger_options(), batch_id=self.batch_id, deadline=time.time() + self.timeout
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=self.timeout + BACKSTOP_SECONDS),
        )

    def _start_from_trigger(self) -> None:
        """Make the scheduler start the wait in the triggerer, if that can work."""
        # Imported late: only Dags with such a sensor need it at parse time.
        from airflow.sdk import get_parsing_context
        from airflow.triggers.base import StartTriggerArgs

        from airflow_provider_mistral_batch.triggers.starting import is_template, obstacle_to_start, reference

        # Checked here, because no worker will do so first, and the Dag's author sees an error at parse time.
        if not is_template(self.max_failed_ratio):
            check_ratio("max_failed_ratio", self.max_failed_ratio)
        obstacle = obstacle_to_start(self)
        if obstacle:
            # Each task that runs parses the file again, and needs no warning about another task in its log.
            if get_parsing_context().task_id is None:
                warnings.warn(
                    f"Task {self.task_id!r} cannot start in the triggerer, so it is deferred from a worker: "
                    f"{obstacle}",
                    UserWarning,
                    stacklevel=4,
                )
            return
        # A mapped sensor is not affected: Airflow reads both attributes from its class or `partial()`, not from here.
        self.start_from_trigger = True
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=_TRIGGER,
            trigger_kwargs={
                **self._trigger_options(),
                "mistral_conn_id": reference(self.mistral_conn_id),
                "batch_id": reference(self.batch_id),
                "leave_link": True,
            },
            next_method="execute_complete",
            # Airflow enforces this one: our own deadline would have to be known before the task starts.
            timeout=timedelta(seconds=self.timeout),
        )

    def _trigger_options(self) -> dict[str, Any]:
        return {
            "mistral_conn_id": self.mistral_conn_id,
            # A poke interval of 0 is valid for a sensor on a worker, but not for the poll loop that triggers share.
            "poll_interval": self.poke_interval or DEFAULT_POLL_INTERVAL_MIN,
            "finish_with": "output_file_id" if may_finish_in_triggerer(self) else None,
            "max_failed_ratio": self.max_failed_ratio,
        }

    def _conclude(self, context: Context, job: BatchJobOut) -> str | None:
        self.job_seen = job
        verdict = conclude(job, hook=self.hook, ti=context["ti"], max_failed_ratio=self.max_failed_ratio)
        task_state.keep_job(context, job)
        if not verdict.acceptable:
            self._fail(verdict.message)
        describe_job(context, job)
        return job.output_file_id

    @contextmanager
    def _skipping_for_the_job_alone(self) -> Iterator[None]:
        """
        Fail where the base class would skip because of an error that is not about the job.

        ``soft_fail`` is for a job that ends badly or too late. With a wrong connection, or a trigger that cannot be
        loaded, it is unknown how the job ended, and a skip would hide that.
        """
        try:
            yield
        except (AirflowFailException, AirflowSkipException) as end:
            error = end.__cause__ if isinstance(end, AirflowSkipException) else end
            if not isinstance(error, Exception):
                # Our own skip.
                raise
            if self.never_fail:
                self._fail(str(error))
            raise error from error.__cause__

    def _time_out(self) -> NoReturn:
        self._fail(
            f"batch job {self.batch_id} was not over within timeout={self.timeout:g} s", AirflowSensorTimeout
        )

    def _fail(self, message: str, error: type[AirflowException] = AirflowFailException) -> NoReturn:
        """Fail without retries, or skip if the user wants that. The base class would drop the reason."""
        if self.soft_fail or self.never_fail:
            # Also logged, because after a deferral the base class replaces the message of a skip.
            self.log.warning("%s", message)
            raise AirflowSkipException(message)
        raise error(message)
