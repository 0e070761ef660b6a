"""What a client makes of every way in which a server can fail, seen from both ends of the socket."""

from __future__ import annotations

import gzip
import io
import logging
import socket

import pytest

from airflow_provider_mistral_batch.api.client import MistralBatchClient
from airflow_provider_mistral_batch.api.errors import (
    AuthenticationError,
    BadRequestError,
    InvalidInputError,
    MistralConnectionError,
    MistralResponseError,
    NotFoundError,
    PaymentRequiredError,
    RateLimitError,
    RequestTooLargeError,
    ServerError,
)
from airflow_provider_mistral_batch.api.models import BatchJobIn
from airflow_provider_mistral_batch.api.retries import RetryPolicy

from ..scripted_server import CLOSE, RESET, Answer, Raw, Received, ScriptedServer, as_json, closed_port

KEY = "k3y-of-nobody"
AT_ONCE = RetryPolicy(attempts=3, first_wait=0)
JOB = {"id": "job-1", "status": "QUEUED", "created_at": 1000}
FILE = {"id": "file-1"}
LOGIN_PAGE = Answer(200, b"<html>Please log in</html>", {"Content-Type": "text/html"})


def _client(server: ScriptedServer | str, **options) -> MistralBatchClient:
    url = server if isinstance(server, str) else server.url
    return MistralBatchClient(KEY, url, **{"retries": AT_ONCE, "timeout": 5.0, **options})


def _create(client: MistralBatchClient):
    return client.create(BatchJobIn(input_files=["f"]))


def _upload(client: MistralBatchClient):
    return client.upload_file(io.BytesIO(b'{"body": {}}\n'))


def _get(client: MistralBatchClient):
    return client.get("job-1")


def _failure(step, number: int) -> list:
    """A server's steps: fail some times, then do as asked."""
    return [*[step] * number, as_json({**JOB, **FILE})]


#: What the server does; the error that it ends in; whether the server may have acted; whether a GET is tried again.
FAILURES = {
    "closes": (CLOSE, MistralConnectionError, True, True),
    "resets": (RESET, MistralConnectionError, True, True),
    "sends no HTTP": (Raw(b"SSH-2.0-OpenSSH\r\n\r\n"), MistralConnectionError, True, True),
    "cuts the head": (Raw(b"HTTP/1.1 200 OK\r\nContent-Le"), MistralResponseError, True, True),
    "cuts the body": (Answer(200, b'{"id": "job-1"}', sends=5), MistralConnectionError, True, True),
    "cuts a chunk": (
        Raw(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{"id": "job-1"'),
        MistralConnectionError,
        True,
        True,
    ),
    "cuts between chunks": (
        Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"),
        MistralConnectionError,
        True,
        True,
    ),
    **{
        f"sends a chunk of {size} bytes": (
            Raw(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\n{{}}\r\n0\r\n\r\n".encode()),
            MistralConnectionError,
            True,
            True,
        )
        for size in ("-5", "-1", "-ffffffffffffffffffff", "ffffffffffffffffffff")
    },
    "packs it in a way that nobody asked for": (
        Answer(200, b'{"id": "job-1"}', {"Content-Encoding": "br"}),
        MistralConnectionError,
        True,
        True,
    ),
    "packs half of it": (
        Answer(200, gzip.compress(b'{"id": "job-1"}' * 99)[:-9], {"Content-Encoding": "gzip"}),
        MistralConnectionError,
        True,
        True,
    ),
    "sends bad gzip": (
        Answer(200, b"not gzip", {"Content-Encoding": "gzip"}),
        MistralConnectionError,
        True,
        True,
    ),
    "sends HTML": (LOGIN_PAGE, MistralResponseError, True, True),
    "sends nothing": (Answer(200), MistralResponseError, True, True),
    "sends other JSON": (as_json({"ok": True}), MistralResponseError, True, True),
    "429": (as_json({"message": "slow"}, 429), RateLimitError, False, True),
    "429 with Retry-After": (as_json({"message": "slow"}, 429, Retry_After="0"), RateLimitError, False, True),
    "503 with Retry-After": (as_json({"message": "busy"}, 503, Retry_After="0"), ServerError, False, True),
    "503": (as_json({"message": "busy"}, 503), ServerError, True, True),
    "500": (as_json({"message": "oops"}, 500), ServerError, True, True),
    "502 page": (Answer(502, b"<h1>Bad Gateway</h1>"), ServerError, True, True),
    "504": (Answer(504), ServerError, True, True),
    "CDN's 522": (Answer(522), ServerError, True, True),
    "400": (as_json({"message": "no"}, 400), BadRequestError, False, False),
    "401": (as_json({"message": "no"}, 401), AuthenticationError, False, False),
    "401, cut": (Answer(401, b'{"message": "no"}', sends=3), AuthenticationError, False, False),
    "402": (as_json({"message": "no"}, 402), PaymentRequiredError, False, False),
    "404": (as_json({"message": "no"}, 404), NotFoundError, False, False),
    "413": (Answer(413, b"<h1>Too large</h1>"), RequestTooLargeError, False, False),
    "425": (as_json({"message": "too early"}, 425), BadRequestError, False, True),
    "422": (as_json({"detail": [{"loc": ["body"], "msg": "no"}]}, 422), BadRequestError, False, False),
}


@pytest.mark.parametrize("name", FAILURES)
def test_reading_is_tried_again_while_that_can_help(name):
    step, kind, may_have_acted, tried_again = FAILURES[name]
    with ScriptedServer(step) as server, _client(server) as client:
        with pytest.raises(kind) as caught:
            _get(client)
        assert len(server.requests) == (3 if tried_again else 1)
    assert type(caught.value) is kind
    assert caught.value.may_have_acted is may_have_acted
    assert caught.value.operation == "GET /v1/batch/jobs/job-1"
    assert str(caught.value).startswith("GET /v1/batch/jobs/job-1 ")


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("call", [_create, _upload], ids=["create", "upload"])
def test_a_post_is_sent_again_only_if_the_server_certainly_did_not_act(name, call):
    step, kind, may_have_acted, tried_again = FAILURES[name]
    with ScriptedServer(*_failure(step, 2)) as server, _client(server) as client:
        if tried_again and not may_have_acted:
            assert call(client).id
            assert len(server.requests) == 3
            assert len({request.body.replace(_boundary(request), b"") for request in server.requests}) == 1
        else:
            with pytest.raises(kind) as caught:
                call(client)
            assert len(server.requests) == 1
            assert caught.value.may_have_acted is may_have_acted


@pytest.mark.parametrize(
    ("call", "passes"),
    [
        (_create, True),
        (_get, True),
        (lambda client: client.download_file("f"), True),
        # Its file is not that of another one with this name.
        (_upload, False),
        # The job is over.
        (lambda client: client.cancel("job-1"), False),
        # A job still needs it.
        (lambda client: client.delete("job-1"), False),
        (lambda client: client.delete_file("f"), False),
    ],
)
def test_a_conflict_passes_where_something_is_not_ready_yet(call, passes):
    conflict = as_json({"message": "still being processed"}, 409)
    with ScriptedServer(*_failure(conflict, 2)) as server, _client(server) as client:
        if passes:
            assert call(client)
            assert len(server.requests) == 3
        else:
            with pytest.raises(BadRequestError) as caught:
                call(client)
            assert len(server.requests) == 1
            assert (caught.value.transient, caught.value.may_have_acted) == (False, False)


def _boundary(request: Received) -> bytes:
    return request.headers["content-type"].partition("boundary=")[2].encode() or b"\0"


@pytest.mark.parametrize("call", [_get, _create, _upload])
def test_refused_connections(call):
    with (
        closed_port() as port,
        _client(f"http://127.0.0.1:{port}") as client,
        pytest.raises(MistralConnectionError, match="Connection refused") as caught,
    ):
        call(client)
    assert (caught.value.may_have_acted, caught.value.transient) == (False, True)
    assert "0x" not in str(caught.value)


@pytest.mark.parametrize("call", [_get, _create])
def test_refused_connections_are_tried_again(call, caplog):
    with (
        closed_port() as port,
        _client(f"http://127.0.0.1:{port}") as client,
        caplog.at_level(logging.WARNING),
        pytest.raises(MistralConnectionError),
    ):
        call(client)
    assert [record.getMessage().partition(" follows")[0][-9:] for record in caplog.records] == [
        "Attempt 2",
        "Attempt 3",
    ]


def test_a_name_that_no_one_knows():
    with (
        _client("http://no-such-host.invalid") as client,
        pytest.raises(MistralConnectionError, match=r"no-such-host\.invalid") as caught,
    ):
        _create(client)
    assert not caught.value.may_have_acted


def test_silence_is_a_time_out_after_which_a_post_is_not_repeated():
    # Connected by the system, served by nobody.
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        _client(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.05) as client,
        pytest.raises(MistralConnectionError, match="timed out") as caught,
    ):
        _create(client)
    assert caught.value.may_have_acted


def test_success_after_trouble():
    steps = [CLOSE, as_json({}, 503), as_json(JOB)]
    with ScriptedServer(*steps) as server, _client(server) as client:
        assert _get(client).id == "job-1"
        assert len(server.requests) == 3


def test_error_fields():
    body = {"object": "error", "message": "Nope", "type": "invalid_request", "param": "model", "code": "1500"}
    answer = as_json(body, 422, mistral_correlation_id="corr-1", x_request_id="other")
    with (
        ScriptedServer(answer) as server,
        _client(server) as client,
        pytest.raises(BadRequestError) as caught,
    ):
        _create(client)
    error = caught.value
    assert (error.status_code, error.message, error.type, error.param, error.code, error.request_id) == (
        422,
        "Nope",
        "invalid_request",
        "model",
        "1500",
        "corr-1",
    )


def test_retry_after_travels_on_the_error():
    date = {"Date": "Wed, 21 Oct 2015 07:28:00 GMT"}
    answer = as_json({}, 429, Retry_After="Wed, 21 Oct 2015 07:30:00 GMT", **date)
    with (
        ScriptedServer(answer) as server,
        _client(server, retries=RetryPolicy(attempts=1)) as client,
        pytest.raises(RateLimitError) as caught,
    ):
        _get(client)
    assert caught.value.retry_after == 120


def test_the_servers_clock_is_noted():
    with (
        ScriptedServer(as_json(JOB, Date="Thu, 01 Jan 1970 00:00:00 GMT")) as server,
        _client(server) as client,
    ):
        assert client.clock_offset == 0
        _get(client)
        assert client.clock_offset < -1e9


def test_a_401_names_where_the_key_came_from():
    with (
        ScriptedServer(as_json({"message": "Unauthorized"}, 401)) as server,
        _client(server, key_source="the password of connection 'c'") as client,
        pytest.raises(AuthenticationError, match="Check the API key in the password of connection 'c'"),
    ):
        _get(client)


def test_html_with_200_asks_for_the_proxy():
    with (
        ScriptedServer(LOGIN_PAGE) as server,
        _client(server) as client,
        pytest.raises(MistralResponseError) as caught,
    ):
        _get(client)
    for words in ("answered with 200", "text/html", "<html>Please log in</html>", "Is there a proxy"):
        assert words in str(caught.value)


# Key rotation


def _knows(*keys: str):
    def step(received: Received) -> Answer:
        good = received.headers["authorization"] in {f"Bearer {key}" for key in keys}
        return as_json({**JOB, **FILE}) if good else as_json({"message": "Unauthorized"}, 401)

    return step


@pytest.mark.parametrize("call", [_get, _create, _upload])
def test_a_renewed_key_is_used_from_then_on(call):
    asked = []
    with ScriptedServer(_knows("new")) as server:
        with _client(server, renew_key=lambda: asked.append(1) or " new\n") as client:
            assert call(client).id
            assert call(client).id
        sent = [request.headers["authorization"] for request in server.requests]
    assert sent == [f"Bearer {KEY}", "Bearer new", "Bearer new"]
    assert len(asked) == 1


@pytest.mark.parametrize("renewed", [None, "", KEY, f" {KEY} "])
def test_no_new_key_no_new_attempt(renewed):
    with ScriptedServer(_knows("new")) as server, _client(server, renew_key=lambda: renewed) as client:
        with pytest.raises(AuthenticationError):
            _get(client)
        assert len(server.requests) == 1


def test_a_new_key_that_is_refused_too_is_no_loop():
    with ScriptedServer(_knows()) as server, _client(server, renew_key=lambda: "new") as client:
        with pytest.raises(AuthenticationError):
            _get(client)
        assert len(server.requests) == 2


def test_keys_stay_hidden_when_they_were_rotated():
    echo = as_json({"message": f"bad: {KEY} and new-k3y"}, 401)
    with (
        ScriptedServer(echo) as server,
        _client(server, renew_key=lambda: "new-k3y") as client,
        pytest.raises(AuthenticationError) as caught,
    ):
        _get(client)
    assert "bad: *** and ***" in str(caught.value)


# What a sloppy gateway does


def test_a_deletion_may_be_answered_with_nothing():
    with ScriptedServer(Answer(204, headers={"Content-Length": None})) as server, _client(server) as client:
        deleted = client.delete("job-1")
        assert (deleted.id, deleted.deleted) == ("job-1", True)
        assert client.delete_file("file-1").id == "file-1"


def test_a_created_job_without_a_time_gets_one():
    with (
        ScriptedServer(
            as_json({"id": "j", "status": "QUEUED"}, Date="Thu, 01 Jan 2026 00:00:00 GMT")
        ) as server,
        _client(server) as client,
    ):
        job = client.create(BatchJobIn(input_files=["f"], completion_window="2h"))
    assert (job.created_at, job.completion_window) == (1767225600, "2h")
    assert job.expires_at == job.created_at + 7200


def test_connections_are_reused_also_after_errors():
    steps = [as_json(JOB), as_json({"message": "no"}, 404), as_json({"message": "slow"}, 429), as_json(JOB)]
    with ScriptedServer(*steps) as server, _client(server) as client:
        _get(client)
        with pytest.raises(NotFoundError):
            _get(client)
        _get(client)
        assert (len(server.requests), server.connections) == (4, 1)


def test_what_is_no_json_is_not_sent():
    with ScriptedServer(as_json(JOB)) as server, _client(server) as client:
        with pytest.raises(
            InvalidInputError, match="POST /v1/batch/jobs: the body cannot be written as JSON"
        ):
            client.create(BatchJobIn(requests=[{"custom_id": "a", "body": {"x": object()}}]))
        assert server.requests == []


def test_ids_arrive_in_one_segment():
    with ScriptedServer(as_json(JOB)) as server, _client(server) as client:
        client.get("a/b?c=d#e%2Ff")
        client.cancel("ä ;,")
        for bad in ("../files/x", "..", ""):
            with pytest.raises(InvalidInputError):
                client.delete(bad)
        assert [(request.method, request.path) for request in server.requests] == [
            ("GET", "/v1/batch/jobs/a%2Fb%3Fc%3Dd%23e%252Ff"),
            ("POST", "/v1/batch/jobs/%C3%A4%20%3B%2C/cancel"),
        ]


def test_a_prefix_of_a_gateway_is_kept():
    with ScriptedServer(as_json(JOB)) as server, _client(server.url + "/mistral/v1/") as client:
        _get(client)
        assert server.requests[0].path == "/mistral/v1/batch/jobs/job-1"


def test_who_we_are():
    with ScriptedServer(as_json(JOB)) as server, _client(server) as client:
        _create(client)
    headers = server.requests[0].headers
    assert headers["user-agent"].startswith("airflow-provider-mistral-batch/")
    assert headers["content-type"] == "application/json"
