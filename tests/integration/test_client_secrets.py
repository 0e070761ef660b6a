"""The API key goes to the API and nowhere else: no other host, no log, no exception, no repr."""

from __future__ import annotations

import datetime
import gc
import ipaddress
import logging
import pickle
import ssl
import traceback
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from airflow_provider_mistral_batch.api.client import MistralBatchClient
from airflow_provider_mistral_batch.api.dialects import wire
from airflow_provider_mistral_batch.api.dialects.base import JobFilter
from airflow_provider_mistral_batch.api.errors import (
    InvalidInputError,
    MistralBatchError,
    MistralConnectionError,
    MistralResponseError,
)
from airflow_provider_mistral_batch.api.models import BatchJobIn
from airflow_provider_mistral_batch.api.retries import RetryPolicy

from ..scripted_server import CLOSE, Answer, Raw, ScriptedServer, as_json, closed_port

KEY = "k3y-of/nobody+=="
JOB = {"id": "job-1", "status": "QUEUED", "created_at": 1000}
AT_ONCE = RetryPolicy(attempts=2, first_wait=0)


def _client(url: str, **options) -> MistralBatchClient:
    return MistralBatchClient(KEY, url, **{"retries": AT_ONCE, "timeout": 5.0, **options})


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch, tmp_path):
    for name in (
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
    ):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)


def _everything(error: BaseException) -> str:
    """All that anybody could print of an exception, its causes and contexts included, hidden ones too."""
    texts: list[str] = []
    todo: list[BaseException | None] = [error]
    seen = set()
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        texts += [str(one), repr(one), repr(vars(one)), repr(one.args)]
        texts += traceback.TracebackException.from_exception(one).format()
        todo += [one.__cause__, one.__context__]
    texts.append(repr(pickle.dumps(error)))
    return "\n".join(texts)


_ECHO = f"Unauthorized: 'Bearer {KEY}' in Authorization: Bearer {KEY}"

ANSWERS = {
    "error message": as_json({"message": _ECHO, "type": KEY, "code": KEY, "param": KEY}, 401),
    "error detail": as_json({"detail": [{"loc": ["header", KEY], "msg": _ECHO}]}, 422),
    "error in text": Answer(500, _ECHO.encode()),
    "error cut in the middle of the key": as_json({"message": "x" * 490 + KEY}, 400),
    "request id": as_json({"message": "no"}, 400, x_request_id=KEY),
    "redirect": Answer(302, headers={"Location": f"/v1/{KEY}/login?key={quote(KEY, safe='')}"}),
    "page with 200": Answer(200, b"<html>" + b"x" * 90 + _ECHO.encode()),
    "content type": Answer(200, b"?", {"Content-Type": _ECHO}),
    "no HTTP": Raw(_ECHO.encode() + b"\r\n\r\n"),
    "bad location": Answer(302, headers={"Location": f"http://[{KEY}"}),
    "bad chunk": Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + KEY.encode() + b"\r\n"),
    "nothing": CLOSE,
}


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("call", ["get", "create", "upload", "download"])
def test_no_exception_and_no_log_shows_the_key(name, call, tmp_path, caplog):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"{}")
    with (
        ScriptedServer(ANSWERS[name]) as server,
        _client(server.url) as client,
        caplog.at_level(logging.INFO),
    ):
        calls = {
            "get": lambda: client.get("job-1"),
            "create": lambda: client.create(BatchJobIn(input_files=["f"])),
            "upload": lambda: client.upload_file(path),
            "download": lambda: client.download_file("f"),
        }
        if call == "download" and name in ("page with 200", "content type"):
            # What it is is for those to say who read it.
            return
        with pytest.raises(MistralBatchError) as caught:
            calls[call]()
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    shown = _everything(caught.value) + caplog.text + repr(client) + repr(vars(client))
    for form in (KEY, quote(KEY), "k3y-of"):
        assert form not in shown


@pytest.mark.parametrize("call", ["get", "create", "cancel", "list", "jobs_page"])
@pytest.mark.parametrize("dialect", ["mistral", "openai"])
def test_no_job_keeps_the_key_whatever_its_errors_repeat(call, dialect, caplog, monkeypatch):
    monkeypatch.setattr(wire, "_unknown_statuses_seen", set())
    echoes = [
        KEY,
        quote(KEY, safe=""),
        KEY.replace("/", "\\/"),
        "".join(f"\\u{ord(char):04x}" for char in KEY),
    ]
    errors = [{"code": echo, "message": f"{'x' * 490}{echo}", "param": echo} for echo in echoes]
    job = {**JOB, "status": f"Bearer {KEY}", "errors": errors}
    answer = as_json({"data": [job]} if call in ("list", "jobs_page") else job)
    with (
        ScriptedServer(answer) as server,
        _client(server.url, dialect=dialect) as client,
        caplog.at_level(logging.INFO),
    ):
        calls = {
            "get": lambda: client.get("job-1"),
            "create": lambda: client.create(BatchJobIn(input_files=["f"])),
            "cancel": lambda: client.cancel("job-1"),
            "list": lambda: client.list(),
            "jobs_page": lambda: client.jobs_page(JobFilter()),
        }
        shown = repr(calls[call]()) + caplog.text
    assert "x" * 400 in shown
    assert "reports the job status 'Bearer ***'" in caplog.text
    assert "code='***'" in shown
    for part in ("k3y", "%2F", "u006b", "nobody"):
        assert part not in shown


def test_nothing_that_an_error_refers_to_holds_the_key():
    """Not even the context that ``raise … from None`` hides, nor what it refers to."""
    with ScriptedServer(CLOSE) as server, _client(server.url) as client:
        with pytest.raises(MistralConnectionError) as caught:
            client.get("job-1")
        error = caught.value.with_traceback(None)
    todo, seen = [error, error.__context__, error.__cause__], set()
    while todo:
        one = todo.pop()
        if id(one) in seen or isinstance(one, type):
            continue
        seen.add(id(one))
        assert not (isinstance(one, str) and KEY in one)
        if isinstance(one, (BaseException, dict, list, tuple)):
            todo += gc.get_referents(one)


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_host_drops_the_key(status):
    with ScriptedServer(as_json(JOB)) as other:
        # The same address under another name.
        location = f"http://localhost:{other.port}/v1/elsewhere"
        with (
            ScriptedServer(Answer(status, headers={"Location": location})) as server,
            _client(server.url) as client,
        ):
            assert client.get("job-1").id == "job-1"
            assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
        assert [request.path for request in other.requests] == ["/v1/elsewhere"]
        assert "authorization" not in other.requests[0].headers
        assert KEY not in str(other.requests)


def test_a_redirect_to_another_port_drops_the_key():
    with ScriptedServer(as_json(JOB)) as other:
        with (
            ScriptedServer(Answer(302, headers={"Location": other.url})) as server,
            _client(server.url) as client,
        ):
            client.get("job-1")
        assert "authorization" not in other.requests[0].headers


def test_a_redirect_on_the_same_host_keeps_it():
    steps = [Answer(307, headers={"Location": "/elsewhere"}), as_json(JOB)]
    with ScriptedServer(*steps) as server, _client(server.url) as client:
        client.get("job-1")
        assert server.requests[1].path == "/elsewhere"
        assert server.requests[1].headers["authorization"] == f"Bearer {KEY}"


def test_a_redirected_download_drops_the_key_at_each_part():
    with ScriptedServer(Answer(200, b"abcdef", sends=3), Answer(200, b"abcdef")) as other:
        location = f"http://localhost:{other.port}/blob?sig=x"
        with (
            ScriptedServer(Answer(302, headers={"Location": location})) as server,
            _client(server.url) as client,
        ):
            assert client.download_file("f") == b"abcdef"
            assert len(server.requests) == 2
        assert all("authorization" not in request.headers for request in other.requests)


@pytest.mark.parametrize(
    ("status", "may_have_acted"), [(301, True), (302, True), (303, True), (307, False), (308, False)]
)
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_what_changes_something_follows_no_redirect(status, may_have_acted, method):
    with ScriptedServer(as_json(JOB)) as other:
        with (
            ScriptedServer(Answer(status, headers={"Location": other.url})) as server,
            _client(server.url) as client,
        ):
            with pytest.raises(
                MistralResponseError, match=f"redirected to {other.url}.* API's own address"
            ) as caught:
                client.delete("job-1") if method == "DELETE" else client.create(BatchJobIn(input_files=["f"]))
            assert len(server.requests) == 1
        assert other.requests == []
    assert caught.value.may_have_acted is may_have_acted


def test_a_circle_of_redirects_is_left_soon_and_not_entered_again():
    with (
        ScriptedServer(Answer(302, headers={"Location": "/around"})) as server,
        _client(server.url) as client,
    ):
        with pytest.raises(MistralConnectionError, match="TooManyRedirects"):
            client.get("job-1")
        assert len(server.requests) == 6


@pytest.mark.parametrize(
    "location",
    [
        "http://[::1",
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "http://",
        "http://a..b/",
        b"\xff\xfe".decode("latin1"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_locations_that_lead_nowhere(location, method):
    with ScriptedServer(Answer(302, headers={"Location": location})) as server, _client(server.url) as client:
        with pytest.raises((MistralConnectionError, MistralResponseError)) as caught:
            client.get("job-1") if method == "GET" else client.create(BatchJobIn(input_files=["f"]))
        if method == "POST":
            assert len(server.requests) == 1
    assert caught.value.may_have_acted or method == "GET"


# .netrc and proxies in the environment


@pytest.fixture
def netrc(tmp_path):
    (tmp_path / ".netrc").write_text(
        "machine 127.0.0.1 login me password hunter2\nmachine localhost login me password hunter2\n"
    )
    (tmp_path / ".netrc").chmod(0o600)


@pytest.mark.usefixtures("netrc")
def test_a_netrc_replaces_nothing():
    with ScriptedServer(as_json(JOB)) as server, _client(server.url) as client:
        client.get("job-1")
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.usefixtures("netrc")
def test_a_netrc_adds_nothing_to_redirects():
    with ScriptedServer(as_json(JOB)) as other:
        steps = [
            Answer(302, headers={"Location": "/here"}),
            Answer(302, headers={"Location": f"http://localhost:{other.port}"}),
        ]
        with ScriptedServer(*steps) as server, _client(server.url) as client:
            client.get("job-1")
            assert server.requests[1].headers["authorization"] == f"Bearer {KEY}"
        assert "authorization" not in other.requests[0].headers


@pytest.mark.parametrize("scheme", ["http", "all"])
def test_the_connections_proxy_wins_over_the_environments(scheme, monkeypatch):
    with ScriptedServer(as_json(JOB)) as ours, ScriptedServer(as_json(JOB)) as others:
        monkeypatch.setenv("HTTP_PROXY", others.url)
        monkeypatch.setenv("http_proxy", others.url)
        monkeypatch.setenv("ALL_PROXY", others.url)
        with _client("http://api.invalid", proxies={scheme: ours.url}) as client:
            client.get("job-1")
        assert [request.path for request in ours.requests] == ["http://api.invalid/v1/batch/jobs/job-1"]
        assert others.requests == []


def test_without_one_the_environments_counts(monkeypatch):
    with ScriptedServer(as_json(JOB)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        with _client("http://api.invalid") as client:
            client.get("job-1")
        assert len(proxy.requests) == 1


def test_no_proxy_is_honoured(monkeypatch):
    with (
        ScriptedServer(as_json(JOB)) as server,
        ScriptedServer(CLOSE) as proxy,
        _client(server.url) as client,
    ):
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        client.get("job-1")
        assert proxy.requests == []


def test_a_proxy_that_is_not_there():
    with closed_port() as port:
        proxy = f"http://user:hunter2@127.0.0.1:{port}"
        with (
            _client("https://api.invalid", proxies={"https": proxy}) as client,
            pytest.raises(MistralConnectionError, match="Connection refused") as caught,
        ):
            client.create(BatchJobIn(input_files=["f"]))
    assert not caught.value.may_have_acted
    assert "hunter2" not in _everything(caught.value)


@pytest.mark.parametrize("answer", [Answer(403), Answer(407), Answer(502)])
def test_a_proxy_that_refuses_the_tunnel_sees_no_key(answer):
    with ScriptedServer(answer) as proxy:
        with (
            _client("https://api.invalid", proxies={"https": proxy.url}) as client,
            pytest.raises(MistralConnectionError, match="Tunnel connection failed") as caught,
        ):
            client.create(BatchJobIn(input_files=["f"]))
        assert [request.method for request in proxy.requests] == ["CONNECT", "CONNECT"]
        assert KEY not in str(proxy.requests)
    assert not caught.value.may_have_acted


def test_a_proxy_that_drops_a_request_which_it_has_seen():
    with ScriptedServer(CLOSE) as proxy, _client("http://api.invalid", proxies={"http": proxy.url}) as client:
        with pytest.raises(MistralConnectionError) as caught:
            client.create(BatchJobIn(input_files=["f"]))
        assert len(proxy.requests) == 1
    assert caught.value.may_have_acted


def test_a_connection_may_say_that_there_is_no_proxy(monkeypatch):
    with ScriptedServer(as_json(JOB)) as server, ScriptedServer(CLOSE) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        with _client(server.url, proxies={"http": ""}) as client:
            client.get("job-1")
        assert proxy.requests == []


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.timezone.utc)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return folder


@pytest.fixture
def tls(certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    return context


def test_an_unknown_certificate_gets_no_key_and_no_second_try(tls):
    with ScriptedServer(as_json(JOB), tls=tls) as server, _client(server.url) as client:
        with pytest.raises(MistralConnectionError, match="CERTIFICATE_VERIFY_FAILED") as caught:
            client.create(BatchJobIn(input_files=["f"]))
        assert server.requests == []
        assert server.connections <= 1
    assert (caught.value.may_have_acted, caught.value.transient) == (False, False)


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", None])
def test_a_ca_bundle_by_connection_or_environment(variable, tls, certificate, monkeypatch):
    bundle = str(certificate / "cert.pem")
    if variable:
        monkeypatch.setenv(variable, bundle)
    options = {} if variable else {"verify": bundle}
    with ScriptedServer(as_json(JOB), tls=tls) as server, _client(server.url, **options) as client:
        assert client.get("job-1").id == "job-1"


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_verify_false_wins_over_the_environment(tls, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", __file__)
    with ScriptedServer(as_json(JOB), tls=tls) as server, _client(server.url, verify=False) as client:
        assert client.get("job-1").id == "job-1"


@pytest.mark.parametrize("bundle", ["/no/such/bundle", __file__])
def test_a_broken_ca_bundle_of_the_environment(bundle, tls, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    with ScriptedServer(as_json(JOB), tls=tls) as server, _client(server.url) as client:
        with pytest.raises(MistralConnectionError) as caught:
            client.create(BatchJobIn(input_files=["f"]))
        assert server.requests == []
    assert not caught.value.may_have_acted or bundle == __file__


def test_https_to_a_server_without_tls():
    with ScriptedServer(as_json(JOB)) as server:
        with (
            _client(server.url.replace("http:", "https:")) as client,
            pytest.raises(MistralConnectionError) as caught,
        ):
            client.create(BatchJobIn(input_files=["f"]))
        assert server.requests == []
    assert caught.value.operation == "POST /v1/batch/jobs"


def test_a_bundle_that_is_none_is_found_before_anything_is_sent():
    with pytest.raises(InvalidInputError, match="verify='/no/such/bundle'"):
        _client("https://127.0.0.1", verify="/no/such/bundle")
