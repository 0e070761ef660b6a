"""Jobs and files as the Batch API's documentation names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from airflow_provider_mistral_batch.api import limits
from airflow_provider_mistral_batch.api.checks import (
    check_choice,
    check_exactly_one,
    check_inline_requests,
    check_input_files,
    check_metadata,
    completion_window_hours,
)
from airflow_provider_mistral_batch.api.endpoints import DEFAULT_ENDPOINT, ENDPOINTS
from airflow_provider_mistral_batch.api.errors import InvalidInputError


class BatchStatus:
    """
    The published values of a job's ``status``.

    Plain strings, since a status that this version does not know is passed on as it came.
    """

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"

    ACTIVE = frozenset({VALIDATING, IN_PROGRESS, FINALIZING, CANCELLING})
    TERMINAL = frozenset({COMPLETED, FAILED, EXPIRED, CANCELLED})
    ALL = ACTIVE | TERMINAL


class BatchError(msgspec.Struct, frozen=True, kw_only=True):
    """
    One error of a job as a whole, such as a malformed input file.

    :param code: The API's code of the error.
    :param message: What is wrong.
    :param param: The field that the error is about.
    :param line: The line of the input file that the error is about, from 1.
    :param count: How often it occurred.
    """

    code: str | None = None
    message: str | None = None
    param: str | None = None
    line: int | None = None
    count: int = 1

    def __str__(self) -> str:
        text = self.message or self.code or "unknown error"
        if self.line is not None:
            text += f" (line {self.line})"
        if self.count > 1:
            text += f" ({self.count} times)"
        return text


class BatchJobRequestCounts(msgspec.Struct, frozen=True, kw_only=True):
    """
    How many requests of a job have which outcome. Only a hint: the rows of the result files decide.

    :param total: Requests in the job; 0 until validation ends.
    :param completed: Requests that succeeded.
    :param failed: Requests that failed.
    """

    total: int = 0
    completed: int = 0
    failed: int = 0


# Thousands of these live for hours and are never part of a cycle, so the garbage collector need not visit them.
class BatchJobOut(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """
    A batch job as the API reports it. Times are epoch seconds of the server's clock.

    :param id: The job's id, elsewhere called ``batch_id``.
    :param endpoint: The API endpoint that each request goes to.
    :param status: One of :class:`BatchStatus`, or an unknown status as it came.
    :param raw_status: The status as it was on the wire.
    :param input_file_id: The first of ``input_files``.
    :param input_files: All input files.
    :param completion_window: Time the job may take, such as ``"24h"``; ``None`` if the API does not say.
    :param output_file_id: JSONL file with the rows that succeeded; ``None`` until it exists.
    :param error_file_id: JSONL file with the rows that failed; ``None`` until it exists.
    :param expires_at: When the job expires; ``None`` if the API does not say.
    :param errors: Errors of the job as a whole.
    :param outputs: Result rows of an inline job, if they were asked for.
    """

    id: str
    object: str = "batch"
    endpoint: str = ""
    errors: list[BatchError] = []
    input_file_id: str | None = None
    input_files: list[str] = []
    completion_window: str | None = None
    status: str
    raw_status: str
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int
    in_progress_at: int | None = None
    expires_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: BatchJobRequestCounts = BatchJobRequestCounts()
    metadata: dict[str, Any] | None = None
    model: str | None = None
    agent_id: str | None = None
    outputs: list[dict[str, Any]] | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether the job is over. An unknown status does not count as over."""
        return self.status in BatchStatus.TERMINAL

    @property
    def ended_at(self) -> int | None:
        """When the job ended, in whichever way (epoch seconds)."""
        return self.completed_at or self.failed_at or self.expired_at or self.cancelled_at


class BatchJobsOut(msgspec.Struct, frozen=True, kw_only=True):
    """
    A page of jobs, newest first.

    :param data: The jobs.
    :param first_id: Id of the first job in ``data``.
    :param last_id: Id of the last one: pass it as ``after`` to get the next page.
    :param has_more: Whether there are jobs after ``last_id``.
    """

    object: str = "list"
    data: list[BatchJobOut] = []
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


class BatchJobIn(msgspec.Struct, frozen=True, kw_only=True):
    """
    A batch job to create. Making one checks it, so that nothing invalid is sent.

    :param input_files: Ids of uploaded request files. Either these or ``requests``.
    :param requests: Up to 10,000 requests, each ``{"custom_id", "body"}``.
    :param endpoint: One of :data:`~airflow_provider_mistral_batch.api.endpoints.ENDPOINTS`.
    :param completion_window: Time the job may take: ``"<n>h"`` or ``"<n>d"``, 1 hour to 7 days.
    :param metadata: Keys of 1 to 32 characters, values of 1 to 512.
    :param model: The model of all the job's requests.
    :param agent_id: An agent instead of a model.
    :raises InvalidInputError: When a field cannot work; names the field, the value and the remedy.
    """

    input_files: Sequence[str] | None = None
    requests: Sequence[Mapping[str, Any]] | None = None
    endpoint: str = DEFAULT_ENDPOINT
    completion_window: str = limits.DEFAULT_COMPLETION_WINDOW
    metadata: Mapping[str, str] | None = None
    model: str | None = None
    agent_id: str | None = None

    def __post_init__(self) -> None:
        check_choice("endpoint", self.endpoint, ENDPOINTS)
        completion_window_hours(self.completion_window)
        check_metadata(self.metadata)
        if self.model and self.agent_id:
            raise InvalidInputError(
                f"model={self.model!r} and agent_id={self.agent_id!r} are both given: pass one of them"
            )
        check_exactly_one(input_files=self.input_files, requests=self.requests)
        if self.input_files is not None:
            check_input_files(self.input_files)
        if self.requests is not None:
            check_inline_requests(self.requests)

    @property
    def timeout_hours(self) -> int:
        """``completion_window`` in hours."""
        return completion_window_hours(self.completion_window)


class FileOut(msgspec.Struct, frozen=True, kw_only=True):
    """
    A file in the workspace, as the API reports it.

    :param bytes: Size in bytes.
    :param created_at: Epoch seconds.
    :param purpose: Why it was uploaded: ``batch`` for request and result files.
    :param sample_type: ``batch_request``, ``batch_result`` or ``batch_error``, among others.
    :param num_lines: Rows in the file.
    :param expires_at: When the API deletes it (epoch seconds).
    """

    id: str
    object: str = "file"
    bytes: int = 0
    created_at: int = 0
    filename: str = ""
    purpose: str = ""
    sample_type: str | None = None
    source: str | None = None
    num_lines: int | None = None
    mimetype: str | None = None
    signature: str | None = None
    expires_at: int | None = None
    visibility: str | None = None
    deleted: bool = False


class FilesOut(msgspec.Struct, frozen=True, kw_only=True):
    """
    A page of files, newest first.

    :param data: The files.
    :param has_more: Whether there are files after the last one.
    """

    object: str = "list"
    data: list[FileOut] = []
    has_more: bool = False


class DeletedOut(msgspec.Struct, frozen=True, kw_only=True):
    """The API's confirmation that a job or a file is deleted."""

    id: str
    object: str = ""
    deleted: bool = True
