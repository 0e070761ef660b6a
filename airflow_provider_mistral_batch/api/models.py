"""What travels between us and the API, in the published vocabulary of the Batch API's documentation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from airflow_provider_mistral_batch.api import limits
from airflow_provider_mistral_batch.api.errors import InvalidInputError


class BatchStatus:
    """
    The published values of a job's ``status``.

    Plain strings, since a status that this version does not know travels on as it came.
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
    :param param: The field it is about.
    :param line: The line of the input file it is about, from 1.
    :param count: How many times it occurred.
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
    How many requests of a job are where. Hints: the rows of the result files are the truth.

    :param total: Requests in the job; 0 until validation ends.
    :param completed: Requests that succeeded.
    :param failed: Requests that failed.
    """

    total: int = 0
    completed: int = 0
    failed: int = 0


# Thousands of these are held for hours, and none can be part of a cycle: the garbage collector may pass them by.
class BatchJobOut(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """
    A batch job as the API reports it. Times are epoch seconds of the server's clock.

    :param id: The job's id, elsewhere called ``batch_id``.
    :param endpoint: The API endpoint that each request goes to.
    :param status: One of :class:`BatchStatus`, or a status nobody knows, as it came.
    :param raw_status: The status as it was on the wire.
    :param input_file_id: The first of ``input_files``.
    :param input_files: All input files.
    :param completion_window: Time the job may take, such as ``"24h"``; ``None`` where the API does not say.
    :param output_file_id: JSONL file with the rows that succeeded, once there is one.
    :param error_file_id: JSONL file with the rows that failed, once there is one.
    :param expires_at: When the job expires; ``None`` where the API does not say.
    :param errors: Errors of the job as a whole.
    :param outputs: Result rows of an inline job, when they were asked for.
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
        """Whether the job is over. A status that nobody knows is not an end."""
        return self.status in BatchStatus.TERMINAL

    @property
    def ended_at(self) -> int | None:
        """When the job ended, whichever way (epoch seconds)."""
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
    A batch job to be created; checked as it is made, so that nothing invalid is ever sent.

    :param input_files: Ids of uploaded request files. Either these or ``requests``.
    :param requests: Up to 10,000 requests, each ``{"custom_id", "body"}``.
    :param endpoint: One of :data:`~airflow_provider_mistral_batch.api.limits.ENDPOINTS`.
    :param completion_window: Time the job may take: ``"<n>h"`` or ``"<n>d"``, 1 hour to 7 days.
    :param metadata: Keys of 1 to 32 characters, values of 1 to 512.
    :param model: The model of all the job's requests.
    :param agent_id: An agent instead of a model.
    :raises InvalidInputError: When a field cannot work; names the field, the value and the remedy.
    """

    input_files: Sequence[str] | None = None
    requests: Sequence[Mapping[str, Any]] | None = None
    endpoint: str = limits.DEFAULT_ENDPOINT
    completion_window: str = limits.DEFAULT_COMPLETION_WINDOW
    metadata: Mapping[str, str] | None = None
    model: str | None = None
    agent_id: str | None = None

    def __post_init__(self) -> None:
        check_endpoint(self.endpoint)
        completion_window_hours(self.completion_window)
        check_metadata(self.metadata)
        if self.model and self.agent_id:
            raise InvalidInputError(
                f"model={self.model!r} and agent_id={self.agent_id!r} are both given: pass one of them"
            )
        if (self.input_files is None) == (self.requests is None):
            raise InvalidInputError(
                "input_files and requests are "
                + ("both missing" if self.requests is None else "both given")
                + ": pass exactly one of them"
            )
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
    :param purpose: What it was uploaded for: ``batch`` for request and result files.
    :param sample_type: ``batch_request``, ``batch_result`` or ``batch_error``, among others.
    :param num_lines: Rows in it.
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
    """The API's word that a job or a file is deleted."""

    id: str
    object: str = ""
    deleted: bool = True


_WINDOW = re.compile(r"([0-9]{1,6})([hd])")


def completion_window_hours(completion_window: str) -> int:
    """
    Read a completion window such as ``"24h"`` or ``"7d"``.

    :param completion_window: ``"<n>h"`` or ``"<n>d"``.
    :return: Hours, 1 to 168.
    :raises InvalidInputError: When it is of another form or out of range.
    """
    match = _WINDOW.fullmatch(completion_window) if isinstance(completion_window, str) else None
    if match is None:
        raise InvalidInputError(
            f"completion_window={completion_window!r} is not of the form '<n>h' or '<n>d': write for example '24h'"
        )
    hours = int(match[1]) * (24 if match[2] == "d" else 1)
    return check_timeout_hours(hours, field=f"completion_window={completion_window!r}, {hours} hours,")


def chosen_window(completion_window: str | None, timeout_hours: int | None) -> str:
    """
    Read the two ways to say how long a job may take.

    :param completion_window: ``"<n>h"`` or ``"<n>d"``.
    :param timeout_hours: The same as a number of hours.
    :return: The completion window; the default one when neither is given.
    :raises InvalidInputError: When both are given, or the hours are out of range.
    """
    if completion_window is not None and timeout_hours is not None:
        raise InvalidInputError(
            f"completion_window={completion_window!r} and timeout_hours={timeout_hours!r} are both given: they say the "
            "same, pass one of them"
        )
    if timeout_hours is not None:
        return f"{check_timeout_hours(timeout_hours)}h"
    return limits.DEFAULT_COMPLETION_WINDOW if completion_window is None else completion_window


def check_timeout_hours(hours: int, *, field: str | None = None) -> int:
    """
    Check that a job's time-out is one that the API takes.

    :param hours: Hours.
    :param field: How the error names the value.
    :raises InvalidInputError: When it is not a whole number from 1 to 168.
    """
    if (
        isinstance(hours, bool)
        or not isinstance(hours, int)
        or not limits.MIN_TIMEOUT_HOURS <= hours <= limits.MAX_TIMEOUT_HOURS
    ):
        raise InvalidInputError(
            f"{field or f'timeout_hours={hours!r}'} is outside what the API takes: "
            f"{limits.MIN_TIMEOUT_HOURS} to {limits.MAX_TIMEOUT_HOURS} whole hours"
        )
    return hours


def check_endpoint(endpoint: str) -> None:
    """
    Check that batch jobs can target an endpoint.

    :raises InvalidInputError: When they cannot; names those that they can.
    """
    if endpoint not in limits.ENDPOINTS:
        raise InvalidInputError(
            f"endpoint={endpoint!r} is not one that batch jobs can target: use one of {', '.join(limits.ENDPOINTS)}"
        )


def check_metadata(metadata: Mapping[str, str] | None) -> None:
    """
    Check a job's metadata against the API's limits.

    :raises InvalidInputError: When a key or a value is not a string or not of a length that the API takes.
    """
    if metadata is None:
        return
    if not isinstance(metadata, Mapping):
        raise InvalidInputError(f"metadata={metadata!r} is not a mapping of strings to strings")
    for key, value in metadata.items():
        if not isinstance(key, str) or not 1 <= len(key) <= limits.MAX_METADATA_KEY_LENGTH:
            raise InvalidInputError(
                f"metadata key {key!r} must be a string of 1 to {limits.MAX_METADATA_KEY_LENGTH} characters"
            )
        if not isinstance(value, str) or not 1 <= len(value) <= limits.MAX_METADATA_VALUE_LENGTH:
            is_what = f"has {len(value):,} characters" if isinstance(value, str) else "is no string"
            raise InvalidInputError(
                f"metadata[{key!r}]={value!r:.80} {is_what}: pass a string of 1 to "
                f"{limits.MAX_METADATA_VALUE_LENGTH} characters"
            )


def check_input_files(input_files: Sequence[str]) -> None:
    """
    Check that input files are a list of file ids.

    :raises InvalidInputError: When it is a single string, empty, or holds something else.
    """
    if isinstance(input_files, str) or not isinstance(input_files, Sequence):
        raise InvalidInputError(f"input_files={input_files!r} is not a list: pass a list of file ids")
    if not input_files:
        raise InvalidInputError("input_files is empty: pass at least one file id")
    for file_id in input_files:
        check_id(file_id, field="input_files")


def check_inline_requests(requests: Sequence[Mapping[str, Any]]) -> None:
    """
    Check that inline requests are a list of rows, as many as the API takes. What is in a row is checked elsewhere.

    :raises InvalidInputError: When they are not; names the first row that is none.
    """
    if isinstance(requests, (str, bytes)) or not isinstance(requests, Sequence):
        raise InvalidInputError(f"requests={requests!r:.80} is not a list: pass a list of rows")
    check_inline_count(len(requests))
    for number, row in enumerate(requests):
        if not isinstance(row, Mapping) or not isinstance(row.get("body"), Mapping):
            raise InvalidInputError(
                f'requests[{number}]={row!r:.80} is no row: write {{"custom_id": "…", "body": {{…}}}}'
            )


def chosen_model(
    model: str | None, agent_id: str | None, *, named: str | None = None, default: str | None = None
) -> str | None:
    """
    Choose the one model of a job.

    :param model: As the job names it.
    :param agent_id: An agent instead of a model.
    :param named: As the requests name it themselves, where that is known.
    :param default: For jobs of which nobody names one.
    :return: The model; ``None`` for an agent's job.
    :raises InvalidInputError: When job and requests name different ones.
    """
    if agent_id is not None:
        return None
    if model is not None and named not in (None, model):
        raise InvalidInputError(
            f"model={model!r}, but the requests name {named!r}: a batch job runs one model; name one of them in both "
            "places, or leave one out"
        )
    return model or named or default


def check_inline_count(count: int) -> None:
    """
    Check that a job's inline requests are as many as the API takes.

    :raises InvalidInputError: When there are none, or more than 10,000.
    """
    if count == 0:
        raise InvalidInputError("requests is empty: a batch job needs at least one request")
    if count > limits.MAX_INLINE_REQUESTS:
        raise InvalidInputError(
            f"requests has {count:,} rows; inline jobs take at most {limits.MAX_INLINE_REQUESTS:,}: "
            "upload them as a file and pass input_files"
        )


def check_id(value: object, *, field: str) -> str:
    """
    Check that something is usable as the id of a job or a file.

    Ids come from XComs and from users' own code. One that is empty or has a dot segment would address another
    resource than the one meant, even escaped, since some gateways unescape; and so would one with control characters.

    :param field: How the error names the value.
    :raises InvalidInputError: When it is no such id.
    """
    if (
        not isinstance(value, str)
        or not value.strip()
        or not value.isprintable()
        or not {".", ".."}.isdisjoint(re.split(r"[/\\]", value))
    ):
        raise InvalidInputError(f"{field}={value!r:.80} is not an id: pass the id as the API gave it")
    return value
