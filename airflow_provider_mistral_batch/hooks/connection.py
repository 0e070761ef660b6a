"""Reads an Airflow connection of type ``mistral``, and makes the API client that it describes."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from airflow_provider_mistral_batch.api.checks import check_positive, check_whole
from airflow_provider_mistral_batch.api.errors import InvalidInputError

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_provider_mistral_batch.api.client import MistralBatchClient

log = logging.getLogger(__name__)

#: The environment variable with the API key for connections whose password is empty; Mistral's own SDK reads it, too.
KEY_VARIABLE = "MISTRAL_API_KEY"

#: How a model begins in the field ``model``, which common-ai's operators read and ours do not.
_COMMON_AI_MODEL = "mistral:"

#: The connection's field for each parameter of the client.
_FIELDS = {
    "api_key": "password",
    "base_url": "host",
    "dialect": "extra.dialect",
    "proxies": "extra.proxies",
    "verify": "extra.verify",
}


class Settings(NamedTuple):
    """
    The settings in a connection.

    :param client: The API client that its fields describe.
    :param default_model: Model to use if neither task nor requests name a model or an agent (extra ``default_model``).
    :param deployment: Name of this Airflow among several that share a workspace (extra ``deployment``).
    :param rows_have_url: Whether each row of a request file must have ``method`` and ``url`` (extra ``rows_have_url``).
    :param warnings: What works but is probably a mistake.
    """

    client: MistralBatchClient
    default_model: str | None
    deployment: str
    rows_have_url: bool
    warnings: list[str]


def api_key_of(connection: Connection) -> str:
    """
    Give the API key: the connection's password, or else ``MISTRAL_API_KEY`` of this process's environment.

    :param connection: The connection.
    :return: The key; empty if there is none.
    """
    return (connection.password or "").strip() or os.environ.get(KEY_VARIABLE, "").strip()


def key_source(connection: Connection, conn_id: str) -> str:
    """
    Say where a connection's API key is, for messages.

    :param connection: The connection.
    :param conn_id: Its id.
    """
    if (connection.password or "").strip():
        return f"the password of connection {conn_id!r}"
    return f"the environment variable {KEY_VARIABLE}"


@cache
def say_key_is_in_environment(conn_id: str, base_url: str) -> None:
    """
    Log, once in a process, that a connection without a password uses the environment's key.

    :param conn_id: The connection's id.
    :param base_url: Where the key is sent.
    """
    log.info("Connection %r has no password: %s gets the API key in %s.", conn_id, base_url, KEY_VARIABLE)


@cache
def say_warning(warning: str) -> None:
    """
    Log a warning about a connection, once in a process: poll loops read theirs again after each failure.

    :param warning: The warning.
    """
    log.warning("%s", warning)


def read_connection(
    connection: Connection, conn_id: str, *, longest_timeout: float | None, **options: Any
) -> Settings:
    """
    Read a connection.

    :param connection: The connection.
    :param conn_id: Its id, for messages.
    :param longest_timeout: Most seconds to wait for an answer, even if the connection allows more.
    :param options: Parameters of the client, which override the connection's fields.
    :raises InvalidInputError: When a field is wrong; names the field.
    """
    try:
        default_model = _text(connection, "default_model") or None
        deployment = _text(connection, "deployment")
        rows_have_url = _flag(connection, "rows_have_url")
        # Last: a client that was made has to be closed.
        client = _client_of(connection, longest_timeout=longest_timeout, **options)
    except InvalidInputError as error:
        # The first word of the client's message is its parameter: name the connection's field instead.
        message = re.sub(r"^\w+", lambda name: _FIELDS.get(name[0], name[0]), str(error))
        raise InvalidInputError(f"connection {conn_id!r}: {message}") from None
    warnings = list(_warnings(connection, conn_id, client))
    return Settings(client, default_model, deployment, rows_have_url, warnings)


def _warnings(connection: Connection, conn_id: str, client: MistralBatchClient) -> Iterator[str]:
    # Airflow itself adds no fields: since Airflow 3 its form writes plain names, and it unpacks ``__extra__`` of a URI.
    # So ``extra__mistral__timeout`` and ``__extra__`` are also mistakes.
    extra = _extra(connection)
    known = [*connection_type()["conn-fields"]]
    # A connection may also serve common-ai's operators, whose field this is. Of another type, all fields are others'.
    others = {"model"} if str(extra.get("model")).startswith(_COMMON_AI_MODEL) else set()
    if connection.conn_type != connection_type()["connection-type"]:
        others = set(extra)
    if unknown := sorted(repr(name)[:80] for name in extra.keys() - set(known) - others):
        yield (
            f"The extra of connection {conn_id!r} has unknown fields, which are ignored: {', '.join(unknown)}. "
            f"Known fields are {', '.join(known)}."
        )
    if client.verifies_tls is False:
        yield (
            f"Connection {conn_id!r} has verify=false: TLS certificates are NOT checked, and anyone between here and "
            f"{client.base_url} can read the API key."
        )
    if not _keeps_secrets(client.base_url):
        yield (
            f"Connection {conn_id!r} has a host without https: the API key is sent to {client.base_url} in clear text, "
            "and anyone in between can read it."
        )


def connection_type() -> dict[str, Any]:
    """Return the connection type's entry in the provider info."""
    # Imported late: parsing a Dag needs none of it.
    from airflow_provider_mistral_batch.get_provider_info import get_provider_info

    entry: dict[str, Any] = get_provider_info()["connection-types"][0]
    return entry


def _client_of(
    connection: Connection, *, longest_timeout: float | None, **options: Any
) -> MistralBatchClient:
    """Make the client that a connection's fields describe; ``options`` override them."""
    # Imported late: `requests` is not needed to parse a Dag.
    from airflow_provider_mistral_batch.api import client as api
    from airflow_provider_mistral_batch.api.retries import RetryPolicy
    from airflow_provider_mistral_batch.observability.metrics import api_called

    extra = {name: value for name, value in _extra(connection).items() if value not in (None, "")}
    api_key = api_key_of(connection)
    if not api_key:
        raise InvalidInputError(
            f"password is empty: enter the API key of your Mistral workspace, or set {KEY_VARIABLE} in the environment "
            "of workers and triggerers"
        )
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
        # The client refuses text that is not JSON, without showing it: a proxy URL may contain a password.
        with contextlib.suppress(msgspec.DecodeError):
            fields["proxies"] = msgspec.json.decode(extra["proxies"])
    if isinstance(extra.get("verify"), str):
        fields["verify"] = {"true": True, "false": False}.get(extra["verify"].lower(), extra["verify"])
    base_url = _base_url(connection) or api.DEFAULT_BASE_URL
    return api.MistralBatchClient(api_key, base_url, **{"on_answer": api_called, **fields, **options})


def _keeps_secrets(base_url: str) -> bool:
    """Tell whether the API key travels over TLS, or never leaves this machine."""
    parts = urlsplit(base_url)
    return (
        parts.scheme == "https"
        or parts.hostname in ("localhost", "::1")
        or str(parts.hostname).startswith("127.")
    )


def _text(connection: Connection, field: str) -> str:
    value = _extra(connection).get(field) or ""
    if not isinstance(value, str):
        raise InvalidInputError(f"extra.{field}={value!r} is not a string: enter a name")
    return value


def _flag(connection: Connection, field: str) -> bool:
    value = _extra(connection).get(field)
    if value in (None, ""):
        return False
    # Forms and URIs hold only text.
    flag = {"true": True, "false": False}.get(str(value).lower())
    if flag is None:
        raise InvalidInputError(f"extra.{field}={value!r:.80} is neither true nor false: enter one of them")
    return flag


def _extra(connection: Connection) -> dict[str, Any]:
    extra: Any = connection.extra_dejson
    if not isinstance(extra, dict):
        raise InvalidInputError(
            'extra is not a JSON object: enter one such as {"timeout": 60}, or leave it empty'
        )
    return extra


def _base_url(connection: Connection) -> str:
    """Read the base URL from the host field: a whole URL, or a host with scheme and port in their own fields."""
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
    """Convert a field to a number if it is one: forms and URIs hold only text. Return anything else unchanged."""
    if not isinstance(value, (str, float)):
        return value
    try:
        number = float(value)
    except ValueError:
        return value
    return int(number) if number.is_integer() else number
