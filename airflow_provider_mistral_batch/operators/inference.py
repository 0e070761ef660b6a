"""``MistralBatchInferenceOperator``: from requests to landed results in one task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_provider_mistral_batch.api import limits
from airflow_provider_mistral_batch.api.checks import check_exactly_one
from airflow_provider_mistral_batch.api.endpoints import DEFAULT_ENDPOINT
from airflow_provider_mistral_batch.compat import AirflowException, AirflowFailException, conf
from airflow_provider_mistral_batch.inference.batch import Batch, Pause
from airflow_provider_mistral_batch.inference.beginning import begin
from airflow_provider_mistral_batch.inference.options import BatchOptions
from airflow_provider_mistral_batch.inference.plan import BatchPlan
from airflow_provider_mistral_batch.inference.workplace import workplace
from airflow_provider_mistral_batch.links.mistral_batch import MistralBatchJobLink
from airflow_provider_mistral_batch.observability.lineage.reporting import is_listening
from airflow_provider_mistral_batch.observability.lineage.told import (
    Told,
    about_manifest,
    landed_files,
)
from airflow_provider_mistral_batch.operators.base import (
    check_requests,
    check_requests_are_stable,
    prompt_path,
)
from airflow_provider_mistral_batch.operators.submitting import MistralSubmittingOperator
from airflow_provider_mistral_batch.policies.cadence import DEFAULT_POLL_INTERVAL, DEFAULT_POLL_INTERVAL_MIN
from airflow_provider_mistral_batch.storage.paths import absolute_path
from airflow_provider_mistral_batch.tasks.outlets import describe_results, own_extras, write_own_extras

if TYPE_CHECKING:
    from airflow.sdk import Context, ObjectStoragePath

    from airflow_provider_mistral_batch.tables import AnswerColumns, RowSource, SqlTable
    from airflow_provider_mistral_batch.tasks.destination import Destination


class MistralBatchInferenceOperator(MistralSubmittingOperator):
    """
    Run a whole batch: check the requests, upload them, create the jobs, wait, and land the results.

    Any number of requests passes through in constant memory. If they do not fit into one file or one job, the task
    makes several. A job that would exceed the workspace's limit of pending requests waits for room. Requests without a
    result, or with an error that may pass, are asked again in a smaller job. A retry of the task continues where the
    last try stopped: it finds the files and jobs of that try, and pays for nothing twice.

    Writes to ``destination``: ``results.jsonl`` (rows that succeeded), ``errors.jsonl`` (all others) and, last,
    ``manifest.json``. Returns the manifest: ``batch_ids``, ``results_path``, ``errors_path``, ``counts``, ``usage``,
    ``errors`` (a digest of the failures), ``estimated_cost_usd``, ``rounds``, ``started_at``, ``completed_at`` (epoch
    seconds). XComs: the sensor's, for the last job. Results land before the task fails.

    :param requests: Rows, each ``{"custom_id", "prompt"}`` or ``{"custom_id", "body"}``, or prompts as plain strings.
        Exactly one of these, ``path`` and ``source``.
    :param path: JSONL file, plain or ``.gz`` or ``.zst``, local or on any object storage
        (``s3://conn@bucket/key``); also a list of them or a glob.
    :param source: Instead of requests, the rows of a table: files, a query, documents. Each row becomes one request.
    :param key: The column, or columns, that tell the rows apart.
    :param prompt: The prompt of each row, a template over columns: ``"Title: {title}"``.
    :param prompt_file: A file with the prompt as a Jinja template over columns, instead of ``prompt``.
    :param messages: The messages of each row, with columns in their texts and URLs, instead of ``prompt``.
    :param keep: Columns of the source to have beside the answers.
    :param on_null: What to do with a row whose prompt would have a null or be empty: ``fail``, ``skip`` it, or send it
        with an ``empty`` text.
    :param columns: What the table of answers has beside them.
    :param target: A table that takes the answers, too, once they have landed.
    :param destination: Folder for the results, local or on any object storage. Each run and each mapped task needs its
        own.
    :param endpoint: API endpoint that each request goes to.
    :param model: The model for all requests; by default the model that they name, or else the connection's
        ``default_model``.
    :param agent_id: An agent to use instead of a model.
    :param system: System message before each prompt, and in requests that have none.
    :param max_tokens: Most tokens in an answer, for requests that do not set it.
    :param temperature: Sampling temperature, for requests that do not set it.
    :param response_format: The API's ``response_format``, for requests that do not set it.
    :param parameters: Any other fields of the endpoint's body, for requests that do not set them.
    :param response_model: A pydantic model class or a JSON schema that each answer must match; sets
        ``response_format``. An answer that does not match becomes a failed row, which keeps the answer's text.
    :param reask_invalid: If an answer does not match, ask again and tell the model what is wrong with it.
    :param completion_window: Time that a job may take, ``"<n>h"`` or ``"<n>d"``, 1 hour to 7 days; by default
        ``"24h"``.
    :param timeout_hours: ``completion_window`` as a number of hours.
    :param metadata: Metadata of the jobs: keys of 1 to 32 characters, values of 1 to 512.
    :param row_retries: Most further rounds for requests without a result or with an error that may pass. Each retry of
        the task may add one more round.
    :param max_failed_ratio: Share of requests that may fail, 0 to 1; a batch in which none succeeded fails in any case.
    :param max_cost_usd: Send nothing if the batch may cost more US dollars than this, estimated from its tokens and
        ``max_tokens`` (needs the extra ``costs``).
    :param prices: Your own prices, by model, such as ``{"my-model": {"input": 0.1, "output": 0.3}}``. In US dollars,
        before the batch discount of 50 %: ``input``, ``output`` and ``cached`` for a million tokens, ``page``,
        ``annotated_page``, ``audio_minute``. They replace those that the price list has for the model.
    :param output_format: ``jsonl`` or ``parquet`` (needs the extra ``parquet``); answers over a table are in Parquet.
    :param if_exists: What to do if the destination has another batch's results: ``fail``, or ``replace`` them.
    :param delete_files: ``on_success`` deletes the uploaded files and the results from the account once the
        results have landed; ``never`` keeps them.
    :param deferrable: Wait in the triggerer instead of on a worker.
    :param timeout: Seconds to wait for a job, counted from its submission; by default the completion window plus an
        hour.
    :param poll_interval: Most seconds between two looks at a job.
    :param poll_interval_min: Least seconds between two looks at a job, which applies while the job is young.
    :param max_pending_requests: Most requests that may be pending in your workspace.
    :param max_job_requests: Most requests in one job; more of them become several jobs.
    :param force_new: Submit new jobs whenever the task is cleared, even if earlier jobs did the same work. Retries
        attach to the new jobs.
    :param cancel_on_kill: Cancel running jobs when the task is killed, or fails, without a further try.
    :param cancel_on_timeout: Cancel running jobs when ``timeout`` has passed.
    :param mistral_conn_id: The connection's id.
    """

    template_fields: Sequence[str] = (
        "requests",
        "path",
        "source",
        "prompt_file",
        "target",
        "destination",
        "endpoint",
        "model",
        "agent_id",
        "system",
        "max_tokens",
        "temperature",
        "response_format",
        "parameters",
        "reask_invalid",
        "completion_window",
        "timeout_hours",
        "metadata",
        "row_retries",
        "max_failed_ratio",
        "max_cost_usd",
        "output_format",
        "if_exists",
        "delete_files",
        "timeout",
        "poll_interval",
        "poll_interval_min",
        "max_pending_requests",
        "max_job_requests",
        "force_new",
        "cancel_on_kill",
        "cancel_on_timeout",
        "mistral_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "requests": "json",
        "response_format": "json",
        "parameters": "json",
        "metadata": "json",
    }
    operator_extra_links = (MistralBatchJobLink(),)

    def __init__(
        self,
        *,
        requests: Iterable[Mapping[str, Any] | str] | None = None,
        path: str | ObjectStoragePath | Sequence[str | ObjectStoragePath] | None = None,
        source: RowSource | None = None,
        key: str | Sequence[str] | None = None,
        prompt: str | None = None,
        prompt_file: str | ObjectStoragePath | None = None,
        messages: Sequence[Mapping[str, Any]] | None = None,
        keep: Sequence[str] = (),
        on_null: Literal["fail", "skip", "empty"] = "fail",
        columns: AnswerColumns | None = None,
        target: SqlTable | None = None,
        destination: str | ObjectStoragePath,
        endpoint: str = DEFAULT_ENDPOINT,
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
        prices: Mapping[str, Mapping[str, float]] | None = None,
        output_format: Literal["jsonl", "parquet"] | None = None,
        if_exists: Literal["fail", "replace"] = "fail",
        delete_files: Literal["never", "on_success"] = "never",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        timeout: float | timedelta | None = None,
        poll_interval: float | timedelta = DEFAULT_POLL_INTERVAL,
        poll_interval_min: float | timedelta = DEFAULT_POLL_INTERVAL_MIN,
        max_pending_requests: int = limits.MAX_REQUESTS_PER_JOB,
        max_job_requests: int = limits.MAX_REQUESTS_PER_JOB,
        force_new: bool = False,
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = True,
        mistral_conn_id: str = "mistral_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(mistral_conn_id=mistral_conn_id, **kwargs)
        check_requests_are_stable(requests)
        self.requests = requests
        self.path = path
        self.source = source
        self.key = key
        self.prompt = prompt
        self.prompt_file = prompt_file
        self.messages = messages
        self.keep = keep
        self.on_null = on_null
        self.columns = columns
        self.target = target
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
        self.prices = prices
        self.output_format = output_format
        self.if_exists = if_exists
        self.delete_files = delete_files
        self.deferrable = deferrable
        self.timeout = timeout
        self.poll_interval = poll_interval
        self.poll_interval_min = poll_interval_min
        self.max_pending_requests = max_pending_requests
        self.max_job_requests = max_job_requests
        self.force_new = force_new
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self._datasets_read: Sequence[Sequence[str]] = ()
        self._manifest: Mapping[str, Any] | None = None
        self._destination: Destination | None = None

    def told(self, *, succeeded: bool) -> Told:
        """Tell OpenLineage of the requests or rows, and of the answers."""
        about: dict[str, Any] = {"model": self.model, "endpoint": self.endpoint}
        if self._submission is not None:
            about["model"] = self._submission.model or self.model
        inputs = [self.path, self.source, self._datasets_read]
        manifest = self._manifest or (None if self._destination is None else self._destination.written)
        if manifest is None:
            return Told(batch_ids=self.batch_ids, about=about, inputs=inputs)
        return Told(
            batch_ids=manifest["batch_ids"],
            about={**about, **about_manifest(manifest)},
            inputs=inputs,
            # Whether a task that failed has written its target is not known.
            outputs=[*landed_files(manifest), *([(self.target, None)] if succeeded else [])],
        )

    def run_batch_task(self, context: Context) -> dict[str, Any]:
        """Begin the batch; a retry finds its files and jobs."""
        with workplace(context, self._options(), self.submission) as work:
            self._destination = work.destination
            reached = begin(work, lambda: self._noted(self._source(context)), alive=self._source_is_alive)
        return self._pause_or_end(context, reached)

    def execute_complete(
        self,
        context: Context,
        event: Mapping[str, Any],
        plan: Mapping[str, Any] | None = None,
        may_have_duplicates: bool = False,
        datasets_read: Sequence[Sequence[str]] = (),
        outlet_extras: Sequence[Sequence[Any]] = (),
    ) -> dict[str, Any]:
        """Continue after a wait; the API tells how the jobs ended."""
        self._datasets_read = datasets_read
        write_own_extras(context, outlet_extras)
        begun = None if plan is None else BatchPlan.from_builtins(plan)
        if begun is not None:
            self.submission.resume(begun.batch_ids, may_have_duplicates=may_have_duplicates)
        stopped = None
        if event.get("error"):
            permanent = event.get("error_is_permanent")
            stopped = (AirflowFailException if permanent else AirflowException)(event["error"])
            if begun is None:
                raise stopped
        if begun is None:
            # `dag.test()` and `airflow tasks test` drop what a task is deferred with (apache/airflow#69942).
            self.submission.resume_without_state()
            return self.run_batch_task(context)
        with workplace(context, self._options(), self.submission) as work:
            self._destination = work.destination
            reached = Batch(work, begun).run(stopped)
        return self._pause_or_end(context, reached)

    def _pause_or_end(self, context: Context, reached: Pause | dict[str, Any]) -> dict[str, Any]:
        if isinstance(reached, Pause):
            self.defer(
                trigger=reached.trigger,
                method_name="execute_complete",
                kwargs={
                    **reached.carried,
                    "datasets_read": [list(name) for name in self._datasets_read],
                    "outlet_extras": [list(written) for written in own_extras(context)],
                },
                timeout=reached.timeout,
            )
        self._manifest = reached
        describe_results(context, reached)
        return reached

    def _noted(self, source: Any) -> Any:
        """Note what a function gave to be read: another worker, which does not ask it, tells OpenLineage of it."""
        is_named = hasattr(source, "open") or hasattr(source, "definition")
        if is_named and self.path is None and source is not self.source and is_listening():
            try:
                from airflow_provider_mistral_batch.observability.lineage.datasets import datasets_of

                self._datasets_read = datasets_of(source)
            except Exception as error:
                self.log.info("OpenLineage is not told what the requests were made of: %s", error)
        return source

    def _options(self) -> BatchOptions:
        """Check what can be checked without reading the requests."""
        given = {field.name: getattr(self, field.name) for field in fields(BatchOptions)}
        return BatchOptions(**{**given, "prompt_file": prompt_path(self)})

    @property
    def _source_is_alive(self) -> bool:
        """Whether :meth:`_source` may give something else in each try, although nothing in the Dag has changed."""
        # What another task returned stays as it is.
        return hasattr(self.source, "definition")

    def _source(self, context: Context) -> Any:
        """Return the source of the requests."""
        check_exactly_one(requests=self.requests, path=self.path, source=self.source)
        if self.source is not None:
            return self.source
        if self.path is None:
            check_requests(self.requests)
            return self.requests
        if isinstance(self.path, Sequence) and not isinstance(self.path, (str, bytes)):
            return [absolute_path(path, field="path") for path in self.path]
        return absolute_path(self.path, field="path")
