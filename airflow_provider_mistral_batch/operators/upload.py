"""``MistralUploadBatchFileOperator``: checks requests and uploads them as request files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_provider_mistral_batch.api import limits
from airflow_provider_mistral_batch.api.checks import check_exactly_one, check_no_table
from airflow_provider_mistral_batch.api.endpoints import DEFAULT_ENDPOINT
from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.observability.lineage.told import Told
from airflow_provider_mistral_batch.operators.base import (
    MistralBatchOperator,
    check_requests,
    check_requests_are_stable,
    prompt_path,
)
from airflow_provider_mistral_batch.storage.paths import absolute_path
from airflow_provider_mistral_batch.submission.files import upload_shard_once
from airflow_provider_mistral_batch.tasks.xcoms import push_xcoms

if TYPE_CHECKING:
    from airflow.sdk import Context, ObjectStoragePath

    from airflow_provider_mistral_batch.tables import RowSource


class MistralUploadBatchFileOperator(MistralBatchOperator):
    """
    Check requests, row by row, and upload them as request files; nothing is sent unless all are valid.

    Requests that do not fit into one file become several files for one job. If there are more requests than a job may
    have, the task fails. Rows without a ``custom_id`` are numbered. If a file with the same content was uploaded
    before, it is used again.

    Returns the ids of the uploaded files: pass them to ``MistralCreateBatchJobOperator(input_files=…)``. XComs:
    ``file_ids``, ``request_count``.

    :param requests: Rows, each ``{"custom_id", "prompt"}`` or ``{"custom_id", "body"}``, or prompts as plain strings.
        Exactly one of these, ``path`` and ``source``.
    :param path: JSONL file, plain or ``.gz`` or ``.zst``, local or on any object storage
        (``s3://conn@bucket/key``); also a list of them or a glob.
    :param source: Instead of requests, the rows of a table: files or a query. Each row becomes one request.
    :param key: The column, or columns, that tell the rows apart.
    :param prompt: The prompt of each row, a template over columns: ``"Title: {title}"``.
    :param prompt_file: A file with the prompt as a Jinja template over columns, instead of ``prompt``.
    :param messages: The messages of each row, with columns in their texts and URLs, instead of ``prompt``.
    :param on_null: What to do with a row whose prompt would have a null or be empty: ``fail``, ``skip`` it, or send it
        with an ``empty`` text.
    :param endpoint: The endpoint that the requests are for; a row's ``url``, if present, must be the same.
    :param mistral_conn_id: The connection's id.
    """

    template_fields: Sequence[str] = (
        "requests",
        "path",
        "source",
        "prompt_file",
        "endpoint",
        "mistral_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"requests": "json"}

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
        on_null: Literal["fail", "skip", "empty"] = "fail",
        endpoint: str = DEFAULT_ENDPOINT,
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
        self.on_null = on_null
        self.endpoint = endpoint
        self._request_count: int | None = None

    def told(self, *, succeeded: bool) -> Told:
        """Tell OpenLineage of the requests; the uploads are no datasets, for each run has others."""
        about: dict[str, Any] = {"endpoint": self.endpoint}
        if self._request_count is not None:
            about["counts"] = {"total": self._request_count}
        return Told(about=about, inputs=[self.path, self.source])

    def run_batch_task(self, context: Context) -> list[str]:
        """Check the requests and upload them."""
        # Imported late: parsing a Dag needs none of it.
        from airflow_provider_mistral_batch.jsonl.requests.prepare import prepare_requests
        from airflow_provider_mistral_batch.jsonl.requests.template import RowTemplate

        with tempfile.TemporaryDirectory(prefix="mistral-batch-") as directory:
            prepared = prepare_requests(
                self._requests(Path(directory)),
                endpoint=self.endpoint,
                directory=directory,
                with_url=self.hook.rows_have_url,
                template=RowTemplate(model=self.hook.model_of_rows()),
            )
            self._check_count(prepared.request_count)
            self._request_count = prepared.request_count
            file_ids = []
            for number, shard in enumerate(prepared.shards, start=1):
                file = upload_shard_once(self.hook, shard, model=prepared.model)
                self.log.info(
                    "Request file %d of %d is %s: %d requests, %d bytes.",
                    number,
                    len(prepared.shards),
                    file.id,
                    shard.request_count,
                    shard.size,
                )
                file_ids.append(file.id)
        push_xcoms(context["ti"], {"file_ids": file_ids, "request_count": prepared.request_count})
        return file_ids

    def _check_count(self, count: int) -> None:
        """Fail before the upload if there are more requests than one job may have, because all files go to one job."""
        if count > limits.MAX_REQUESTS_PER_JOB:
            field = next(name for name in ("requests", "path", "source") if getattr(self, name) is not None)
            raise InvalidInputError(
                f"{field} has {count:,} requests, and a job may have at most {limits.MAX_REQUESTS_PER_JOB:,}: use "
                "MistralBatchInferenceOperator, which creates several jobs, or split the input"
            )

    def _requests(self, directory: Path) -> Any:
        check_exactly_one(requests=self.requests, path=self.path, source=self.source)
        self._check_source()
        if all(one is None for one in (self.prompt, self.prompt_file, self.messages)):
            check_no_table(key=self.key, source=self.source)
            if self.path is not None:
                return self._paths()
            check_requests(self.requests)
            return self.requests
        # Imported late: parsing a Dag needs none of it.
        from airflow_provider_mistral_batch.tables.requests import TableQuestion, TableRequests

        if self.source is None:
            raise InvalidInputError("prompt, prompt_file and messages belong to a table: pass source, too")
        question = TableQuestion(
            key=self.key,
            prompt=self.prompt,
            prompt_file=prompt_path(self),
            messages=self.messages,
            keep=(),
            on_null=self.on_null,
            endpoint=self.endpoint,
        )
        return TableRequests(self.source, question, directory=directory)

    def _check_source(self) -> None:
        from airflow_provider_mistral_batch.tables import Documents

        if isinstance(self.source, Documents):
            raise InvalidInputError(
                f"source={self.source!r}: documents are uploaded, found again and deleted with the batch that asks "
                "about them: use MistralBatchInferenceOperator"
            )

    def _paths(self) -> Any:
        if isinstance(self.path, (list, tuple)):
            return [absolute_path(path, field="path") for path in self.path]
        return absolute_path(self.path, field="path")
