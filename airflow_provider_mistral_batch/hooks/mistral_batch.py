"""``MistralBatchHook``: from an Airflow connection to a client of the Batch API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

import msgspec
from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_mistral_batch.api.checks import chosen_model, chosen_window
from airflow_provider_mistral_batch.api.endpoints import DEFAULT_ENDPOINT
from airflow_provider_mistral_batch.api.models import (
    BatchJobIn,
    BatchJobOut,
    BatchJobsOut,
    DeletedOut,
    FileOut,
    FilesOut,
)
from airflow_provider_mistral_batch.hooks.connection import (
    Settings,
    connection_type,
    read_connection,
    warnings_about,
)

if TYPE_CHECKING:
    import os

    from airflow_provider_mistral_batch.api.client import MistralBatchClient
    from airflow_provider_mistral_batch.api.retries import RetryPolicy


class MistralBatchHook(BaseHook):
    """
    Talks to Mistral's Batch API with what an Airflow connection says.

    The four calls of the Batch API have their own names here (:meth:`create`, :meth:`list`, :meth:`get`,
    :meth:`cancel`), with :meth:`delete` and :meth:`iter_jobs` beside them; the calls on files end in ``_file(s)``.

    Connection fields: ``password`` is the API key, ``host`` the base URL (by default the real API). Extra:
    ``timeout`` (seconds), ``retries`` (attempts per call), ``proxies`` (URL by scheme, also as JSON text), ``verify``
    (false, or the path of a CA bundle), ``default_model``, ``dialect`` (``mistral`` or ``openai``), ``deployment``.
    Other fields are warned about.

    Its methods raise the errors of :mod:`airflow_provider_mistral_batch.exceptions`.

    :param mistral_conn_id: The connection's id.
    :param retries: How stubbornly calls are made, instead of what the connection says.
    :param longest_timeout: Seconds to wait for an answer at most, whatever the connection says.
    """

    conn_name_attr = "mistral_conn_id"
    default_conn_name = "mistral_default"
    conn_type = "mistral"
    hook_name = "Mistral"

    def __init__(
        self,
        mistral_conn_id: str = default_conn_name,
        *,
        retries: RetryPolicy | None = None,
        longest_timeout: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.mistral_conn_id = mistral_conn_id
        self.retries = retries
        self.longest_timeout = longest_timeout
        self._settings: Settings | None = None

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Say what the connection's form shows."""
        behaviour = connection_type()["ui-field-behaviour"]
        # The provider info writes its keys with dashes, this method's callers with underscores.
        return {name.replace("-", "_"): value for name, value in behaviour.items()}

    def get_conn(self) -> MistralBatchClient:
        """
        Return the client of this connection; made once, with the first call.

        :raises InvalidInputError: When a field of the connection cannot work; names the field.
        """
        return self._read_settings().client

    def _read_settings(self) -> Settings:
        if self._settings is None:
            connection = self.get_connection(self.mistral_conn_id)
            options: dict[str, Any] = {} if self.retries is None else {"retries": self.retries}
            self._settings = read_connection(
                connection,
                self.mistral_conn_id,
                longest_timeout=self.longest_timeout,
                renew_key=self._current_key,
                key_source=f"the password of connection {self.mistral_conn_id!r}",
                **options,
            )
            for warning in warnings_about(connection, self.mistral_conn_id, self._settings.client):
                self.log.warning("%s", warning)
        return self._settings

    def _current_key(self) -> str | None:
        """Read the key again: it may have been rotated while we waited."""
        return self.get_connection(self.mistral_conn_id).password

    def close(self) -> None:
        """Close the client's connections; the next call opens new ones."""
        if self._settings is not None:
            self._settings.client.close()
            self._settings = None

    @property
    def deployment(self) -> str:
        """Name of this Airflow among several that share a workspace (extra ``deployment``); empty if there is none."""
        return self._read_settings().deployment

    @property
    def default_model(self) -> str | None:
        """Model of requests for which nobody names a model, nor an agent (extra ``default_model``)."""
        return self._read_settings().default_model

    def model_of_job(
        self, model: str | None, agent_id: str | None, *, named: str | None = None
    ) -> str | None:
        """
        Choose the one model of a job, as far as jobs have one in the connection's dialect.

        :param model: As the job names it.
        :param agent_id: An agent instead of a model.
        :param named: As the requests name it themselves, where that is known.
        :raises InvalidInputError: When job and requests name different ones.
        """
        default = self.default_model if self.get_conn().dialect.jobs_have_model else None
        return chosen_model(model, agent_id, named=named, default=default)

    def model_of_rows(self, model: str | None = None) -> str | None:
        """
        Choose the model for rows that name none themselves; ``None`` where the job names it for all.

        :param model: As the task names it.
        """
        return None if self.get_conn().dialect.jobs_have_model else model or self.default_model

    @property
    def clock_offset(self) -> float:
        """Seconds by which the server's clock is ahead of ours, from its last answer; 0 before the first."""
        return self._settings.client.clock_offset if self._settings is not None else 0.0

    def test_connection(self) -> tuple[bool, str]:
        """Test the connection with the cheapest call: a listing of one job."""
        try:
            self.list(limit=1)
        except Exception as error:
            return False, str(error)
        return True, f"{self.get_conn().base_url} accepts the API key"

    # Jobs

    def create(
        self,
        input_files: Sequence[str] | None = None,
        endpoint: str = DEFAULT_ENDPOINT,
        completion_window: str | None = None,
        metadata: Mapping[str, str] | None = None,
        *,
        requests: Sequence[Mapping[str, Any]] | None = None,
        model: str | None = None,
        agent_id: str | None = None,
        timeout_hours: int | None = None,
    ) -> BatchJobOut:
        """
        Create a batch job.

        :param input_files: Ids of uploaded request files. Either these or ``requests``.
        :param endpoint: API endpoint that each request goes to.
        :param completion_window: Time the job may take, ``"<n>h"`` or ``"<n>d"``, 1 hour to 7 days; ``"24h"`` by
            default.
        :param metadata: Keys of 1 to 32 characters, values of 1 to 512.
        :param requests: Up to 10,000 requests instead of files, each ``{"custom_id", "body"}``; those without
            ``custom_id`` are numbered.
        :param model: The model of all requests; by default the one that ``requests`` name, or else the connection's
            ``default_model``.
        :param agent_id: An agent instead of a model.
        :param timeout_hours: ``completion_window`` as a number of hours.
        :raises InvalidInputError: When a field cannot work; nothing was sent.
        """
        job = BatchJobIn(
            input_files=input_files,
            requests=requests,
            endpoint=endpoint,
            completion_window=chosen_window(completion_window, timeout_hours),
            metadata=metadata,
            model=model,
            agent_id=agent_id,
        )
        named = None
        if job.requests is not None:
            # Imported late: parsing a Dag needs none of it.
            from airflow_provider_mistral_batch.jsonl.requests.inline import validate_inline

            inline = validate_inline(job.requests, endpoint=endpoint)
            named = inline.model
            job = msgspec.structs.replace(job, requests=inline.rows)
        return self.get_conn().create(
            msgspec.structs.replace(job, model=self.model_of_job(model, agent_id, named=named))
        )

    def list(self, limit: int | None = None, after: str | None = None, **filters: Any) -> BatchJobsOut:
        """
        List batch jobs, newest first.

        :param limit: Jobs at most; 100 when ``None``.
        :param after: Start after the job with this id.
        :param filters: ``status``, ``model``, ``agent_id``, ``created_after``, ``created_by_me``, ``metadata``,
            ``order_by``, as in :class:`~airflow_provider_mistral_batch.api.dialects.base.JobFilter`.
        """
        return self.get_conn().list(limit, after, **filters)

    def iter_jobs(self, **filters: Any) -> Iterator[BatchJobOut]:
        """
        Go through batch jobs, each once, reading pages as they are needed.

        :param filters: As for :meth:`list`, and ``after``.
        """
        return self.get_conn().iter_jobs(**filters)

    def get(self, batch_id: str, *, inline: bool = False) -> BatchJobOut:
        """
        Read a batch job.

        :param batch_id: The job's id.
        :param inline: Ask for the result rows in ``outputs``; inline jobs have them.
        :raises NotFoundError: When this workspace has no such job.
        """
        return self.get_conn().get(batch_id, inline=inline)

    def cancel(self, batch_id: str) -> BatchJobOut:
        """
        Ask for a job's cancellation; over it is only when its status is ``cancelled``.

        :param batch_id: The job's id.
        """
        return self.get_conn().cancel(batch_id)

    def delete(self, batch_id: str) -> DeletedOut:
        """
        Delete a batch job from the record.

        :param batch_id: The job's id.
        """
        return self.get_conn().delete(batch_id)

    # Files

    def upload_file(
        self, file: str | os.PathLike[str] | IO[bytes], purpose: str = "batch", **kwargs: Any
    ) -> FileOut:
        """
        Upload a file, streaming it from disk.

        :param file: Path of a local file, or an open, seekable binary file.
        :param purpose: ``batch`` for request files.
        :param kwargs: ``filename``, ``expiry`` (hours), ``visibility``, ``on_progress``, as in
            :meth:`~airflow_provider_mistral_batch.api.client.MistralBatchClient.upload_file`.
        """
        return self.get_conn().upload_file(file, purpose, **kwargs)

    def get_file(self, file_id: str) -> FileOut:
        """
        Read what the API knows of a file.

        :param file_id: The file's id.
        """
        return self.get_conn().get_file(file_id)

    def list_files(self, limit: int | None = None, after: str | None = None, **filters: Any) -> FilesOut:
        """
        List files.

        :param limit: Files at most; 100 when ``None``.
        :param after: Start after the file with this id.
        :param filters: ``purpose``, ``search``, ``sample_type``, ``source``, ``mimetypes``.
        """
        return self.get_conn().list_files(limit, after, **filters)

    def download_file(self, file_id: str) -> bytes:
        """
        Download a file into memory; for large ones use :meth:`stream_file`.

        :param file_id: The file's id.
        """
        return self.get_conn().download_file(file_id)

    def stream_file(self, file_id: str) -> Iterator[bytes]:
        """
        Download a file in chunks of at most 1 MiB, in constant memory; goes on by itself where it breaks.

        :param file_id: The file's id.
        """
        return self.get_conn().stream_file(file_id)

    def get_signed_url(self, file_id: str, expiry: int = 24) -> str:
        """
        Get a URL from which anyone can download a file.

        :param file_id: The file's id.
        :param expiry: Hours that it is good for, 1 to 168.
        """
        return self.get_conn().get_signed_url(file_id, expiry)

    def delete_file(self, file_id: str) -> DeletedOut:
        """
        Delete a file.

        :param file_id: The file's id.
        """
        return self.get_conn().delete_file(file_id)
