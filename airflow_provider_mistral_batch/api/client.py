"""The client: one method per operation of the Batch and Files API.

Operations and their parameters are those of the API's OpenAPI description (``jobs_api_routes_batch_*`` and
``files_api_routes_*``); names and values are the published vocabulary.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import mimetypes
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec
from requests_toolbelt import MultipartEncoder, MultipartEncoderMonitor

from airflow_provider_mistral_batch.api import limits
from airflow_provider_mistral_batch.api.bounds import Patience
from airflow_provider_mistral_batch.api.checks import check_whole
from airflow_provider_mistral_batch.api.dialects.base import Call, JobFilter, Page
from airflow_provider_mistral_batch.api.dialects.registry import dialect_named
from airflow_provider_mistral_batch.api.dialects.wire import (
    decode_deleted,
    decode_file,
    decode_signed_url,
    file_path,
    kept_job,
)
from airflow_provider_mistral_batch.api.downloads import Download
from airflow_provider_mistral_batch.api.errors import (
    SMALLER_JOBS,
    BadRequestError,
    InvalidInputError,
    MistralCallError,
    MistralConnectionError,
)
from airflow_provider_mistral_batch.api.listings import Listed, ListingBounds
from airflow_provider_mistral_batch.api.models import (
    BatchJobIn,
    BatchJobOut,
    BatchJobsOut,
    DeletedOut,
    FileOut,
    FilesOut,
)
from airflow_provider_mistral_batch.api.regular_files import open_regular
from airflow_provider_mistral_batch.api.retries import RetryPolicy
from airflow_provider_mistral_batch.api.texts import sentence
from airflow_provider_mistral_batch.api.transport import DEFAULT_TIMEOUT, Transport

log = logging.getLogger(__name__)

DEFAULT_BASE_URL = "https://api.mistral.ai"


class MistralBatchClient:
    """
    Calls the Batch and Files API.

    One instance belongs to one thread at a time. Close it, or use it as a context manager.

    :param api_key: API key; sent to the server, never shown.
    :param base_url: Scheme and host, with a path prefix where a gateway has one. A trailing ``/v1`` is understood.
    :param dialect: ``mistral``, or ``openai`` for OpenAI-compatible gateways.
    :param timeout: Seconds to connect, and seconds to wait for the next bytes of an answer; a single number is the
        second of these. In all, an attempt of a call waits for the first and twice the second, by default 250 seconds.
        A file has as much time for each 256 KiB of its content, whatever its size.
    :param retries: How often and for how long a call is attempted.
    :param proxies: Proxy URL by scheme, as ``requests`` takes them.
    :param verify: Whether TLS certificates are checked, or the path of a CA bundle.
    :param key_source: Where the key comes from, for the message of a 401.
    :param renew_key: Returns the current key; called when the key is refused. If the key has changed, the call is
        made once more, so that a wait of days survives a rotated key.
    :param on_answer: Called after each attempt of a call with its method and the answer's HTTP status; ``None`` without
        an answer. It must not raise.
    :raises InvalidInputError: When one of these is invalid.
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
        on_answer: Callable[[str, int | None], None] | None = None,
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
            on_answer=on_answer,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self.base_url!r}, dialect={self.dialect.name!r})"

    def __enter__(self) -> MistralBatchClient:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def base_url(self) -> str:
        """The API's URL, without ``/v1``."""
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

    def without_secrets(self, text: str) -> str:
        """
        Hide the API key in a text that the API sent, in whichever way it is escaped there.

        Texts of errors and of jobs come without it. Rows of result files come as they are.

        :param text: A text that may hold the key.
        """
        return self._transport.without_secrets(text)

    # Jobs

    def create(self, job: BatchJobIn) -> BatchJobOut:
        """
        Create a batch job. The call is retried only while it is certain that the server did not act.

        :param job: The job.
        :raises MistralCallError: When there is no usable answer; ``may_have_acted`` says whether the job may exist.
        """
        created = self._transport.call(
            self.dialect.create_job(job)._replace(creates_job=True), self._decode_job, repeatable=False
        )
        # The API does not repeat what it was asked for.
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
        :param inline: Whether to ask for the result rows of an inline job, in ``outputs``.
        :raises MistralCallError: When there is no usable answer; :class:`NotFoundError` when there is no such job.
        """
        return self._transport.call(
            self.dialect.get_job(batch_id, inline=inline),
            self._decode_job,
            # The rows of an inline job are a file within an answer.
            max_bytes=limits.MAX_FILE_BYTES if inline else limits.MAX_ANSWER_BYTES,
        )

    def inline_rows(self, batch_id: str) -> Sequence[bytes]:
        """
        Read the result rows of an inline job as the API wrote them, each in one line.

        :param batch_id: The job's id.
        :raises MistralCallError: When there is no usable answer; :class:`NotFoundError` when there is no such job.
        """
        return self._transport.call(
            self.dialect.get_job(batch_id, inline=True),
            self.dialect.decode_rows,
            max_bytes=limits.MAX_FILE_BYTES,
        )

    def cancel(self, batch_id: str) -> BatchJobOut:
        """
        Ask for a job's cancellation. The job ends some time later, with the status ``cancelled``.

        :param batch_id: The job's id.
        """
        return self._transport.call(self.dialect.cancel_job(batch_id), self._decode_job)

    def delete(self, batch_id: str) -> DeletedOut:
        """
        Delete a job.

        :param batch_id: The job's id.
        """
        return self._transport.call(self.dialect.delete_job(batch_id), _decode_deletion_of(batch_id))

    def list(self, limit: int | None = None, after: str | None = None, **filters: Any) -> BatchJobsOut:
        """
        List jobs, newest first.

        :param limit: Most jobs to return; ``None`` means 100.
        :param after: Start after the job with this id.
        :param filters: See :class:`~airflow_provider_mistral_batch.api.dialects.base.JobFilter`.
        """
        limit = _checked_limit(limit)
        _job_filter(filters)
        # One job more than asked for shows whether there are more. A filter or `after` may skip many jobs, so that full
        # pages save calls.
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
        Go through jobs page by page, each job once, even if new jobs shift the pages meanwhile.

        :param after: Start after the job with this id.
        :param page_size: Jobs per call, 100 at most.
        :param filters: See :class:`~airflow_provider_mistral_batch.api.dialects.base.JobFilter`.
        :raises InvalidInputError: When a filter does not exist, or the job ``after`` is not in the listing.
        """
        wanted = _job_filter(filters)

        def read_page(cursor: str | None) -> Page[BatchJobOut]:
            page = self.jobs_page(wanted, cursor, page_size)
            if wanted.order_by == "-created" and page.items and wanted.is_before(page.items[-1]):
                # All following jobs are older.
                return msgspec.structs.replace(page, next=None)
            return page

        return (job for job in self._walk(read_page, after) if wanted.matches(job))

    def _walk(self, read_page: Callable[[str | None], Page[Listed]], after: str | None) -> Iterator[Listed]:
        """Items of all pages, each once, starting after the item with the id ``after``."""
        cursor = self.dialect.cursor_after(after) if after else None
        reading_to_after = after is not None and cursor is None
        bounds = ListingBounds(self.base_url)
        while True:
            page = read_page(cursor)
            for item in bounds.page_came(page):
                if not reading_to_after:
                    yield item
                elif item.id == after:
                    reading_to_after = False
            if page.next is None:
                break
            bounds.check_goes_on()
            cursor = page.next
        if reading_to_after:
            raise InvalidInputError(
                f"after={after!r:.80} is not in this listing, or no longer: leave it out to start from the beginning"
            )

    def jobs_page(
        self, wanted: JobFilter, cursor: str | None = None, page_size: int = limits.PAGE_SIZE
    ) -> Page[BatchJobOut]:
        """
        Read one page of jobs as the server filters them, for callers that pace their calls themselves.

        :param wanted: Which jobs.
        :param cursor: ``next`` of the page before; ``None`` for the first.
        :param page_size: Jobs on the page, 100 at most.
        """
        return self._transport.call(
            self.dialect.list_jobs(wanted, cursor, page_size),
            lambda content: self._kept_jobs(self.dialect.decode_jobs(content, cursor, page_size)),
        )

    def _decode_job(self, content: bytes) -> BatchJobOut:
        return kept_job(self.dialect.decode_job(content), self.without_secrets)

    def _kept_jobs(self, page: Page[BatchJobOut]) -> Page[BatchJobOut]:
        return msgspec.structs.replace(
            page, items=[kept_job(job, self.without_secrets) for job in page.items]
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
        model: str | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> FileOut:
        """
        Upload a file, streaming it from disk.

        :param file: Path of a local file, or an open, seekable binary file.
        :param purpose: ``batch`` for request files, ``ocr`` for documents, ``audio`` for recordings.
        :param filename: Name that the API gives to the file; by default the name on disk. Its end tells the type of a
            document or a recording.
        :param expiry: Hours after which the API deletes it.
        :param visibility: ``workspace`` or ``user``.
        :param model: The model of the requests in it. Only the openai dialect sends it: a gateway chooses the provider
            by it.
        :param on_progress: Called with the bytes sent so far and in all.
        :raises InvalidInputError: When the file is empty, larger than the API takes, or no regular file but, say, a
            directory or a pipe; nothing was sent.
        :raises MistralCallError: When there is no usable answer; ``may_have_acted`` says whether the file may exist.
        """
        with contextlib.ExitStack() as stack:
            if isinstance(file, (str, os.PathLike)):
                file = stack.enter_context(open_regular(file))
            filename = filename or Path(str(getattr(file, "name", ""))).name or "batch.jsonl"
            size = _check_upload(file, filename)
            content_type = _content_type(filename, purpose)
            fields = {
                "purpose": purpose,
                "expiry": expiry,
                "visibility": visibility,
                "model": model if self.dialect.uploads_have_model else None,
            }
            form = {name: str(value) for name, value in fields.items() if value is not None}
            call = Call("POST", "/v1/files", remedies={413: SMALLER_JOBS})

            def upload() -> FileOut:
                file.seek(0)
                content = _SizedFile(file, size)
                progress = _Sending(self._transport.patience(), size, on_progress)
                encoder = MultipartEncoder({**form, "file": (filename, content, content_type)})
                body = MultipartEncoderMonitor(encoder, progress)
                headers = {"Content-Type": body.content_type}
                with self._transport.send(
                    call, patience=progress.patience, data=body, headers=headers
                ) as response:
                    return self._transport.decoded(call, response, decode_file)

            return self._transport.repeat(upload, repeatable=False)

    def get_file(self, file_id: str) -> FileOut:
        """
        Read what the API knows about a file.

        :param file_id: The file's id.
        """
        return self._transport.call(Call("GET", file_path(file_id)), decode_file)

    def list_files(self, limit: int | None = None, after: str | None = None, **filters: Any) -> FilesOut:
        """
        List files, newest first.

        :param limit: Most files to return; ``None`` means 100.
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
        :param search: Files whose name contains this.
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
        Get a URL from which a file can be downloaded without a key. Keep it secret.

        :param file_id: The file's id.
        :param expiry: Hours for which it is valid, 1 to 168.
        """
        return self._transport.call(self.dialect.file_url(file_id, expiry=expiry), decode_signed_url)

    def download_file(self, file_id: str) -> bytes:
        """
        Download a file into memory; for large ones use :meth:`stream_file`.

        :param file_id: The file's id.
        """
        return b"".join(self.stream_file(file_id))

    def stream_file(self, file_id: str) -> Generator[bytes, None, None]:
        """
        Download a file in chunks, in constant memory.

        A broken download resumes where it broke, after a pause: by ``Range``, or, if the server does not support
        ranges, by reading from the start and skipping the bytes that the caller has. The caller gets the whole file, or
        an error: also when the download breaks again and again with next to no progress.

        :param file_id: The file's id.
        :return: Chunks of at most 1 MiB.
        :raises MistralCallError: When the download cannot be completed.
        """
        call = Call("GET", f"{file_path(file_id)}/content")
        download = Download(call.operation)
        ended_at: int | None = None
        while True:
            # A break before the first new bytes counts as a failed attempt; a break after them is progress.
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
                problem: object = f"{call.operation} ended after {download.given} bytes, maybe too early."
            except MistralConnectionError as error:
                problem = error
            pause = self._transport.retries.pause(download.broke())
            log.warning(
                "%s The download resumes at byte %d in %.1f s.", sentence(problem), download.given, pause
            )
            time.sleep(pause)

    def _is_whole(self, download: Download, file_id: str) -> bool:
        """
        Ask the API whether a download is complete, where nothing in the answer marked its end.

        :return: ``False`` if the API does not say: then a second read shows whether more bytes follow.
        :raises MistralConnectionError: When bytes are missing.
        """
        try:
            size = self.get_file(file_id).bytes
        except MistralCallError as error:
            log.info("The size of the file is not known; %d bytes came. %s", download.given, error)
            # A server that refuses this call will refuse it again. One in trouble may also have cut the download short.
            return not error.transient
        # A server that does not know the size says 0.
        download.length = max(size, download.given)
        download.end(0)
        return True

    def _begin_download(self, call: Call, download: Download) -> Generator[bytes, None, None]:
        """Make one attempt to get new bytes; return them and all that follow."""
        chunks = self._new_chunks(call, download)
        first = next(chunks, b"")

        def all_chunks() -> Generator[bytes, None, None]:
            with contextlib.closing(chunks):
                if first:
                    yield first
                yield from chunks

        return all_chunks()

    def _new_chunks(self, call: Call, download: Download) -> Generator[bytes, None, None]:
        """Read the missing bytes until the connection ends."""
        patience = self._transport.patience()
        try:
            response = self._transport.send(call, patience=patience, headers=download.request_headers())
        except BadRequestError as error:
            if error.status_code != 416:
                raise
            # Either the file ends here, or the server mishandles ranges: a read from the start shows which.
            download.by_range = False
            response = self._transport.send(call, patience=patience, headers=download.request_headers())
        patience.is_stream = True
        with response:
            skip = download.begin(response.status_code, response.headers)
            for chunk in self._transport.chunks(call, response):
                new = chunk[skip:]
                skip -= len(chunk) - len(new)
                if new:
                    download.took(len(new))
                    yield new
        download.end(skip)


class _Sending:
    """
    What follows each block that the encoder gives: a look at the clock, and a word to the caller.

    :param patience: How long the server may take to receive a part of the file, and then to answer.
    :param size: Size of the file in bytes.
    :param on_progress: Called with the bytes sent so far and in all.
    """

    def __init__(self, patience: Patience, size: int, on_progress: Callable[[int, int], None] | None) -> None:
        self.patience = patience
        self.patience.is_stream = True
        self._size = size
        self._on_progress = on_progress
        self._sent = 0
        self._sending_since: float | None = None

    def __call__(self, monitor: MultipartEncoderMonitor) -> None:
        if self._sending_since is not None:
            self.patience.waited(time.monotonic() - self._sending_since, monitor.bytes_read - self._sent)
            self.patience.left()
        self._sent = monitor.bytes_read
        if self._sent >= monitor.len:
            # What is left is an answer as that to any other call.
            self.patience.renew()
            self.patience.is_stream = False
        if self._on_progress is not None:
            self._on_progress(min(self._sent, self._size), self._size)
        self._sending_since = time.monotonic()


class _SizedFile:
    """
    A file with the number of its remaining bytes, as the multipart encoder needs it.

    The encoder's own wrapper asks the file descriptor, which is wrong for compressed and remote files.
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


def _content_type(filename: str, purpose: str) -> str:
    if purpose == "batch" or filename.endswith(".jsonl"):
        return "application/jsonl"
    return mimetypes.guess_type(filename)[0] or "application/octet-stream"


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
            f"file {filename!r} has {size:,} bytes, and the API takes at most {limits.MAX_FILE_BYTES:,}: split it"
        )
    return size


def _job_filter(filters: Mapping[str, Any]) -> JobFilter:
    unknown = set(filters) - set(JobFilter.__struct_fields__)
    if unknown:
        raise InvalidInputError(
            f"{', '.join(sorted(unknown))} is not a filter of jobs: use {', '.join(JobFilter.__struct_fields__)}"
        )
    return JobFilter(**filters)


def _decode_deletion_of(resource_id: str) -> Callable[[bytes], DeletedOut]:
    # Some gateways confirm a deletion with an empty body.
    return lambda content: decode_deleted(content) if content.strip() else DeletedOut(id=resource_id)
