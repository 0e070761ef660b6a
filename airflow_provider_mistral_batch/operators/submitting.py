"""What operators that submit batch jobs share: a task that ends without a further try leaves no job running."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_mistral_batch.operators.base import MistralBatchOperator
from airflow_provider_mistral_batch.submission.jobs import Submission
from airflow_provider_mistral_batch.tasks.endings import (
    LeftRunningError,
    abandoned_on_worker,
    ending_briefly,
    ends_for_good,
    failing_for_good,
)
from airflow_provider_mistral_batch.tasks.rendering import read_arguments
from airflow_provider_mistral_batch.tasks.worker_wait import deferral_took_too_long

if TYPE_CHECKING:
    from airflow.sdk import Context


class MistralSubmittingOperator(MistralBatchOperator):
    """
    Base of the operators that submit batch jobs.

    With ``cancel_on_kill``, a job is cancelled when its task is killed, or fails, without a further try. Otherwise the
    next try continues with the job.
    """

    deferrable: bool
    force_new: bool
    cancel_on_kill: bool

    #: Both are set when the task starts.
    _submission: Submission | None = None
    _task_instance: Any = None

    def execute(self, context: Context) -> Any:
        """Do the work."""
        with ending_briefly(), self._answering_for_jobs(context, submitted=False):
            return super().execute(context)

    def resume_execution(
        self, next_method: str, next_kwargs: Mapping[str, Any] | None, context: Context
    ) -> Any:
        """Continue after a deferral, even a failed one."""
        with ending_briefly(), self._answering_for_jobs(context, submitted=True), failing_for_good():
            if deferral_took_too_long(next_method, next_kwargs):
                # The triggerer may have been down. The deferral's state is lost, but the API has a record of the jobs.
                self.submission.take_last_look()
                return self.run_batch_task(context)
            return super().resume_execution(next_method, next_kwargs, context)  # type: ignore[arg-type]

    def on_kill(self) -> None:
        """Cancel the jobs, unless the task will be tried again; also a job whose create call is under way."""
        if not self.cancel_on_kill or self._submission is None:
            return
        if abandoned_on_worker(self._task_instance):
            self._submission.abandon()
        else:
            self.log.info("The task was killed and will be tried again, so its batch jobs keep running.")

    @property
    def submission(self) -> Submission:
        """The running task's submission, which finds, creates and cancels its jobs."""
        assert self._submission is not None
        return self._submission

    @property
    def batch_ids(self) -> Sequence[str]:
        """Ids of the jobs that this try has found or created, in order; none before that."""
        return () if self._submission is None else list(dict.fromkeys(self._submission.batch_ids))

    @property
    def linked_batch_id(self) -> str | None:
        """Id of the newest job that this try has found or created; ``None`` before that."""
        return self.batch_ids[-1] if self.batch_ids else None

    @property
    def may_defer(self) -> bool:
        """Whether the task may defer; a last look stays on the worker."""
        return self.deferrable and not self.submission.is_last_look

    @contextmanager
    def _answering_for_jobs(self, context: Context, *, submitted: bool) -> Iterator[None]:
        """
        Cancel running jobs if the block fails and the task is not tried again.

        :param submitted: Whether this try may already have submitted jobs.
        """
        with failing_for_good():
            read_arguments(self)
            submission = self._submission = Submission.of_task(context, self.hook, force_new=self.force_new)
        self._task_instance = context["ti"]
        try:
            yield
        except LeftRunningError:
            raise
        except Exception as error:
            may_have_jobs = submitted or submission.may_have_duplicates or submission.batch_ids
            if self.cancel_on_kill and may_have_jobs and ends_for_good(error, context):
                submission.cancel_running()
            raise
