"""The way of every call: one ``requests`` session, attempts and retries, and every failure as one of our errors."""

from __future__ import annotations

import contextlib
import logging
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import msgspec
import requests
from requests.auth import AuthBase
from requests.utils import default_user_agent
from urllib3.exceptions import ConnectTimeoutError, HTTPError

from airflow_provider_mistral_batch import __version__
from airflow_provider_mistral_batch.api.checks import check_positive
from airflow_provider_mistral_batch.api.dialects.base import Call
from airflow_provider_mistral_batch.api.errors import (
    AuthenticationError,
    InvalidInputError,
    MistralConnectionError,
    MistralResponseError,
    error_from_answer,
    excerpt,
)
from airflow_provider_mistral_batch.api.retries import RetryPolicy, http_timestamp, parse_retry_after

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds to wait for a connection, and between two bytes of an answer.
DEFAULT_TIMEOUT = (10.0, 120.0)

#: Bytes that are read at a time. What was read of an unfinished chunk is lost when the connection breaks.
_CHUNK_BYTES = 1 << 18

#: Bytes of an error's body that are read; more is no message.
_ERROR_BYTES = 1 << 16

#: Redirects that a GET follows.
_MAX_REDIRECTS = 5

#: Headers in which servers name a call, for their support.
_REQUEST_ID_HEADERS = ("mistral-correlation-id", "x-request-id", "x-kong-request-id", "cf-ray")

#: What OpenSSL says when the other side is not who it should be, or speaks no TLS: no second try changes that.
_TLS_REFUSALS = frozenset({"CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER"})


class Transport:
    """
    Carries calls to one server with one key. Its parameters are those of the client.

    :raises InvalidInputError: When one of them cannot work.
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
    ) -> None:
        self.base_url = _checked_base_url(base_url)
        self.retries = retries or RetryPolicy()
        #: Seconds by which the server's clock is ahead of ours, from its last answer.
        self.clock_offset = 0.0
        self._key_source = key_source
        self._renew_key = renew_key
        # Given with each call rather than set on the session, where the environment's REQUESTS_CA_BUNDLE and
        # *_PROXY variables would override them.
        self._options: dict[str, Any] = {
            "timeout": _checked_timeout(timeout),
            "verify": _checked_verify(verify),
            "proxies": _checked_proxies(proxies),
        }
        self._session = _Session()
        self._session.max_redirects = _MAX_REDIRECTS
        #: Keys that were used: an old one may still be in what a server says.
        self._secrets: list[str] = []
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

    def call(self, call: Call, decode: Callable[[bytes], T], *, repeatable: bool = True) -> T:
        """
        Make a call whose answer is read as a whole.

        :param call: The call.
        :param decode: Reads the answer's body; what it raises on a body that is not the API's becomes our error.
        :param repeatable: Whether making it twice is the same as making it once.
        :raises MistralCallError: When there is no usable answer.
        """
        data, headers = None, {}
        if call.json is not None:
            headers["Content-Type"] = "application/json"
            data = _encoded(call)

        def attempt() -> T:
            with self.send(call, data=data, headers=headers) as response:
                return self.decoded(call, response, decode)

        return self.repeat(attempt, repeatable=repeatable)

    def repeat(self, attempt: Callable[[], T], *, repeatable: bool) -> T:
        """
        Make attempts until one succeeds or none is worth making; after a 401 also once with a renewed key.

        :param attempt: Makes one.
        :param repeatable: Whether making two is the same as making one.
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
            "The API key was refused, and %s has another one by now: going on with that.", self._key_source
        )
        self._use_key(key)
        return True

    def _use_key(self, key: str) -> None:
        self._auth = self._session.auth = _BearerAuth(key)
        # As it is, and as it is in a URL.
        self._secrets += [self._auth.api_key, quote(self._auth.api_key), quote(self._auth.api_key, safe="")]

    def send(self, call: Call, **kwargs: Any) -> requests.Response:
        """
        Make one attempt of a call.

        :param call: The call.
        :param kwargs: Headers and data, as ``requests`` takes them.
        :return: A 2xx answer, its body unread; to be closed.
        :raises MistralCallError: When there is no such answer.
        """
        response = self._answer(call, **kwargs)
        if isinstance(response, MistralConnectionError):
            # Raised outside of `except`, here as everywhere in this module: the cause, which would become the context,
            # holds the request, and the request the key.
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
            without_secrets=self.without_secrets,
        )
        if isinstance(error, AuthenticationError):
            error.remedy = f"Check the API key in {self._key_source}"
        raise error

    def _answer(self, call: Call, **kwargs: Any) -> requests.Response | MistralConnectionError:
        try:
            return self._session.request(
                call.method,
                self.base_url + call.path,
                params=list(call.params),
                # A redirected POST would become a GET, and a redirected DELETE could hit anything.
                allow_redirects=call.method == "GET",
                # A body is read where it is wanted, and no further.
                stream=True,
                **self._options,
                **kwargs,
            )
        # All of requests' own errors are OSErrors; what it lets through of urllib3's and the URL parser's is not.
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
        where = excerpt(self.without_secrets(response.headers.get("Location", "nowhere")), 200)
        error = MistralResponseError(
            f"{call.operation} was redirected to {where} ({response.status_code}): "
            "set the connection's host to the API's own address",
            operation=call.operation,
            # Some servers redirect after they acted; 307 and 308 promise that they did not.
            may_have_acted=response.status_code not in (307, 308),
        )
        error.transient = False
        return error

    def _note_clock(self, date: str | None) -> None:
        server_now = http_timestamp(date)
        if server_now is not None:
            # The header has whole seconds: on average it is half a second behind.
            self.clock_offset = server_now + 0.5 - time.time()

    def chunks(self, call: Call, response: requests.Response) -> Iterator[bytes]:
        """
        Read an answer's body; a cut is an error even where urllib3 would take it for the end.

        :param call: The call that was answered.
        :param response: Its answer.
        :raises MistralConnectionError: When the body is not complete.
        """
        announced = announced_length(response.headers)
        received = 0
        problem = None
        try:
            for chunk in response.raw.stream(_CHUNK_BYTES, decode_content=is_encoded(response.headers)):
                received += len(chunk)
                yield chunk
        except (OSError, HTTPError) as error:
            problem = _reason(error)
        # Bytes as they came, before they were unpacked.
        if problem is None and announced is not None and response.raw.tell() != announced:
            problem = f"{announced} were announced"
        if problem is not None:
            raise MistralConnectionError(
                self.without_secrets(f"{call.operation} broke off after {received} bytes: {problem}."),
                operation=call.operation,
                may_have_acted=True,
            )

    def decoded(self, call: Call, response: requests.Response, decode: Callable[[bytes], T]) -> T:
        """
        Read an answer's body as a whole.

        :param call: The call that was answered.
        :param response: Its answer.
        :param decode: Reads the body.
        :raises MistralResponseError: When it is not the API's.
        """
        content = b"".join(self.chunks(call, response))
        try:
            return decode(content)
        except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
            problem = f"{type(error).__name__}: {error}"
        start = self.without_secrets(content[:_ERROR_BYTES].decode("utf-8", "replace"))
        kind = self.without_secrets(response.headers.get("Content-Type", "none"))
        raise MistralResponseError(
            f"{call.operation} was answered with {response.status_code} and a body that is not the API's ({problem}; "
            f"content type {excerpt(kind, 100)}, starting with {excerpt(start, 100)!r}). "
            f"Is there a proxy between here and {self.base_url}?",
            operation=call.operation,
            may_have_acted=True,
        )

    def without_secrets(self, text: str) -> str:
        """
        Hide secrets: servers have been known to repeat the key in what they say, and libraries a proxy's password.

        :param text: What may have them.
        """
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return re.sub(r"//[^/\s@]*@", "//***@", text)


class _BearerAuth(AuthBase):
    """
    Bearer token of a request.

    An ``auth`` rather than a header of the session, so that no .netrc entry replaces it and no repr shows it.
    """

    def __init__(self, api_key: str) -> None:
        if not isinstance(api_key, str) or not api_key.strip():
            raise InvalidInputError("api_key is missing or empty: pass the API key of your Mistral workspace")
        self.api_key = api_key.strip()
        if not self.api_key.isascii() or not self.api_key.isprintable() or " " in self.api_key:
            raise InvalidInputError(
                "api_key has characters that no API key has (blanks, line ends or non-ASCII): copy it again"
            )

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.api_key}"
        return request


class _Session(requests.Session):
    """A session whose redirects drop the key on the way to another host, and put nothing from a .netrc in its place."""

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        old_url, new_url = response.request.url, prepared_request.url
        if self.should_strip_auth(old_url, new_url):  # type: ignore[no-untyped-call]
            prepared_request.headers.pop("Authorization", None)


def is_encoded(headers: Mapping[str, str]) -> bool:
    """
    Whether a body travels compressed, so that its length is not the content's.

    :param headers: The answer's headers.
    """
    return headers.get("Content-Encoding", "identity").lower() != "identity"


def announced_length(headers: Mapping[str, str]) -> int | None:
    """
    Read how many bytes a body has on its way.

    :param headers: The answer's headers.
    :return: Bytes; ``None`` when they do not say, or with more digits than any length has.
    """
    length = headers.get("Content-Length", "")
    return int(length) if length.isdecimal() and len(length) < 20 else None


def _encoded(call: Call) -> bytes:
    try:
        return msgspec.json.encode(call.json)
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(
            f"{call.operation}: what is to be sent is not JSON: {excerpt(str(error))}"
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
        # Not shown: a URL may carry credentials.
        raise InvalidInputError(
            "base_url is not of the form https://host[:port][/prefix], without user, query or fragment"
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
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(verify)
    except (TypeError, ValueError, OSError) as error:
        raise InvalidInputError(
            f"verify={verify!r} is neither true nor false nor the path of a CA bundle that can be read ({error})"
        ) from None
    return verify


def _checked_proxies(proxies: Mapping[str, str] | None) -> dict[str, str | None] | None:
    if proxies is None:
        return None
    if not isinstance(proxies, Mapping) or not all(_is_proxy(scheme, url) for scheme, url in proxies.items()):
        # Not shown: a proxy's URL may carry credentials.
        raise InvalidInputError(
            'proxies is not a mapping of scheme to URL: write {"https": "http://proxy:3128"}'
        )
    # None keeps requests from filling in the environment's: who names a proxy means that one.
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
    """As much of an error's body as makes a message; its status counts, also when the rest does not come."""
    content = b""
    with contextlib.suppress(OSError, HTTPError):
        for chunk in response.raw.stream(_ERROR_BYTES, decode_content=True):
            content += chunk
            if len(content) >= _ERROR_BYTES:
                break
    return content[:_ERROR_BYTES]


def _request_id(headers: Mapping[str, str]) -> str | None:
    return next((headers[name] for name in _REQUEST_ID_HEADERS if headers.get(name)), None)


def _never_sent(error: Exception) -> bool:
    """Whether the connection failed before anything of the request could leave."""
    if not isinstance(error, requests.RequestException):
        # A plain OSError comes from reading certificates; all else may as well come from reading an answer.
        return isinstance(error, OSError)
    return isinstance(error, ValueError) or any(
        isinstance(cause, ConnectTimeoutError)
        or getattr(cause, "reason", None) in _TLS_REFUSALS
        or str(cause).startswith("Tunnel connection failed")
        for cause in _causes(error)
    )


def _is_hopeless(error: Exception) -> bool:
    """Whether another attempt can only fail in the same way, since what we ask or are set up with is wrong."""
    return (
        isinstance(error, (ValueError, requests.TooManyRedirects))
        or not isinstance(error, (requests.RequestException, HTTPError))
        or any(getattr(cause, "reason", None) in _TLS_REFUSALS for cause in _causes(error))
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and those within: requests wraps urllib3's, and they the system's, as ``reason`` or as an argument."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        within = (getattr(cause, "reason", None), *cause.args)
        cause = next((inner for inner in within if isinstance(inner, BaseException)), None)


def _remedy(error: BaseException) -> str:
    if any(getattr(cause, "reason", None) == "WRONG_VERSION_NUMBER" for cause in _causes(error)):
        return " The server speaks no TLS: if it is meant to, check the port; else write http:// before the host."
    return ""


def _reason(error: BaseException) -> str:
    """The innermost reason, without the addresses of objects that urllib3 puts in."""
    *_, cause = _causes(error)
    text = re.sub(r"<[^>]* object at 0x[0-9a-f]+>:? ?", "", str(cause))
    return excerpt(f"{type(cause).__name__}: {text}")
