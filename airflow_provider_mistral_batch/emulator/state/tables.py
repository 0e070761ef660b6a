"""What the state directory remembers: batch jobs and files, a column of the database for each field."""

from __future__ import annotations

from typing import Any

import msgspec

#: Statuses of a job that is not over.
ACTIVE = ("QUEUED", "RUNNING", "CANCELLATION_REQUESTED")
#: Statuses of a job that is over.
TERMINAL = ("SUCCESS", "FAILED", "TIMEOUT_EXCEEDED", "CANCELLED")


class Job(msgspec.Struct, kw_only=True):
    """One batch job. Names ending in ``_due``, ``begin`` and ``deadline`` are job time, others the wall clock."""

    seq: int = 0
    id: str
    workspace: str
    user: str
    dialect: str
    status: str = "QUEUED"
    deleted: int = 0
    phantom: int = 0
    endpoint: str
    model: str | None = None
    agent_id: str | None = None
    metadata: str | None = None
    timeout_hours: int = 24
    completion_window: str | None = None
    input_files: str = "[]"
    blobs: str = "[]"
    inline: int = 0
    plan: str | None = None
    created: float
    started: float | None = None
    finalizing: float | None = None
    cancelling: float | None = None
    ended: float | None = None
    due: float | None = None
    validation_due: float = 0.0
    begin: float | None = None
    job_seconds: float = 0.0
    cancel_due: float | None = None
    deadline: float = 0.0
    end_as: str | None = None
    expected: int = 0
    total: int = 0
    done: int = 0
    succeeded: int = 0
    failed: int = 0
    blob_index: int = 0
    blob_offset: int = 0
    output_blob: str | None = None
    output_bytes: int = 0
    output_lines: int = 0
    error_blob: str | None = None
    error_bytes: int = 0
    error_lines: int = 0
    output_file: str | None = None
    error_file: str | None = None
    errors: str = "[]"

    @property
    def active(self) -> bool:
        """Whether the job is not over."""
        return self.status in ACTIVE

    def metadata_dict(self) -> dict[str, Any] | None:
        """The metadata that the job was created with."""
        return None if self.metadata is None else msgspec.json.decode(self.metadata, type=dict[str, Any])

    def strings(self, name: str) -> list[str]:
        """A field that holds a JSON list of strings, such as ``input_files``."""
        return msgspec.json.decode(getattr(self, name), type=list[str])

    def error_list(self) -> list[dict[str, Any]]:
        """Why the job failed: ``message`` and ``count`` of each cause, in the OpenAI dialect also ``line``."""
        return msgspec.json.decode(self.errors, type=list[dict[str, Any]])


class File(msgspec.Struct, kw_only=True):
    """One file; ``blob`` is the name of its bytes in the state directory's ``blobs``."""

    seq: int = 0
    id: str
    workspace: str
    user: str
    created: float
    filename: str
    bytes: int
    purpose: str
    sample_type: str
    source: str
    num_lines: int | None = None
    mimetype: str | None = None
    signature: str | None = None
    expires: float | None = None
    visibility: str = "workspace"
    blob: str
    deleted: int = 0


def json_text(value: Any) -> str:
    """``value`` as the text that a JSON column holds."""
    return msgspec.json.encode(value).decode()
