"""Answers without end over a real socket: each ends with an error of ours, after bounded time, memory and calls."""

from __future__ import annotations

import gzip
import itertools
import json
import logging
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_mistral_batch.api import limits
from airflow_provider_mistral_batch.api.bounds import Patience
from airflow_provider_mistral_batch.api.client import MistralBatchClient
from airflow_provider_mistral_batch.api.errors import (
    BadRequestError,
    MistralBatchError,
    MistralConnectionError,
    MistralResponseError,
)
from airflow_provider_mistral_batch.api.retries import RetryPolicy
from airflow_provider_mistral_batch.api.transport import Transport

from ..scripted_server import Answer, Raw, Received, ScriptedServer, Stream, as_json

JOB = {"id": "job-1", "status": "QUEUED", "created_at": 1000}
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def _client(server: ScriptedServer, *, attempts: int = 1, **options: Any) -> MistralBatchClient:
    return MistralBatchClient(
        "k3y-of-nobody",
        server.url,
        retries=RetryPolicy(attempts=attempts, first_wait=0),
        timeout=30,
        **options,
    )


# Time


def _trickle(beginning: bytes, piece: bytes) -> Iterator[bytes]:
    yield beginning
    while True:
        time.sleep(0.02)
        yield piece


TRICKLES = {
    "a head": (b"HTTP/1.1 200 OK\r\nX-A: ", b"a"),
    "heads of answers to come": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a body": (OK + b"\r\n{", b" "),
    "a chunk": (CHUNKED + b"ffff\r\n{", b" "),
    "chunks": (CHUNKED, b"1\r\n \r\n"),
    "trailers": (CHUNKED + b"2\r\n{}\r\n0\r\n", b"A: b\r\n"),
    "gzip": (OK + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x08\0\0\0\0\0\x03", b"a"),
}


@pytest.fixture
def _little_patience(monkeypatch):
    # The time-out between two bytes, 30 s, never comes into it.
    monkeypatch.setattr(Transport, "patience", lambda _: Patience(0.3))


@pytest.mark.usefixtures("_little_patience")
@pytest.mark.parametrize("by_proxy", [False, True])
@pytest.mark.parametrize("name", TRICKLES)
def test_a_trickle_ends_with_the_time_of_the_call(name, by_proxy):
    with ScriptedServer(lambda _: Stream(_trickle(*TRICKLES[name]))) as server:
        proxies: dict[str, Any] = {"proxies": {"http": server.url}} if by_proxy else {}
        with (
            _client(server, **proxies) as client,
            pytest.raises(MistralConnectionError, match=r"took more than 0\.3 s") as caught,
        ):
            client.get("job-1")
    assert (caught.value.transient, caught.value.may_have_acted) == (True, True)


@pytest.mark.parametrize("status", [302, 400])
def test_the_body_of_what_is_no_success_holds_nobody(status, monkeypatch):
    # Whoever waited for the end of the body would run out of it.
    monkeypatch.setattr(Transport, "patience", lambda _: Patience(20.0))
    head = f"HTTP/1.1 {status} Oh\r\nLocation: /elsewhere\r\n\r\nno".encode()
    with (
        ScriptedServer(lambda _: Stream(_trickle(head, b" ")), as_json(JOB)) as server,
        _client(server) as client,
    ):
        if status == 302:
            assert client.get("job-1").id == "job-1"
        else:
            with pytest.raises(BadRequestError, match="400: no message"):
                client.get("job-1")


@pytest.mark.usefixtures("_little_patience")
def test_a_download_that_trickles_is_given_up():
    head = OK + b"Content-Length: 99999999\r\n\r\n"
    with (
        ScriptedServer(lambda _: Stream(_trickle(head, b"a"))) as server,
        _client(server, attempts=2) as client,
    ):
        with pytest.raises(MistralConnectionError, match=r"262,144 bytes of the file took more than 0\.3 s"):
            client.download_file("f")
        assert len(server.requests) == 2


def test_a_download_takes_as_long_as_it_is_large(monkeypatch):
    monkeypatch.setattr(Transport, "patience", lambda _: Patience(1.0))
    part = b"a" * 300_000

    def parts() -> Iterator[bytes]:
        yield OK + b"Content-Length: %d\r\n\r\n" % (8 * len(part))
        for _ in range(8):
            time.sleep(0.2)
            yield part

    with ScriptedServer(lambda _: Stream(parts())) as server, _client(server) as client:
        assert client.download_file("f") == part * 8
        assert len(server.requests) == 1


# Memory

#: 64 MiB of spaces, packed to 64 KB.
PACKED = {"gzip": gzip.compress(b" " * (64 << 20)), "deflate": zlib.compress(b" " * (64 << 20))}


def _peak() -> int:
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("packing", PACKED)
def test_of_a_packed_answer_no_more_is_unpacked_than_any_answer_has(packing):
    answer = Answer(200, PACKED[packing], {"Content-Encoding": packing})
    with ScriptedServer(answer) as server, _client(server, attempts=3) as client:
        tracemalloc.start()
        with pytest.raises(MistralResponseError, match="more than 16,777,216 bytes") as caught:
            client.get("job-1")
        assert _peak() < 24 << 20
        # It would be as large again.
        assert len(server.requests) == 1
    assert caught.value.transient is False


def test_an_answer_that_is_not_packed_is_bounded_too():
    endless = itertools.chain([OK + b"\r\n"], itertools.repeat(b" " * 100_000))
    with (
        ScriptedServer(Stream(endless)) as server,
        _client(server) as client,
        pytest.raises(MistralResponseError, match="more than 16,777,216 bytes"),
    ):
        client.get("job-1")


@pytest.mark.parametrize("status", [302, 307, 400, 502])
@pytest.mark.parametrize("packing", PACKED)
def test_the_packed_body_of_what_is_no_success_is_not_unpacked_as_a_whole(packing, status):
    headers = {"Content-Encoding": packing, "Location": "/v1/elsewhere"}
    with ScriptedServer(Answer(status, PACKED[packing], headers)) as server, _client(server) as client:
        tracemalloc.start()
        with pytest.raises(MistralBatchError):
            client.get("job-1")
        assert _peak() < 4 << 20


def test_a_packed_file_is_unpacked_in_pieces():
    answer = Answer(200, PACKED["gzip"], {"Content-Encoding": "gzip"})
    with ScriptedServer(answer) as server, _client(server) as client:
        tracemalloc.start()
        assert sum(map(len, client.stream_file("f"))) == 64 << 20
        assert _peak() < 4 << 20


@pytest.mark.parametrize(
    "body",
    [
        gzip.compress(b'{"id": "job-1", ') + gzip.compress(b'"status": "QUEUED"}'),
        gzip.compress(json.dumps({**JOB, "x": "y" * 600_000}).encode()),
    ],
    ids=["parts", "several pieces"],
)
def test_what_is_packed_well_is_read(body):
    with ScriptedServer(Answer(200, body, {"Content-Encoding": "gzip"})) as server, _client(server) as client:
        assert client.get("job-1").id == "job-1"
        assert server.requests[0].headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    "deflated", [zlib.compress(json.dumps(JOB).encode()), zlib.compress(json.dumps(JOB).encode())[2:-4]]
)
def test_both_kinds_of_deflate_are_read(deflated):
    answer = Answer(200, deflated, {"Content-Encoding": "deflate"})
    with ScriptedServer(answer) as server, _client(server) as client:
        assert client.get("job-1").id == "job-1"


@pytest.mark.parametrize(
    "frame",
    [b"a" * 100_000, b"1;" + b"a" * 100_000, b"0\r\n" + b"A: b\r\n" * 100_000, b"-1\r\n" + b"a" * 5_000_000],
    ids=["size", "extension", "trailers", "negative"],
)
@pytest.mark.parametrize("call", ["get", "download_file"])
def test_what_frames_chunks_is_bounded(frame, call):
    with ScriptedServer(Raw(CHUNKED + frame)) as server, _client(server) as client:
        tracemalloc.start()
        with pytest.raises(MistralConnectionError, match="broke off after 0 bytes"):
            getattr(client, call)("f")
        assert _peak() < 2 << 20


# Listings


def _jobs(*ids: int) -> list[dict[str, object]]:
    return [{**JOB, "id": str(number)} for number in ids]


@pytest.mark.parametrize("dialect", ["mistral", "openai"])
@pytest.mark.parametrize("listing", ["iter_jobs", "iter_files"])
def test_a_listing_that_cycles_ends(dialect, listing):
    pages = itertools.cycle([_jobs(1, 2), _jobs(3, 4)])

    def step(_: Received) -> Answer:
        return as_json({"data": next(pages), "has_more": True, "total": 10**9})

    with ScriptedServer(step) as server, _client(server, dialect=dialect) as client:
        seen: list[str] = []
        with pytest.raises(
            MistralResponseError, match=r"listing repeats itself: its last 5 pages .* 4 items"
        ):
            seen.extend(item.id for item in getattr(client, listing)())
        assert len(server.requests) == 2 + 5


def test_numbered_pages_that_new_jobs_shift_are_no_cycle():
    pages = iter([*[_jobs(1, 2)] * 5, _jobs(3, 4), _jobs(5)])
    with (
        ScriptedServer(lambda _: as_json({"data": next(pages), "total": 13})) as server,
        _client(server) as client,
    ):
        assert [job.id for job in client.iter_jobs()] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("dialect", ["mistral", "openai"])
@pytest.mark.parametrize("listing", ["iter_jobs", "iter_files"])
def test_a_listing_without_end_ends(dialect, listing, monkeypatch):
    monkeypatch.setattr(limits, "MAX_PAGES", 7)
    numbers = itertools.count()

    def step(_: Received) -> Answer:
        return as_json({"data": _jobs(next(numbers), next(numbers)), "has_more": True, "total": 10**18})

    with ScriptedServer(step) as server, _client(server, dialect=dialect) as client:
        with pytest.raises(MistralResponseError, match="has no end: 7 pages with 14 items were read"):
            list(getattr(client, listing)())
        assert len(server.requests) == 7


# Downloads


def test_a_download_that_breaks_again_and_again_is_given_up_and_said(caplog):
    content = b"a" * 100_000

    def step(request: Received) -> Answer:
        start = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        return Answer(206, content[start:], headers, sends=10)

    with ScriptedServer(step) as server, _client(server) as client, caplog.at_level(logging.WARNING):
        with pytest.raises(MistralConnectionError, match=r"5 times in a row .* given up after 50 bytes"):
            client.download_file("f")
        assert len(server.requests) == 5
    assert "The download resumes at byte 40 in 0.0 s" in caplog.text


def test_a_file_that_grows_by_a_byte_with_each_look_is_given_up():
    looks = itertools.count(1)

    def step(request: Received) -> Answer | Raw:
        if not request.path.endswith("/content"):
            return as_json({}, 500)
        return Raw(b"HTTP/1.0 200 OK\r\n\r\n" + b"a" * next(looks))

    with (
        ScriptedServer(step) as server,
        _client(server) as client,
        pytest.raises(MistralConnectionError, match="given up after 5 bytes"),
    ):
        client.download_file("f")


def test_a_file_without_end_ends(monkeypatch):
    monkeypatch.setattr(limits, "MAX_DOWNLOAD_BYTES", 1_000_000)
    endless = itertools.chain([CHUNKED], itertools.repeat(b"10000\r\n" + b"a" * 65536 + b"\r\n"))
    with ScriptedServer(Stream(endless)) as server, _client(server) as client:
        with pytest.raises(MistralResponseError, match="has no end: more than 1,000,000 bytes came"):
            client.download_file("f")
        assert len(server.requests) == 1
