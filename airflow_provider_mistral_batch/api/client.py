"""The client: one method per operation of the Batch and Files API.

Operations and their parameters are those of the API's OpenAPI description (``jobs_api_routes_batch_*`` and
``files_api_routes_*``); names and values are the published vocabulary.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec
from requests_toolbelt import MultipartEncoder, MultipartEncoderMonitor

from airflow_provider_mistral_batch.api import limits
from airflow_provider_mistral_batch.api.checks import check_whole
from airflow_provider_mistral_batch.api.dialects.base import Call, JobFilter, Page
from airflow_provider_mistral_batch.api.dialects.registry import dialect_named
from airflow_provider_mistral_batch.api.dialects.wire import (
    decode_deleted,
    decode_file,
    decode_signed_url,
    file_path,
)
from airflow_provider_mistral_batch.api.downloads import Download
from airflow_provider_mistral_batch.api.errors import (
    BadRequestError,
    InvalidInputError,
    MistralCallError,
    MistralConnectionError,
)
from airflow_provider_mistral_batch.api.models import (
    BatchJobIn,
    BatchJobOut,
    BatchJobsOut,
    DeletedOut,
    FileOut,
    FilesOut,
)
from airflow_provider_mistral_batch.api.retries import RetryPolicy
from airflow_provider_mistral_batch.api.transport import DEFAULT_TIMEOUT, Transport

log = logging.getLogger(__name__)

DEFAULT_BASE_URL = "https://api.mistral.ai"

_Listed = TypeVar("_Listed", BatchJobOut, FileOut)


class MistralBatchClient:
    """
    Calls the Batch and Files API.

    One instance belongs to one thread at a time. Close it, or use it as a context manager.

    :param api_key: API key; sent to the server and shown nowhere.
    :param base_url: Scheme and host, with a path prefix where a gateway has one. A trailing ``/v1`` is understood.
    :param dialect: ``mistral``, or ``openai`` for OpenAI-compatible gateways.
    :param timeout: Seconds to connect and to wait between two bytes of an answer; one number is for the latter.
    :param retries: How stubbornly calls are made.
    :param proxies: Proxy URL by scheme, as ``requests`` takes them.
    :param verify: Whether TLS certificates are checked, or the path of a CA bundle.
    :param key_source: Where the key came from, for the message of a 401.
    :param renew_key: Asked for the key anew when it is refused. If it gives another one, the call is made once more,
        and so a wait of days survives a rotated key.
    :raises InvalidInputError: When one of these cannot work.
    """

    def __init__(
        self,
        api_key: str,
        base_url: str = DEFAULT_BASE_URL,
        *,
        dialect: str = "mistral",
        timeout: float | tuple[float, float] = DEFAULT_TIMEOUT,
        retries: RetryPolicy | None = None,
        proxies: Mapping[str, str] | None = None,
        verify: bool | str = True,
        key_source: str = "api_key",
        renew_key: Callable[[], str | None] | None = None,
    ) -> None:
        self.dialect = dialect_named(dialect)
        self._transport = Transport(
            api_key,
            base_url,
            timeout=timeout,
            retries=retries,
            proxies=proxies,
            verify=verify,
            key_source=key_source,
            renew_key=renew_key,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self.base_url!r}, dialect={self.dialect.name!r})"

    def __enter__(self) -> MistralBatchClient:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def base_url(self) -> str:
        """Where the API is, without the ``/v1``."""
        return self._transport.base_url

    @property
    def verifies_tls(self) -> bool:
        """Whether TLS certificates are checked."""
        return self._transport.verifies_tls

    @property
    def clock_offset(self) -> float:
        """Seconds by which the server's clock is ahead of ours, from its last answer; 0 before the first."""
        return self._transport.clock_offset

    def close(self) -> None:
        """Close the pooled connections."""
        self._transport.close()

    # Jobs

    def create(self, job: BatchJobIn) -> BatchJobOut:
        """
        Create a batch job. Tried again only while the server certainly did not act.

        :param job: What is to be created.
        :raises MistralCallError: Its ``may_have_acted`` tells whether the job may exist all the same.
        """
        created = self._transport.call(
            self.dialect.create_job(job), self.dialect.decode_job, repeatable=False
        )
        # Known here though the API does not repeat it.
        created_at = created.created_at or int(time.time() + self.clock_offset)
        return msgspec.structs.replace(
            created,
            created_at=created_at,
            completion_window=created.completion_window or job.completion_window,
            expires_at=created.expires_at or created_at + job.timeout_hours * 3600,
        )

    def get(self, batch_id: str, *, inline: bool = False) -> BatchJobOut:
        """
        Read a batch job.

        :param batch_id: The job's id.
        :param inline: Ask for the result rows in ``outputs``; inline jobs have them.
        :raises MistralCallError: When there is no usable answer; :class:`NotFoundError` when there is no such job.
        """
        return self._transport.call(self.dialect.get_job(batch_id, inline=inline), self.dialect.decode_job)

    def cancel(self, batch_id: str) -> BatchJobOut:
        """
        Ask for a job's cancellation. It is over only when its status is ``cancelled``, some time later.

        :param batch_id: The job's id.
        """
        return self._transport.call(self.dialect.cancel_job(batch_id), self.dialect.decode_job)

    def delete(self, batch_id: str) -> DeletedOut:
        """
        Delete a job from the record.

        :param batch_id: The job's id.
        """
        return self._transport.call(self.dialect.delete_job(batch_id), _decode_deletion_of(batch_id))

    def list(self, limit: int | None = None, after: str | None = None, **filters: Any) -> BatchJobsOut:
        """
        List jobs, newest first.

        :param limit: Jobs at most; 100 when ``None``.
        :param after: Start after the job with this id.
        :param filters: See :class:`~airflow_provider_mistral_batch.api.dialects.base.JobFilter`.
        """
        limit = _checked_limit(limit)
        _job_filter(filters)
        # One more than asked for tells whether there are more. Where jobs must be picked out, small pages do not pay.
        page_size = limits.PAGE_SIZE if after or filters else min(limit + 1, limits.PAGE_SIZE)
        data = list(itertools.islice(self.iter_jobs(after=after, page_size=page_size, **filters), limit + 1))
        data, has_more = data[:limit], len(data) > limit
        return BatchJobsOut(
            data=data,
            first_id=data[0].id if data else None,
            last_id=data[-1].id if data else None,
            has_more=has_more,
        )

    def iter_jobs(
        self, *, after: str | None = None, page_size: int = limits.PAGE_SIZE, **filters: Any
    ) -> Iterator[BatchJobOut]:
        """
        Go through jobs page by page, each job once, however the pages shift meanwhile.

        :param after: Start after the job with this id.
        :param page_size: Jobs per call, 100 at most.
        :param filters: See :class:`~airflow_provider_mistral_batch.api.dialects.base.JobFilter`.
        :raises InvalidInputError: When there is no such filter, or no job ``after`` in the listing.
        """
        wanted = _job_filter(filters)

        def read_page(cursor: str | None) -> Page[BatchJobOut]:
            page = self.jobs_page(wanted, cursor, page_size)
            if wanted.order_by == "-created" and page.items and wanted.is_before(page.items[-1]):
                # What follows is older still.
                return msgspec.structs.replace(page, next=None)
            return page

        return (job for job in self._walk(read_page, after) if wanted.matches(job))

    def _walk(self, read_page: Callable[[str | None], Page[_Listed]], after: str | None) -> Iterator[_Listed]:
        """Items of all pages, each once, beginning after the one with the id ``after``."""
        cursor = self.dialect.cursor_after(after) if after else None
        reading_to_after = after is not None and cursor is None
        seen: set[str] = set()
        while True:
            page = read_page(cursor)
            for item in page.items:
                if item.id in seen:
                    continue
                seen.add(item.id)
                if not reading_to_after:
                    yield item
                elif item.id == after:
                    reading_to_after = False
            if page.next is None:
                break
            cursor = page.next
        if reading_to_after:
            raise InvalidInputError(
                f"after={after!r:.80} is not in this listing (any more): start without it, or walk through all at once"
            )

    def jobs_page(
        self, wanted: JobFilter, cursor: str | None = None, page_size: int = limits.PAGE_SIZE
    ) -> Page[BatchJobOut]:
        """
        Read one page of jobs as the server filters them, for callers that keep their own time between pages.

        :param wanted: Which jobs.
        :param cursor: ``next`` of the page before; ``None`` for the first.
        :param page_size: Jobs on the page, 100 at most.
        """
        return self._transport.call(
            self.dialect.list_jobs(wanted, cursor, page_size),
            lambda content: self.dialect.decode_jobs(content, cursor, page_size),
        )

    # Files

    def upload_file(
        self,
        file: str | os.PathLike[str] | IO[bytes],
        purpose: str = "batch",
        *,
        filename: str | None = None,
        expiry: int | None = None,
        visibility: str | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> FileOut:
        """
        Upload a file, streaming it from disk.

        :param file: Path of a local file, or an open, seekable binary file.
        :param purpose: ``batch`` for request files.
        :param filename: Name under which the API shows it; by default the file's own.
        :param expiry: Hours after which the API deletes it.
        :param visibility: ``workspace`` or ``user``.
        :param on_progress: Called with the bytes sent so far and in all.
        :raises InvalidInputError: When the file is empty or larger than the API takes; nothing was sent.
        :raises MistralCallError: Its ``may_have_acted`` tells whether the file may be there all the same.
        """
        with contextlib.ExitStack() as stack:
            if isinstance(file, (str, os.PathLike)):
                file = stack.enter_context(Path(file).open("rb"))
            filename = filename or Path(str(getattr(file, "name", ""))).name or "batch.jsonl"
            size = _check_upload(file, filename)
            fields = {"purpose": purpose, "expiry": expiry, "visibility": visibility}
            form = {name: str(value) for name, value in fields.items() if value is not None}
            call = Call("POST", "/v1/files")

            def upload() -> FileOut:
                file.seek(0)
                content = _SizedFile(file, size)
                body = MultipartEncoder({**form, "file": (filename, content, "application/jsonl")})
                if on_progress is not None:
                    body = MultipartEncoderMonitor(
                        body, lambda monitor: on_progress(min(monitor.bytes_read, size), size)
                    )
                headers = {"Content-Type": body.content_type}
                with self._transport.send(call, data=body, headers=headers) as response:
                    return self._transport.decoded(call, response, decode_file)

            return self._transport.repeat(upload, repeatable=False)

    def get_file(self, file_id: str) -> FileOut:
        """
        Read what the API knows of a file.

        :param file_id: The file's id.
        """
        return self._transport.call(Call("GET", file_path(file_id)), decode_file)

    def list_files(self, limit: int | None = None, after: str | None = None, **filters: Any) -> FilesOut:
        """
        List files, newest first.

        :param limit: Files at most; 100 when ``None``.
        :param after: Start after the file with this id.
        :param filters: See :meth:`iter_files`.
        """
        limit = _checked_limit(limit)
        data = list(itertools.islice(self.iter_files(after=after, **filters), limit + 1))
        return FilesOut(data=data[:limit], has_more=len(data) > limit)

    def iter_files(
        self,
        *,
        after: str | None = None,
        purpose: str | None = None,
        search: str | None = None,
        sample_type: Sequence[str] | None = None,
        source: Sequence[str] | None = None,
        mimetypes: Sequence[str] | None = None,
    ) -> Iterator[FileOut]:
        """
        Go through files page by page, each file once.

        :param after: Start after the file with this id.
        :param purpose: Files of this purpose.
        :param search: Files whose name has this in it.
        :param sample_type: Files of one of these types, such as ``batch_result``.
        :param source: ``upload``, ``repository``, ``mistral``.
        :param mimetypes: Files of one of these types.
        """
        filters = {
            "purpose": purpose,
            "search": search,
            "sample_type": sample_type,
            "source": source,
            "mimetypes": mimetypes,
        }

        def read_page(cursor: str | None) -> Page[FileOut]:
            return self._transport.call(
                self.dialect.list_files(filters, cursor, limits.PAGE_SIZE),
                lambda content: self.dialect.decode_files(content, cursor, limits.PAGE_SIZE),
            )

        return self._walk(read_page, after)

    def delete_file(self, file_id: str) -> DeletedOut:
        """
        Delete a file.

        :param file_id: The file's id.
        """
        return self._transport.call(Call("DELETE", file_path(file_id)), _decode_deletion_of(file_id))

    def get_signed_url(self, file_id: str, expiry: int = 24) -> str:
        """
        Get a URL from which anyone can download a file. It is a secret: whoever has it needs no key.

        :param file_id: The file's id.
        :param expiry: Hours that it is good for, 1 to 168.
        """
        return self._transport.call(self.dialect.file_url(file_id, expiry=expiry), decode_signed_url)

    def download_file(self, file_id: str) -> bytes:
        """
        Download a file into memory; for large ones use :meth:`stream_file`.

        :param file_id: The file's id.
        """
        return b"".join(self.stream_file(file_id))

    def stream_file(self, file_id: str) -> Iterator[bytes]:
        """
        Download a file in chunks, in constant memory.

        A download that breaks goes on where it broke: by ``Range``, or, where the server does not know it, by reading
        from the start and skipping what was already given. The caller sees one whole stream, or an error.

        :param file_id: The file's id.
        :return: Chunks of at most 1 MiB.
        :raises MistralCallError: When the download cannot be finished.
        """
        call = Call("GET", f"{file_path(file_id)}/content")
        download = Download(call.operation)
        ended_at: int | None = None
        while True:
            # Up to the first new bytes, a break is a failed attempt like any other; after them, progress was made.
            chunks = self._transport.repeat(lambda: self._begin_download(call, download), repeatable=True)
            try:
                with contextlib.closing(chunks):
                    yield from chunks
                if (
                    not download.ends_unmarked
                    or download.given == ended_at
                    or self._is_whole(download, file_id)
                ):
                    return
                ended_at = download.given
            except MistralConnectionError as error:
                log.warning("%s The download goes on at byte %d.", error, download.given)

    def _is_whole(self, download: Download, file_id: str) -> bool:
        """
        Ask whether a file ends where its download did, which nothing marked.

        :return: ``False`` when that could not be asked: reading once more tells whether there is more.
        :raises MistralConnectionError: When there must be more.
        """
        try:
            size = self.get_file(file_id).bytes
        except MistralCallError as error:
            log.info("%s So the size of the file is not known; %d bytes came.", error, download.given)
            # A server that answers, but not this, never will. One in trouble may have broken off the download, too.
            return not error.transient
        # A server that knows no size says 0.
        download.length = max(size, download.given)
        download.end(0)
        return True

    def _begin_download(self, call: Call, download: Download) -> Generator[bytes, None, None]:
        """Make an attempt to get new bytes; return them and all that follow."""
        chunks = self._new_chunks(call, download)
        first = next(chunks, b"")

        def all_chunks() -> Generator[bytes, None, None]:
            with contextlib.closing(chunks):
                if first:
                    yield first
                yield from chunks

        return all_chunks()

    def _new_chunks(self, call: Call, download: Download) -> Generator[bytes, None, None]:
        """Get what is missing, as far as the connection lasts."""
        try:
            response = self._transport.send(call, headers=download.request_headers())
        except BadRequestError as error:
            if error.status_code != 416:
                raise
            # There is no more, or the server is peculiar about ranges: reading it all tells which.
            download.by_range = False
            response = self._transport.send(call, headers=download.request_headers())
        with response:
            skip = download.begin(response.status_code, response.headers)
            for chunk in self._transport.chunks(call, response):
                new = chunk[skip:]
                skip -= len(chunk) - len(new)
                if new:
                    download.given += len(new)
                    yield new
        download.end(skip)


class _SizedFile:
    """
    A file as the multipart encoder wants it: with the number of bytes left.

    The encoder's own wrapper asks the file descriptor, which knows nothing of compressed or remote files.
    """

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.read = file.read
        self._file = file
        self._size = size

    @property
    def len(self) -> int:
        return self._size - self._file.tell()


def _checked_limit(limit: int | None) -> int:
    if limit is None:
        return limits.PAGE_SIZE
    check_whole("limit", limit, at_least=1, unit="items")
    return limit


def _check_upload(file: IO[bytes], filename: str) -> int:
    try:
        size = file.seek(0, io.SEEK_END)
        readable = isinstance(file.read(0), bytes)
    except (AttributeError, OSError, ValueError):
        size, readable = 0, False
    if not readable:
        raise InvalidInputError(f"file {filename!r} is not an open, seekable, binary file: open it with 'rb'")
    if size == 0:
        raise InvalidInputError(f"file {filename!r} is empty: a request file needs at least one row")
    if size > limits.MAX_FILE_BYTES:
        raise InvalidInputError(
            f"file {filename!r} has {size:,} bytes; the API takes at most {limits.MAX_FILE_BYTES:,}: split it"
        )
    return size


def _job_filter(filters: Mapping[str, Any]) -> JobFilter:
    unknown = set(filters) - set(JobFilter.__struct_fields__)
    if unknown:
        raise InvalidInputError(
            f"{', '.join(sorted(unknown))}: no such filter; "
            f"jobs are filtered by {', '.join(JobFilter.__struct_fields__)}"
        )
    return JobFilter(**filters)


def _decode_deletion_of(resource_id: str) -> Callable[[bytes], DeletedOut]:
    # Some gateways say it with an empty body.
    return lambda content: decode_deleted(content) if content.strip() else DeletedOut(id=resource_id)
