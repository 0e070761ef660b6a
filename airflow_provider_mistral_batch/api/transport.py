"""Sends every call: one ``requests`` session, retries, and every failure as one of our errors."""

from __future__ import annotations

import contextlib
import logging
import re
import ssl
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
import requests
from requests.auth import AuthBase
from requests.utils import default_user_agent
from urllib3.exceptions import ConnectTimeoutError, HTTPError

from airflow_provider_mistral_batch import __version__
from airflow_provider_mistral_batch.api import limits
from airflow_provider_mistral_batch.api.bounds import (
    ACCEPTED_ENCODINGS,
    BoundedAdapter,
    Patience,
    unpacked,
    waiting_with,
)
from airflow_provider_mistral_batch.api.checks import check_positive
from airflow_provider_mistral_batch.api.dialects.base import Call
from airflow_provider_mistral_batch.api.errors import (
    AuthenticationError,
    InvalidInputError,
    MistralConnectionError,
    MistralResponseError,
    error_from_answer,
)
from airflow_provider_mistral_batch.api.regular_files import check_regular
from airflow_provider_mistral_batch.api.retries import RetryPolicy, http_timestamp, parse_retry_after
from airflow_provider_mistral_batch.api.texts import excerpt, forms_of, kept

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds to wait for a connection, and between two bytes of an answer. A whole call may take the first and twice the
#: second: :meth:`Transport.patience`.
DEFAULT_TIMEOUT = (10.0, 120.0)

#: Bytes to read at a time. An unfinished chunk is lost when the connection breaks.
_CHUNK_BYTES = 1 << 18

#: Bytes to read of an error's body; a message is shorter.
_ERROR_BYTES = 1 << 16

#: Most redirects that a GET follows.
_MAX_REDIRECTS = 5

#: Headers in which servers name a call, for their support.
_REQUEST_ID_HEADERS = ("mistral-correlation-id", "x-request-id", "x-kong-request-id", "cf-ray")

#: OpenSSL's reasons when the server has the wrong certificate or does not speak TLS: a retry cannot help.
_TLS_REFUSALS = frozenset({"CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER"})


class Transport:
    """
    Carries calls to one server with one key. Its parameters are those of the client.

    :raises InvalidInputError: When one of them is invalid.
    """

    def __init__(
        self,
        api_key: str,
        base_url: str,
        *,
        timeout: float | tuple[float, float] = DEFAULT_TIMEOUT,
        retries: RetryPolicy | None = None,
        proxies: Mapping[str, str] | None = None,
        verify: bool | str = True,
        key_source: str = "api_key",
        renew_key: Callable[[], str | None] | None = None,
        on_answer: Callable[[str, int | None], None] | None = None,
    ) -> None:
        self.base_url = _checked_base_url(base_url)
        self.retries = retries or RetryPolicy()
        #: Seconds by which the server's clock is ahead of ours, from its last answer.
        self.clock_offset = 0.0
        self._key_source = key_source
        self._renew_key = renew_key
        self._on_answer = on_answer
        # Passed with each call: on the session, REQUESTS_CA_BUNDLE and *_PROXY of the environment would override them.
        self._options: dict[str, Any] = {
            "timeout": _checked_timeout(timeout),
            "verify": _checked_verify(verify),
            "proxies": _checked_proxies(proxies),
        }
        self._session = _Session()
        self._session.max_redirects = _MAX_REDIRECTS
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, BoundedAdapter())
        self._session.headers["Accept-Encoding"] = ACCEPTED_ENCODINGS
        #: Finds every key that was used: a server's message may still hold an old one.
        self._secrets: list[re.Pattern[str]] = []
        self._use_key(api_key)
        self._session.headers["User-Agent"] = (
            f"airflow-provider-mistral-batch/{__version__} {default_user_agent()}"
        )

    @property
    def verifies_tls(self) -> bool:
        """Whether TLS certificates are checked."""
        return self._options["verify"] is not False

    def close(self) -> None:
        """Close the pooled connections."""
        self._session.close()

    def call(
        self,
        call: Call,
        decode: Callable[[bytes], T],
        *,
        repeatable: bool = True,
        max_bytes: int = limits.MAX_ANSWER_BYTES,
    ) -> T:
        """
        Make a call and read its answer as a whole.

        :param call: The call.
        :param decode: Reads the answer's body; what it raises becomes our error.
        :param repeatable: Whether making the call twice has the same effect as making it once.
        :param max_bytes: Most bytes of the answer's body.
        :raises MistralCallError: When there is no usable answer.
        """
        data, headers = None, {}
        if call.json is not None:
            headers["Content-Type"] = "application/json"
            data = _encoded(call)

        def attempt() -> T:
            with self.send(call, data=data, headers=headers) as response:
                return self.decoded(call, response, decode, max_bytes=max_bytes)

        return self.repeat(attempt, repeatable=repeatable)

    def repeat(self, attempt: Callable[[], T], *, repeatable: bool) -> T:
        """
        Make attempts until one succeeds or a retry cannot help; after a 401, start again once if the key was rotated.

        :param attempt: Makes one attempt.
        :param repeatable: Whether two attempts have the same effect as one.
        """
        retrying = self.retries.retrying(repeatable=repeatable)
        try:
            return retrying(attempt)
        except AuthenticationError:
            if not self._key_was_rotated():
                raise
        return retrying(attempt)

    def _key_was_rotated(self) -> bool:
        key = self._renew_key() if self._renew_key is not None else None
        if not key or key.strip() == self._auth.api_key:
            return False
        log.info(
            "The API key was refused, and %s has changed: trying again with the new key.", self._key_source
        )
        self._use_key(key)
        return True

    def _use_key(self, key: str) -> None:
        self._auth = self._session.auth = _BearerAuth(key)
        self._secrets.append(forms_of(self._auth.api_key))

    def patience(self) -> Patience:
        """Give a new call its time: that to connect, and twice that between two bytes."""
        to_connect, to_read = self._options["timeout"]
        return Patience(to_connect + 2 * to_read)

    def send(self, call: Call, *, patience: Patience | None = None, **kwargs: Any) -> requests.Response:
        """
        Make one attempt of a call.

        :param call: The call.
        :param patience: How long the answer may take; by default the time of one call.
        :param kwargs: Headers and data, as ``requests`` takes them.
        :return: A 2xx answer, its body unread. The caller closes it.
        :raises MistralCallError: When there is no such answer.
        """
        response = self._answer(call, patience or self.patience(), **kwargs)
        if self._on_answer is not None:
            self._on_answer(call.method, getattr(response, "status_code", None))
        if isinstance(response, MistralConnectionError):
            # Raised outside of `except`, here as everywhere in this module: the context of an exception raised inside
            # would hold the request, and the request holds the key.
            raise response
        self._note_clock(response.headers.get("Date"))
        if 200 <= response.status_code < 300:
            return response
        with response:
            content = _beginning(response)
        if response.status_code < 400:
            raise self._redirected(call, response)
        error = error_from_answer(
            response.status_code,
            content,
            operation=call.operation,
            request_id=_request_id(response.headers),
            retry_after=parse_retry_after(
                response.headers.get("Retry-After"), date=response.headers.get("Date")
            ),
            remedies=call.remedies,
            conflict_passes=call.conflict_passes,
            is_listing=call.is_listing,
            without_secrets=self.without_secrets,
        )
        if isinstance(error, AuthenticationError):
            error.remedy = f"Check the API key in {self._key_source}"
        raise error

    def _answer(
        self, call: Call, patience: Patience, **kwargs: Any
    ) -> requests.Response | MistralConnectionError:
        try:
            with waiting_with(patience):
                return self._session.request(
                    call.method,
                    self.base_url + call.path,
                    params=list(call.params),
                    # A redirect turns a POST into a GET, and could point a DELETE at anything.
                    allow_redirects=call.method == "GET",
                    # Each reader decides how much of the body it reads.
                    stream=True,
                    **self._options,
                    **kwargs,
                )
        # The errors of requests are OSErrors, but those of urllib3 and of the URL parser that it lets through are not.
        except (OSError, ValueError, HTTPError) as cause:
            failed = MistralConnectionError(
                self.without_secrets(
                    f"{call.operation} got no answer from {self.base_url}: {_reason(cause)}.{_remedy(cause)}"
                ),
                operation=call.operation,
                may_have_acted=not _never_sent(cause),
            )
            failed.transient = not _is_hopeless(cause)
            return failed

    def _redirected(self, call: Call, response: requests.Response) -> MistralResponseError:
        where = kept(response.headers.get("Location", "nowhere"), self.without_secrets, 200)
        error = MistralResponseError(
            f"{call.operation} was redirected to {where} ({response.status_code}): "
            "set the host to the API's own address",
            operation=call.operation,
            # Some servers act and then redirect; with 307 and 308 they have not acted.
            may_have_acted=response.status_code not in (307, 308),
        )
        error.transient = False
        return error

    def _note_clock(self, date: str | None) -> None:
        server_now = http_timestamp(date)
        if server_now is not None:
            # The header has whole seconds, so on average it is half a second behind.
            self.clock_offset = server_now + 0.5 - time.time()

    def chunks(
        self, call: Call, response: requests.Response, *, max_bytes: int | None = None
    ) -> Iterator[bytes]:
        """
        Read an answer's body; an early end is an error even where urllib3 accepts it.

        :param call: The call.
        :param response: The answer to it.
        :param max_bytes: Most bytes of the body, unpacked; ``None`` leaves it to the caller.
        :raises MistralConnectionError: When the body is not complete.
        :raises MistralResponseError: When it has more bytes.
        """
        announced = announced_length(response.headers)
        received = 0
        problem = None
        try:
            for chunk in unpacked(response, _CHUNK_BYTES):
                received += len(chunk)
                if max_bytes is not None and received > max_bytes:
                    raise self._too_large(call, max_bytes)
                yield chunk
        # urllib3 lets a ValueError of the standard library through, for example for a chunk of a negative size.
        except (OSError, HTTPError, ValueError, zlib.error) as error:
            problem = _reason(error)
        # `tell` counts the bytes as they came, before decompression.
        if problem is None and announced is not None and response.raw.tell() != announced:
            problem = f"{announced} were announced"
        if problem is not None:
            raise MistralConnectionError(
                self.without_secrets(f"{call.operation} broke off after {received} bytes: {problem}."),
                operation=call.operation,
                may_have_acted=True,
            )

    def _too_large(self, call: Call, max_bytes: int) -> MistralResponseError:
        error = MistralResponseError(
            f"{call.operation} was answered with more than {max_bytes:,} bytes, and no answer of the API is as large: "
            f"is there a proxy between here and {self.base_url}?",
            operation=call.operation,
            may_have_acted=True,
        )
        error.transient = False
        return error

    def decoded(
        self,
        call: Call,
        response: requests.Response,
        decode: Callable[[bytes], T],
        *,
        max_bytes: int = limits.MAX_ANSWER_BYTES,
    ) -> T:
        """
        Read an answer's body as a whole.

        :param call: The call.
        :param response: The answer to it.
        :param decode: Reads the body.
        :param max_bytes: Most bytes of the body.
        :raises MistralResponseError: When the body is not the API's.
        """
        content = b"".join(self.chunks(call, response, max_bytes=max_bytes))
        try:
            return decode(content)
        except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
            problem = kept(f"{type(error).__name__}: {error}", self.without_secrets)
        start = content[:_ERROR_BYTES].decode("utf-8", "replace")
        kind = response.headers.get("Content-Type", "none")
        raise MistralResponseError(
            f"{call.operation} was answered with {response.status_code} and a body that is not the API's ({problem}; "
            f"content type {kept(kind, self.without_secrets, 100)}, starting with "
            f"{kept(start, self.without_secrets, 100)!r}). Is there a proxy between here and {self.base_url}?",
            operation=call.operation,
            may_have_acted=True,
        )

    def without_secrets(self, text: str) -> str:
        """
        Hide secrets: some servers repeat the key in their messages, and some libraries the password of a proxy.

        :param text: A text that may hold secrets.
        """
        for secret in self._secrets:
            text = secret.sub("***", text)
        return re.sub(r"//[^/\s@]*@", "//***@", text)


class _BearerAuth(AuthBase):
    """
    Bearer token of a request.

    Not a header of the session: a .netrc entry would replace it, and a repr would show it.
    """

    def __init__(self, api_key: str) -> None:
        if not isinstance(api_key, str) or not api_key.strip():
            raise InvalidInputError("api_key is missing or empty: pass the API key of your Mistral workspace")
        self.api_key = api_key.strip()
        if not self.api_key.isascii() or not self.api_key.isprintable() or " " in self.api_key:
            raise InvalidInputError(
                "api_key has spaces, line ends or non-ASCII characters, which no API key has: copy it again"
            )

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.api_key}"
        return request


class _Session(requests.Session):
    """A session that drops the key when it is redirected to another host, and takes none from a .netrc instead."""

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        old_url, new_url = response.request.url, prepared_request.url
        if self.should_strip_auth(old_url, new_url):  # type: ignore[no-untyped-call]
            prepared_request.headers.pop("Authorization", None)


def is_encoded(headers: Mapping[str, str]) -> bool:
    """
    Whether a body is compressed, so that its length differs from the content's.

    :param headers: The answer's headers.
    """
    return headers.get("Content-Encoding", "identity").lower() != "identity"


def announced_length(headers: Mapping[str, str]) -> int | None:
    """
    Read how many bytes a body has, as sent.

    :param headers: The answer's headers.
    :return: Bytes; ``None`` if the headers do not say, or name an impossible length.
    """
    length = headers.get("Content-Length", "")
    return int(length) if length.isdecimal() and len(length) < 20 else None


def _encoded(call: Call) -> bytes:
    try:
        return msgspec.json.encode(call.json)
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(
            f"{call.operation}: the body cannot be written as JSON ({excerpt(str(error))}): pass JSON values only"
        ) from None


def _checked_base_url(base_url: str) -> str:
    try:
        parts = urlsplit(base_url)
        hostname = parts.hostname or ""
        hostname.encode("idna")
        valid = (
            parts.scheme in ("http", "https")
            and bool(hostname)
            and parts.port != 0
            and not re.search(r"[\s\\?#@]", base_url)
        )
    except (TypeError, ValueError, AttributeError):
        valid = False
    if not valid:
        # The value is not shown, since a URL may hold credentials.
        raise InvalidInputError(
            "base_url is not a valid URL: write https://host[:port][/prefix], without user, query or fragment"
        )
    return re.sub(r"(/v1)?/*$", "", base_url)


def _checked_timeout(timeout: float | tuple[float, float]) -> tuple[float, float]:
    if not isinstance(timeout, tuple):
        check_positive("timeout", timeout)
        return DEFAULT_TIMEOUT[0], timeout
    if len(timeout) != 2:
        raise InvalidInputError(
            f"timeout={timeout!r} is not a pair: pass (seconds to connect, seconds to read)"
        )
    for seconds in timeout:
        check_positive("timeout", seconds)
    return timeout


def _checked_verify(verify: bool | str) -> bool | str:
    if isinstance(verify, bool):
        return verify
    try:
        if not Path(verify).is_dir():
            check_regular(verify)
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(verify)
    except (TypeError, ValueError, OSError) as error:
        raise InvalidInputError(
            f"verify={verify!r} is not a boolean or a readable CA bundle ({error}): pass true, false or the path of a "
            "PEM file"
        ) from None
    return verify


def _checked_proxies(proxies: Mapping[str, str] | None) -> dict[str, str | None] | None:
    if proxies is None:
        return None
    if not isinstance(proxies, Mapping) or not all(_is_proxy(scheme, url) for scheme, url in proxies.items()):
        # The value is not shown, since a proxy's URL may hold credentials.
        raise InvalidInputError(
            'proxies is not a mapping of scheme to URL: write {"https": "http://proxy:3128"}'
        )
    # None for a scheme keeps requests from using a proxy of the environment beside those that were passed.
    return {"http": None, "https": None, "all": None, **proxies} if proxies else None


def _is_proxy(scheme: object, url: object) -> bool:
    if not isinstance(scheme, str) or not isinstance(url, str):
        return False
    if scheme == "no_proxy" or not url:
        return True
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        return bool(parts.hostname) and parts.port != 0 and parts.scheme.startswith(("http", "socks"))
    except ValueError:
        return False


def _beginning(response: requests.Response) -> bytes:
    """The beginning of an error's body. The status is known, so a body that breaks off is no problem."""
    content = b""
    with contextlib.suppress(OSError, HTTPError, ValueError, zlib.error):
        for chunk in unpacked(response, _ERROR_BYTES):
            content += chunk
            if len(content) >= _ERROR_BYTES:
                break
    return content[:_ERROR_BYTES]


def _request_id(headers: Mapping[str, str]) -> str | None:
    return next((headers[name] for name in _REQUEST_ID_HEADERS if headers.get(name)), None)


def _never_sent(error: Exception) -> bool:
    """Whether the connection failed before any part of the request was sent."""
    if not isinstance(error, requests.RequestException):
        # A plain OSError comes from reading certificates; any other error may come from reading an answer.
        return isinstance(error, OSError)
    return isinstance(error, ValueError) or any(
        isinstance(cause, ConnectTimeoutError)
        or getattr(cause, "reason", None) in _TLS_REFUSALS
        or str(cause).startswith("Tunnel connection failed")
        for cause in _causes(error)
    )


def _is_hopeless(error: Exception) -> bool:
    """Whether a retry must fail in the same way, since the request or the configuration is wrong."""
    return (
        isinstance(error, (ValueError, requests.TooManyRedirects))
        or not isinstance(error, (requests.RequestException, HTTPError))
        or any(getattr(cause, "reason", None) in _TLS_REFUSALS for cause in _causes(error))
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and its causes. requests wraps urllib3's errors and they the system's, in ``reason`` or ``args``."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        within = (getattr(cause, "reason", None), *cause.args)
        cause = next((inner for inner in within if isinstance(inner, BaseException)), None)


def _remedy(error: BaseException) -> str:
    if any(getattr(cause, "reason", None) == "WRONG_VERSION_NUMBER" for cause in _causes(error)):
        return " The server does not speak TLS: check the port, or write http:// before the host."
    return ""


def _reason(error: BaseException) -> str:
    """The innermost cause, without the memory addresses that urllib3 writes into messages."""
    *_, cause = _causes(error)
    text = re.sub(r"<[^>]* object at 0x[0-9a-f]+>:? ?", "", str(cause))
    return excerpt(f"{type(cause).__name__}: {text}")
