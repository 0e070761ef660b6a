"""The rows of the database's tables. Batch jobs and files have a column for each field."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from airflow_provider_mistral_batch.emulator.state.statuses import ACTIVE


class Job(msgspec.Struct, kw_only=True):
    """
    One batch job. Numbers that are 0 or 1 stand for booleans.

    :param seq: The row's number, in the order in which jobs were made; 0 until it is stored.
    :param user: Digest of the key that made the job.
    :param dialect: The API that made the job: ``mistral`` or ``openai``.
    :param phantom: Made by the control API, without input: no row is ever executed.
    :param metadata: A JSON object.
    :param input_files: A JSON list of file ids.
    :param blobs: A JSON list of names in the state directory's ``blobs``: the input.
    :param inline: The requests came with the job instead of in files.
    :param plan: What a test planned for the job, as JSON.
    :param created: Epoch seconds; so are ``started``, ``finalizing``, ``cancelling`` and ``ended``.
    :param finalizing: When all rows were done.
    :param due: Job time in seconds at which the engine looks at the job next; ``None`` if it need not. So are
        ``validation_due``, ``begin``, ``cancel_due`` and ``deadline``.
    :param validation_due: When the input is checked.
    :param begin: When the job started to run.
    :param job_seconds: Seconds of job time that it runs.
    :param cancel_due: When a cancellation that was requested is done.
    :param deadline: When the job times out.
    :param end_as: The status in which the control API wants the job to end now.
    :param expected: Requests of the job, as far as they are known before the input is checked.
    :param total: Requests of the job; 0 until the input is checked.
    :param done: Rows that were executed.
    :param blob_index: Which of ``blobs`` has the next row, from 0.
    :param blob_offset: Where in that blob the next row begins, in bytes.
    :param output_blob: Name of the blob with the results of rows that succeeded.
    :param output_bytes: Its size. A killed engine may have written more, which does not count.
    :param error_blob: Name of the blob with the results of rows that failed.
    :param output_file: Id of the file that was made of ``output_blob`` at the job's end.
    :param errors: A JSON list of what is wrong with the job as a whole.
    """

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
        """
        The strings of a field that holds a JSON list of them.

        :param name: The field: ``input_files`` or ``blobs``.
        """
        return msgspec.json.decode(getattr(self, name), type=list[str])

    def error_list(self) -> list[dict[str, Any]]:
        """What is wrong with the job: ``message`` and ``count``, of input also ``code``, ``param`` and ``line``."""
        return msgspec.json.decode(self.errors, type=list[dict[str, Any]])


class File(msgspec.Struct, kw_only=True):
    """
    One file. ``deleted`` is 0 or 1.

    :param seq: The row's number, in the order in which files were made; 0 until it is stored.
    :param user: Digest of the key that made the file.
    :param created: Epoch seconds.
    :param num_lines: Lines of a JSONL file.
    :param signature: Digest of the content.
    :param expires: Epoch seconds; ``None`` if never.
    :param visibility: Who sees the file: ``workspace`` or ``user``.
    :param blob: Name of the content in the state directory's ``blobs``.
    """

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


class Key(NamedTuple):
    """One API key that is known; its row is named by the key's digest."""

    workspace: str
    revoked: bool


def json_text(value: Any) -> str:
    """A value as the text of a column that holds JSON."""
    return msgspec.json.encode(value).decode()
