"""What a client can be set up with, and that no bytes from outside raise anything but our own errors."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys

import msgspec
import pytest
import requests
import urllib3
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_mistral_batch.api.client import MistralBatchClient
from airflow_provider_mistral_batch.api.dialects import mistral, openai, wire
from airflow_provider_mistral_batch.api.dialects.base import Call, JobFilter
from airflow_provider_mistral_batch.api.dialects.registry import DIALECTS
from airflow_provider_mistral_batch.api.errors import InvalidInputError, MistralCallError, error_from_answer
from airflow_provider_mistral_batch.api.transport import Transport, _beginning

KEY = "k3y-of-nobody"


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("https://api.mistral.ai", "https://api.mistral.ai"),
        ("https://api.mistral.ai/", "https://api.mistral.ai"),
        ("https://api.mistral.ai/v1", "https://api.mistral.ai"),
        ("https://api.mistral.ai/v1/", "https://api.mistral.ai"),
        ("http://gateway:8080/mistral/v1", "http://gateway:8080/mistral"),
        ("http://[::1]:80", "http://[::1]:80"),
    ],
)
def test_base_url(given, used):
    assert MistralBatchClient(KEY, given).base_url == used


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "api.mistral.ai",
        "ftp://api.mistral.ai",
        "https://",
        "https:///v1",
        "https://user:hunter2@host",
        "https://host?key=hunter2",
        "https://host#hunter2",
        "https://host/a b",
        "https://host\r\nX-Y: z",
        "https://host\\@other",
        "https://host:port",
        "https://host:99999",
        "https://[::1",
        "https://a..b",
        "https://" + "a" * 64 + ".example",
        None,
        b"https://host",
    ],
)
def test_bad_base_url(base_url):
    with pytest.raises(
        InvalidInputError, match=r"^base_url is not a valid URL: write https://host"
    ) as caught:
        MistralBatchClient(KEY, base_url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("key", ["", "  ", "\n", None, 5])
def test_missing_key(key):
    with pytest.raises(InvalidInputError, match="api_key is missing or empty: pass the API key"):
        MistralBatchClient(key)


@pytest.mark.parametrize("key", ["two words", "line\nend", "tab\tkey", "schlüssel", "nul\x00"])
def test_key_with_characters_of_no_key_is_not_shown(key):
    with pytest.raises(InvalidInputError, match="copy it again") as caught:
        MistralBatchClient(key)
    assert key not in str(caught.value)


def test_blanks_around_a_key_are_dropped():
    assert MistralBatchClient(f" {KEY}\n")._transport._auth.api_key == KEY


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dialect": "anthropic"}, "dialect='anthropic' is not known: use one of mistral, openai"),
        ({"timeout": 0}, "timeout=0 is not a finite number above 0: pass a number of seconds"),
        ({"timeout": True}, "timeout=True is not"),
        ({"timeout": "5"}, "timeout='5' is not"),
        ({"timeout": (1, float("inf"))}, "timeout=inf is not a finite number"),
        (
            {"timeout": (1, 2, 3)},
            "timeout=(1, 2, 3) is not a pair: pass (seconds to connect, seconds to read)",
        ),
        ({"verify": 0}, "verify=0 is not a boolean or a readable CA bundle"),
        ({"verify": "/no/such/file"}, "verify='/no/such/file' is not a boolean or"),
        ({"verify": __file__}, "verify="),
        ({"verify": None}, "verify=None is not a boolean or"),
        ({"proxies": "http://u:hunter2@proxy"}, 'proxies is not a mapping of scheme to URL: write {"https"'),
        ({"proxies": {"https": 5}}, "proxies is not a mapping"),
        ({"proxies": {"https": "http://u:hunter2@"}}, "proxies is not a mapping"),
        ({"proxies": {"https": "http://u:hunter2@[::1"}}, "proxies is not a mapping"),
        ({"proxies": {"https": "http://u:hunter2@x:port"}}, "proxies is not a mapping"),
        ({"proxies": {"https": "ftp://u:hunter2@x"}}, "proxies is not a mapping"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(InvalidInputError) as caught:
        MistralBatchClient(KEY, **options)
    assert words in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("timeout", "used"), [(5, (10.0, 5)), ((1, 2), (1, 2)), (0.5, (10.0, 0.5))])
def test_time_outs(timeout, used):
    assert Transport(KEY, "https://host", timeout=timeout)._options["timeout"] == used


@pytest.mark.parametrize(("verify", "verifies"), [(True, True), (False, False), ("/", True)])
def test_whether_tls_is_verified(verify, verifies):
    assert MistralBatchClient(KEY, verify=verify).verifies_tls is verifies


def test_repr_tells_where_but_not_with_which_key():
    client = MistralBatchClient(KEY, "https://host", dialect="openai")
    assert repr(client) == "MistralBatchClient(base_url='https://host', dialect='openai')"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"Bearer {KEY} is bad", "Bearer *** is bad"),
        (f"{KEY}{KEY}", "******"),
        ("proxy http://user:hunter2@proxy:3128 failed", "proxy http://***@proxy:3128 failed"),
        ("mail me@example.com, see https://host/x", "mail me@example.com, see https://host/x"),
    ],
)
def test_secrets_are_hidden(text, shown):
    assert Transport(KEY, "https://host").without_secrets(text) == shown


def test_importing_the_client_imports_no_airflow():
    code = "import sys, airflow_provider_mistral_batch.api.client; sys.exit('airflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class _Endless(io.RawIOBase):
    """A body without an end that counts what is read of it."""

    given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        self.given += len(buffer)
        return len(buffer)


def test_of_an_error_no_more_is_read_than_a_message_needs():
    endless = _Endless()
    response = requests.Response()
    response.raw = urllib3.HTTPResponse(endless, preload_content=False)
    assert len(_beginning(response)) == 1 << 16
    assert endless.given < 1 << 20


# Nothing that comes back raises anything but our own errors.

_NAMES = sorted(
    {
        name
        for struct in (mistral._Job, openai._Job, wire.File, wire.WireError)
        for name in struct.__struct_fields__
    }
    | {"data", "total", "has_more", "completed", "failed", "url", "detail", "error", "type", "loc", "msg"}
)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["RUNNING", "completed", "nan", "inf", "1e999", "null", "0", "true"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=6),
    max_leaves=12,
)
_JSON = _VALUES.map(lambda value: json.dumps(value).encode())
_JOBS = st.dictionaries(st.sampled_from(_NAMES), _VALUES, max_size=8).map(
    lambda job: json.dumps({"id": "b", "status": "RUNNING", **job}).encode()
)
_CONTENT = (
    st.binary(max_size=64)
    | _JSON
    | _JOBS
    | st.sampled_from([b"[" * 50_000, b'{"id":' * 50_000, b"\xef\xbb\xbf{}", b"1" * 5000])
)
_DECODERS = {
    "file": wire.decode_file,
    "deleted": wire.decode_deleted,
    "url": wire.decode_signed_url,
    **{
        f"{name} {what}": decoder
        for name, dialect in DIALECTS.items()
        for what, decoder in (
            ("job", dialect.decode_job),
            ("jobs", lambda content, dialect=dialect: dialect.decode_jobs(content, None, 100)),
            ("files", lambda content, dialect=dialect: dialect.decode_files(content, None, 100)),
        )
    },
}


@pytest.mark.parametrize("decode", _DECODERS.values(), ids=_DECODERS)
@settings(max_examples=60, deadline=None)
@given(content=_CONTENT)
def test_no_body_raises_anything_but_our_errors(decode, content):
    response = requests.Response()
    response.status_code = 200
    response.raw = urllib3.HTTPResponse(io.BytesIO(content), preload_content=False)
    transport = Transport(KEY, "https://host")
    # Anything else that is raised fails the test.
    with contextlib.suppress(MistralCallError):
        transport.decoded(Call("GET", "/v1/x"), response, decode)


@settings(max_examples=120, deadline=None)
@given(content=_CONTENT, status_code=st.integers(400, 999))
def test_no_error_body_breaks_the_error(content, status_code):
    error = error_from_answer(status_code, content, operation="GET /")
    assert isinstance(error, MistralCallError)
    assert str(error).isprintable()


@settings(max_examples=60, deadline=None)
@given(job=_JOBS)
def test_whatever_is_read_as_a_job_can_be_filtered(job):
    for dialect in DIALECTS.values():
        try:
            read = dialect.decode_job(job)
        except (msgspec.MsgspecError, ValueError, OverflowError):
            continue
        JobFilter(status=["completed"], metadata={"a": "b"}, model="m").matches(read)
