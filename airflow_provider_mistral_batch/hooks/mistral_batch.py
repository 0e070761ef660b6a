"""``MistralBatchHook``: from an Airflow connection to a client of the Batch API."""

from __future__ import annotations

import contextlib
import copy
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

import msgspec

from airflow_provider_mistral_batch.api.checks import (
    check_exactly_one,
    check_is_list_of_rows,
    chosen_model,
    chosen_window,
)
from airflow_provider_mistral_batch.api.endpoints import DEFAULT_ENDPOINT
from airflow_provider_mistral_batch.api.errors import MistralAPIError, NotFoundError
from airflow_provider_mistral_batch.api.models import (
    BatchJobIn,
    BatchJobOut,
    BatchJobsOut,
    DeletedOut,
    FileOut,
    FilesOut,
)
from airflow_provider_mistral_batch.api.texts import sentence
from airflow_provider_mistral_batch.compat import AirflowNotFoundException, BaseHook
from airflow_provider_mistral_batch.hooks.connection import (
    Settings,
    api_key_of,
    connection_type,
    key_source,
    read_connection,
    say_key_is_in_environment,
    say_warning,
)

if TYPE_CHECKING:
    import os

    from airflow.sdk import Connection

    from airflow_provider_mistral_batch.api.client import MistralBatchClient
    from airflow_provider_mistral_batch.api.retries import RetryPolicy


log = logging.getLogger(__name__)

#: Most attempts of the connection's test: somebody waits in front of the form.
_TEST_ATTEMPTS = 2


class MistralBatchHook(BaseHook):
    """
    Talks to Mistral's Batch API through an Airflow connection.

    The four calls of the Batch API have their own names: :meth:`create`, :meth:`list`, :meth:`get` and :meth:`cancel`.
    There are also :meth:`delete` and :meth:`iter_jobs`; the names of calls on files end in ``_file`` or ``_files``.

    Connection fields: ``password`` is the API key (if it is empty, ``MISTRAL_API_KEY`` of the environment counts), and
    ``host`` the base URL (by default the real API). Extra: ``timeout`` (seconds), ``retries`` (attempts per call),
    ``proxies`` (URL by scheme, also as JSON text), ``verify`` (false, or the path of a CA bundle), ``default_model``,
    ``dialect`` (``mistral`` or ``openai``), ``deployment``, ``rows_have_url`` (whether a gateway wants ``method`` and
    ``url`` in each row). Any other field causes a warning.

    The methods raise the errors of :mod:`airflow_provider_mistral_batch.exceptions`.

    :param mistral_conn_id: The connection's id.
    :param retries: When to retry a call; overrides the connection's ``retries``.
    :param longest_timeout: Most seconds to wait for an answer, even if the connection allows more.
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
        #: Whether the server has a listing of jobs, as far as :meth:`known_jobs` has seen.
        self.lists_jobs = True

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return what the connection's form shows."""
        behaviour = connection_type()["ui-field-behaviour"]
        # The provider info has keys with dashes; callers of this method expect underscores.
        return {name.replace("-", "_"): value for name, value in behaviour.items()}

    def get_conn(self) -> MistralBatchClient:
        """
        Return the client of this connection, which the first call makes.

        :raises InvalidInputError: When a field of the connection is wrong; names the field.
        """
        return self._read_settings().client

    def _read_settings(self) -> Settings:
        if self._settings is None:
            connection = self._connection()
            options: dict[str, Any] = {} if self.retries is None else {"retries": self.retries}
            self._settings = read_connection(
                connection,
                self.mistral_conn_id,
                longest_timeout=self.longest_timeout,
                renew_key=self._current_key,
                key_source=key_source(connection, self.mistral_conn_id),
                **options,
            )
            for warning in self._settings.warnings:
                say_warning(warning)
            if not (connection.password or "").strip():
                say_key_is_in_environment(self.mistral_conn_id, self._settings.client.base_url)
        return self._settings

    def _connection(self) -> Connection:
        try:
            connection: Connection = self.get_connection(self.mistral_conn_id)
        except AirflowNotFoundException:
            raise AirflowNotFoundException(
                f"conn_id={self.mistral_conn_id!r:.200}: there is no such connection: create it in Airflow (Admin, "
                "Connections) with the type Mistral, or correct its name"
            ) from None
        return connection

    def _current_key(self) -> str | None:
        """Read the key again, in case it was rotated while we waited."""
        return api_key_of(self._connection())

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
        """Model to use if neither task nor requests name a model or an agent (extra ``default_model``)."""
        return self._read_settings().default_model

    @property
    def rows_have_url(self) -> bool:
        """Whether each row of a request file must have ``method`` and ``url``."""
        settings = self._read_settings()
        return settings.rows_have_url or settings.client.dialect.rows_have_url

    def model_of_job(
        self,
        model: str | None,
        agent_id: str | None,
        *,
        named: str | None = None,
        named_agent: str | None = None,
        input_files: Sequence[str] = (),
    ) -> str | None:
        """
        Choose the model of a job. The connection's ``default_model`` counts only if jobs have a model in its dialect.

        :param model: The model that the job names.
        :param agent_id: An agent to use instead of a model.
        :param named: The model that the requests name, if known.
        :param named_agent: The agent that the requests name, if known.
        :param input_files: Ids of the job's request files. Before the ``default_model`` is chosen, the first rows of
            the first file are read: they may name a model or an agent.
        :raises InvalidInputError: When job and requests name different models, or a model and an agent.
        """
        default = self.default_model if self.get_conn().dialect.jobs_have_model else None
        if default and input_files and model is None and agent_id is None:
            named, named_agent = self._named_in(input_files[0])
        return chosen_model(model, agent_id, named=named, named_agent=named_agent, default=default)

    def _named_in(self, file_id: str) -> tuple[str | None, str | None]:
        """Return the model and the agent that the first rows of a request file name."""
        # Imported late: parsing a Dag needs none of it.
        from airflow_provider_mistral_batch.jsonl.requests.heads import first_named

        try:
            with contextlib.closing(self.get_conn().stream_file(file_id)) as chunks:
                return first_named(chunks)
        except MistralAPIError as error:
            if error.transient:
                raise
            self.log.info("%s Whether the requests name a model or an agent is not known.", sentence(error))
            return None, None

    def model_of_rows(self, model: str | None = None) -> str | None:
        """
        Choose the model to write into rows that name none; ``None`` if the job names the model for all rows.

        :param model: The model that the task names.
        """
        return None if self.get_conn().dialect.jobs_have_model else model or self.default_model

    @property
    def clock_offset(self) -> float:
        """Seconds by which the server's clock is ahead of ours, from its last answer; 0 before the first."""
        return self._settings.client.clock_offset if self._settings is not None else 0.0

    @property
    def server_now(self) -> float:
        """The time by the server's clock (epoch seconds)."""
        return time.time() + self.clock_offset

    def test_connection(self) -> tuple[bool, str]:
        """Test the connection with the cheapest call, a listing of one job, in at most two attempts."""
        # Imported late: parsing a Dag needs none of it.
        from airflow_provider_mistral_batch.api.retries import RetryPolicy

        tested = copy.copy(self)
        tested._settings, tested.retries = None, RetryPolicy(attempts=_TEST_ATTEMPTS)
        try:
            succeeded, message = tested._test()
            if succeeded:
                # Whoever looks at the form does not see the log.
                message = " ".join(map(sentence, (message, *tested._read_settings().warnings)))
        finally:
            tested.close()
        # The form's button saves the connection under a random id, which would tell the user nothing.
        conn_id = repr(self.mistral_conn_id)
        message = message.removeprefix(f"connection {conn_id}: ")
        message = message.replace(f"connection {conn_id}", "this connection")
        return succeeded, message.replace(f"Connection {conn_id}", "This connection")

    def _test(self) -> tuple[bool, str]:
        try:
            self.list(limit=1)
        except Exception as error:
            # A 404 may also mean that the host is wrong.
            if getattr(error, "no_listing", False) and not isinstance(error, NotFoundError):
                return (
                    True,
                    f"{self.get_conn().base_url} accepts the API key, but does not list batch jobs: {error}",
                )
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
        requests: Sequence[Mapping[str, Any] | str] | None = None,
        model: str | None = None,
        agent_id: str | None = None,
        timeout_hours: int | None = None,
    ) -> BatchJobOut:
        """
        Create a batch job.

        :param input_files: Ids of uploaded request files. Either these or ``requests``.
        :param endpoint: API endpoint that each request goes to.
        :param completion_window: Time that the job may take, ``"<n>h"`` or ``"<n>d"``, 1 hour to 7 days; ``"24h"`` by
            default.
        :param metadata: Keys of 1 to 32 characters, values of 1 to 512.
        :param requests: Up to 10,000 requests instead of files, each ``{"custom_id", "prompt"}`` or ``{"custom_id",
            "body"}``, or a prompt as a plain string; requests without ``custom_id`` are numbered.
        :param model: The model for all requests; by default the model that they name, or else the connection's
            ``default_model``, unless they name an agent.
        :param agent_id: An agent to use instead of a model.
        :param timeout_hours: ``completion_window`` as a number of hours.
        :raises InvalidInputError: When a field is wrong; nothing was sent.
        """
        check_exactly_one(input_files=input_files, requests=requests)
        named = named_agent = None
        if requests is not None:
            # Imported late: parsing a Dag needs none of it.
            from airflow_provider_mistral_batch.jsonl.requests.inline import validate_inline

            # First, since a row may have a prompt, of which this makes the body.
            check_is_list_of_rows(requests)
            inline = validate_inline(requests, endpoint=endpoint)
            requests, named, named_agent = inline.rows, inline.model, inline.agent
        job = BatchJobIn(
            input_files=input_files,
            requests=requests,
            endpoint=endpoint,
            completion_window=chosen_window(completion_window, timeout_hours),
            metadata=metadata,
            model=model,
            agent_id=agent_id,
        )
        chosen = self.model_of_job(model, agent_id, named=named, named_agent=named_agent)
        return self.get_conn().create(msgspec.structs.replace(job, model=chosen))

    def list(self, limit: int | None = None, after: str | None = None, **filters: Any) -> BatchJobsOut:
        """
        List batch jobs, newest first.

        :param limit: Most jobs to return; 100 if ``None``.
        :param after: Start after the job with this id.
        :param filters: ``status``, ``model``, ``agent_id``, ``created_after``, ``created_by_me``, ``metadata``,
            ``order_by``, as in :class:`~airflow_provider_mistral_batch.api.dialects.base.JobFilter`.
        """
        return self.get_conn().list(limit, after, **filters)

    def iter_jobs(self, **filters: Any) -> Iterator[BatchJobOut]:
        """
        Iterate over batch jobs, each once, and read pages as needed.

        :param filters: As for :meth:`list`, plus ``after``.
        """
        return self.get_conn().iter_jobs(**filters)

    def known_jobs(self, *, needed: bool = True, **filters: Any) -> Iterator[BatchJobOut]:
        """
        Iterate over batch jobs as :meth:`iter_jobs` does; over none if the server has no listing of them.

        Some gateways have none. A task runs all the same, after one warning.

        :param needed: Whether a job may be in the listing. If not, a bare 500 of a gateway counts as no
            listing, too.
        :param filters: As for :meth:`iter_jobs`.
        """
        if not self.lists_jobs:
            return
        try:
            yield from self.iter_jobs(**filters)
        except MistralAPIError as error:
            looks_missing = error.status_code == 500 and not self.get_conn().dialect.always_lists_jobs
            if not error.no_listing and (needed or not looks_missing):
                raise
            self.lists_jobs = False
            log.warning(
                "%s The server does not list batch jobs, so the task cannot find its job again: each retry and each "
                "clear submits, and pays for, a new job.",
                sentence(error),
            )

    def get(self, batch_id: str, *, inline: bool = False) -> BatchJobOut:
        """
        Read a batch job.

        :param batch_id: The job's id.
        :param inline: Also ask for the result rows of an inline job, in ``outputs``.
        :raises NotFoundError: When this workspace has no such job.
        """
        return self.get_conn().get(batch_id, inline=inline)

    def inline_rows(self, batch_id: str) -> Sequence[bytes]:
        """
        Read the result rows of an inline job as the API wrote them, each in one line.

        :param batch_id: The job's id.
        :raises NotFoundError: When this workspace has no such job.
        """
        return self.get_conn().inline_rows(batch_id)

    def cancel(self, batch_id: str) -> BatchJobOut:
        """
        Ask the API to cancel a job; the job is not over until its status is ``cancelled``.

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
        self,
        file: str | os.PathLike[str] | IO[bytes],
        purpose: str = "batch",
        *,
        once: bool = False,
        **kwargs: Any,
    ) -> FileOut:
        """
        Upload a file, streaming it from disk.

        :param file: Path of a local file, or an open, seekable binary file.
        :param purpose: ``batch`` for request files, ``ocr`` for documents, ``audio`` for recordings.
        :param once: If a file with the same content was uploaded with ``once`` before, return that file. The file's
            name in the workspace is then made of its content's hash; only the end, such as ``.pdf``, is yours. A file
            that expires within 8 days is not used again.
        :param kwargs: ``filename``, ``expiry`` (hours), ``visibility``, ``model``, ``on_progress``, as in
            :meth:`~airflow_provider_mistral_batch.api.client.MistralBatchClient.upload_file`.
        """
        client = self.get_conn()
        if not once:
            return client.upload_file(file, purpose, **kwargs)
        # Imported late: parsing a Dag needs none of it.
        from airflow_provider_mistral_batch.hooks.uploads import upload_content_once

        return upload_content_once(client, file, purpose, **kwargs)

    def get_file(self, file_id: str) -> FileOut:
        """
        Read the metadata of a file.

        :param file_id: The file's id.
        """
        return self.get_conn().get_file(file_id)

    def list_files(self, limit: int | None = None, after: str | None = None, **filters: Any) -> FilesOut:
        """
        List files, newest first; the files are in ``data`` of what it returns.

        :param limit: Most files to return; 100 if ``None``.
        :param after: Start after the file with this id.
        :param filters: ``purpose``, ``search``, ``sample_type``, ``source``, ``mimetypes``.
        """
        return self.get_conn().list_files(limit, after, **filters)

    def iter_files(self, **filters: Any) -> Iterator[FileOut]:
        """
        Iterate over files, each once, and read pages as needed.

        :param filters: As for :meth:`list_files`, plus ``after``.
        """
        return self.get_conn().iter_files(**filters)

    def download_file(self, file_id: str) -> bytes:
        """
        Download a file into memory; for large files use :meth:`stream_file`.

        :param file_id: The file's id.
        """
        return self.get_conn().download_file(file_id)

    def stream_file(self, file_id: str) -> Iterator[bytes]:
        """
        Download a file in chunks of at most 1 MiB, in constant memory; resume it if the connection breaks.

        :param file_id: The file's id.
        """
        return self.get_conn().stream_file(file_id)

    def get_signed_url(self, file_id: str, expiry: int = 24) -> str:
        """
        Get a URL from which anyone can download a file.

        :param file_id: The file's id.
        :param expiry: Hours for which the URL is valid, 1 to 168.
        """
        return self.get_conn().get_signed_url(file_id, expiry)

    def delete_file(self, file_id: str) -> DeletedOut:
        """
        Delete a file.

        :param file_id: The file's id.
        """
        return self.get_conn().delete_file(file_id)
