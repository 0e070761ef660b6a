"""Submits a batch job once, whatever dies: looks in the server's record before and after, and never posts blindly."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mistral_batch.api.errors import MistralCallError, NotFoundError
from airflow_provider_mistral_batch.api.limits import PAGE_SIZE
from airflow_provider_mistral_batch.api.models import BatchJobIn, BatchJobOut
from airflow_provider_mistral_batch.policies.ownership import (
    KEY,
    SUBMITTED_AT,
    Decision,
    TaskIdentity,
    decide,
    merged_metadata,
    ownership_metadata,
    running_jobs,
    runs,
)
from airflow_provider_mistral_batch.tasks.identity import begun_at, identity_of, run_token

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook

log = logging.getLogger(__name__)

_Choose = Callable[[Iterable[BatchJobOut]], Decision]

#: The API's clock may be behind ours, and a Dag run's start is by ours.
_CLOCK_MARGIN = timedelta(minutes=15)

#: Pauses, in seconds, between looks for a job that may exist: listings have been seen to lag behind.
_RECHECKS = (1.0, 2.0, 4.0, 8.0)

#: Create calls whose answer is lost, before the try of the task is given up.
_ATTEMPTS = 2


class Submission:
    """
    One task instance's way to its batch jobs, of which there are one or several.

    :param hook: How to talk to the API.
    :param identity: Whose jobs they are.
    :param since: Nothing of this task instance is older (our own clock): where the look-up ends.
    :param is_first_try: Whether nothing can have been submitted before, as far as Airflow knows.
    :param run_token: Makes this other work than that of jobs that were submitted without it; empty if those will do.
    """

    def __init__(
        self,
        hook: MistralBatchHook,
        identity: TaskIdentity,
        *,
        since: datetime,
        is_first_try: bool,
        run_token: str = "",
    ) -> None:
        self.hook = hook
        self.identity = identity
        self.since = since
        self.is_first_try = is_first_try
        self.run_token = run_token
        #: Ids of the jobs that were found or created here.
        self.batch_ids: list[str] = []
        #: Whether the server may yet carry out another call for the same work: that of an earlier try, which may have
        #: died in the middle of it, or one whose answer was lost.
        self.may_have_duplicates = not is_first_try
        #: Whether to go on only with jobs that are there.
        self.attaches_only = False
        self._has_looked_long = False
        self._abandoned = False

    @classmethod
    def of_task(cls, context: Context, hook: MistralBatchHook, *, force_new: bool = False) -> Submission:
        """
        Make the submission of the running task instance.

        :param context: The task's context.
        :param hook: How to talk to the API.
        :param force_new: Submit a new job where one exists from before the task was last cleared.
        """
        return cls(
            hook,
            identity_of(context, hook),
            since=begun_at(context["dag_run"]),
            is_first_try=context["ti"].try_number <= 1,
            run_token=run_token(context) if force_new else "",
        )

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
        Return the job that does this work: one that exists, or a new one.

        :param job: What is asked.
        :param part: Which of several jobs of this task instance.
        :param parts_prefix: How the parts begin of what is asked now, for a task instance with several jobs: what it
            has running besides is cancelled.
        :param keep_partial: Take a job that ended early, but with results, for one that did this work.
        :param content: What stands for the requests in the key; by default the input files' ids or the requests.
        :param notes: Further metadata of the provider's own, which is no part of the key.
        :param before_create: Called when a new job is needed, before it is created; may raise to prevent that.
        :raises MistralCallError: When it can neither be found nor created.
        :raises AirflowException: When the task was killed meanwhile, and nobody wants a job any more; or when only a
            job that is there will do (:meth:`take_last_look`), and none is.
        """
        self._stop_if_abandoned()
        identity = msgspec.structs.replace(self.identity, part=part)
        ours = ownership_metadata(identity, self._asked(job, content))
        notes = {SUBMITTED_AT: str(int(time.time())), **(notes or {})}
        job = msgspec.structs.replace(job, metadata=merged_metadata({**ours, **notes}, job.metadata))
        choose = partial(decide, ours=ours, keep_partial=keep_partial, parts_prefix=parts_prefix)
        decision = self._look(choose)
        if decision.attach_to is not None:
            return self._attach(decision)
        if self.attaches_only:
            raise AirflowException(f"there is no job to go on with in this try: {decision.reason}")
        self._cancel(decision)
        if before_create is not None:
            before_create()
        return self._create(job, choose, "force_new is set" if self.run_token else decision.reason)

    def take_last_look(self) -> None:
        """Go on after a deferral of which nothing is known any more: with the jobs that are there, and no new one."""
        self.is_first_try = False
        self.may_have_duplicates = True
        self.attaches_only = True

    def resume(self, batch_ids: Iterable[str], *, may_have_duplicates: bool) -> None:
        """
        Go on after a deferral with what was known before.

        :param batch_ids: Ids of the jobs that were found or created.
        :param may_have_duplicates: What :attr:`may_have_duplicates` was.
        """
        self.batch_ids.extend(batch_ids)
        self.may_have_duplicates |= may_have_duplicates

    def abandon(self) -> None:
        """
        Cancel all jobs of this task instance: nobody wants them any more.

        Made for signal handlers, which may interrupt :meth:`submit` anywhere: what is not there yet is not submitted
        any more, and a job whose call is under way is cancelled as soon as its answer comes, if it does.
        """
        self._abandoned = True
        log.info("The task is killed: cancelling what it has running.")
        self.cancel_running()

    def cancel_running(self, *, keep: Collection[str] = ()) -> None:
        """
        Cancel every job of this task instance that runs, also what an earlier try has left; never raises.

        :param keep: Ids of jobs that are still wanted.
        """
        seen = {*keep}
        # What is known comes first: who is being killed has seconds, and a listing can take longer. It can also lag.
        for batch_id in self.batch_ids:
            if batch_id not in seen and self._may_run(batch_id):
                self._cancel_unwanted(batch_id)
            seen.add(batch_id)
        try:
            for job in running_jobs(self._jobs(), self.identity):
                if job.id not in seen:
                    self._cancel_unwanted(job.id)
        except MistralCallError as error:
            log.warning("%s So nobody knows what else runs of this task.", error)

    def cancel(self, batch_id: str) -> None:
        """
        Cancel one job; that it cannot be is logged and no error.

        :param batch_id: The job's id.
        """
        try:
            self.hook.cancel(batch_id)
        except MistralCallError as error:
            log.warning("%s Batch job %s may go on running.", error, batch_id)

    def _cancel_unwanted(self, batch_id: str) -> None:
        log.info("Cancelling batch job %s: nobody waits for it.", batch_id)
        self.cancel(batch_id)

    def _may_run(self, batch_id: str) -> bool:
        try:
            return runs(self.hook.get(batch_id))
        except NotFoundError:
            return False
        except MistralCallError:
            return True

    def _create(self, job: BatchJobIn, choose: _Choose, reason: str) -> BatchJobOut:
        """Post until there is a job; of two that the server made in the end, the older one stays."""
        attempts = 0
        while True:
            self._stop_if_abandoned()
            try:
                created = self.hook.get_conn().create(job)
                break
            except MistralCallError as error:
                if not error.may_have_acted:
                    raise
                log.warning("%s The job may exist all the same: looking for it.", error)
                self.may_have_duplicates = True
                found = self._look_again(choose)
                if found.attach_to is not None:
                    return self._attach(found)
                attempts += 1
                if attempts == _ATTEMPTS:
                    raise
                log.info("It does not: submitting it again.")
        self.batch_ids.append(created.id)
        self._stop_if_abandoned(created.id)
        log.info("Created batch job %s, since %s.", created.id, reason)
        if KEY not in (created.metadata or {}):
            log.warning(
                "The server does not give back the metadata of batch job %s. If it does not keep it, no retry and no "
                "clear of this task finds the job again: they will submit, and pay for, another one.",
                created.id,
            )
        if not self.may_have_duplicates:
            return created
        jobs = {created.id: created, **{job.id: job for job in self._jobs()}}
        decision = choose(jobs.values())
        if decision.attach_to is not None and decision.attach_to.id != created.id:
            return self._attach(decision)
        self._cancel(decision)
        return created

    def _stop_if_abandoned(self, batch_id: str | None = None) -> None:
        """Go no further when the task was killed: cancel the job that has just come into being, if one has."""
        if not self._abandoned:
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

    def _look(self, choose: _Choose) -> Decision:
        """Look for jobs of ours before anything is sent."""
        if self.is_first_try:
            # Nothing should be there, so it is worth one call and no more.
            return choose(itertools.islice(self._jobs(), PAGE_SIZE))
        # The try before may have died while its call was under way; whatever it did is to be seen after one long look.
        return choose(self._jobs()) if self._has_looked_long else self._look_again(choose)

    def _look_again(self, choose: _Choose) -> Decision:
        """Look for jobs that may or may not exist, more than once; what was seen last counts."""
        for pause in _RECHECKS:
            decision = choose(self._jobs())
            if decision.attach_to is not None:
                return decision
            time.sleep(pause)
        self._has_looked_long = True
        return choose(self._jobs())

    def _jobs(self) -> Iterator[BatchJobOut]:
        # Jobs are dated by the server's clock.
        behind = timedelta(seconds=min(0.0, self.hook.clock_offset))
        return self.hook.iter_jobs(created_after=self.since - _CLOCK_MARGIN + behind)

    def _attach(self, decision: Decision) -> BatchJobOut:
        job = decision.attach_to
        assert job is not None
        if decision.duplicates:
            log.warning(
                "Several jobs do the work of this task instance: taking the oldest, %s; the others are %s.",
                job.id,
                ", ".join(twin.id for twin in decision.duplicates),
            )
        self._cancel(decision)
        self.batch_ids.append(job.id)
        self._stop_if_abandoned(job.id)
        log.info("Attached to batch job %s: %s.", job.id, decision.reason)
        return job

    def _cancel(self, decision: Decision) -> None:
        for job in decision.cancel:
            log.info("Cancelling batch job %s: this task instance does not want it any more.", job.id)
            self.cancel(job.id)
