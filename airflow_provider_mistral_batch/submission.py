"""Submits a batch job once, whatever dies: looks in the server's record before and after, and never posts blindly."""

from __future__ import annotations

import itertools
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_mistral_batch.api.errors import MistralCallError
from airflow_provider_mistral_batch.api.limits import PAGE_SIZE
from airflow_provider_mistral_batch.api.models import BatchJobIn, BatchJobOut
from airflow_provider_mistral_batch.policies.ownership import (
    Decision,
    TaskIdentity,
    decide,
    merged_metadata,
    ownership_metadata,
    stale_parts,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook

log = logging.getLogger(__name__)

#: The API's clock may be behind ours, and a Dag run's start is by ours.
_CLOCK_MARGIN = timedelta(minutes=15)

#: Pauses, in seconds, between looks for a job that may exist: listings have been seen to lag behind.
_RECHECKS = (1.0, 2.0, 4.0, 8.0)


class Submission:
    """
    One task instance's way to its batch job.

    :param hook: How to talk to the API.
    :param identity: Whose job it is.
    :param since: Nothing of this task instance is older (our own clock): where the look-up ends.
    :param is_first_try: Whether nothing can have been submitted before, as far as Airflow knows.
    :param force_new: Submit a new job even where one exists that did this work.
    :param keep_partial: Take a job that ended early, but with results, for one that did this work.
    """

    def __init__(
        self,
        hook: MistralBatchHook,
        identity: TaskIdentity,
        *,
        since: datetime,
        is_first_try: bool,
        force_new: bool = False,
        keep_partial: bool = False,
    ) -> None:
        self.hook = hook
        self.identity = identity
        self.since = since
        self.is_first_try = is_first_try
        self.force_new = force_new
        self.keep_partial = keep_partial

    @classmethod
    def of_task(
        cls,
        context: Context,
        hook: MistralBatchHook,
        *,
        force_new: bool = False,
        part: str = "",
        keep_partial: bool = False,
    ) -> Submission:
        """
        Make the submission of the running task instance.

        :param context: The task's context.
        :param hook: How to talk to the API.
        :param force_new: Submit a new job in any case.
        :param part: Which of several jobs of this task instance.
        :param keep_partial: Take a job that ended early, but with results, for one that did this work.
        """
        ti, run = context["ti"], context["dag_run"]
        # `run_after` stays when a run is cleared; `start_date` moves.
        times = [time for time in (run.run_after, run.start_date) if time is not None]
        return cls(
            hook,
            TaskIdentity(
                dag_id=ti.dag_id,
                task_id=ti.task_id,
                run_id=ti.run_id,
                map_index=-1 if ti.map_index is None else ti.map_index,
                part=part,
                deployment=hook.deployment,
            ),
            since=min(times),
            is_first_try=ti.try_number <= 1,
            force_new=force_new,
            keep_partial=keep_partial,
        )

    def submit(
        self,
        job: BatchJobIn,
        *,
        content: Any = None,
        notes: Mapping[str, str] | None = None,
        before_create: Callable[[], None] | None = None,
    ) -> BatchJobOut:
        """
        Return the job that does this work: one that exists, or a new one.

        :param job: What is asked.
        :param content: What stands for the requests in the key; by default the input files' ids or the requests.
        :param notes: Further metadata of the provider's own, which is no part of the key.
        :param before_create: Called when a new job is needed, before it is created; may raise to prevent that.
        :raises MistralCallError: When it can neither be found nor created.
        """
        ours = ownership_metadata(self.identity, self._asked(job, content))
        job = msgspec.structs.replace(job, metadata=merged_metadata({**ours, **(notes or {})}, job.metadata))
        decision = self._look(ours)
        if decision.attach_to is not None:
            return self._attach(decision)
        self._cancel(decision)
        if before_create is not None:
            before_create()
        try:
            created = self.hook.get_conn().create(job)
        except MistralCallError as error:
            if not error.may_have_acted:
                raise
            log.warning("%s The job may exist all the same: looking for it.", error)
            found = self._find(ours)
            if found is not None:
                return self._attach(found)
            log.info("It does not: submitting it again.")
            created = self.hook.get_conn().create(job)
            # The server may have been at the first call all the time: of two jobs one is too many.
            both = self._decide(self._jobs(), ours)
            if both.twins:
                return self._attach(both)
        log.info("Created batch job %s, since %s.", created.id, decision.reason)
        return created

    def cancel_stale_parts(self, prefix: str) -> None:
        """
        Cancel what an earlier try still has running, if it was asked something else.

        :param prefix: How the parts begin of what is asked now.
        """
        if not self.is_first_try:
            stale = stale_parts(self._jobs(), self.identity, prefix)
            self._cancel(Decision(attach_to=None, reason="what is asked has changed", cancel=stale))

    def _asked(self, job: BatchJobIn, content: Any) -> Mapping[str, Any]:
        asked: dict[str, Any] = {
            "endpoint": job.endpoint,
            "model": job.model,
            "agent_id": job.agent_id,
            "timeout_hours": job.timeout_hours,
            "metadata": job.metadata,
            "content": content if content is not None else (job.input_files or job.requests),
        }
        if self.force_new:
            # A key of its own, so that a lost answer is still found again but no earlier job is.
            asked["force_new"] = uuid.uuid4().hex
        return asked

    def _look(self, ours: Mapping[str, str]) -> Decision:
        """Look for jobs of ours before anything is sent."""
        if self.is_first_try:
            # Nothing should be there, so it is worth one call and no more.
            return self._decide(itertools.islice(self._jobs(), PAGE_SIZE), ours, force_new=self.force_new)
        decision = self._decide(self._jobs(), ours, force_new=self.force_new)
        if decision.attach_to is None and not self.force_new:
            # The try before may have died while its call was under way.
            return self._find(ours) or decision
        return decision

    def _find(self, ours: Mapping[str, str]) -> Decision | None:
        """Look for a job that may or may not exist, more than once."""
        for pause in _RECHECKS:
            decision = self._decide(self._jobs(), ours)
            if decision.attach_to is not None:
                return decision
            time.sleep(pause)
        decision = self._decide(self._jobs(), ours)
        return decision if decision.attach_to is not None else None

    def _decide(
        self, jobs: Iterable[BatchJobOut], ours: Mapping[str, str], *, force_new: bool = False
    ) -> Decision:
        return decide(jobs, ours, force_new=force_new, keep_partial=self.keep_partial)

    def _jobs(self) -> Iterator[BatchJobOut]:
        return self.hook.iter_jobs(created_after=self.since - _CLOCK_MARGIN)

    def _attach(self, decision: Decision) -> BatchJobOut:
        job = decision.attach_to
        assert job is not None
        if decision.twins:
            log.warning(
                "Several jobs do the work of this task instance: taking the oldest, %s; the others are %s.",
                job.id,
                ", ".join(twin.id for twin in decision.twins),
            )
        self._cancel(decision)
        log.info("Attached to batch job %s: %s.", job.id, decision.reason)
        return job

    def _cancel(self, decision: Decision) -> None:
        for job in decision.cancel:
            log.info("Cancelling batch job %s: this task instance does not want it any more.", job.id)
            try:
                self.hook.cancel(job.id)
            except MistralCallError as error:
                log.warning("%s Batch job %s may go on running.", error, job.id)
