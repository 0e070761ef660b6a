"""Mistral's own API: ``/v1/batch/jobs``, numbered pages, statuses in capitals."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timezone
from typing import Any, ClassVar, TypeVar

import msgspec

from airflow_provider_mistral_batch.api.dialects import wire
from airflow_provider_mistral_batch.api.dialects.base import Call, JobFilter, Page
from airflow_provider_mistral_batch.api.errors import SMALLER_JOBS
from airflow_provider_mistral_batch.api.inline_rows import rows_in, without_deep_parts
from airflow_provider_mistral_batch.api.models import (
    BatchJobIn,
    BatchJobOut,
    BatchJobRequestCounts,
    BatchStatus,
    FileOut,
)
from airflow_provider_mistral_batch.api.texts import label, optional_label

T = TypeVar("T")

_STATUSES: Mapping[str, str] = {
    "QUEUED": BatchStatus.VALIDATING,
    "RUNNING": BatchStatus.IN_PROGRESS,
    "SUCCESS": BatchStatus.COMPLETED,
    "FAILED": BatchStatus.FAILED,
    "TIMEOUT_EXCEEDED": BatchStatus.EXPIRED,
    "CANCELLATION_REQUESTED": BatchStatus.CANCELLING,
    "CANCELLED": BatchStatus.CANCELLED,
}


class MistralDialect:
    """Mistral's own API."""

    name: ClassVar[str] = "mistral"
    jobs_have_model: ClassVar[bool] = True
    jobs_tell_window: ClassVar[bool] = False
    rows_have_url: ClassVar[bool] = False
    files_per_job: ClassVar[int | None] = None
    always_lists_jobs: ClassVar[bool] = True
    filters_jobs: ClassVar[bool] = True
    uploads_have_model: ClassVar[bool] = False
    searches_files: ClassVar[bool] = True

    def create_job(self, job: BatchJobIn) -> Call:
        body: dict[str, Any] = {"endpoint": job.endpoint, "timeout_hours": job.timeout_hours}
        if job.input_files is not None:
            body["input_files"] = list(job.input_files)
        if job.requests is not None:
            # The published examples have `method` and `url`, but the schema's BatchRequest has neither.
            body["requests"] = [
                {name: row[name] for name in ("custom_id", "body") if name in row} for row in job.requests
            ]
        for name in ("model", "agent_id", "metadata"):
            if (value := getattr(job, name)) is not None:
                body[name] = value
        as_file = "Upload the requests as a file, and pass its id in input_files"
        too_large = SMALLER_JOBS if job.requests is None else as_file
        return Call("POST", "/v1/batch/jobs", json=body, remedies={413: too_large})

    def get_job(self, batch_id: str, *, inline: bool) -> Call:
        return Call("GET", wire.job_path("batch/jobs", batch_id), [("inline", "true")] if inline else [])

    def cancel_job(self, batch_id: str) -> Call:
        return Call("POST", wire.job_path("batch/jobs", batch_id) + "/cancel")

    def delete_job(self, batch_id: str) -> Call:
        return Call("DELETE", wire.job_path("batch/jobs", batch_id))

    def list_jobs(self, jobs: JobFilter, cursor: str | None, page_size: int) -> Call:
        params = [*_page_number(cursor, page_size), ("order_by", jobs.order_by)]
        if jobs.status is not None:
            # The wire has no word for `finalizing`, so that one selects nothing here.
            params += [("status", word) for word, status in _STATUSES.items() if status in jobs.status]
        if jobs.model is not None:
            params.append(("model", jobs.model))
        if jobs.agent_id is not None:
            params.append(("agent_id", jobs.agent_id))
        if jobs.created_after is not None:
            params.append(("created_after", jobs.created_after.astimezone(timezone.utc).isoformat()))
        if jobs.created_by_me:
            params.append(("created_by_me", "true"))
        return Call("GET", "/v1/batch/jobs", params, remedies=wire.LISTING_REMEDIES)

    def list_files(self, filters: Mapping[str, Any], cursor: str | None, page_size: int) -> Call:
        params = [*_page_number(cursor, page_size), *wire.query(filters)]
        return Call("GET", "/v1/files", params, remedies=wire.LISTING_REMEDIES)

    def file_url(self, file_id: str, *, expiry: int) -> Call:
        return Call("GET", wire.file_path(file_id) + "/url", [("expiry", str(expiry))])

    def decode_job(self, content: bytes) -> BatchJobOut:
        try:
            return wire.read(content, _Job).as_model()
        except RecursionError:
            return wire.read(without_deep_parts(content)[0], _Job).as_model()

    def decode_rows(self, content: bytes) -> list[bytes]:
        return rows_in(content)

    def decode_jobs(self, content: bytes, cursor: str | None, page_size: int) -> Page[BatchJobOut]:
        jobs = wire.read(content, _Jobs)
        return _numbered_page([job.as_model() for job in jobs.data or ()], cursor, page_size, jobs.total)

    def decode_files(self, content: bytes, cursor: str | None, page_size: int) -> Page[FileOut]:
        files = wire.read(content, wire.Files)
        page = _numbered_page(files.items(), cursor, page_size, files.total)
        # Not the API itself, but a gateway may say so: one that gives the first page for each number.
        return msgspec.structs.replace(page, next=None) if files.has_more is False else page

    def cursor_after(self, batch_id: str) -> str | None:
        return None


class _Job(msgspec.Struct):
    id: wire.Id
    status: str
    input_files: list[wire.Id] | None = None
    endpoint: str | None = None
    errors: Any = None
    # Times are epoch seconds, sometimes with a fraction.
    created_at: float | None = None
    started_at: float | None = None
    completed_at: float | None = None
    # Not in the published schema of answers; read in case a server sends it.
    timeout_hours: int | None = None
    total_requests: int | None = None
    succeeded_requests: int | None = None
    failed_requests: int | None = None
    output_file: wire.Id | None = None
    error_file: wire.Id | None = None
    metadata: Any = None
    model: str | None = None
    agent_id: str | None = None
    outputs: Any = None

    def as_model(self) -> BatchJobOut:
        status = _STATUSES.get(self.status, self.status)
        created_at, completed_at = wire.seconds(self.created_at) or 0, wire.seconds(self.completed_at)
        input_files = self.input_files or []
        return BatchJobOut(
            id=self.id,
            endpoint=label(self.endpoint or ""),
            errors=wire.job_errors(self.errors),
            input_file_id=input_files[0] if input_files else None,
            input_files=input_files,
            completion_window=None if self.timeout_hours is None else f"{self.timeout_hours}h",
            status=status,
            raw_status=self.status,
            output_file_id=self.output_file or None,
            error_file_id=self.error_file or None,
            created_at=created_at,
            in_progress_at=wire.seconds(self.started_at),
            expires_at=None if self.timeout_hours is None else created_at + self.timeout_hours * 3600,
            # The wire has one time for every kind of end.
            completed_at=completed_at if status == BatchStatus.COMPLETED else None,
            failed_at=completed_at if status == BatchStatus.FAILED else None,
            expired_at=completed_at if status == BatchStatus.EXPIRED else None,
            cancelled_at=completed_at if status == BatchStatus.CANCELLED else None,
            request_counts=BatchJobRequestCounts(
                total=self.total_requests or 0,
                completed=self.succeeded_requests or 0,
                failed=self.failed_requests or 0,
            ),
            metadata=self.metadata if isinstance(self.metadata, dict) else None,
            model=optional_label(self.model),
            agent_id=optional_label(self.agent_id),
            outputs=[row for row in self.outputs if isinstance(row, dict)]
            if isinstance(self.outputs, list)
            else None,
        )


class _Jobs(msgspec.Struct):
    data: list[_Job] | None = None
    total: int | None = None


def _page_number(cursor: str | None, page_size: int) -> list[tuple[str, str]]:
    return [("page", (cursor or "0").partition("/")[0]), ("page_size", str(page_size))]


def _numbered_page(items: list[T], cursor: str | None, page_size: int, total: int | None) -> Page[T]:
    # The cursor holds the page's number and how many items came before it: a server may send smaller pages than asked.
    number, _, before = (cursor or "0/0").partition("/")
    so_far = int(before) + len(items)
    # For a server that does not count, a page that is not full is the last.
    is_last = so_far >= total if total else len(items) < page_size
    return Page(items, None if is_last or not items else f"{int(number) + 1}/{so_far}", total)
