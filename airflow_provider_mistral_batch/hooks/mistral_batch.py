"""``MistralBatchHook``: from an Airflow connection to a client of the Batch API."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_mistral_batch.api.checks import check_positive, check_whole, chosen_model, chosen_window
from airflow_provider_mistral_batch.api.endpoints import DEFAULT_ENDPOINT
from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.api.models import (
    BatchJobIn,
    BatchJobOut,
    BatchJobsOut,
    DeletedOut,
    FileOut,
    FilesOut,
)

if TYPE_CHECKING:
    import os

    from airflow.providers.common.compat.sdk import Connection

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
        self._client: MistralBatchClient | None = None
        self._default_model: str | None = None
        self._deployment = ""

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Say what the connection's form shows."""
        behaviour = _connection_type()["ui-field-behaviour"]
        # The provider info writes its keys with dashes, this method's callers with underscores.
        return {name.replace("-", "_"): value for name, value in behaviour.items()}

    def get_conn(self) -> MistralBatchClient:
        """
        Return the client of this connection; made once, with the first call.

        :raises InvalidInputError: When a field of the connection cannot work; names the field.
        """
        if self._client is None:
            connection = self.get_connection(self.mistral_conn_id)
            options: dict[str, Any] = {"key_source": f"the password of connection {self.mistral_conn_id!r}"}
            if self.retries is not None:
                options["retries"] = self.retries
            try:
                self._default_model = _text(connection, "default_model") or None
                self._deployment = _text(connection, "deployment")
                self._client = _client_of(
                    connection,
                    longest_timeout=self.longest_timeout,
                    renew_key=self._current_key,
                    **options,
                )
            except InvalidInputError as error:
                raise InvalidInputError(f"connection {self.mistral_conn_id!r}: {_as_field(error)}") from None
            if unknown := _unknown_fields(connection):
                self.log.warning(
                    "The extra of connection %r has fields that are not known and do nothing: %s. Known are %s.",
                    self.mistral_conn_id,
                    ", ".join(unknown),
                    ", ".join(_known_fields()),
                )
            if self._client.verifies_tls is False:
                self.log.warning(
                    "Connection %r has verify=false: TLS certificates are NOT checked, and whoever is between here "
                    "and %s can read the API key.",
                    self.mistral_conn_id,
                    self._client.base_url,
                )
            if not _keeps_secrets(self._client.base_url):
                self.log.warning(
                    "Connection %r has a host without https: the API key goes to %s in clear, and whoever is between "
                    "here and there can read it.",
                    self.mistral_conn_id,
                    self._client.base_url,
                )
        return self._client

    def _current_key(self) -> str | None:
        """Read the key again: it may have been rotated while we waited."""
        return self.get_connection(self.mistral_conn_id).password

    def close(self) -> None:
        """Close the client's connections; the next call opens new ones."""
        if self._client is not None:
            self._client.close()
            self._client = None

    @property
    def deployment(self) -> str:
        """Name of this Airflow among several that share a workspace (extra ``deployment``); empty if there is none."""
        self.get_conn()
        return self._deployment

    @property
    def default_model(self) -> str | None:
        """Model of requests for which nobody names a model, nor an agent (extra ``default_model``)."""
        self.get_conn()
        return self._default_model

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
        return self._client.clock_offset if self._client is not None else 0.0

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


#: Fields of a connection by the client's parameters.
_FIELDS = {
    "api_key": "password",
    "base_url": "host",
    "dialect": "extra.dialect",
    "proxies": "extra.proxies",
    "verify": "extra.verify",
}


def _client_of(
    connection: Connection, *, longest_timeout: float | None, **options: Any
) -> MistralBatchClient:
    """Make the client that a connection's fields describe; given options win over them."""
    # Imported late: `requests` is not needed to parse a Dag.
    from airflow_provider_mistral_batch.api import client as api
    from airflow_provider_mistral_batch.api.retries import RetryPolicy

    extra = {name: value for name, value in _extra(connection).items() if value not in (None, "")}
    api_key = (connection.password or "").strip()
    if not api_key:
        raise InvalidInputError("password is empty: put the API key of your Mistral workspace there")
    fields: dict[str, Any] = {name: extra[name] for name in ("dialect", "proxies", "verify") if name in extra}
    if "timeout" in extra:
        fields["timeout"] = _number(extra["timeout"])
        check_positive("extra.timeout", fields["timeout"])
    if longest_timeout is not None:
        fields["timeout"] = min(longest_timeout, fields.get("timeout", longest_timeout))
    if "retries" in extra:
        attempts = _number(extra["retries"])
        check_whole("extra.retries", attempts, at_least=1, unit="attempts")
        fields["retries"] = RetryPolicy(attempts=attempts)
    if isinstance(extra.get("proxies"), str):
        # What is no JSON is refused by the client, which does not show it.
        with contextlib.suppress(msgspec.DecodeError):
            fields["proxies"] = msgspec.json.decode(extra["proxies"])
    if isinstance(extra.get("verify"), str):
        fields["verify"] = {"true": True, "false": False}.get(extra["verify"].lower(), extra["verify"])
    base_url = _base_url(connection) or api.DEFAULT_BASE_URL
    return api.MistralBatchClient(api_key, base_url, **{**fields, **options})


def _connection_type() -> dict[str, Any]:
    # Imported late: parsing a Dag needs none of it.
    from airflow_provider_mistral_batch.get_provider_info import get_provider_info

    connection_type: dict[str, Any] = get_provider_info()["connection-types"][0]
    return connection_type


def _known_fields() -> list[str]:
    """Fields of the extra that mean something, as the form shows them."""
    return [*_connection_type()["conn-fields"]]


def _unknown_fields(connection: Connection) -> list[str]:
    """
    Fields of the extra that nothing reads, most likely misspelt.

    Airflow puts none there by itself: forms write plain names since Airflow 3, and ``__extra__`` of a URI is unpacked
    before we see it. So ``extra__mistral__timeout`` and ``__extra__`` are somebody's mistake, too.
    """
    return sorted(repr(name)[:80] for name in _extra(connection).keys() - set(_known_fields()))


def _keeps_secrets(base_url: str) -> bool:
    """Whether nobody on the way to a server reads along."""
    parts = urlsplit(base_url)
    return (
        parts.scheme == "https"
        or parts.hostname in ("localhost", "::1")
        or str(parts.hostname).startswith("127.")
    )


def _as_field(error: InvalidInputError) -> str:
    """Name the connection's field where the client names its parameter; it is the first word of what it says."""
    return re.sub(r"^\w+", lambda name: _FIELDS.get(name[0], name[0]), str(error))


def _text(connection: Connection, field: str) -> str:
    value = _extra(connection).get(field) or ""
    if not isinstance(value, str):
        raise InvalidInputError(f"extra.{field}={value!r} is not a name")
    return value


def _extra(connection: Connection) -> dict[str, Any]:
    extra: Any = connection.extra_dejson
    if not isinstance(extra, dict):
        raise InvalidInputError('extra is no JSON object: write {"timeout": 60}, or leave it empty')
    return extra


def _base_url(connection: Connection) -> str:
    """The base URL as the host field says it: a whole URL, or a host, maybe with scheme and port beside it."""
    host = (connection.host or "").strip()
    if not host:
        return ""
    scheme, separator, rest = host.partition("://")
    if not separator:
        scheme, rest = connection.schema if connection.schema in ("http", "https") else "https", host
    authority, slash, prefix = rest.partition("/")
    if connection.port and not re.search(r":\d+$", authority):
        authority += f":{connection.port}"
    return f"{scheme}://{authority}{slash}{prefix}"


def _number(value: Any) -> Any:
    """The number that a field means: forms and URIs hold text only. What is not a number stays as it is."""
    if not isinstance(value, (str, float)):
        return value
    try:
        number = float(value)
    except ValueError:
        return value
    return int(number) if number.is_integer() else number
