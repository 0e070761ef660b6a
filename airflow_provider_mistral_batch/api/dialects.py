"""JSON on the wire <-> models: one small class per dialect of the Batch API.

``mistral`` is Mistral's own API; ``openai`` is what OpenAI-compatible gateways in front of it speak. Nothing above this
module knows which one is in use, and no name of the wire leaves it. What comes from outside is read leniently: unknown
fields are ignored, optional ones may be missing or null.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar
from urllib.parse import quote

import msgspec

from airflow_provider_mistral_batch.api.decoding import decoded
from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.api.models import (
    BatchError,
    BatchJobIn,
    BatchJobOut,
    BatchJobRequestCounts,
    BatchStatus,
    DeletedOut,
    FileOut,
    check_id,
)

log = logging.getLogger(__name__)

T = TypeVar("T")


class Call(NamedTuple):
    """One HTTP call: ``params`` are query parameters, ``json`` is the body."""

    method: str
    path: str
    params: Sequence[tuple[str, str]] = ()
    json: Any = None

    @property
    def operation(self) -> str:
        """Method and path, as messages name the call."""
        return f"{self.method} {self.path}"


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Items of one page of a listing, the next page's cursor (``None``: this is the last), and items in all pages."""

    items: list[T]
    next: str | None
    total: int | None = None


class JobFilter(msgspec.Struct, frozen=True, kw_only=True):
    """
    Which jobs a listing is about.

    The server's own filters only spare us pages: a dialect may have none, and how Mistral's server reads a
    ``metadata`` filter is not documented. What counts is :meth:`matches`.

    :param status: Published statuses.
    :param model: Jobs of this model.
    :param agent_id: Jobs of this agent.
    :param created_after: Jobs created at this time or later, by the server's clock.
    :param created_by_me: Only jobs that this API key created (the mistral dialect alone can tell).
    :param metadata: Keys and values that a job's metadata must have.
    :param order_by: ``created`` (oldest first) or ``-created``.
    """

    status: Collection[str] | None = None
    model: str | None = None
    agent_id: str | None = None
    created_after: datetime | None = None
    created_by_me: bool = False
    metadata: Mapping[str, str] | None = None
    order_by: str = "-created"

    def __post_init__(self) -> None:
        if isinstance(self.status, str):
            raise InvalidInputError(f"status={self.status!r} is not a list: pass a list of statuses")
        for status in self.status or ():
            if status not in BatchStatus.ALL:
                raise InvalidInputError(
                    f"status {status!r} is not known: use some of {', '.join(sorted(BatchStatus.ALL))}"
                )
        if self.created_after is not None and not isinstance(self.created_after, datetime):
            raise InvalidInputError(f"created_after={self.created_after!r:.80} is not a datetime")
        if self.order_by not in ("created", "-created"):
            raise InvalidInputError(f"order_by={self.order_by!r} is not known: use 'created' or '-created'")

    def matches(self, job: BatchJobOut) -> bool:
        """Whether a job is one of those asked for, as far as the job itself tells."""
        return (
            (self.status is None or job.status in self.status)
            and (self.model is None or job.model is None or job.model == self.model)
            and (self.agent_id is None or job.agent_id is None or job.agent_id == self.agent_id)
            and not self.is_before(job)
            and all((job.metadata or {}).get(key) == value for key, value in (self.metadata or {}).items())
        )

    def is_before(self, job: BatchJobOut) -> bool:
        """Whether a job was created before ``created_after``, as far as the job itself tells."""
        return (
            self.created_after is not None
            and job.created_at != 0
            and job.created_at < int(self.created_after.timestamp())
        )


class Dialect(Protocol):
    """
    What the client needs to know of a dialect.

    The ``decode_*`` methods raise ``msgspec.MsgspecError`` on what they cannot read.
    """

    name: ClassVar[str]
    #: Whether a job names the model of its requests; if not, each request does.
    jobs_have_model: ClassVar[bool]

    def create_job(self, job: BatchJobIn) -> Call:
        """Call that creates a job; raises :class:`InvalidInputError` for what the dialect cannot say."""

    def get_job(self, batch_id: str, *, inline: bool) -> Call:
        """Call that reads a job, with its result rows if ``inline``."""

    def cancel_job(self, batch_id: str) -> Call:
        """Call that asks for a job's cancellation."""

    def delete_job(self, batch_id: str) -> Call:
        """Call that deletes a job."""

    def list_jobs(self, jobs: JobFilter, cursor: str | None, page_size: int) -> Call:
        """Call that reads one page of jobs; a cursor of ``None`` is the first page."""

    def list_files(self, filters: Mapping[str, Any], cursor: str | None, page_size: int) -> Call:
        """Call that reads one page of files."""

    def file_url(self, file_id: str, *, expiry: int) -> Call:
        """Call that asks for a signed URL, good for ``expiry`` hours."""

    def decode_job(self, content: bytes) -> BatchJobOut:
        """Read a job."""

    def decode_jobs(self, content: bytes, cursor: str | None, page_size: int) -> Page[BatchJobOut]:
        """Read a page of jobs."""

    def decode_files(self, content: bytes, cursor: str | None, page_size: int) -> Page[FileOut]:
        """Read a page of files."""

    def cursor_after(self, batch_id: str) -> str | None:
        """Cursor of the page that starts after a job; ``None`` where only reading through finds the place."""


class MistralDialect:
    """Mistral's own API: ``/v1/batch/jobs``, pages by number, statuses in capitals."""

    name: ClassVar[str] = "mistral"
    jobs_have_model: ClassVar[bool] = True

    _STATUSES: ClassVar[Mapping[str, str]] = {
        "QUEUED": BatchStatus.VALIDATING,
        "RUNNING": BatchStatus.IN_PROGRESS,
        "SUCCESS": BatchStatus.COMPLETED,
        "FAILED": BatchStatus.FAILED,
        "TIMEOUT_EXCEEDED": BatchStatus.EXPIRED,
        "CANCELLATION_REQUESTED": BatchStatus.CANCELLING,
        "CANCELLED": BatchStatus.CANCELLED,
    }

    def create_job(self, job: BatchJobIn) -> Call:
        body: dict[str, Any] = {"endpoint": job.endpoint, "timeout_hours": job.timeout_hours}
        if job.input_files is not None:
            body["input_files"] = list(job.input_files)
        if job.requests is not None:
            # The published examples carry `method` and `url`; the wire's BatchRequest has no place for them.
            body["requests"] = [
                {name: row[name] for name in ("custom_id", "body") if name in row} for row in job.requests
            ]
        for name in ("model", "agent_id", "metadata"):
            if (value := getattr(job, name)) is not None:
                body[name] = value
        return Call("POST", "/v1/batch/jobs", json=body)

    def get_job(self, batch_id: str, *, inline: bool) -> Call:
        return Call("GET", _job_path("batch/jobs", batch_id), [("inline", "true")] if inline else [])

    def cancel_job(self, batch_id: str) -> Call:
        return Call("POST", _job_path("batch/jobs", batch_id) + "/cancel")

    def delete_job(self, batch_id: str) -> Call:
        return Call("DELETE", _job_path("batch/jobs", batch_id))

    def list_jobs(self, jobs: JobFilter, cursor: str | None, page_size: int) -> Call:
        params = [*_page_number(cursor, page_size), ("order_by", jobs.order_by)]
        if jobs.status is not None:
            # A status that this wire does not have (`finalizing`) matches none of its jobs.
            params += [("status", wire) for wire, status in self._STATUSES.items() if status in jobs.status]
        if jobs.model is not None:
            params.append(("model", jobs.model))
        if jobs.agent_id is not None:
            params.append(("agent_id", jobs.agent_id))
        if jobs.created_after is not None:
            params.append(("created_after", jobs.created_after.astimezone(timezone.utc).isoformat()))
        if jobs.created_by_me:
            params.append(("created_by_me", "true"))
        return Call("GET", "/v1/batch/jobs", params)

    def list_files(self, filters: Mapping[str, Any], cursor: str | None, page_size: int) -> Call:
        return Call("GET", "/v1/files", [*_page_number(cursor, page_size), *_query(filters)])

    def file_url(self, file_id: str, *, expiry: int) -> Call:
        return Call("GET", file_path(file_id) + "/url", [("expiry", str(expiry))])

    def decode_job(self, content: bytes) -> BatchJobOut:
        return self._job(_read(content, _MistralJob))

    def decode_jobs(self, content: bytes, cursor: str | None, page_size: int) -> Page[BatchJobOut]:
        wire = _read(content, _MistralJobs)
        return _numbered_page([self._job(job) for job in wire.data or ()], cursor, page_size, wire.total)

    def decode_files(self, content: bytes, cursor: str | None, page_size: int) -> Page[FileOut]:
        wire = _read(content, _Files)
        return _numbered_page(wire.items(), cursor, page_size, wire.total)

    def cursor_after(self, batch_id: str) -> str | None:
        return None

    def _job(self, wire: _MistralJob) -> BatchJobOut:
        status = _published_status(self._STATUSES.get(wire.status, wire.status))
        created_at, completed_at = _seconds(wire.created_at) or 0, _seconds(wire.completed_at)
        input_files = wire.input_files or []
        return BatchJobOut(
            id=wire.id,
            endpoint=wire.endpoint or "",
            errors=_errors(wire.errors),
            input_file_id=input_files[0] if input_files else None,
            input_files=input_files,
            completion_window=None if wire.timeout_hours is None else f"{wire.timeout_hours}h",
            status=status,
            raw_status=wire.status,
            output_file_id=wire.output_file or None,
            error_file_id=wire.error_file or None,
            created_at=created_at,
            in_progress_at=_seconds(wire.started_at),
            expires_at=None if wire.timeout_hours is None else created_at + wire.timeout_hours * 3600,
            # The wire has one time for all ends.
            completed_at=completed_at if status == BatchStatus.COMPLETED else None,
            failed_at=completed_at if status == BatchStatus.FAILED else None,
            expired_at=completed_at if status == BatchStatus.EXPIRED else None,
            cancelled_at=completed_at if status == BatchStatus.CANCELLED else None,
            request_counts=BatchJobRequestCounts(
                total=wire.total_requests or 0,
                completed=wire.succeeded_requests or 0,
                failed=wire.failed_requests or 0,
            ),
            metadata=wire.metadata if isinstance(wire.metadata, dict) else None,
            model=wire.model,
            agent_id=wire.agent_id,
            outputs=wire.outputs,
        )


class OpenAIDialect:
    """What OpenAI-compatible gateways speak: ``/v1/batches``, cursors, statuses in the published words."""

    name: ClassVar[str] = "openai"
    jobs_have_model: ClassVar[bool] = False

    def create_job(self, job: BatchJobIn) -> Call:
        if job.requests is not None:
            raise InvalidInputError(
                "requests: the openai dialect has no inline requests; upload them as a file and pass input_files"
            )
        if job.input_files is None or len(job.input_files) != 1:
            raise InvalidInputError(
                f"input_files has {len(job.input_files or ())} files; the openai dialect takes one file per job"
            )
        if job.agent_id is not None:
            raise InvalidInputError(
                f"agent_id={job.agent_id!r}: the openai dialect has no agents; name a model in each row's body"
            )
        if job.model is not None:
            raise InvalidInputError(
                f"model={job.model!r}: jobs of the openai dialect have no model; name it in each row's body, or set "
                "default_model in the connection before the rows are uploaded"
            )
        body: dict[str, Any] = {
            "input_file_id": job.input_files[0],
            "endpoint": job.endpoint,
            "completion_window": job.completion_window,
        }
        if job.metadata is not None:
            body["metadata"] = job.metadata
        return Call("POST", "/v1/batches", json=body)

    def get_job(self, batch_id: str, *, inline: bool) -> Call:
        return Call("GET", _job_path("batches", batch_id))

    def cancel_job(self, batch_id: str) -> Call:
        return Call("POST", _job_path("batches", batch_id) + "/cancel")

    def delete_job(self, batch_id: str) -> Call:
        raise InvalidInputError("delete: the openai dialect cannot delete batch jobs; cancel the job instead")

    def list_jobs(self, jobs: JobFilter, cursor: str | None, page_size: int) -> Call:
        if jobs.order_by != "-created":
            raise InvalidInputError(
                f"order_by={jobs.order_by!r}: the openai dialect lists jobs newest first only"
            )
        if jobs.created_by_me:
            raise InvalidInputError("created_by_me: the openai dialect does not tell who created a job")
        return Call("GET", "/v1/batches", _after(cursor, page_size))

    def list_files(self, filters: Mapping[str, Any], cursor: str | None, page_size: int) -> Call:
        unknown = [name for name, value in filters.items() if value is not None and name != "purpose"]
        if unknown:
            raise InvalidInputError(
                f"{', '.join(unknown)}: the openai dialect filters files by purpose alone"
            )
        return Call("GET", "/v1/files", [*_after(cursor, page_size), *_query(filters)])

    def file_url(self, file_id: str, *, expiry: int) -> Call:
        raise InvalidInputError("get_signed_url: the openai dialect has no signed URLs; use download_file")

    def decode_job(self, content: bytes) -> BatchJobOut:
        return self._job(_read(content, _OpenAIJob))

    def decode_jobs(self, content: bytes, cursor: str | None, page_size: int) -> Page[BatchJobOut]:
        wire = _read(content, _OpenAIJobs)
        jobs = [self._job(job) for job in wire.data or ()]
        return Page(jobs, _next_after([job.id for job in jobs], cursor, page_size, wire.has_more))

    def decode_files(self, content: bytes, cursor: str | None, page_size: int) -> Page[FileOut]:
        wire = _read(content, _Files)
        files = wire.items()
        return Page(files, _next_after([file.id for file in files], cursor, page_size, wire.has_more))

    def cursor_after(self, batch_id: str) -> str | None:
        return batch_id

    def _job(self, wire: _OpenAIJob) -> BatchJobOut:
        counts = wire.request_counts or _OpenAICounts()
        return BatchJobOut(
            id=wire.id,
            object=wire.object or "batch",
            endpoint=wire.endpoint or "",
            errors=_errors(wire.errors),
            input_file_id=wire.input_file_id,
            input_files=[wire.input_file_id] if wire.input_file_id else [],
            completion_window=wire.completion_window,
            status=_published_status(wire.status),
            raw_status=wire.status,
            output_file_id=wire.output_file_id or None,
            error_file_id=wire.error_file_id or None,
            created_at=_seconds(wire.created_at) or 0,
            in_progress_at=_seconds(wire.in_progress_at),
            expires_at=_seconds(wire.expires_at),
            finalizing_at=_seconds(wire.finalizing_at),
            completed_at=_seconds(wire.completed_at),
            failed_at=_seconds(wire.failed_at),
            expired_at=_seconds(wire.expired_at),
            cancelling_at=_seconds(wire.cancelling_at),
            cancelled_at=_seconds(wire.cancelled_at),
            request_counts=BatchJobRequestCounts(
                total=counts.total or 0, completed=counts.completed or 0, failed=counts.failed or 0
            ),
            metadata=wire.metadata if isinstance(wire.metadata, dict) else None,
            model=wire.model,
        )


DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for dialect in (MistralDialect(), OpenAIDialect())}


def dialect_named(name: str) -> Dialect:
    """
    Find a dialect by its name.

    :param name: ``mistral`` or ``openai``.
    :raises InvalidInputError: When there is no such dialect.
    """
    try:
        return DIALECTS[name]
    except (KeyError, TypeError):
        raise InvalidInputError(f"dialect={name!r} is not known: use one of {', '.join(DIALECTS)}") from None


def file_path(file_id: str) -> str:
    """Path of a file's resource; the same in all dialects."""
    return f"/v1/files/{quote(check_id(file_id, field='file_id'), safe='')}"


def decode_file(content: bytes) -> FileOut:
    """Read one file; the same in all dialects."""
    return _read(content, _File).model()


def decode_deleted(content: bytes) -> DeletedOut:
    """Read the answer to a deletion; the same in all dialects."""
    return _read(content, DeletedOut)


def decode_signed_url(content: bytes) -> str:
    """Read a signed URL."""
    return _read(content, _SignedUrl).url


class _WireError(msgspec.Struct):
    message: Any = None
    count: Any = None
    code: Any = None
    param: Any = None
    line: Any = None

    def model(self) -> BatchError:
        return BatchError(
            code=_text(self.code),
            message=_text(self.message),
            param=_text(self.param),
            line=self.line if isinstance(self.line, int) else None,
            count=self.count if isinstance(self.count, int) else 1,
        )


class _MistralJob(msgspec.Struct):
    id: str
    status: str
    input_files: list[str] | None = None
    endpoint: str | None = None
    errors: Any = None
    # Times are epoch seconds; a fraction does no harm.
    created_at: float | None = None
    started_at: float | None = None
    completed_at: float | None = None
    # The published schema does not have it in answers; read in case a server gives it.
    timeout_hours: int | None = None
    total_requests: int | None = None
    succeeded_requests: int | None = None
    failed_requests: int | None = None
    output_file: str | None = None
    error_file: str | None = None
    metadata: Any = None
    model: str | None = None
    agent_id: str | None = None
    outputs: list[dict[str, Any]] | None = None


class _MistralJobs(msgspec.Struct):
    data: list[_MistralJob] | None = None
    total: int | None = None


class _OpenAICounts(msgspec.Struct):
    total: int | None = None
    completed: int | None = None
    failed: int | None = None


class _OpenAIJob(msgspec.Struct):
    id: str
    status: str
    object: str | None = None
    endpoint: str | None = None
    errors: Any = None
    input_file_id: str | None = None
    completion_window: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: float | None = None
    in_progress_at: float | None = None
    expires_at: float | None = None
    finalizing_at: float | None = None
    completed_at: float | None = None
    failed_at: float | None = None
    expired_at: float | None = None
    cancelling_at: float | None = None
    cancelled_at: float | None = None
    request_counts: _OpenAICounts | None = None
    metadata: Any = None
    model: str | None = None


class _OpenAIJobs(msgspec.Struct):
    data: list[_OpenAIJob] | None = None
    has_more: bool | None = None


class _File(msgspec.Struct):
    id: str
    object: str | None = None
    bytes: int | None = None
    created_at: float | None = None
    filename: str | None = None
    purpose: str | None = None
    sample_type: str | None = None
    source: str | None = None
    num_lines: int | None = None
    mimetype: str | None = None
    signature: str | None = None
    expires_at: float | None = None
    visibility: str | None = None
    deleted: bool | None = None

    def model(self) -> FileOut:
        return FileOut(
            id=self.id,
            object=self.object or "file",
            bytes=self.bytes or 0,
            created_at=_seconds(self.created_at) or 0,
            filename=self.filename or "",
            purpose=self.purpose or "",
            sample_type=self.sample_type,
            source=self.source,
            num_lines=self.num_lines,
            mimetype=self.mimetype,
            signature=self.signature,
            expires_at=_seconds(self.expires_at),
            visibility=self.visibility,
            deleted=bool(self.deleted),
        )


class _Files(msgspec.Struct):
    data: list[_File] | None = None
    total: int | None = None
    has_more: bool | None = None

    def items(self) -> list[FileOut]:
        return [file.model() for file in self.data or ()]


class _SignedUrl(msgspec.Struct):
    url: str


def _read(content: bytes, wire: type[T]) -> T:
    return decoded(lambda text: msgspec.json.decode(text, type=wire, strict=False), content)


#: A time in seconds is below this until the year 5138; one in milliseconds has been above since 1973.
_MILLISECONDS = 100_000_000_000


def _seconds(value: float | None) -> int | None:
    """Read a time; one in milliseconds is understood, and one that cannot be is no time at all."""
    if value is None:
        return None
    seconds = value / 1000 if value >= _MILLISECONDS else value
    return int(seconds) if 0 <= seconds < _MILLISECONDS else None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _errors(value: Any) -> list[BatchError]:
    """Read a job's errors: a list, or ``{"data": [...]}``; what is neither is no reason to not read the job."""
    if isinstance(value, dict):
        value = value.get("data")
    if not isinstance(value, list):
        return []
    return [
        (msgspec.convert(item, _WireError) if isinstance(item, dict) else _WireError(message=item)).model()
        for item in value
    ]


def _page_number(cursor: str | None, page_size: int) -> list[tuple[str, str]]:
    return [("page", (cursor or "0").partition("/")[0]), ("page_size", str(page_size))]


def _numbered_page(items: list[T], cursor: str | None, page_size: int, total: int | None) -> Page[T]:
    # The cursor is the page's number and how many items came before it: a server may serve smaller pages than asked.
    number, _, before = (cursor or "0/0").partition("/")
    so_far = int(before) + len(items)
    # A server that does not count: a page that is not full is the last.
    is_last = so_far >= total if total else len(items) < page_size
    return Page(items, None if is_last or not items else f"{int(number) + 1}/{so_far}", total)


def _next_after(ids: Sequence[str], cursor: str | None, page_size: int, has_more: bool | None) -> str | None:
    """Cursor of the next page: the last id, unless this page is the last, or the same as the one before."""
    if not ids or ids[-1] == cursor:
        return None
    return ids[-1] if (len(ids) >= page_size if has_more is None else has_more) else None


def _after(cursor: str | None, page_size: int) -> list[tuple[str, str]]:
    params = [("limit", str(page_size))]
    return params if cursor is None else [*params, ("after", cursor)]


def _query(filters: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Query parameters of a listing's filters; a list repeats its name, ``None`` is left out."""
    return [
        (name, str(item).lower() if isinstance(item, bool) else str(item))
        for name, value in filters.items()
        if value is not None
        for item in (value if isinstance(value, (list, tuple, set, frozenset)) else [value])
    ]


def _job_path(collection: str, batch_id: str) -> str:
    return f"/v1/{collection}/{quote(check_id(batch_id, field='batch_id'), safe='')}"


_unknown_statuses_seen: set[str] = set()


def _published_status(status: str) -> str:
    """Pass a status on; log, once in a process, that nobody knows it."""
    if status not in BatchStatus.ALL and status not in _unknown_statuses_seen:
        _unknown_statuses_seen.add(status)
        log.warning(
            "The API reports the job status %r, which this version does not know. It is taken as not final; "
            "the deadline bounds the wait.",
            status,
        )
    return status
