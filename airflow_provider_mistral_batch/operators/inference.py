"""``MistralBatchInferenceOperator``: from requests to landed results in one task."""

from __future__ import annotations

import hashlib
import logging
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn

import msgspec
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, conf

from airflow_provider_mistral_batch.api import limits
from airflow_provider_mistral_batch.api.checks import (
    check_choice,
    check_exactly_one,
    check_positive,
    check_ratio,
    check_whole,
    chosen_model,
    chosen_window,
    completion_window_hours,
)
from airflow_provider_mistral_batch.api.errors import (
    InvalidInputError,
    MistralCallError,
    NotFoundError,
    RateLimitError,
)
from airflow_provider_mistral_batch.api.models import BatchJobIn, BatchStatus
from airflow_provider_mistral_batch.inference.landed_rounds import LandedRounds
from airflow_provider_mistral_batch.inference.plan import BatchPlan, content_hash
from airflow_provider_mistral_batch.inference.request_files import RequestFiles
from airflow_provider_mistral_batch.inference.structured_output import StructuredOutput
from airflow_provider_mistral_batch.links.mistral_batch import MistralBatchJobLink
from airflow_provider_mistral_batch.operators.base import check_requests
from airflow_provider_mistral_batch.operators.submitting import MistralSubmittingOperator
from airflow_provider_mistral_batch.policies.cadence import (
    DEFAULT_POLL_INTERVAL,
    DEFAULT_POLL_INTERVAL_MIN,
    Cadence,
)
from airflow_provider_mistral_batch.policies.capacity import REQUESTS
from airflow_provider_mistral_batch.policies.deadline import seconds_allowed, submitted_at
from airflow_provider_mistral_batch.policies.ownership import identity_hash, merged_metadata
from airflow_provider_mistral_batch.policies.row_verdict import (
    describe_ends,
    judge_rows,
    may_ask_again,
    rounds_allowed,
)
from airflow_provider_mistral_batch.storage.paths import storage_path
from airflow_provider_mistral_batch.submission.pending_limit import LONGEST, PendingLimit, PendingLimitError
from airflow_provider_mistral_batch.tasks.destination import (
    IF_EXISTS,
    OUTPUT_FORMATS,
    Destination,
)
from airflow_provider_mistral_batch.tasks.endings import LeftRunningError
from airflow_provider_mistral_batch.tasks.identity import identity_of, run_token
from airflow_provider_mistral_batch.tasks.watch import BACKSTOP_SECONDS, JobPoller
from airflow_provider_mistral_batch.tasks.xcoms import job_xcoms, push_xcoms

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

    from airflow_provider_mistral_batch.api.models import BatchJobOut
    from airflow_provider_mistral_batch.jsonl.requests.prepare import PreparedRequests
    from airflow_provider_mistral_batch.jsonl.requests.shards import Shard

#: Seconds that cancelled jobs get to end, so that their partial results can be landed.
_CANCELLATION_SECONDS = 600.0

DELETE_FILES = ("never", "on_success")


class MistralBatchInferenceOperator(MistralSubmittingOperator):
    """
    Run a whole batch: check the requests, upload them, create the job, wait, and land the results.

    Any number of requests goes through in constant memory. More than a file or a job takes become several; a job that
    does not fit into what the workspace may have pending waits for room. Requests that failed for a cause that can
    pass, or have no result, are asked again in a smaller job. A retry of the task goes on where the last try ended: it
    finds its files and jobs, and pays for nothing twice.

    Lands in ``destination``: ``results.jsonl`` (rows that succeeded), ``errors.jsonl`` (all others) and, last,
    ``manifest.json``. Returns the manifest: ``batch_ids``, ``results_path``, ``errors_path``, ``counts``, ``usage``,
    ``errors`` (a digest of the failures), ``estimated_cost_usd``, ``rounds``, ``started_at``, ``completed_at`` (epoch
    seconds). XComs: those of the sensor, of the last job. Results are landed before the task fails.

    :param requests: Rows, each ``{"custom_id", "body"}``, or prompts as plain strings. Either these or ``path``.
    :param path: JSONL file, plain or ``.gz`` or ``.zst``, local or on any object storage
        (``s3://conn@bucket/key``); also a list of them or a glob.
    :param destination: Folder for the results, local or on any object storage. Each run and each mapped task needs its
        own.
    :param endpoint: API endpoint that each request goes to.
    :param model: The model of all requests; by default the one that they name, or else the connection's
        ``default_model``.
    :param agent_id: An agent instead of a model.
    :param system: System message before each prompt.
    :param max_tokens: Most tokens of an answer, for requests that do not say it themselves.
    :param temperature: Sampling temperature, for requests that do not say it themselves.
    :param response_format: ``response_format``, for requests that do not say it themselves.
    :param parameters: Any other fields of the endpoint's body, for requests that do not say them themselves.
    :param response_model: Form of the answers, as a pydantic model class or a JSON schema: sets ``response_format``. An
        answer that does not have it is a failed row that keeps its text.
    :param reask_invalid: Ask again where an answer does not have that form, with what is wrong added to its messages.
    :param completion_window: Time a job may take, ``"<n>h"`` or ``"<n>d"``, 1 hour to 7 days; ``"24h"`` by default.
    :param timeout_hours: The same as a number of hours.
    :param metadata: Metadata of the jobs: keys of 1 to 32 characters, values of 1 to 512.
    :param row_retries: Further rounds for requests that failed for a cause that can pass or have no result. A retry of
        the task has one more.
    :param max_failed_ratio: Share of requests that may fail, 0 to 1; a batch in which none succeeded fails in any case.
    :param max_cost_usd: Send nothing if the batch may cost more US dollars than this, by an estimate of its tokens and
        ``max_tokens`` (needs the extra ``costs``).
    :param output_format: ``jsonl``, or ``parquet`` (needs the extra ``parquet``).
    :param if_exists: What to do when the destination has another batch's results: ``fail``, or ``replace`` them.
    :param delete_files: ``on_success`` deletes the uploaded files and the results from the account when they are
        landed; ``never`` keeps them.
    :param deferrable: Wait in the triggerer instead of on a worker.
    :param timeout: Seconds after its submission when the wait for a job is given up; by default the completion window
        and an hour.
    :param poll_interval: Seconds between two looks at a job, at most.
    :param poll_interval_min: Seconds between two looks at a job that has just been created.
    :param max_pending_requests: Requests that your workspace may have pending.
    :param force_new: Submit new jobs whenever the task is cleared, even where there are some that did this very work.
    :param cancel_on_kill: Cancel the jobs when the task is killed, or fails for good, while they run.
    :param cancel_on_timeout: Cancel the jobs when the wait for them is given up.
    :param mistral_conn_id: The connection's id.
    """

    template_fields: Sequence[str] = (
        "requests",
        "path",
        "destination",
        "endpoint",
        "model",
        "agent_id",
        "system",
        "completion_window",
        "metadata",
        "mistral_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"requests": "json", "metadata": "json"}
    operator_extra_links = (MistralBatchJobLink(),)

    def __init__(
        self,
        *,
        requests: Iterable[Mapping[str, Any] | str] | None = None,
        path: str | ObjectStoragePath | Sequence[str | ObjectStoragePath] | None = None,
        destination: str | ObjectStoragePath,
        endpoint: str = limits.DEFAULT_ENDPOINT,
        model: str | None = None,
        agent_id: str | None = None,
        system: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        response_format: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
        response_model: type | Mapping[str, Any] | None = None,
        reask_invalid: bool = False,
        completion_window: str | None = None,
        timeout_hours: int | None = None,
        metadata: Mapping[str, str] | None = None,
        row_retries: int = 1,
        max_failed_ratio: float = 1.0,
        max_cost_usd: float | None = None,
        output_format: Literal["jsonl", "parquet"] = "jsonl",
        if_exists: Literal["fail", "replace"] = "fail",
        delete_files: Literal["never", "on_success"] = "never",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        timeout: float | None = None,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        poll_interval_min: float = DEFAULT_POLL_INTERVAL_MIN,
        max_pending_requests: int = limits.MAX_REQUESTS_PER_JOB,
        force_new: bool = False,
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.requests = requests
        self.path = path
        self.destination = destination
        self.endpoint = endpoint
        self.model = model
        self.agent_id = agent_id
        self.system = system
        self.max_tokens = max_tokens
        self.temperature = temperature
        self.response_format = response_format
        self.parameters = parameters
        self.response_model = response_model
        self.reask_invalid = reask_invalid
        self.completion_window = completion_window
        self.timeout_hours = timeout_hours
        self.metadata = metadata
        self.row_retries = row_retries
        self.max_failed_ratio = max_failed_ratio
        self.max_cost_usd = max_cost_usd
        self.output_format = output_format
        self.if_exists = if_exists
        self.delete_files = delete_files
        self.deferrable = deferrable
        self.timeout = timeout
        self.poll_interval = poll_interval
        self.poll_interval_min = poll_interval_min
        self.max_pending_requests = max_pending_requests
        self.force_new = force_new
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout

    def run_batch_task(self, context: Context) -> dict[str, Any]:
        """Begin: check, prepare, upload; then go on to the end."""
        structured = self._check()
        with self._workplace(context, structured) as work:
            work.destination.claim(self.if_exists)
            try:
                prepared = self._prepare(context, work)
                model = chosen_model(
                    self.model, self.agent_id, named=prepared.model, default=self.hook.default_model
                )
                plan = BatchPlan(key=self._key(context, prepared, model, structured), model=model, rounds=[])
                if (manifest := self._finished_before(context, work, plan)) is not None:
                    return manifest
                self._check_cost(prepared, model)
                plan.rounds.append(work.files.upload(prepared.shards))
                return self._go_on(context, work, plan)
            except Exception:
                # Nothing was asked, so nothing will come: others may have the place.
                if not self.submission.batch_ids:
                    work.destination.withdraw()
                raise

    def execute_complete(
        self,
        context: Context,
        event: Mapping[str, Any],
        plan: Mapping[str, Any],
        may_have_duplicates: bool = False,
    ) -> dict[str, Any]:
        """Go on where a wait ended; whether it ended well, the API tells."""
        begun = BatchPlan.from_builtins(plan)
        self.submission.resume(begun.batch_ids, may_have_duplicates=may_have_duplicates)
        if event.get("error"):
            permanent = event.get("error_is_permanent")
            raise (AirflowFailException if permanent else AirflowException)(event["error"])
        with self._workplace(context, self._check()) as work:
            return self._go_on(context, work, begun)

    def _go_on(self, context: Context, work: Workplace, plan: BatchPlan) -> dict[str, Any]:
        """Make round after round, from wherever the batch is."""
        try:
            while True:
                self._submit(context, plan)
                jobs = self._wait(plan)
                push_xcoms(context["ti"], job_xcoms(jobs[-1]))
                landed = self._land(work, plan, jobs)
                shards = self._next_round(context, work, plan, jobs, landed)
                if not shards:
                    return self._finish(context, work, plan, jobs)
                plan.rounds.append(work.files.upload(shards))
        except FileNotFoundError:
            # A try that Airflow took for dead may have come to its end meanwhile, and cleared away what was this one's.
            if (manifest := self._finished_before(context, work, plan)) is None:
                raise
            return manifest

    # Before anything is sent

    def _check(self) -> StructuredOutput | None:
        """Check what can be checked without reading the requests."""
        check_choice("output_format", self.output_format, OUTPUT_FORMATS)
        check_choice("if_exists", self.if_exists, IF_EXISTS)
        check_choice("delete_files", self.delete_files, DELETE_FILES)
        check_whole("row_retries", self.row_retries, at_least=0, unit="rounds")
        check_ratio("max_failed_ratio", self.max_failed_ratio)
        check_positive("max_cost_usd", self.max_cost_usd, unit="US dollars", or_none=True)
        check_positive("timeout", self.timeout, or_none=True)
        check_positive("max_pending_requests", self.max_pending_requests, unit="requests")
        _ = self._cadence
        # Checks the job's fields as they will be; its files are not known yet.
        self._job_in(["not-yet-uploaded"], self.model)
        merged_metadata({}, self.metadata)
        if self.output_format == "parquet" and find_spec("pyarrow") is None:
            raise InvalidInputError(
                "output_format='parquet' needs pyarrow: install airflow-provider-mistral-batch[parquet]"
            )
        if self.response_model is None:
            if self.reask_invalid:
                raise InvalidInputError(
                    "reask_invalid is set without response_model: nothing says which answers are invalid"
                )
            return None
        if self.response_format is not None:
            raise InvalidInputError(
                "response_model and response_format are both given: response_model sets it"
            )
        return StructuredOutput(self.response_model, self.endpoint)

    def _source(self, context: Context) -> Any:
        """Where the requests come from."""
        check_exactly_one(requests=self.requests, path=self.path)
        if self.path is None:
            check_requests(self.requests)
            return self.requests
        if isinstance(self.path, Sequence) and not isinstance(self.path, (str, bytes)):
            return [storage_path(path, field="path") for path in self.path]
        return storage_path(self.path, field="path")

    def _prepare(self, context: Context, work: Workplace) -> PreparedRequests:
        # Imported late: parsing a Dag needs none of it.
        from airflow_provider_mistral_batch.jsonl.requests.prepare import prepare_requests
        from airflow_provider_mistral_batch.jsonl.requests.template import RowTemplate

        structured = work.results.structured
        return prepare_requests(
            self._source(context),
            endpoint=self.endpoint,
            directory=work.directory / "round-0",
            with_url=self.hook.get_conn().dialect.rows_have_url,
            template=RowTemplate(
                system=self.system,
                model=self.hook.model_of_rows(self.model),
                max_tokens=self.max_tokens,
                temperature=self.temperature,
                response_format=structured.response_format if structured else self.response_format,
                parameters=self.parameters or {},
            ),
            max_job_requests=min(self.max_pending_requests, limits.MAX_REQUESTS_PER_JOB),
        )

    def _key(
        self,
        context: Context,
        prepared: PreparedRequests,
        model: str | None,
        structured: StructuredOutput | None,
    ) -> str:
        """Hash everything that makes two batches the same work."""
        asked = {
            "content": content_hash(prepared.shards),
            "endpoint": self.endpoint,
            "model": model,
            "agent_id": self.agent_id,
            "window": self._window,
            "form": structured.schema if structured else None,
            "fresh": run_token(context) if self.force_new else "",
        }
        return hashlib.sha256(msgspec.json.encode(asked, order="deterministic")).hexdigest()

    def _finished_before(self, context: Context, work: Workplace, plan: BatchPlan) -> dict[str, Any] | None:
        """The manifest of another try that did this very work to its end, if its results are still there."""
        manifest = work.destination.own_manifest()
        if (
            manifest is None
            or manifest.get("key") != plan.key
            or not manifest.get("acceptable")
            or not judge_rows(
                manifest["counts"], (), max_failed_ratio=self.max_failed_ratio, may_pass=0
            ).acceptable
            or not work.destination.results_path.exists()
            or not work.destination.errors_path.exists()
        ):
            return None
        self.log.info("Another try of this task has landed these very results: there is nothing to do.")
        try:
            push_xcoms(context["ti"], job_xcoms(self.hook.get(manifest["batch_ids"][-1])))
        except NotFoundError as gone:
            self.log.info("%s So there are no XComs of that job.", gone)
        # That try may have died before it came to this.
        work.destination.release()
        self._clean_up(manifest["batch_ids"])
        return manifest

    def _check_cost(self, prepared: PreparedRequests, model: str | None) -> None:
        if self.max_cost_usd is None:
            return
        from airflow_provider_mistral_batch.inference.costs import estimate

        cost = estimate(prepared.paths, endpoint=self.endpoint, model=model)
        details = (
            f"about ${cost.usd:.3g}, for {cost.prompt_tokens:,} tokens to read and at most "
            f"{cost.completion_tokens:,} to write"
        )
        if cost.usd > self.max_cost_usd:
            raise InvalidInputError(
                f"max_cost_usd={self.max_cost_usd:g}: the batch may cost {details}. Nothing was sent: raise the limit, "
                "lower max_tokens, or ask less"
            )
        self.log.info("The batch may cost %s.", details)

    def _can_afford(self, plan: BatchPlan, shards: Sequence[Shard], work: Workplace) -> bool:
        """Whether another round keeps to ``max_cost_usd``, with what the rounds before it have cost."""
        if self.max_cost_usd is None or plan.model is None:
            return True
        from airflow_provider_mistral_batch.inference.costs import estimate, price_usd

        spent = sum(price_usd(plan.model, usage) or 0.0 for usage in work.results.usages(plan))
        more = estimate([shard.path for shard in shards], endpoint=self.endpoint, model=plan.model).usd
        if spent + more <= self.max_cost_usd:
            return True
        self.log.warning(
            "max_cost_usd=%g: the rounds so far have cost about $%.3g, and another one may cost $%.3g: nothing is "
            "asked again.",
            self.max_cost_usd,
            spent,
            more,
        )
        return False

    # Submitting and waiting

    def _submit(self, context: Context, plan: BatchPlan) -> None:
        """Submit the jobs of the round that are not yet submitted; wait where there is no room."""
        jobs_have_model = self.hook.get_conn().dialect.jobs_have_model
        for number, job in enumerate(plan.rounds[-1]):
            while job.batch_id is None:
                room = PendingLimit(self.hook, job.request_count, self.max_pending_requests)
                try:
                    found = self.submission.submit(
                        self._job_in(job.input_files, plan.model if jobs_have_model else None),
                        part=plan.part(number),
                        parts_prefix=plan.parts_prefix,
                        keep_partial=True,
                        content=job.content,
                        notes={REQUESTS: str(job.request_count)},
                        before_create=room.check,
                    )
                except (PendingLimitError, RateLimitError) as full:
                    self.log.info("%s", full)
                    self._wait_for_room(plan, room)
                else:
                    job.batch_id, job.found_over = found.id, found.is_terminal
                    job.submitted_at = submitted_at(
                        found, clock_offset=self.hook.clock_offset, now=time.time()
                    )
                    plan.room_deadline = None
                    context["ti"].xcom_push(key="batch_id", value=job.batch_id)

    def _wait_for_room(self, plan: BatchPlan, room: PendingLimit) -> None:
        """Wait until a job fits; where the API itself said no, it is asked again then."""
        if plan.room_deadline is None:
            plan.room_deadline = time.time() + LONGEST.total_seconds()
        left = plan.room_deadline - time.time()
        if left > 0 and self.may_defer:
            # Imported late: parsing a Dag needs none of it.
            from airflow_provider_mistral_batch.triggers.inference import MistralBatchRoomTrigger

            self.defer(
                trigger=MistralBatchRoomTrigger(
                    room.requests,
                    room.limit,
                    self.mistral_conn_id,
                    deadline=plan.room_deadline,
                    poll_interval=self.poll_interval,
                    batch_ids=[job.batch_id for job in plan.rounds[-1] if job.batch_id is not None],
                    cancel_on_kill=self.cancel_on_kill,
                ),
                method_name="execute_complete",
                kwargs=self._carried(plan),
                timeout=timedelta(seconds=left + BACKSTOP_SECONDS),
            )
        if left <= 0 or not room.wait(deadline=plan.room_deadline, pause=self.poll_interval):
            raise AirflowException(
                f"the workspace had no room for {room.requests:,} more requests for a week: other jobs keep it full"
            )

    def _wait(self, plan: BatchPlan) -> list[BatchJobOut]:
        """Wait until all jobs of the round are over."""
        watches = [JobPoller(self.hook, str(job.batch_id)) for job in plan.rounds[-1]]
        over: dict[str, BatchJobOut] = {}
        while True:
            for watch in watches:
                if watch.batch_id not in over and (job := watch.look()) is not None and job.is_terminal:
                    over[watch.batch_id] = job
            running = [watch for watch in watches if watch.batch_id not in over]
            if not running:
                return [over[watch.batch_id] for watch in watches]
            deadline = self._deadline(plan)
            left = deadline - time.time()
            if left > 0 and self.may_defer:
                self._defer(plan, running, deadline)
            if running[0].wait(deadline=deadline, cadence=self._cadence) is None:
                self._give_up(plan, [watch.batch_id for watch in running])

    def _defer(self, plan: BatchPlan, running: Sequence[JobPoller], deadline: float) -> NoReturn:
        # Imported late: parsing a Dag needs none of it.
        from airflow_provider_mistral_batch.triggers.inference import MistralBatchJobsTrigger

        self.defer(
            trigger=MistralBatchJobsTrigger(
                [watch.batch_id for watch in running],
                self.mistral_conn_id,
                deadline=deadline,
                poll_interval=self.poll_interval,
                poll_interval_min=self.poll_interval_min,
                cancel_on_kill=self.cancel_on_kill,
            ),
            method_name="execute_complete",
            kwargs=self._carried(plan),
            timeout=timedelta(seconds=max(0.0, deadline - time.time()) + BACKSTOP_SECONDS),
        )

    def _carried(self, plan: BatchPlan) -> dict[str, Any]:
        """What the worker after a deferral needs to know."""
        return {"plan": plan.as_builtins(), "may_have_duplicates": self.submission.may_have_duplicates}

    def _deadline(self, plan: BatchPlan) -> float:
        """When to give up: counted from the jobs' submission, so that no retry and no re-attach moves it."""
        if plan.given_up_at is not None:
            return plan.given_up_at + _CANCELLATION_SECONDS
        begun = max(job.submitted_at for job in plan.rounds[-1])
        return begun + seconds_allowed(self.timeout, completion_window_hours(self._window))

    def _give_up(self, plan: BatchPlan, running: Sequence[str]) -> None:
        """The time is over: cancel what runs, so that at least partial results can be landed."""
        message = f"{_named(running)} not over within the time given"
        if not self.cancel_on_timeout:
            # A retry would find the same jobs, past the same deadline.
            raise LeftRunningError(f"{message}; left running (cancel_on_timeout=False)")
        if plan.given_up_at is not None:
            raise AirflowException(
                f"{message}, nor {_CANCELLATION_SECONDS:g} s after their cancellation was asked for"
            )
        self.log.warning("%s: cancelling, and landing what there is.", message)
        plan.given_up_at = time.time()
        for batch_id in running:
            self.submission.cancel(batch_id)

    # AtomicFiles

    def _land(self, work: Workplace, plan: BatchPlan, jobs: Sequence[BatchJobOut]) -> dict[str, Any]:
        nothing = not any(job.output_file_id or job.error_file_id for job in jobs)
        if nothing and len(plan.rounds) == 1 and not any(job.status == BatchStatus.COMPLETED for job in jobs):
            expired = all(job.status == BatchStatus.EXPIRED for job in jobs)
            if not expired or plan.given_up_at is not None:
                work.destination.release()
                raise AirflowException(f"{self._time_is_up(plan)}{describe_ends(jobs)}, and left no results")
        return work.results.land(plan, len(plan.rounds) - 1)

    def _next_round(
        self,
        context: Context,
        work: Workplace,
        plan: BatchPlan,
        jobs: Sequence[BatchJobOut],
        landed: Mapping[str, Any],
    ) -> Sequence[Shard]:
        """Write the requests that are worth another round, if one is allowed."""
        worth_it = landed["may_pass"] or (self.reask_invalid and landed["counts"]["failed"])
        allowed = rounds_allowed(self.row_retries, context["ti"].try_number)
        number = len(plan.rounds)
        seen = [job for job, planned in zip(jobs, plan.rounds[-1], strict=True) if not planned.found_over]
        if self.submission.attaches_only or plan.given_up_at is not None:
            return ()
        if not worth_it or number >= allowed or not may_ask_again(seen):
            return ()
        shards = work.results.open_requests(
            plan,
            number - 1,
            work.directory / f"round-{number}",
            reask=self.reask_invalid,
            max_job_requests=min(self.max_pending_requests, limits.MAX_REQUESTS_PER_JOB),
        )
        if shards and not self._can_afford(plan, shards, work):
            return ()
        if shards:
            requests = sum(shard.request_count for shard in shards)
            self.log.info(
                "Asking again for %d requests: round %d of %d at most.", requests, number + 1, allowed
            )
        return shards

    def _finish(
        self, context: Context, work: Workplace, plan: BatchPlan, jobs: Sequence[BatchJobOut]
    ) -> dict[str, Any]:
        """Publish the results, then judge them."""
        # Imported late: parsing a Dag needs none of it.
        from airflow.providers.common.compat.sdk import XCOM_RETURN_KEY

        from airflow_provider_mistral_batch.jsonl.results.digest import describe_errors

        final = work.results.finish(plan)
        counts = final["counts"]
        may_pass = final.pop("may_pass")
        if self.reask_invalid:
            may_pass += sum(error["count"] for error in final["errors"] if error["code"] == "invalid_output")
        verdict = judge_rows(counts, jobs, max_failed_ratio=self.max_failed_ratio, may_pass=may_pass)
        manifest = {
            "batch_ids": plan.batch_ids,
            **final,
            "estimated_cost_usd": self._cost(plan, final["usage"]),
            "rounds": len(plan.rounds),
            "acceptable": verdict.acceptable,
            "key": plan.key,
        }
        manifest = work.destination.write_manifest(manifest)
        verdict = verdict.with_digest(describe_errors(final["errors"]))
        message = f"{self._time_is_up(plan)}{verdict.message}. They are in {final['results_path']}"
        if counts["total"] > counts["succeeded"]:
            message += f", all others in {final['errors_path']}"
        if not verdict.acceptable:
            context["ti"].xcom_push(key=XCOM_RETURN_KEY, value=manifest)
            raise (AirflowException if verdict.new_job_may_help else AirflowFailException)(message)
        self.log.log(logging.WARNING if verdict.rows_failed else logging.INFO, "%s", message)
        if self.submission.may_have_duplicates:
            self.submission.cancel_running(keep=plan.batch_ids)
        self._clean_up(plan.batch_ids)
        return manifest

    def _cost(self, plan: BatchPlan, usage: Mapping[str, float]) -> float | None:
        from airflow_provider_mistral_batch.inference.costs import price_usd
        from airflow_provider_mistral_batch.jsonl.lines import MissingExtraError

        if plan.model is None:
            return None
        try:
            return price_usd(plan.model, usage)
        except MissingExtraError:
            return None

    def _clean_up(self, batch_ids: Sequence[str]) -> None:
        """Delete the batch's files from the account, if that is wished; what cannot be is no reason to fail."""
        if self.delete_files != "on_success":
            return
        for file_id in dict.fromkeys(self._files_of(batch_ids)):
            self._delete_file(file_id)

    def _delete_file(self, file_id: str) -> None:
        try:
            self.hook.delete_file(file_id)
        except NotFoundError:
            self.log.debug("File %s is gone already.", file_id)
        except MistralCallError as error:
            self.log.warning("%s File %s stays in the account.", error, file_id)

    def _files_of(self, batch_ids: Sequence[str]) -> Iterator[str]:
        """Ids of the files that went into jobs and came out of them."""
        for batch_id in batch_ids:
            try:
                job = self.hook.get(batch_id)
            except MistralCallError as error:
                self.log.warning("%s The files of batch job %s stay in the account.", error, batch_id)
                continue
            yield from job.input_files
            yield from (file_id for file_id in (job.output_file_id, job.error_file_id) if file_id)

    def _time_is_up(self, plan: BatchPlan) -> str:
        return "" if plan.given_up_at is None else "the batch was not over within the time given; "

    # What the steps share

    @contextmanager
    def _workplace(self, context: Context, structured: StructuredOutput | None) -> Iterator[Workplace]:
        identity = identity_of(context, self.hook)
        # Files that are going to be deleted are not to be shared with anybody.
        owner = identity_hash(identity) if self.delete_files == "on_success" else ""
        folder = storage_path(self.destination, field="destination")
        with tempfile.TemporaryDirectory(prefix="mistral-batch-") as name:
            files = RequestFiles(self.hook, Path(name), owner=owner)
            destination = Destination(folder, identity, self.output_format)
            yield Workplace(
                directory=Path(name),
                destination=destination,
                files=files,
                results=LandedRounds(self.hook, destination, files, structured),
            )

    @property
    def _cadence(self) -> Cadence:
        return Cadence(shortest=self.poll_interval_min, longest=self.poll_interval)

    @property
    def _window(self) -> str:
        return chosen_window(self.completion_window, self.timeout_hours)

    def _job_in(self, input_files: Sequence[str], model: str | None) -> BatchJobIn:
        return BatchJobIn(
            input_files=input_files,
            endpoint=self.endpoint,
            completion_window=self._window,
            metadata=self.metadata,
            model=model,
            agent_id=self.agent_id,
        )


class Workplace(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a worker has at hand while it is at work on a batch.

    :param directory: Local directory, removed when the worker is done or the task is deferred.
    :param destination: Where the results go.
    :param files: The request files.
    :param results: The results of each round.
    """

    directory: Path
    destination: Destination
    files: RequestFiles
    results: LandedRounds


def _named(batch_ids: Sequence[str]) -> str:
    ids = ", ".join(batch_ids)
    return f"batch job {ids} was" if len(batch_ids) == 1 else f"batch jobs {ids} were"
