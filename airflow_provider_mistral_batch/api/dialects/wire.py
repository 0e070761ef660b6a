"""How all dialects read the wire: files, times, errors and statuses.

What the server sends is read leniently: unknown fields are ignored, and optional fields may be missing or null.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Annotated, Any, TypeVar, get_args, get_origin
from urllib.parse import quote

import msgspec

from airflow_provider_mistral_batch.api import limits
from airflow_provider_mistral_batch.api.checks import check_id
from airflow_provider_mistral_batch.api.decoding import decoded
from airflow_provider_mistral_batch.api.models import (
    BatchError,
    BatchJobOut,
    BatchStatus,
    DeletedOut,
    FileOut,
)
from airflow_provider_mistral_batch.api.texts import WORD_LENGTH, kept, label, optional_label

log = logging.getLogger(__name__)

T = TypeVar("T")

#: An id stays exactly as it came, since it is data. One that could forge a log line is none: no path could hold it.
Id = Annotated[
    str,
    msgspec.Meta(
        pattern="^[^\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069]*\\Z", max_length=2000
    ),
]

#: What to do when a server answers a listing with an error. No listing of the API is ever missing.
LISTING_REMEDIES: Mapping[int, str] = {
    404: "There is a server, but it does not serve this API: check the host, its path prefix and the dialect"
}


def read(content: bytes, wire: type[T]) -> T:
    """
    Decode an answer. A field that has another type than the API documents counts as left out, if it says nothing
    without which we would lose or repeat paid work.

    :param content: JSON.
    :param wire: The msgspec type of what is expected.
    :raises msgspec.MsgspecError: When it is something else.
    """
    try:
        return decoded(lambda text: msgspec.json.decode(text, type=wire, strict=False), content)
    except msgspec.ValidationError:
        read: T = _field_by_field(decoded(msgspec.json.decode, content), wire)
        return read


#: Fields that stand for files, and lists of what was asked for: they are as documented, or the answer is not read.
_NEEDED = frozenset(
    {"input_files", "input_file_id", "output_file", "output_file_id", "error_file", "error_file_id", "data"}
)


def _field_by_field(value: Any, wire: Any) -> Any:
    """Read an object whose optional fields may have any type, or a list of such objects."""
    struct, is_list = _struct_in(wire)
    if is_list and isinstance(value, list):
        return [_field_by_field(item, struct) for item in value]
    if struct is None or is_list or not isinstance(value, dict):
        return msgspec.convert(value, wire, strict=False)
    read = {}
    for field in msgspec.structs.fields(struct):
        if field.encode_name not in value:
            continue
        given = value[field.encode_name]
        try:
            read[field.name] = _field_by_field(given, field.type)
        except msgspec.ValidationError:
            if field.required or field.name in _NEEDED:
                raise
            if field.name.endswith("_at"):
                read[field.name] = _iso_time(given)
    try:
        return struct(**read)
    except TypeError as error:
        raise msgspec.ValidationError(str(error)) from None


def _struct_in(wire: Any) -> tuple[Any, bool]:
    """Give the class of objects that a type is about, such as ``list[File] | None``, and whether it is a list."""
    if isinstance(wire, type) and issubclass(wire, msgspec.Struct):
        return wire, False
    for part in get_args(wire):
        struct, is_list = _struct_in(part)
        if struct is not None:
            return struct, is_list or get_origin(wire) is list
    return None, False


def _iso_time(value: Any) -> float | None:
    """Read a time that is written as a text."""
    try:
        time = datetime.fromisoformat(value.replace("Z", "+00:00"))
    except (AttributeError, ValueError):
        return None
    return (time if time.tzinfo else time.replace(tzinfo=timezone.utc)).timestamp()


# Paths


def job_path(collection: str, batch_id: str) -> str:
    """
    Path of a job's resource.

    :param collection: Path of all jobs, such as ``batch/jobs``.
    :param batch_id: The job's id.
    """
    return f"/v1/{collection}/{quote(check_id(batch_id, field='batch_id'), safe='')}"


def file_path(file_id: str) -> str:
    """Path of a file's resource."""
    return f"/v1/files/{quote(check_id(file_id, field='file_id'), safe='')}"


def query(filters: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Query parameters of a listing's filters: a list repeats its name, ``None`` is left out."""
    return [
        (name, str(item).lower() if isinstance(item, bool) else str(item))
        for name, value in filters.items()
        if value is not None
        for item in (value if isinstance(value, (list, tuple, set, frozenset)) else [value])
    ]


# Files


class File(msgspec.Struct):
    """A file on the wire."""

    id: Id
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

    def as_model(self) -> FileOut:
        """The file as our model."""
        return FileOut(
            id=self.id,
            object=label(self.object or "file"),
            bytes=self.bytes or 0,
            created_at=seconds(self.created_at) or 0,
            filename=label(self.filename or ""),
            purpose=label(self.purpose or ""),
            sample_type=optional_label(self.sample_type),
            source=optional_label(self.source),
            num_lines=self.num_lines,
            mimetype=optional_label(self.mimetype),
            signature=optional_label(self.signature),
            expires_at=seconds(self.expires_at),
            visibility=optional_label(self.visibility),
            deleted=bool(self.deleted),
        )


class Files(msgspec.Struct):
    """A page of files on the wire."""

    data: list[File] | None = None
    total: int | None = None
    has_more: bool | None = None

    def items(self) -> list[FileOut]:
        """The files as our models."""
        return [file.as_model() for file in self.data or ()]


class _SignedUrl(msgspec.Struct):
    url: str


def decode_file(content: bytes) -> FileOut:
    """Read one file."""
    return read(content, File).as_model()


def decode_deleted(content: bytes) -> DeletedOut:
    """Read the answer to a deletion."""
    return read(content, DeletedOut)


def decode_signed_url(content: bytes) -> str:
    """Read a signed URL."""
    return read(content, _SignedUrl).url


# Parts of a job


class WireError(msgspec.Struct):
    """One error of a job on the wire."""

    message: Any = None
    count: Any = None
    code: Any = None
    param: Any = None
    line: Any = None

    def as_model(self) -> BatchError:
        """The error as our model."""
        return BatchError(
            code=_text(self.code),
            message=_text(self.message),
            param=_text(self.param),
            line=self.line if _is_count(self.line) else None,
            count=self.count if _is_count(self.count) else 1,
        )


def _is_count(value: Any) -> bool:
    # A number of thousands of digits is none of a line.
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63


def job_errors(value: Any) -> list[BatchError]:
    """
    Read the errors of a job as a whole.

    :param value: A list, or ``{"data": [...]}``. Anything else counts as no errors: the job stays readable.
    """
    if isinstance(value, dict):
        value = value.get("data")
    if not isinstance(value, list):
        return []
    errors = [
        (msgspec.convert(item, WireError) if isinstance(item, dict) else WireError(message=item)).as_model()
        for item in value[: limits.MAX_JOB_ERRORS]
    ]
    more = len(value) - len(errors)
    return [*errors, BatchError(message=f"and {more:,} more errors")] if more > 0 else errors


_unknown_statuses_seen: set[str] = set()

#: Most unknown statuses that are remembered, and warned of.
_MAX_UNKNOWN_STATUSES = 20


def kept_job(job: BatchJobOut, without_secrets: Callable[[str], str]) -> BatchJobOut:
    """
    Make of a job what we keep of it: texts that are not data become one clean line each, without secrets.

    Warns of an unknown status, once per process.

    :param job: The job as a dialect read it.
    :param without_secrets: Removes secrets from a text.
    """
    if not job.errors and job.status in BatchStatus.ALL:
        return job

    def word(text: str | None) -> str | None:
        return None if text is None else kept(text, without_secrets, WORD_LENGTH)

    errors = [
        BatchError(
            code=word(error.code),
            message=None if error.message is None else kept(error.message, without_secrets),
            param=word(error.param),
            line=error.line,
            count=error.count,
        )
        # One more says how many were left out.
        for error in job.errors[: limits.MAX_JOB_ERRORS + 1]
    ]
    if job.status in BatchStatus.ALL:
        return msgspec.structs.replace(job, errors=errors)
    status = kept(job.raw_status, without_secrets, WORD_LENGTH)
    if status not in _unknown_statuses_seen and len(_unknown_statuses_seen) < _MAX_UNKNOWN_STATUSES:
        _unknown_statuses_seen.add(status)
        log.warning(
            "The API reports the job status %r, which this version does not know. The job counts as still running; "
            "the wait ends at its deadline at the latest.",
            status,
        )
    return msgspec.structs.replace(job, errors=errors, status=status, raw_status=status)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


#: A time in seconds stays below this until the year 5138; a time in milliseconds has been above it since 1973.
_MILLISECONDS = 100_000_000_000


def seconds(value: float | None) -> int | None:
    """
    Read a time.

    :param value: Epoch seconds or milliseconds.
    :return: Epoch seconds; ``None`` for a time that cannot be.
    """
    if value is None:
        return None
    in_seconds = value / 1000 if value >= _MILLISECONDS else value
    return int(in_seconds) if 0 <= in_seconds < _MILLISECONDS else None
