"""What a dialect of the Batch API is: the calls it makes, the answers it reads, and what its API can do."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from airflow_provider_mistral_batch.api.checks import check_choice
from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.api.models import BatchJobIn, BatchJobOut, BatchStatus, FileOut

T = TypeVar("T")


class Call(NamedTuple):
    """
    One HTTP call.

    :param params: Query parameters.
    :param json: The body.
    :param remedies: What the user can do, by the status code of an error, where this call tells more than the status.
        That of 413 is also for a 400 and a 422 whose text says that a job or a file is too large.
    :param creates_job: Whether it creates a job: a conflict with files that are still being processed passes.
    """

    method: str
    path: str
    params: Sequence[tuple[str, str]] = ()
    json: Any = None
    remedies: Mapping[int, str] = {}
    creates_job: bool = False

    @property
    def conflict_passes(self) -> bool:
        """
        Whether a 409 can pass by itself.

        What is read or used may not be ready yet. A job that cannot be cancelled since it is over, a file that a job
        still needs and a name that is taken stay as they are.
        """
        return self.creates_job or self.method == "GET"

    @property
    def is_listing(self) -> bool:
        """Whether it reads a page of all jobs or files."""
        return self.method == "GET" and self.path in ("/v1/batch/jobs", "/v1/batches", "/v1/files")

    @property
    def operation(self) -> str:
        """Method and path, as messages name the call."""
        return f"{self.method} {self.path}"


class Page(msgspec.Struct, Generic[T], frozen=True):
    """
    One page of a listing.

    :param items: The page's items.
    :param next: Cursor of the next page; ``None`` on the last page.
    :param total: Items on all pages together, if the server says so.
    """

    items: list[T]
    next: str | None
    total: int | None = None


class JobFilter(msgspec.Struct, frozen=True, kw_only=True):
    """
    Which jobs a listing returns.

    The server's own filters only save pages: a dialect may have none, and Mistral does not document how its
    ``metadata`` filter works. :meth:`matches` has the last word.

    :param status: Published statuses.
    :param model: Jobs of this model.
    :param agent_id: Jobs of this agent.
    :param created_after: Jobs created at or after this time, by the server's clock.
    :param created_by_me: Only jobs that this API key created; not every dialect has this filter.
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
            check_choice("status", status, sorted(BatchStatus.ALL))
        if self.created_after is not None and not isinstance(self.created_after, datetime):
            raise InvalidInputError(
                f"created_after={self.created_after!r:.80} is not a time: pass a datetime"
            )
        check_choice("order_by", self.order_by, ("created", "-created"))

    def matches(self, job: BatchJobOut) -> bool:
        """Whether a job passes the filter. Where the job does not say, it passes."""
        return (
            (self.status is None or job.status in self.status)
            and (self.model is None or job.model is None or job.model == self.model)
            and (self.agent_id is None or job.agent_id is None or job.agent_id == self.agent_id)
            and not self.is_before(job)
            and all((job.metadata or {}).get(key) == value for key, value in (self.metadata or {}).items())
        )

    def is_before(self, job: BatchJobOut) -> bool:
        """Whether a job was created before ``created_after``. Where the job does not say when, it was not."""
        return (
            self.created_after is not None
            and job.created_at != 0
            and job.created_at < int(self.created_after.timestamp())
        )


class Dialect(Protocol):
    """
    One way to speak the Batch API over HTTP.

    The attributes say what the API can do, for code that must act differently. The methods build calls and read
    answers; a method that builds a call raises :class:`InvalidInputError` when the API has no such call. The
    ``decode_*`` methods raise ``msgspec.MsgspecError`` when they cannot read the answer.

    Uploads, downloads and deletions of files are the same in all dialects.
    """

    #: What users write into the connection.
    name: ClassVar[str]

    #: Whether the job names the model of its requests. If not, each request's body names it.
    jobs_have_model: ClassVar[bool]

    #: Whether a job tells its completion window, or when it expires.
    jobs_tell_window: ClassVar[bool]

    #: Whether each row of a request file names its ``method`` and ``url``, or has a ``custom_id`` and a ``body`` only.
    rows_have_url: ClassVar[bool]

    #: How many request files one job takes; ``None``: any number.
    files_per_job: ClassVar[int | None]

    #: Whether every server has a listing of jobs. If not, a 500 may mean that there is none.
    always_lists_jobs: ClassVar[bool]

    #: Whether the server chooses the jobs of a listing. If not, a listing of a few takes as many calls as one of all.
    filters_jobs: ClassVar[bool]

    #: Whether an upload names the model of its requests, so that a gateway knows which provider gets the file.
    uploads_have_model: ClassVar[bool]

    #: Whether the listing of files can be searched by name. If not, the caller looks through the newest files.
    searches_files: ClassVar[bool]

    def create_job(self, job: BatchJobIn) -> Call:
        """Create a job."""

    def get_job(self, batch_id: str, *, inline: bool) -> Call:
        """Read a job; with its result rows if ``inline``."""

    def cancel_job(self, batch_id: str) -> Call:
        """Ask for a job's cancellation."""

    def delete_job(self, batch_id: str) -> Call:
        """Delete a job."""

    def list_jobs(self, jobs: JobFilter, cursor: str | None, page_size: int) -> Call:
        """Read one page of jobs; a cursor of ``None`` is the first page."""

    def list_files(self, filters: Mapping[str, Any], cursor: str | None, page_size: int) -> Call:
        """Read one page of files; a cursor of ``None`` is the first page."""

    def file_url(self, file_id: str, *, expiry: int) -> Call:
        """Ask for a signed URL that is valid for ``expiry`` hours."""

    def decode_job(self, content: bytes) -> BatchJobOut:
        """Read a job."""

    def decode_rows(self, content: bytes) -> list[bytes]:
        """Read the result rows of an inline job from its answer: each in one line, and otherwise as it came."""

    def decode_jobs(self, content: bytes, cursor: str | None, page_size: int) -> Page[BatchJobOut]:
        """Read the page of jobs that was asked for with this cursor and page size."""

    def decode_files(self, content: bytes, cursor: str | None, page_size: int) -> Page[FileOut]:
        """Read the page of files that was asked for with this cursor and page size."""

    def cursor_after(self, batch_id: str) -> str | None:
        """Cursor of the page that starts after a job; ``None`` where only reading all pages finds the place."""
