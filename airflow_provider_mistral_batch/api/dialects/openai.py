"""The API of OpenAI-compatible gateways: ``/v1/batches``, pages after an id, the published statuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from airflow_provider_mistral_batch.api.dialects import wire
from airflow_provider_mistral_batch.api.dialects.base import Call, JobFilter, Page
from airflow_provider_mistral_batch.api.errors import SMALLER_JOBS, InvalidInputError
from airflow_provider_mistral_batch.api.models import (
    BatchJobIn,
    BatchJobOut,
    BatchJobRequestCounts,
    FileOut,
)
from airflow_provider_mistral_batch.api.texts import label, optional_label


class OpenAIDialect:
    """The API of OpenAI-compatible gateways."""

    name: ClassVar[str] = "openai"
    jobs_have_model: ClassVar[bool] = False
    jobs_tell_window: ClassVar[bool] = True
    rows_have_url: ClassVar[bool] = True
    files_per_job: ClassVar[int | None] = 1
    always_lists_jobs: ClassVar[bool] = False
    filters_jobs: ClassVar[bool] = False
    uploads_have_model: ClassVar[bool] = True
    searches_files: ClassVar[bool] = False

    def create_job(self, job: BatchJobIn) -> Call:
        if job.requests is not None:
            raise InvalidInputError(
                "requests: the openai dialect has no inline requests: upload them as a file and pass input_files"
            )
        if job.input_files is None or len(job.input_files) != 1:
            raise InvalidInputError(
                f"input_files has {len(job.input_files or ())} files, and the openai dialect takes one file per job: "
                "create one job for each file"
            )
        if job.agent_id is not None:
            raise InvalidInputError(
                f"agent_id={job.agent_id!r}: the openai dialect has no agents: name a model in each row's body"
            )
        if job.model is not None:
            raise InvalidInputError(
                f"model={job.model!r}: jobs of the openai dialect have no model: name it in each row's body, or set "
                "default_model in the connection before the rows are uploaded"
            )
        body: dict[str, Any] = {
            "input_file_id": job.input_files[0],
            "endpoint": job.endpoint,
            "completion_window": job.completion_window,
        }
        if job.metadata is not None:
            body["metadata"] = job.metadata
        return Call("POST", "/v1/batches", json=body, remedies={413: SMALLER_JOBS})

    def get_job(self, batch_id: str, *, inline: bool) -> Call:
        return Call("GET", wire.job_path("batches", batch_id))

    def cancel_job(self, batch_id: str) -> Call:
        return Call("POST", wire.job_path("batches", batch_id) + "/cancel")

    def delete_job(self, batch_id: str) -> Call:
        raise InvalidInputError("delete: the openai dialect cannot delete batch jobs: cancel the job instead")

    def list_jobs(self, jobs: JobFilter, cursor: str | None, page_size: int) -> Call:
        if jobs.order_by != "-created":
            raise InvalidInputError(
                f"order_by={jobs.order_by!r}: the openai dialect lists the newest jobs first: leave order_by out"
            )
        if jobs.created_by_me:
            raise InvalidInputError(
                "created_by_me=True: the openai dialect does not say who created a job: leave created_by_me out"
            )
        return Call("GET", "/v1/batches", _after(cursor, page_size), remedies=wire.LISTING_REMEDIES)

    def list_files(self, filters: Mapping[str, Any], cursor: str | None, page_size: int) -> Call:
        unknown = [name for name, value in filters.items() if value is not None and name != "purpose"]
        if unknown:
            raise InvalidInputError(
                f"{', '.join(unknown)}: the openai dialect filters files by purpose only: leave other filters out"
            )
        params = [*_after(cursor, page_size), *wire.query(filters)]
        return Call("GET", "/v1/files", params, remedies=wire.LISTING_REMEDIES)

    def file_url(self, file_id: str, *, expiry: int) -> Call:
        raise InvalidInputError("get_signed_url: the openai dialect has no signed URLs: use download_file")

    def decode_job(self, content: bytes) -> BatchJobOut:
        return wire.read(content, _Job).as_model()

    def decode_rows(self, content: bytes) -> list[bytes]:
        return []

    def decode_jobs(self, content: bytes, cursor: str | None, page_size: int) -> Page[BatchJobOut]:
        answer = wire.read(content, _Jobs)
        jobs = [job.as_model() for job in answer.data or ()]
        return Page(jobs, _next_after([job.id for job in jobs], cursor, page_size, answer.has_more))

    def decode_files(self, content: bytes, cursor: str | None, page_size: int) -> Page[FileOut]:
        answer = wire.read(content, wire.Files)
        files = answer.items()
        return Page(files, _next_after([file.id for file in files], cursor, page_size, answer.has_more))

    def cursor_after(self, batch_id: str) -> str | None:
        return batch_id


class _Counts(msgspec.Struct):
    total: int | None = None
    completed: int | None = None
    failed: int | None = None


class _Job(msgspec.Struct):
    id: wire.Id
    status: str
    object: str | None = None
    endpoint: str | None = None
    errors: Any = None
    input_file_id: wire.Id | None = None
    completion_window: str | None = None
    output_file_id: wire.Id | None = None
    error_file_id: wire.Id | None = None
    created_at: float | None = None
    in_progress_at: float | None = None
    expires_at: float | None = None
    finalizing_at: float | None = None
    completed_at: float | None = None
    failed_at: float | None = None
    expired_at: float | None = None
    cancelling_at: float | None = None
    cancelled_at: float | None = None
    request_counts: _Counts | None = None
    metadata: Any = None
    model: str | None = None

    def as_model(self) -> BatchJobOut:
        counts = self.request_counts or _Counts()
        return BatchJobOut(
            id=self.id,
            object=label(self.object or "batch"),
            endpoint=label(self.endpoint or ""),
            errors=wire.job_errors(self.errors),
            input_file_id=self.input_file_id,
            input_files=[self.input_file_id] if self.input_file_id else [],
            completion_window=optional_label(self.completion_window),
            status=self.status,
            raw_status=self.status,
            output_file_id=self.output_file_id or None,
            error_file_id=self.error_file_id or None,
            created_at=wire.seconds(self.created_at) or 0,
            in_progress_at=wire.seconds(self.in_progress_at),
            expires_at=wire.seconds(self.expires_at),
            finalizing_at=wire.seconds(self.finalizing_at),
            completed_at=wire.seconds(self.completed_at),
            failed_at=wire.seconds(self.failed_at),
            expired_at=wire.seconds(self.expired_at),
            cancelling_at=wire.seconds(self.cancelling_at),
            cancelled_at=wire.seconds(self.cancelled_at),
            request_counts=BatchJobRequestCounts(
                total=counts.total or 0, completed=counts.completed or 0, failed=counts.failed or 0
            ),
            metadata=self.metadata if isinstance(self.metadata, dict) else None,
            model=optional_label(self.model),
        )


class _Jobs(msgspec.Struct):
    data: list[_Job] | None = None
    has_more: bool | None = None


def _next_after(ids: Sequence[str], cursor: str | None, page_size: int, has_more: bool | None) -> str | None:
    """Cursor of the next page: the last id, unless this page is the last, or the same as the one before it."""
    if not ids or ids[-1] == cursor:
        return None
    return ids[-1] if (len(ids) >= page_size if has_more is None else has_more) else None


def _after(cursor: str | None, page_size: int) -> list[tuple[str, str]]:
    params = [("limit", str(page_size))]
    return params if cursor is None else [*params, ("after", cursor)]
