"""Runs a batch: round after round it submits jobs, waits for them and lands their results, and then it finishes."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_mistral_batch.api.errors import MistralCallError, NotFoundError, RateLimitError
from airflow_provider_mistral_batch.api.models import BatchJobOut, BatchStatus
from airflow_provider_mistral_batch.api.texts import sentence
from airflow_provider_mistral_batch.compat import AirflowException, AirflowFailException
from airflow_provider_mistral_batch.inference.account_files import delete_account_files, document_ids
from airflow_provider_mistral_batch.inference.budget import can_afford, estimated_cost
from airflow_provider_mistral_batch.inference.landed_rounds import PAY_AGAIN, LandedRounds
from airflow_provider_mistral_batch.inference.plan import BatchPlan
from airflow_provider_mistral_batch.inference.table import write_target
from airflow_provider_mistral_batch.observability import metrics
from airflow_provider_mistral_batch.policies.deadline import submitted_at
from airflow_provider_mistral_batch.policies.outage import Outage
from airflow_provider_mistral_batch.policies.row_verdict import (
    WayOn,
    describe_ends,
    judge_rows,
    may_ask_again,
    rounds_allowed,
    way_on,
)
from airflow_provider_mistral_batch.submission.pending_limit import LONGEST, PendingLimit, PendingLimitError
from airflow_provider_mistral_batch.tasks import task_state
from airflow_provider_mistral_batch.tasks.endings import LeftRunningError, ends_for_good, is_permanent
from airflow_provider_mistral_batch.tasks.worker_wait import BACKSTOP_SECONDS, JobPoller
from airflow_provider_mistral_batch.tasks.xcoms import job_xcoms, push_return_value, push_xcoms

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_mistral_batch.inference.plan import PlannedJob
    from airflow_provider_mistral_batch.inference.workplace import Workplace
    from airflow_provider_mistral_batch.policies.verdict import Verdict

log = logging.getLogger(__name__)

#: Seconds to wait for cancelled jobs to end, so that their partial results can land.
_CANCELLATION_SECONDS = 600.0


class Pause(NamedTuple):
    """
    The end of a worker's turn: the task defers, and a trigger waits.

    :param trigger: The trigger.
    :param timeout: When Airflow ends the deferral if the trigger has not.
    :param carried: What the next worker needs to know to continue.
    """

    trigger: BaseTrigger
    timeout: timedelta
    carried: dict[str, Any]


class _NoRoomError(AirflowException):
    """The workspace had no room for a job for as long as a job may be active."""


class Batch:
    """
    A batch, as one worker runs it.

    :param work: What the worker has at hand.
    :param plan: The batch's rounds and jobs so far.
    """

    def __init__(self, work: Workplace, plan: BatchPlan) -> None:
        self.work = work
        self.plan = plan
        self.hook = work.hook
        self.options = work.options
        self.submission = work.submission
        self.submission.model = plan.model
        self.results = LandedRounds(work, plan)
        #: The jobs of the current round, once all of them are over.
        self.jobs: list[BatchJobOut] = []
        #: Fields of the current round's manifest, once it has landed.
        self.landed: dict[str, Any] = {}
        #: How many rounds have landed.
        self.landed_rounds = max(0, len(plan.rounds) - 1)
        #: Why a round was left out, or landed in part; and whether its jobs may have more answers.
        self.left_out: Exception | None = None
        self.may_have_more = False

    def run(self, stopped: Exception | None = None) -> Pause | dict[str, Any]:
        """
        Run the batch from its current state to the next pause or the end.

        :param stopped: Why a trigger's wait for the current round was not possible.
        :return: A pause if a trigger can do the next wait; the manifest at the end.
        :raises AirflowException: When the batch did not end well, or not in time.
        """
        try:
            return self._run_rounds(stopped) or self.finish()
        except FileNotFoundError:
            # Another try, which Airflow considered dead, may have finished meanwhile and removed this try's files.
            if (manifest := self.finished_by_another_try()) is None:
                raise
            return manifest

    def _run_rounds(self, stopped: Exception | None) -> Pause | None:
        """Run round after round; ``None`` when no further one follows."""
        try:
            if stopped is not None:
                raise stopped
            while True:
                if (pause := self.submit() or self.wait()) is not None:
                    return pause
                self.land()
                if not self.next_round():
                    return None
        except FileNotFoundError:
            raise
        except Exception as error:
            if not self._goes_on_after(error):
                raise
            return None

    def submit(self) -> Pause | None:
        """Submit the remaining jobs of the round, and wait when the workspace has no room for the next one."""
        for number, job in enumerate(self.plan.rounds[-1]):
            while job.batch_id is None:
                limit = PendingLimit(self.hook, job.request_count, self.options.max_pending_requests)
                try:
                    self._submit(number, job, limit)
                except (PendingLimitError, RateLimitError) as full:
                    log.info("%s", full)
                    if (pause := self._wait_for_room(limit)) is not None:
                        return pause
        return None

    def wait(self) -> Pause | None:
        """Wait until all jobs of the round are over."""
        outage = Outage()
        pollers = [JobPoller(self.hook, str(job.batch_id), outage) for job in self.plan.rounds[-1]]
        over: dict[str, BatchJobOut] = {}
        while True:
            for poller in pollers:
                if poller.batch_id not in over and (job := poller.look()) is not None and job.is_terminal:
                    over[poller.batch_id] = job
            running = [poller for poller in pollers if poller.batch_id not in over]
            if not running:
                self.jobs = [over[poller.batch_id] for poller in pollers]
                for job in self._ended_now():
                    metrics.job_ended(job, self.plan.model)
                push_xcoms(self.work.ti, job_xcoms(self.jobs[-1]))
                return None
            deadline = self._deadline()
            if deadline > time.time() and self._may_pause:
                return self._pause_for_jobs([poller.batch_id for poller in running], deadline)
            if running[0].wait(deadline=deadline, cadence=self.options.cadence) is None:
                self._give_up([poller.batch_id for poller in running])

    def land(self) -> None:
        """Land the results of the round, whose jobs are over."""
        jobs = self.jobs
        has_results = any(job.output_file_id or job.error_file_id for job in jobs)
        completed = any(job.status == BatchStatus.COMPLETED for job in jobs)
        if not has_results and not completed and len(self.plan.rounds) == 1:
            # If all jobs expired, another round may help, unless the batch's own deadline has passed.
            expired = all(job.status == BatchStatus.EXPIRED for job in jobs)
            if not expired or self.plan.given_up_at is not None:
                failure = AirflowException(f"{self._time_is_up}{describe_ends(jobs)}, without results")
                self._release_after(failure)
                raise failure
        self.landed = self.results.land(len(self.plan.rounds) - 1)
        self.landed_rounds = len(self.plan.rounds)
        if self._ended_now():
            usage = self.landed["usage"]
            cost = estimated_cost(self.plan.model, usage, self.options.prices)
            metrics.usage_landed(usage, cost, self.plan.model, self.options.endpoint)

    def next_round(self) -> bool:
        """Start another round, if one is allowed and some requests may succeed in it; tell whether it was started."""
        if not self._may_ask_again():
            return False
        number = len(self.plan.rounds)
        shards = self.results.write_next_requests(self.work.directory / f"round-{number}")
        paths = [shard.path for shard in shards]
        if not shards or not can_afford(paths, self.options, self.plan.model, self.results.usages()):
            return False
        log.info(
            "Asking again for %d requests, in round %d of at most %d.",
            sum(shard.request_count for shard in shards),
            number + 1,
            self._rounds_allowed,
        )
        self.plan.rounds.append(self.work.files.upload(shards, self.plan.model))
        return True

    def finish(self) -> dict[str, Any]:
        """
        Publish the results, then judge them.

        :return: The manifest.
        :raises AirflowException: When too many requests failed, and some may succeed in a retry of the task.
        :raises AirflowFailException: When too many requests failed, and no retry can help.
        """
        # Imported late: parsing a Dag needs none of it.
        from airflow_provider_mistral_batch.jsonl.results.digest import describe_errors

        plan, options = self.plan, self.options
        final = self.results.finish(left_out=self.left_out)
        counts = final["counts"]
        may_pass, gone = final.pop("may_pass"), final.pop("gone")
        if options.structured and options.reask_invalid:
            may_pass += sum(
                error["count"]
                for error in final["errors"]
                if error["code"] == "invalid_output"
                and options.structured.may_be_asked_again(error["message"])
            )
        verdict = judge_rows(
            counts, self.jobs, max_failed_ratio=options.max_failed_ratio, may_pass=may_pass, gone=gone
        )
        message = f"{self._time_is_up}{verdict.with_digest(describe_errors(final['errors'])).message}"
        message += f". Answers are in {final['results_path']}"
        if counts["total"] > counts["succeeded"]:
            message += f", failed and missing requests in {final['errors_path']}"
        failure = self._failure(verdict, message, gone=gone)
        manifest = self.work.destination.write_manifest(
            {
                "batch_ids": plan.batch_ids,
                **final,
                "estimated_cost_usd": estimated_cost(plan.model, final["usage"], options.prices),
                "rounds": len(plan.rounds),
                "acceptable": failure is None,
                "key": plan.key,
            },
            is_final=failure is None,
        )
        if not all(job.found_over for jobs in plan.rounds for job in jobs):
            # An earlier try has counted those that it has seen end.
            metrics.rows_landed(counts, plan.model, options.endpoint)
        metrics.batch_traced(manifest, plan.model, options.endpoint)
        task_state.keep(self.work.context, counts=counts)
        if failure is not None:
            push_return_value(self.work.ti, manifest)
            if self.left_out is None:
                self._release_after(failure)
            raise failure
        log.log(logging.WARNING if verdict.rows_failed else logging.INFO, "%s", message)
        if self.submission.may_have_duplicates:
            self.submission.cancel_running(keep=plan.batch_ids)
        # A target that is down must not cost the tasks that read the files.
        if options.target is not None:
            push_return_value(self.work.ti, manifest)
        write_target(options, manifest)
        self.clean_up(plan.batch_ids)
        return manifest

    def _failure(self, verdict: Verdict, message: str, *, gone: str) -> Exception | None:
        """Return the error that ends the task although results have landed; ``None`` if they are good enough."""
        if self.left_out is not None and self.may_have_more:
            log.warning("What there is has landed all the same: %s", message)
            return self.left_out
        if verdict.acceptable:
            return None
        if gone:
            return AirflowFailException(f"{message}. {PAY_AGAIN}")
        if self.left_out is not None:
            message += f". Another round was not possible: {self.left_out}"
            if is_permanent(self.left_out):
                return AirflowFailException(message)
        return (AirflowException if verdict.new_job_may_help else AirflowFailException)(message)

    def _release_after(self, failure: Exception) -> None:
        """Remove what is not final, except for what another try needs: its source may give something else by then."""
        if self.plan.source and not self._ends_task(failure):
            self.work.destination.release_rounds()
        else:
            self.work.destination.release()

    def _ends_task(self, error: Exception) -> bool:
        return is_permanent(error) or ends_for_good(error, self.work.context)

    def finished_by_another_try(self) -> dict[str, Any] | None:
        """Return the manifest if another try has finished the same work, and its results are still in place."""
        destination = self.work.destination
        manifest = destination.own_manifest()
        if (
            manifest is None
            or manifest.get("key") != self.plan.key
            or not manifest.get("acceptable")
            or not self._has_form(manifest)
            or not judge_rows(
                manifest["counts"], (), max_failed_ratio=self.options.max_failed_ratio, may_pass=0
            ).acceptable
            or not destination.results_path.exists()
            or not destination.errors_path.exists()
        ):
            return None
        log.info("Another try of this task has already landed the same results, so there is nothing to do.")
        task_state.keep(self.work.context, batch_ids=manifest["batch_ids"], counts=manifest["counts"])
        try:
            push_xcoms(self.work.ti, job_xcoms(self.hook.get(manifest["batch_ids"][-1])))
        except NotFoundError as gone:
            log.info("%s The XComs of that job are not pushed.", sentence(gone))
        write_target(self.options, manifest)
        # The other try may have died before it cleaned up.
        destination.release()
        self.clean_up(manifest["batch_ids"])
        return manifest

    def _has_form(self, manifest: Mapping[str, Any]) -> bool:
        """Tell whether the landed table has the columns that this task wants: keeping another one costs nothing."""
        if not self.options.is_table:
            return True
        table = manifest.get("table") or {}
        return all(table.get(name) == value for name, value in self.options.table_form.items())

    def clean_up(self, batch_ids: Sequence[str]) -> None:
        """Delete the batch's files from the account, if the user wants that."""
        if self.options.delete_files == "on_success":
            documents: Iterable[str] = ()
            if self.work.table is not None:
                documents = document_ids(
                    self.hook, endpoint=self.options.endpoint, owner=self.work.files.owner
                )
            delete_account_files(self.hook, batch_ids, documents)

    # Submitting

    def _submit(self, number: int, job: PlannedJob, limit: PendingLimit) -> None:
        plan = self.plan
        jobs_have_model = self.hook.get_conn().dialect.jobs_have_model
        found = self.submission.submit(
            self.options.job(job.input_files, plan.model if jobs_have_model else None),
            part=plan.part(number),
            parts_prefix=plan.parts_prefix,
            keep_partial=True,
            content=job.content,
            notes=plan.notes(number),
            before_create=limit.check,
        )
        job.batch_id, job.found_over = found.id, found.is_terminal
        job.submitted_at = submitted_at(found, clock_offset=self.hook.clock_offset, now=time.time())
        plan.room_deadline = None
        push_xcoms(self.work.ti, {"batch_id": job.batch_id})
        task_state.keep(self.work.context, batch_ids=[found.id])

    def _wait_for_room(self, limit: PendingLimit) -> Pause | None:
        """Wait until the job fits into the workspace; the caller then submits it again."""
        plan, options = self.plan, self.options
        if plan.room_deadline is None:
            plan.room_deadline = time.time() + LONGEST.total_seconds()
        if plan.room_deadline > time.time() and self._may_pause:
            # Imported late: parsing a Dag needs none of it.
            from airflow_provider_mistral_batch.triggers.inference import MistralBatchRoomTrigger

            trigger = MistralBatchRoomTrigger(
                limit.requests,
                limit.limit,
                options.mistral_conn_id,
                deadline=plan.room_deadline,
                poll_interval=options.poll_interval,
                batch_ids=[job.batch_id for job in plan.rounds[-1] if job.batch_id is not None],
                cancel_on_kill=options.cancel_on_kill,
            )
            return self._pause(trigger, plan.room_deadline)
        if not limit.wait(deadline=plan.room_deadline, pause=options.poll_interval):
            raise _NoRoomError(
                f"the workspace had no room for {limit.requests:,} more requests for a week, because other jobs kept "
                "it full: run the task again when they are over"
            )
        return None

    # Waiting

    @property
    def _may_pause(self) -> bool:
        """Whether the task may defer; a last look stays on the worker."""
        return self.options.deferrable and not self.submission.is_last_look

    def _pause_for_jobs(self, batch_ids: Sequence[str], deadline: float) -> Pause:
        # Imported late: parsing a Dag needs none of it.
        from airflow_provider_mistral_batch.triggers.inference import MistralBatchJobsTrigger

        trigger = MistralBatchJobsTrigger(
            batch_ids,
            self.options.mistral_conn_id,
            deadline=deadline,
            poll_interval=self.options.poll_interval,
            poll_interval_min=self.options.poll_interval_min,
            cancel_on_kill=self.options.cancel_on_kill,
        )
        return self._pause(trigger, deadline)

    def _pause(self, trigger: BaseTrigger, deadline: float) -> Pause:
        return Pause(
            trigger=trigger,
            timeout=timedelta(seconds=max(0.0, deadline - time.time()) + BACKSTOP_SECONDS),
            carried={
                "plan": self.plan.as_builtins(),
                "may_have_duplicates": self.submission.may_have_duplicates,
            },
        )

    def _deadline(self) -> float:
        """Return when to stop waiting: counted from the jobs' submission, so that no retry moves it."""
        if self.plan.given_up_at is not None:
            return self.plan.given_up_at + _CANCELLATION_SECONDS
        return max(job.submitted_at for job in self.plan.rounds[-1]) + self.options.seconds_allowed

    def _give_up(self, batch_ids: Sequence[str]) -> None:
        """Cancel running jobs after the deadline, so that at least partial results can land."""
        message = f"{_named(batch_ids)} not over before the deadline"
        if not self.options.cancel_on_timeout:
            # A retry would attach to the same jobs, past the same deadline.
            raise LeftRunningError(f"{message} and left running (cancel_on_timeout=False)")
        if self.plan.given_up_at is not None:
            raise AirflowException(
                f"{message}, and not {_CANCELLATION_SECONDS:g} s after their cancellation was requested either"
            )
        log.warning("%s: cancelling, then landing partial results.", message)
        self.plan.given_up_at = time.time()
        for batch_id in batch_ids:
            self.submission.cancel(batch_id)

    @property
    def _time_is_up(self) -> str:
        return "" if self.plan.given_up_at is None else "the batch was not over before its deadline; "

    # Asking again

    @property
    def _rounds_allowed(self) -> int:
        return rounds_allowed(self.options.row_retries, self.work.ti.try_number)

    def _may_ask_again(self) -> bool:
        """Tell whether another round is allowed, and some requests may succeed in it."""
        # What is gone was paid for, and nobody asked for paying twice.
        if self.plan.given_up_at is not None or self.landed.get("gone"):
            return False
        # A last look submits nothing. But it lands what the round's jobs have given, if the task was waiting for them.
        if self.submission.is_last_look and not self._may_have_jobs(len(self.plan.rounds)):
            return False
        is_worth_it = self.landed["may_pass"] or (
            self.options.reask_invalid and self.landed["counts"]["failed"]
        )
        return bool(
            is_worth_it and len(self.plan.rounds) < self._rounds_allowed and may_ask_again(self._ended_now())
        )

    def _planned(self, number: int) -> Sequence[PlannedJob]:
        return self.plan.rounds[number] if number < len(self.plan.rounds) else ()

    def _may_have_jobs(self, number: int) -> bool:
        """Tell whether a job of a round may exist, of this or an earlier try."""
        return any(job.batch_id for job in self._planned(number)) or self.submission.may_have_job(
            self.plan.round_prefix(number)
        )

    def _goes_on_after(self, error: Exception) -> bool:
        """Finish with what there is after an error in a round, if that is right; tell whether it is."""
        number = self.landed_rounds
        if self.submission.is_abandoned:
            return False
        way = partial(
            way_on, ends_task=self._ends_task(error), waited_in_vain=isinstance(error, _NoRoomError)
        )
        if way(may_have_jobs=False) is WayOn.NEXT_TRY:
            return False
        try:
            may_have_jobs = self._may_have_jobs(number)
            over = self._ids_of_jobs_with_results(number)
            jobs = self._jobs_of_round(number - 1) if number else []
        except MistralCallError as unknown:
            log.info("%s So a job of round %d may have more answers.", sentence(unknown), number + 1)
            may_have_jobs, over, jobs = True, set(), []
        if way(may_have_jobs=may_have_jobs) is WayOn.NEXT_TRY or not (number or over):
            return False
        log.warning("Round %d cannot go on: %s", number + 1, sentence(error))
        log.debug("Where it failed:", exc_info=error)
        self.left_out, self.may_have_more, self.jobs = error, may_have_jobs, jobs
        for planned in self._planned(number):
            # Without an id, its requests count as without a result, and the round as not landed.
            planned.batch_id = planned.batch_id if planned.batch_id in over else None
        del self.plan.rounds[number + bool(over) :]
        return True

    def _jobs_of_round(self, number: int) -> list[BatchJobOut]:
        ids = [str(job.batch_id) for job in self.plan.rounds[number]]
        return self.jobs if [job.id for job in self.jobs] == ids else [self.hook.get(id_) for id_ in ids]

    def _ids_of_jobs_with_results(self, number: int) -> set[str]:
        """Find the jobs of a round that are over, and whose results were not tried to land."""
        ids = [planned.batch_id for planned in self._planned(number)]
        found = set()
        # If all of them are known to be over, landing them has just failed.
        for id_ in filter(None, ids if [job.id for job in self.jobs] != ids else ()):
            # Somebody may have deleted it.
            with suppress(NotFoundError):
                job = self.hook.get(id_)
                if job.is_terminal and (job.output_file_id or job.error_file_id):
                    found.add(job.id)
        return found

    def _ended_now(self) -> list[BatchJobOut]:
        """Give the jobs of the round that were not over when this try attached to them."""
        return [
            job
            for job, planned in zip(self.jobs, self.plan.rounds[-1], strict=True)
            if not planned.found_over
        ]


def _named(batch_ids: Sequence[str]) -> str:
    ids = ", ".join(batch_ids)
    return f"batch job {ids} was" if len(batch_ids) == 1 else f"batch jobs {ids} were"
