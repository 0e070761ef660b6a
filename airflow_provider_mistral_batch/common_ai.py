"""Mistral's batches for common-ai: ``LLMBatchOperator`` and ``@task.llm_batch`` with ``model_id="mistral:…"``.

Needs the extra ``common-ai``. common-ai finds the adapter by the entry point ``mistral`` in the group
``airflow.providers.common.ai.batch_adapters``; no Dag imports this module.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.ai.batch.base import (
    BatchAdapter,
    BatchState,
    ExtractedOutput,
    RawResultItem,
    SubmitResult,
)
from airflow.providers.common.ai.exceptions import (
    LLMBatchInputError,
    LLMBatchLimitExceededError,
    LLMBatchModelMismatchError,
)
from airflow.sdk import Connection, get_current_context

from airflow_provider_mistral_batch.api.body_fields import check_body_fields
from airflow_provider_mistral_batch.api.checks import completion_window_hours
from airflow_provider_mistral_batch.api.endpoints import CHAT
from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.api.limits import MAX_FILE_BYTES, MAX_REQUESTS_PER_JOB
from airflow_provider_mistral_batch.api.models import BatchJobIn, BatchJobOut, BatchStatus
from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
from airflow_provider_mistral_batch.inference.structured_output import closed_schema, response_format_of
from airflow_provider_mistral_batch.jsonl.lines import MAX_RESULT_ROW_BYTES, line_blocks
from airflow_provider_mistral_batch.jsonl.requests.prepare import PreparedRequests, prepare_requests
from airflow_provider_mistral_batch.jsonl.requests.template import RowTemplate
from airflow_provider_mistral_batch.jsonl.results.outcomes import MALFORMED_ROW, failure
from airflow_provider_mistral_batch.jsonl.results.rows import ResultRow, result_row
from airflow_provider_mistral_batch.policies.ownership import TaskIdentity
from airflow_provider_mistral_batch.submission.files import upload_shard_once
from airflow_provider_mistral_batch.submission.jobs import Earlier, Submission, find_noted
from airflow_provider_mistral_batch.tasks.identity import identity_of

if TYPE_CHECKING:
    from airflow.providers.common.ai.batch.base import BatchRequest
    from airflow.providers.common.ai.batch.output_schema import OutputSpec

log = logging.getLogger(__name__)

#: Metadata of a job: common-ai's key of the task instance, which all custom ids begin with, and that of its input.
KEY = "airflow_llm_batch_key"
FINGERPRINT = "airflow_llm_batch_input"

#: How common-ai makes custom ids of its key, 16 hexadecimal digits, and the request's index.
_CUSTOM_ID = re.compile(r"(.+)-(0|[1-9][0-9]{0,8})", re.ASCII)
_ANY_KEY = re.compile(r"[0-9a-f]{16}", re.ASCII)

#: The index that no request has: common-ai counts such a row as out of range, and drops it.
_NO_INDEX = -1

#: Codes by which gateways in front of OpenAI name requests that never ran.
_NEVER_RAN = {"batch_expired": "expired", "batch_cancelled": "cancelled"}


class MistralBatchAdapter(BatchAdapter):
    """
    Runs common-ai's batches on Mistral's Batch API.

    All fields of the connection count, as for our own operators. common-ai itself passes only two of them; the others
    are read where it makes the adapter.

    :param api_key: The connection's password; empty for ``MISTRAL_API_KEY`` of the environment.
    :param base_url: The connection's host.
    :param client: A hook to use instead of the connection.
    """

    name: ClassVar[str] = "mistral"
    conn_types: ClassVar[frozenset[str]] = frozenset({"mistral", "pydanticai"})
    max_requests: ClassVar[int] = MAX_REQUESTS_PER_JOB
    max_payload_bytes: ClassVar[int] = MAX_FILE_BYTES
    #: A job of Mistral's has one model.
    allows_per_request_model: ClassVar[bool] = False

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        client: MistralBatchHook | None = None,
    ) -> None:
        super().__init__(api_key=api_key, base_url=base_url, client=client)
        if client is None:
            self._client = _hook_of(_callers_connection(api_key, base_url), api_key, base_url)

    @property
    def _hook(self) -> MistralBatchHook:
        hook: MistralBatchHook = self._client
        return hook

    # Requests

    def validate_requests(
        self,
        requests: list[BatchRequest],
        *,
        model: str,
        output_spec: OutputSpec,
        idempotency_key: str,
        **kwargs: Any,
    ) -> None:
        """
        Check all requests as the API would, before anything is sent.

        :param requests: The requests.
        :param model: Model of those that name none.
        :param output_spec: What the answers are to be.
        :param idempotency_key: common-ai's key of the task instance.
        :param kwargs: ``system_prompt``, ``max_tokens``, ``request_params``.
        :raises LLMBatchInputError: When a request or the number, size or models of all cannot be sent.
        """
        self.check_custom_id_length(idempotency_key, len(requests))
        if len(requests) > self.max_requests:
            raise LLMBatchLimitExceededError(
                f"a batch of Mistral's takes at most {self.max_requests:,} requests, and there are "
                f"{len(requests):,}: split them with .expand(), or use MistralBatchInferenceOperator"
            )
        with tempfile.TemporaryDirectory(prefix="airflow-mistral-") as directory:
            self._prepare(
                directory,
                requests,
                model=self._model_of_all(requests, model),
                idempotency_key=idempotency_key,
                output_spec=output_spec,
                **kwargs,
            )

    def submit(
        self,
        requests: list[BatchRequest],
        *,
        model: str,
        idempotency_key: str,
        input_fingerprint: str,
        output_spec: OutputSpec,
        completion_window: str = "24h",
        **kwargs: Any,
    ) -> SubmitResult:
        """
        Upload the requests and create their job, each once, also if an answer is lost.

        :param requests: The requests.
        :param model: Model of those that name none.
        :param idempotency_key: common-ai's key of the task instance.
        :param input_fingerprint: common-ai's key of the input.
        :param output_spec: What the answers are to be.
        :param completion_window: Time that the job may take, ``"<n>h"`` or ``"<n>d"``, 1 hour to 7 days.
        :param kwargs: ``system_prompt``, ``max_tokens``, ``request_params``.
        :raises LLMBatchInputError: When the requests cannot be sent.
        :raises MistralCallError: When the job can neither be created nor found.
        """
        try:
            completion_window_hours(completion_window)
        except InvalidInputError as error:
            raise LLMBatchInputError(str(error)) from error
        model = self._model_of_all(requests, model)
        with tempfile.TemporaryDirectory(prefix="airflow-mistral-") as directory:
            prepared = self._prepare(
                directory,
                requests,
                model=model,
                idempotency_key=idempotency_key,
                output_spec=output_spec,
                **kwargs,
            )
            file = upload_shard_once(self._hook, prepared.shards[0], model=model)
        now = datetime.now(tz=timezone.utc)
        submission = Submission(
            self._hook,
            self._identity(idempotency_key, input_fingerprint),
            since=now,
            earlier=Earlier.NOTHING,
            # common-ai decides whether earlier work counts. What it submits is new, even if its state was deleted.
            run_token=now.isoformat(),
        )
        job = submission.submit(
            BatchJobIn(
                input_files=[file.id],
                endpoint=CHAT,
                completion_window=completion_window,
                model=model if self._hook.get_conn().dialect.jobs_have_model else None,
            ),
            notes=_notes(idempotency_key, input_fingerprint),
        )
        return SubmitResult(batch_id=job.id, provider_input_ref=file.id)

    def _model_of_all(self, requests: Sequence[BatchRequest], model: str) -> str:
        models = {
            self.resolve_request_model(request.get("model"), default_bare_model=model, request_index=index)
            for index, request in enumerate(requests)
        }
        if len(models) > 1:
            raise LLMBatchModelMismatchError(
                f"a batch of Mistral's has one model, and these requests name {len(models)} ({sorted(models)!r:.200}): "
                "make one task for each model"
            )
        return models.pop() if models else model

    def _prepare(
        self,
        directory: str,
        requests: Sequence[BatchRequest],
        *,
        model: str,
        idempotency_key: str,
        output_spec: OutputSpec,
        system_prompt: str = "",
        max_tokens: int = 1024,
        request_params: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> PreparedRequests:
        """Write the one request file of a batch."""
        directive = self.build_output_directive(output_spec)

        def rows() -> Iterator[dict[str, Any]]:
            check_body_fields({"max_tokens": max_tokens})
            check_body_fields(request_params or {}, within="request_params")
            for index, request in enumerate(requests):
                own = request.get("params") or {}
                check_body_fields(own, within=f"requests[{index}]['params']")
                limit = {"max_tokens": request.get("max_tokens")}
                check_body_fields(limit, within=f"requests[{index}]")
                system = request.get("system_prompt") or system_prompt
                messages = [{"role": "system", "content": system}] if system else []
                body = {
                    **(request_params or {}),
                    **own,
                    "messages": [*messages, {"role": "user", "content": request["prompt"]}],
                    "max_tokens": limit["max_tokens"] or max_tokens,
                    **directive,
                }
                # The job has the model, or the template below.
                body.pop("model", None)
                yield {"custom_id": f"{idempotency_key}-{index}", "body": body}

        hook = self._hook
        try:
            prepared = prepare_requests(
                rows(),
                endpoint=CHAT,
                directory=directory,
                with_url=hook.rows_have_url,
                template=RowTemplate(model=hook.model_of_rows(model)),
                max_shard_bytes=self.max_payload_bytes,
                max_job_requests=self.max_requests,
            )
        except InvalidInputError as error:
            raise LLMBatchInputError(str(error)) from error
        if len(prepared.shards) > 1:
            size = sum(shard.size for shard in prepared.shards)
            raise LLMBatchLimitExceededError(
                f"a request file of Mistral's takes at most {self.max_payload_bytes:,} bytes, and these "
                f"{len(requests):,} requests have {size:,}: split them with .expand(), or use "
                "MistralBatchInferenceOperator"
            )
        return prepared

    def _identity(self, idempotency_key: str, input_fingerprint: str) -> TaskIdentity:
        try:
            context = get_current_context()
        except RuntimeError:
            # Somebody calls the adapter outside of a task.
            return TaskIdentity(
                dag_id="llm_batch",
                task_id=idempotency_key,
                run_id=input_fingerprint,
                deployment=self._hook.deployment,
            )
        return identity_of(context, self._hook)

    # Jobs

    def get_batch(self, batch_id: str) -> BatchState:
        """
        Read a batch's status.

        A job that failed as a whole but has results counts as completed: they are paid for, and common-ai would drop
        them.

        :param batch_id: The job's id.
        :raises NotFoundError: When this workspace has no such job, with ``status_code`` 404.
        """
        job = self._hook.get(batch_id)
        message = "; ".join(str(error) for error in job.errors) or None
        if job.status == BatchStatus.FAILED and _result_files(job):
            log.warning(
                "Batch job %s failed (%s), but some requests have results: landing them.", batch_id, message
            )
            return BatchState("completed", _counts(job), message)
        # An unknown status is not an end.
        status: Any = job.status if job.is_terminal else "in_progress"
        return BatchState(status, _counts(job), message)

    def cancel_batch(self, batch_id: str) -> None:
        """
        Ask for a batch's cancellation.

        :param batch_id: The job's id.
        """
        self._hook.cancel(batch_id)

    def find_orphaned_batch(
        self, idempotency_key: str, input_fingerprint: str, not_before: str
    ) -> str | None:
        """
        Find the newest batch that was submitted for this input, by its metadata.

        :param idempotency_key: common-ai's key of the task instance.
        :param input_fingerprint: common-ai's key of the input.
        :param not_before: When common-ai wrote down that it would submit, in ISO 8601.
        :return: The job's id; ``None`` if there is none, or if the server (a gateway) lists no jobs.
        :raises MistralCallError: When the jobs cannot be listed.
        """
        since = (
            datetime.fromisoformat(not_before) if not_before else datetime(2024, 1, 1, tzinfo=timezone.utc)
        )
        found = find_noted(self._hook, _notes(idempotency_key, input_fingerprint), since=since)
        return None if found is None else found.id

    # Results

    def iter_results(self, batch_id: str) -> Iterator[RawResultItem]:
        """
        Stream a batch's results: first the answers, then the failures.

        :param batch_id: The job's id.
        :return: One item for each row. A row of no request has an index that no request has. Of a line that cannot be
            read there is only a warning: its request is missing.
        :raises NotFoundError: When this workspace has no such job.
        """
        return self._results(self._hook.get(batch_id))

    def _results(self, job: BatchJobOut) -> Iterator[RawResultItem]:
        key = str((job.metadata or {}).get(KEY, ""))
        for file_id in _result_files(job):
            with contextlib.closing(self._hook.get_conn().stream_file(file_id)) as chunks:
                for block in line_blocks(chunks, max_line_bytes=MAX_RESULT_ROW_BYTES):
                    for number, line in enumerate(block.lines, block.first_line):
                        if not line.strip():
                            continue
                        item = self._item(line, key)
                        if item is None:
                            log.warning(
                                "Line %d of file %s (batch job %s) is no whole JSON object: its request is missing.",
                                number,
                                file_id,
                                job.id,
                            )
                        else:
                            yield item

    def _item(self, line: bytes, key: str) -> RawResultItem | None:
        """Read a row; ``None`` if it cannot be read."""
        row = result_row(line)
        status, error = "success", None
        if not row.succeeded:
            failed = failure(line, self._hook.get_conn().without_secrets)
            if failed.code == MALFORMED_ROW:
                return None
            status = _NEVER_RAN.get(failed.code or "", "errored")
            code = failed.code or (None if failed.status_code is None else str(failed.status_code))
            error = {
                "type": "provider_error" if status == "errored" else status,
                "message": failed.message or f"no answer (status code {failed.status_code})",
                "provider_code": code,
                "stage": "provider",
            }
        return RawResultItem(
            custom_id=row.custom_id or "",
            index=_index(row.custom_id, key),
            provider_status=status,  # type: ignore[arg-type, unused-ignore]
            model=row.model,
            usage=_usage(row),
            finish_reason=row.finish_reason,
            error=error,
            raw=row.content if row.succeeded else None,
        )

    def build_output_directive(self, spec: OutputSpec) -> dict[str, Any]:
        """
        Give the fields of a request body that ask for structured output.

        :param spec: What the answers are to be.
        """
        if not spec.is_structured:
            return {}
        return {"response_format": response_format_of(spec.schema_name, closed_schema(spec.json_schema))}

    def extract_output(self, raw: RawResultItem, spec: OutputSpec) -> ExtractedOutput:
        """
        Give an answer's text.

        :param raw: A row that succeeded.
        :param spec: What it is to be.
        """
        if raw.raw is None:
            return ExtractedOutput(kind="absent")
        return ExtractedOutput(kind="json_text" if spec.is_structured else "text", text=raw.raw)


class _HookOfConnection(MistralBatchHook):
    """
    The hook of a connection that was read already.

    :param connection: The connection.
    :param is_known: Whether Airflow has it under its id.
    """

    def __init__(self, connection: Connection, *, is_known: bool) -> None:
        super().__init__(str(connection.conn_id))
        self._given = connection
        self._is_known = is_known

    def _connection(self) -> Connection:
        return self._given

    def _current_key(self) -> str | None:
        if self._is_known:
            self._given = super()._connection()
        return super()._current_key()


def _hook_of(connection: Connection | None, api_key: str | None, base_url: str | None) -> MistralBatchHook:
    """Make the hook of a connection, or of what common-ai passed if there is no other."""
    if connection is not None:
        return _HookOfConnection(connection, is_known=True)
    log.info("Only password and host of the connection are known: its other fields do not count.")
    passed = Connection(conn_id="common_ai", conn_type="mistral", password=api_key, host=base_url)
    return _HookOfConnection(passed, is_known=False)


def _callers_connection(api_key: str | None, base_url: str | None) -> Connection | None:
    """
    Give the connection that the adapter is made of.

    common-ai has it in hand, but passes its password and its host only. Timeouts, proxies, TLS and the dialect would be
    lost, and behind a proxy all batches with them. So it is taken from the variables of the calling function.
    """
    # Below us are `__init__` and what called it.
    for value in [*sys._getframe(2).f_locals.values()]:
        if (
            all(hasattr(value, name) for name in ("conn_id", "conn_type", "extra_dejson"))
            and (value.password or None) == (api_key or None)
            and (value.host or None) == (base_url or None)
        ):
            return value  # type: ignore[no-any-return]
    return None


def _notes(idempotency_key: str, input_fingerprint: str) -> dict[str, str]:
    return {KEY: idempotency_key, FINGERPRINT: input_fingerprint}


def _result_files(job: BatchJobOut) -> list[str]:
    return [file_id for file_id in (job.output_file_id, job.error_file_id) if file_id]


def _counts(job: BatchJobOut) -> dict[str, int] | None:
    """Count a job's requests; those that were not done before its end have the end's name."""
    counts = job.request_counts
    if not counts.total:
        return None
    rest = max(0, counts.total - counts.completed - counts.failed)
    return {
        "succeeded": counts.completed,
        "errored": counts.failed,
        "expired": rest if job.status == BatchStatus.EXPIRED else 0,
        "cancelled": rest if job.status == BatchStatus.CANCELLED else 0,
    }


def _index(custom_id: str | None, key: str) -> int:
    """Read the index out of a custom id; :data:`_NO_INDEX` if the batch has no such request."""
    match = _CUSTOM_ID.fullmatch(custom_id or "")
    # A gateway may have lost the metadata.
    if match is None or not (match[1] == key if key else _ANY_KEY.fullmatch(match[1])):
        return _NO_INDEX
    return int(match[2])


def _usage(row: ResultRow) -> dict[str, int] | None:
    if row.prompt_tokens is None and row.completion_tokens is None:
        return None
    return {"input_tokens": row.prompt_tokens or 0, "output_tokens": row.completion_tokens or 0}
