"""How all dialects read the wire: files, times, errors and statuses.

What the server sends is read leniently: unknown fields are ignored, and optional fields may be missing or null.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from airflow_provider_mistral_batch.api.checks import check_id
from airflow_provider_mistral_batch.api.decoding import decoded
from airflow_provider_mistral_batch.api.models import BatchError, BatchStatus, DeletedOut, FileOut

log = logging.getLogger(__name__)

T = TypeVar("T")

#: What to do when a server answers a listing with an error. No listing of the API is ever missing.
LISTING_REMEDIES: Mapping[int, str] = {
    404: "There is a server, but it does not serve this API: check the host, its path prefix and the dialect"
}


def read(content: bytes, wire: type[T]) -> T:
    """
    Decode an answer.

    :param content: JSON.
    :param wire: The msgspec type of what is expected.
    :raises msgspec.MsgspecError: When it is something else.
    """
    return decoded(lambda text: msgspec.json.decode(text, type=wire, strict=False), content)


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

    def as_model(self) -> FileOut:
        """The file as our model."""
        return FileOut(
            id=self.id,
            object=self.object or "file",
            bytes=self.bytes or 0,
            created_at=seconds(self.created_at) or 0,
            filename=self.filename or "",
            purpose=self.purpose or "",
            sample_type=self.sample_type,
            source=self.source,
            num_lines=self.num_lines,
            mimetype=self.mimetype,
            signature=self.signature,
            expires_at=seconds(self.expires_at),
            visibility=self.visibility,
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
            line=self.line if isinstance(self.line, int) else None,
            count=self.count if isinstance(self.count, int) else 1,
        )


def job_errors(value: Any) -> list[BatchError]:
    """
    Read the errors of a job as a whole.

    :param value: A list, or ``{"data": [...]}``. Anything else counts as no errors: the job stays readable.
    """
    if isinstance(value, dict):
        value = value.get("data")
    if not isinstance(value, list):
        return []
    return [
        (msgspec.convert(item, WireError) if isinstance(item, dict) else WireError(message=item)).as_model()
        for item in value
    ]


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


_unknown_statuses_seen: set[str] = set()


def published_status(status: str) -> str:
    """Pass a status on; warn of an unknown one, once per process."""
    if status not in BatchStatus.ALL and status not in _unknown_statuses_seen:
        _unknown_statuses_seen.add(status)
        log.warning(
            "The API reports the job status %r, which this version does not know. The job counts as still running; "
            "the wait ends at its deadline at the latest.",
            status,
        )
    return status
