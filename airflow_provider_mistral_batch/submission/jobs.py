"""Submits a batch job once: searches the server's record before each create call and after each lost answer."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_mistral_batch.api.errors import (
    InvalidInputError,
    MistralBatchError,
    MistralCallError,
    NotFoundError,
)
from airflow_provider_mistral_batch.api.limits import PAGE_SIZE
from airflow_provider_mistral_batch.api.models import BatchJobIn, BatchJobOut
from airflow_provider_mistral_batch.api.once import look_repeatedly, send_once, send_until_there
from airflow_provider_mistral_batch.api.texts import sentence
from airflow_provider_mistral_batch.compat import AirflowException, AirflowFailException
from airflow_provider_mistral_batch.observability import metrics
from airflow_provider_mistral_batch.policies.ownership import (
    KEY,
    PART,
    SUBMITTED_AT,
    WINDOW,
    Decision,
    TaskIdentity,
    decide,
    has_work,
    jobs_of_task,
    merged_metadata,
    noted_number,
    ownership_metadata,
    running_jobs,
    runs,
)
from airflow_provider_mistral_batch.policies.refusals import file_may_appear
from airflow_provider_mistral_batch.tasks.identity import begun_at, identity_of, run_token

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook

log = logging.getLogger(__name__)

_Choose = Callable[[Iterable[BatchJobOut]], Decision]

#: Margin for clocks: a Dag run's start is by our clock, which may be ahead of the API's.
_CLOCK_MARGIN = timedelta(minutes=15)

#: Seconds between looks for a job that may already exist.
_RECHECKS = (1.0, 2.0, 4.0, 8.0)

#: Seconds before a create call is sent again that was refused for a file that the API may not see yet.
_FILE_PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)


def find_noted(hook: MistralBatchHook, notes: Mapping[str, str], *, since: datetime) -> BatchJobOut | None:
    """
    Find the newest job that was submitted with these notes, also if the server's listing lags behind.

    :param hook: How to talk to the API.
    :param notes: What :meth:`Submission.submit` got as ``notes``.
    :param since: When the submission began, by our own clock; older jobs do not count.
    :return: The job; ``None`` if there is none, or if the server lists no jobs.
    :raises MistralCallError: When the API cannot list them.
    """
    begun = int(since.timestamp())

    def newest() -> BatchJobOut | None:
        noted = [
            job
            for job in _jobs_since(hook, since, needed=True, metadata=notes)
            if (noted_number(job, SUBMITTED_AT) or 0) >= begun
        ]
        return max(noted, key=lambda job: (job.created_at, job.id), default=None)

    return look_repeatedly(newest, is_found=lambda job: job is not None, pauses=_RECHECKS)


def _jobs_since(
    hook: MistralBatchHook, since: datetime, *, needed: bool, **filters: Any
) -> Iterator[BatchJobOut]:
    # `created_at` is by the server's clock.
    behind = timedelta(seconds=min(0.0, hook.clock_offset))
    return hook.known_jobs(needed=needed, created_after=since - _CLOCK_MARGIN + behind, **filters)


class Earlier(Enum):
    """What earlier create calls of the task instance may have left on the server."""

    #: This is the first try, so there were no earlier calls.
    NOTHING = auto()
    #: The server may still carry out a call, because its answer was lost or an earlier try may have died during it.
    IN_DOUBT = auto()
    #: We waited long enough: a job created by an earlier call is in the server's record by now, save for rare delays.
    ON_RECORD = auto()


class Aim(Enum):
    """What the task still needs from its submission."""

    #: A job that does the work, existing or new.
    ANY_JOB = auto()
    #: An existing job; no new one is created.
    EXISTING_JOB = auto()
    #: No job: the task was killed.
    NO_JOB = auto()


class Submission:
    """
    Finds, creates and cancels the batch jobs of one task instance.

    :param hook: How to talk to the API.
    :param identity: The task instance.
    :param since: The task instance has no older jobs (by our own clock), so a search of the listing ends here.
    :param earlier: What earlier create calls may have left.
    :param run_token: Part of the jobs' key, so that jobs with another token do not count as the same work; empty to
        attach to any job that does the same work.
    """

    def __init__(
        self,
        hook: MistralBatchHook,
        identity: TaskIdentity,
        *,
        since: datetime,
        earlier: Earlier,
        run_token: str = "",
    ) -> None:
        self.hook = hook
        self.identity = identity
        self.since = since
        self.earlier = earlier
        self.run_token = run_token
        self.aim = Aim.ANY_JOB
        #: Ids of the jobs that this object found or created.
        self.batch_ids: list[str] = []
        #: The model of the jobs, once it is known.
        self.model: str | None = None
        #: Whether the answer to a create call was lost, so that there may be a job that this object does not know.
        self.answer_lost = False

    @classmethod
    def of_task(cls, context: Context, hook: MistralBatchHook, *, force_new: bool = False) -> Submission:
        """
        Make the submission of the running task instance.

        :param context: The task's context.
        :param hook: How to talk to the API.
        :param force_new: Do not attach to jobs from before the task was last cleared.
        """
        return cls(
            hook,
            identity_of(context, hook),
            since=begun_at(context["dag_run"]),
            earlier=Earlier.NOTHING if context["ti"].try_number <= 1 else Earlier.IN_DOUBT,
            run_token=run_token(context) if force_new else "",
        )

    @property
    def may_have_duplicates(self) -> bool:
        """Whether the server may have created, or may still create, another job for the same work."""
        return self.earlier is not Earlier.NOTHING

    @property
    def is_last_look(self) -> bool:
        """Whether the task continues only with existing jobs (:meth:`take_last_look`)."""
        return self.aim is Aim.EXISTING_JOB

    @property
    def is_abandoned(self) -> bool:
        """Whether the task was killed, so that no job is needed any more (:meth:`abandon`)."""
        return self.aim is Aim.NO_JOB

    def submit(
        self,
        job: BatchJobIn,
        *,
        part: str = "",
        parts_prefix: str | None = None,
        keep_partial: bool = False,
        content: Any = None,
        notes: Mapping[str, str] | None = None,
        before_create: Callable[[], None] | None = None,
    ) -> BatchJobOut:
        """
        Attach to the job that does this work, or create it.

        :param job: The job's create call.
        :param part: The job's place among several jobs of this task instance.
        :param parts_prefix: For a task instance with several jobs, how ``part`` begins for all jobs of this batch. Its
            running jobs with another ``part`` are cancelled.
        :param keep_partial: Also attach to a job that ended early but has results.
        :param content: Represents the requests in the key; by default the input files' ids or the requests themselves.
        :param notes: More metadata of the provider's own, which is not part of the key.
        :param before_create: Called before a new job is created; may raise to prevent that.
        :raises MistralCallError: When the job can neither be found nor created.
        :raises AirflowException: When the task was killed meanwhile, or when no job exists and none may be created
            (:meth:`take_last_look`).
        """
        self._stop_if_abandoned()
        identity = msgspec.structs.replace(self.identity, part=part)
        ours = ownership_metadata(identity, self._asked(job, content))
        notes = {SUBMITTED_AT: str(int(time.time())), **(notes or {})}
        if not self.hook.get_conn().dialect.jobs_tell_window:
            notes[WINDOW] = str(job.timeout_hours)
        job = msgspec.structs.replace(job, metadata=merged_metadata({**ours, **notes}, job.metadata))
        choose = partial(decide, ours=ours, keep_partial=keep_partial, parts_prefix=parts_prefix)
        decision = self._look(choose)
        if decision.attach_to is not None:
            return self._attach(decision)
        self._stop_if_abandoned()
        if self.aim is Aim.EXISTING_JOB:
            raise AirflowException(f"no batch job to continue with: {decision.reason}")
        self._cancel_all(decision.cancel)
        if before_create is not None:
            before_create()
        reason = "no earlier job may count" if self.run_token else decision.reason
        submitted = send_once(
            partial(self._create_patiently, job, reason), partial(self._find_lost, choose), what="batch job"
        )
        return self._oldest(submitted, choose)

    def resume_without_state(self) -> None:
        """Continue after a deferral whose state is lost: jobs that this try submitted have to be found again."""
        self.earlier = Earlier.IN_DOUBT

    def take_last_look(self) -> None:
        """Continue after a deferral that took too long, with existing jobs only."""
        self.resume_without_state()
        # A kill may have come first, and it is final.
        if self.aim is Aim.ANY_JOB:
            self.aim = Aim.EXISTING_JOB

    def resume(self, batch_ids: Iterable[str], *, may_have_duplicates: bool) -> None:
        """
        Continue after a deferral with what was known before it.

        :param batch_ids: Ids of the jobs that were found or created.
        :param may_have_duplicates: The value of :attr:`may_have_duplicates` before the deferral.
        """
        self.batch_ids.extend(batch_ids)
        if may_have_duplicates and self.earlier is Earlier.NOTHING:
            self.earlier = Earlier.ON_RECORD

    def abandon(self) -> None:
        """
        Cancel all jobs of this task instance, because no task needs them any more.

        Safe in a signal handler, which may interrupt :meth:`submit` anywhere. No job is created after this. A job whose
        create call is under way is cancelled as soon as the answer arrives, if it arrives.
        """
        self.aim = Aim.NO_JOB
        log.info("The task was killed: cancelling its running batch jobs.")
        self.cancel_running()

    def cancel_running(self, *, keep: Collection[str] = ()) -> None:
        """
        Cancel every running job of this task instance, also jobs of earlier tries; never raises.

        :param keep: Ids of jobs to leave running.
        """
        seen = {*keep}
        # Known jobs come first: a killed task has only seconds, and a listing may take longer or lag behind.
        for batch_id in self.batch_ids:
            if batch_id not in seen and self._may_run(batch_id):
                self._cancel_unwanted(batch_id)
            seen.add(batch_id)
        try:
            for job in running_jobs(self._jobs(), self.identity):
                if job.id not in seen:
                    self._cancel_unwanted(job.id)
        except MistralCallError as error:
            log.warning(
                "%s Other batch jobs of this task may keep running, because the API could not list them.",
                sentence(error),
            )

    def jobs_on_record(self) -> list[BatchJobOut]:
        """
        Give all jobs of this task instance, as the server has them on record now.

        :raises MistralCallError: When the API cannot list them.
        """
        return list(jobs_of_task(self._jobs(), self.identity))

    def may_have_job(self, parts_prefix: str) -> bool:
        """
        Tell whether there may be a job, of any try, that does, did or partly did some part of the work.

        :param parts_prefix: How ``part`` begins for the jobs in question.
        :raises MistralCallError: When the API cannot list them.
        """
        if not self.may_have_duplicates:
            return False
        found = any(
            has_work(job) and str((job.metadata or {}).get(PART, "")).startswith(parts_prefix)
            for job in self.jobs_on_record()
        )
        return found or (self.answer_lost and not self.hook.lists_jobs)

    def cancel(self, batch_id: str) -> None:
        """
        Cancel one job; a failure is logged, not raised.

        :param batch_id: The job's id.
        """
        try:
            self.hook.cancel(batch_id)
        except MistralBatchError as error:
            log.warning("%s Batch job %s may keep running.", sentence(error), batch_id)

    def _look(self, choose: _Choose) -> Decision:
        """Look for jobs of ours before a create call."""
        if self.earlier is Earlier.NOTHING:
            # There should be no such job, so one call is enough.
            return choose(itertools.islice(self._jobs(), PAGE_SIZE))
        if self.earlier is Earlier.ON_RECORD:
            return choose(self._jobs())
        return self._look_for_long(choose)

    def _look_for_long(self, choose: _Choose) -> Decision:
        """Look until a job of ours appears, or until we have waited long enough."""
        decision = look_repeatedly(
            lambda: choose(self._jobs()), is_found=lambda seen: seen.attach_to is not None, pauses=_RECHECKS
        )
        if decision.attach_to is None:
            self.earlier = Earlier.ON_RECORD
        return decision

    def _find_lost(self, choose: _Choose) -> BatchJobOut | None:
        """Look for the job of a create call whose answer was lost."""
        # Set first, so that a failed look does not hide the call.
        self.earlier, self.answer_lost = Earlier.IN_DOUBT, True
        if not self.hook.lists_jobs:
            raise AirflowFailException(
                "the answer to the create call was lost, and the server does not list batch jobs: the job may exist, "
                "and be paid for. Look for it in Mistral's console before you clear the task"
            )
        decision = self._look_for_long(choose)
        self.earlier = Earlier.ON_RECORD
        return None if decision.attach_to is None else self._attach(decision, metrics.job_submitted)

    def _create_patiently(self, job: BatchJobIn, reason: str) -> BatchJobOut:
        """Create the job, also if the API does not see its files at once. A refused call made no job."""
        return send_until_there(
            partial(self._create, job, reason),
            may_appear=partial(file_may_appear, file_ids=job.input_files or ()),
            pauses=_FILE_PAUSES,
            what="a file that was just uploaded",
        )

    def _create(self, job: BatchJobIn, reason: str) -> BatchJobOut:
        self._stop_if_abandoned()
        created = self.hook.get_conn().create(job)
        self.batch_ids.append(created.id)
        self._stop_if_abandoned(created.id)
        log.info("Created batch job %s: %s.", created.id, reason)
        metrics.job_submitted(job.model or self.model, job.endpoint)
        if KEY not in (created.metadata or {}):
            log.warning(
                "The server did not return the metadata of batch job %s. If it stores no metadata, the task cannot "
                "find the job again: each retry and each clear submits, and pays for, a new job.",
                created.id,
            )
        return created

    def _oldest(self, submitted: BatchJobOut, choose: _Choose) -> BatchJobOut:
        """Keep the oldest job if the server has several for the same work, and cancel the others."""
        if not self.may_have_duplicates:
            return submitted
        jobs = {submitted.id: submitted, **{job.id: job for job in self._jobs()}}
        decision = choose(jobs.values())
        if decision.attach_to is not None and decision.attach_to.id != submitted.id:
            return self._attach(decision)
        self._cancel_all(decision.cancel)
        return submitted

    def _attach(
        self,
        decision: Decision,
        count: Callable[[str | None, str], None] = metrics.job_attached,
    ) -> BatchJobOut:
        job = decision.attach_to
        assert job is not None
        if decision.duplicates:
            log.warning(
                "Several batch jobs do the work of this task instance. Attaching to the oldest, %s; the others are %s.",
                job.id,
                ", ".join(duplicate.id for duplicate in decision.duplicates),
            )
        self._cancel_all(decision.cancel)
        self.batch_ids.append(job.id)
        self._stop_if_abandoned(job.id)
        log.info("Attached to batch job %s: %s.", job.id, decision.reason)
        count(job.model or self.model, job.endpoint)
        return job

    def _stop_if_abandoned(self, batch_id: str | None = None) -> None:
        """Raise if the task was killed; cancel the given job first."""
        if not self.is_abandoned:
            return
        if batch_id is None:
            raise AirflowException("the task was killed, so no batch job was submitted")
        self.cancel(batch_id)
        raise AirflowException(f"the task was killed, so batch job {batch_id} was cancelled")

    def _asked(self, job: BatchJobIn, content: Any) -> Mapping[str, Any]:
        asked: dict[str, Any] = {
            "endpoint": job.endpoint,
            "model": job.model,
            "agent_id": job.agent_id,
            "timeout_hours": job.timeout_hours,
            "content": content if content is not None else (job.input_files or job.requests),
        }
        if self.run_token:
            asked["run_token"] = self.run_token
        return asked

    def _jobs(self) -> Iterator[BatchJobOut]:
        return _jobs_since(self.hook, self.since, needed=self.may_have_duplicates)

    def _may_run(self, batch_id: str) -> bool:
        try:
            return runs(self.hook.get(batch_id))
        except (NotFoundError, InvalidInputError):
            return False
        except MistralCallError:
            return True

    def _cancel_unwanted(self, batch_id: str) -> None:
        log.info("Cancelling batch job %s: no task needs it.", batch_id)
        self.cancel(batch_id)

    def _cancel_all(self, jobs: Iterable[BatchJobOut]) -> None:
        for job in jobs:
            log.info("Cancelling batch job %s: this task instance no longer needs it.", job.id)
            self.cancel(job.id)
