"""Downloads over a real socket: cut, resumed, never mixed, in constant memory."""

from __future__ import annotations

import gzip
import logging
import random
import re
from collections.abc import Generator

import pytest

from airflow_provider_mistral_batch.api.client import MistralBatchClient
from airflow_provider_mistral_batch.api.errors import (
    BadRequestError,
    MistralCallError,
    MistralConnectionError,
    MistralResponseError,
    NotFoundError,
    ServerError,
)
from airflow_provider_mistral_batch.api.retries import RetryPolicy

from ..scripted_server import CLOSE, RESET, Answer, Raw, Received, ScriptedServer, as_json

CONTENT = random.Random(1).randbytes(3_000_000)
#: The same number of bytes, and all of them different.
OTHER = bytes(byte ^ 0xFF for byte in CONTENT)


def _client(server: ScriptedServer, attempts: int = 3) -> MistralBatchClient:
    return MistralBatchClient(
        "k3y", server.url, retries=RetryPolicy(attempts=attempts, first_wait=0), timeout=5
    )


class Storage:
    """A file as a decent server gives it, except that it cuts each answer after some bytes of its body."""

    def __init__(
        self,
        content: bytes = CONTENT,
        *,
        etag: str | None = '"v1"',
        ranges: bool = True,
        length: bool = True,
        cuts: list[int | None] | None = None,
    ) -> None:
        self.content = content
        self.etag = etag
        self.ranges = ranges
        self.length = length
        self.cuts = cuts or []

    def __call__(self, request: Received) -> Answer | Raw:
        headers = {"Content-Type": "application/octet-stream", **({"ETag": self.etag} if self.etag else {})}
        wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
        body, status = self.content, 200
        fits = request.headers.get("if-range") in (None, self.etag)
        if wanted and self.ranges and fits:
            start = int(wanted[1])
            if start >= len(self.content):
                return as_json({"message": "range"}, 416)
            body, status = self.content[start:], 206
            headers["Content-Range"] = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        cut = self.cuts.pop(0) if self.cuts else None
        if self.length:
            return Answer(status, body, headers, cut)
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        sent = body[:cut]
        chunk = b"%x\r\n%s\r\n" % (len(sent), sent) if sent else b""
        return Raw(
            f"HTTP/1.1 {status} OK\r\nTransfer-Encoding: chunked\r\n{head}\r\n".encode()
            + chunk
            + (b"0\r\n\r\n" if cut is None else b"")
        )


def _until_it_fails(client: MistralBatchClient, kind: type[Exception], words: str | None = None) -> bytes:
    """What was given before the download failed."""
    received: list[bytes] = []

    def read() -> None:
        received.extend(client.stream_file("f"))

    with pytest.raises(kind, match=words):
        read()
    return b"".join(received)


def _ranges(server: ScriptedServer) -> list[str | None]:
    return [request.headers.get("range") for request in server.requests]


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("etag", ['"v1"', 'W/"v1"', None])
def test_cut_three_times_and_resumed_by_range(etag, length, caplog):
    storage = Storage(etag=etag, length=length, cuts=[1_000_000, 500_000, 700_000])
    with ScriptedServer(storage) as server, _client(server) as client, caplog.at_level(logging.WARNING):
        assert client.download_file("f") == CONTENT
        ranges = _ranges(server)
    assert ranges == [None, "bytes=1000000-", "bytes=1500000-", "bytes=2200000-"]
    assert caplog.text.count("The download resumes at byte ") == 3
    conditions = {request.headers.get("if-range") for request in server.requests[1:]}
    assert conditions == {etag if etag == '"v1"' else None}


def test_more_cuts_than_attempts_as_long_as_there_is_progress():
    storage = Storage(cuts=[100_000] * 25)
    with ScriptedServer(storage) as server, _client(server, attempts=1) as client:
        assert client.download_file("f") == CONTENT
        assert len(server.requests) == 26


def test_cuts_without_progress_are_bounded():
    storage = Storage(cuts=[1_000_000, *[0] * 100])
    with ScriptedServer(storage) as server, _client(server, attempts=3) as client:
        assert len(_until_it_fails(client, MistralConnectionError, "broke off after 0 ")) == 1_000_000
        assert len(server.requests) == 1 + 3


def test_refusals_are_bounded_by_one_policy():
    with ScriptedServer(CLOSE) as server, _client(server, attempts=3) as client:
        with pytest.raises(MistralConnectionError):
            client.download_file("f")
        assert len(server.requests) == 3


@pytest.mark.parametrize("length", [True, False])
def test_range_ignored_means_reading_from_the_start_and_skipping(length):
    storage = Storage(ranges=False, length=length, cuts=[1_000_000, 2_000_000])
    with ScriptedServer(storage) as server, _client(server) as client:
        assert client.download_file("f") == CONTENT
        assert len(server.requests) == 3


def test_a_file_that_changes_meanwhile_is_an_error_and_nothing_is_mixed():
    storages = [Storage(cuts=[1_000_000]), Storage(OTHER, etag='"v2"')]
    with ScriptedServer(*storages) as server, _client(server) as client:
        received = _until_it_fails(client, MistralResponseError, "the file changed while it was downloaded")
        assert received == CONTENT[:1_000_000]
        assert server.requests[1].headers["if-range"] == '"v1"'
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("second", "requests"),
    [
        # The server ignores If-Range, and gives a part of the new version.
        (
            lambda _: Answer(
                206, OTHER[1_000_000:], {"ETag": '"v2"', "Content-Range": "bytes 1000000-2999999/3000000"}
            ),
            2,
        ),
        # No tags: the length tells.
        (Storage(OTHER[:-1], etag=None), 2),
        (Storage(OTHER[:-1], etag=None, ranges=False), 2),
        # Shorter than what was given.
        (Storage(OTHER[:10], etag=None, ranges=False, length=False), 2),
    ],
)
def test_every_sign_of_a_change_counts(second, requests):
    with ScriptedServer(Storage(cuts=[1_000_000]), second) as server, _client(server) as client:
        with pytest.raises(MistralResponseError, match="the file changed"):
            client.download_file("f")
        assert len(server.requests) == requests


def test_a_file_may_change_as_long_as_nothing_was_given():
    storages = [Storage(cuts=[0]), Storage(OTHER, etag='"v2"')]
    with ScriptedServer(*storages) as server, _client(server) as client:
        assert client.download_file("f") == OTHER


def test_parts_that_are_smaller_than_asked_for():
    def step(request: Received) -> Answer:
        start = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        part = CONTENT[start : start + 1_100_000]
        content_range = f"bytes {start}-{start + len(part) - 1}/{len(CONTENT)}"
        return Answer(206, part, {"Content-Range": content_range})

    with ScriptedServer(step) as server, _client(server) as client:
        assert client.download_file("f") == CONTENT
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        Answer(206, CONTENT[:5], {"Content-Range": "bytes 0-4/3000000"}),
        Answer(206, CONTENT[:5], {}),
        as_json({"message": "no ranges here"}, 416),
    ],
)
def test_a_server_that_is_peculiar_about_ranges_is_read_from_the_start(wrong):
    def step(request: Received):
        return wrong if "range" in request.headers else Answer(200, CONTENT)

    with ScriptedServer(Storage(cuts=[1_000_000]), step) as server, _client(server) as client:
        assert client.download_file("f") == CONTENT
        assert _ranges(server) == [None, "bytes=1000000-", None]


def test_a_cut_right_at_the_end_of_an_unknown_length():
    storage = Storage(length=False, cuts=[len(CONTENT)])
    with ScriptedServer(storage) as server, _client(server) as client:
        assert client.download_file("f") == CONTENT
        assert _ranges(server) == [None, "bytes=3000000-", None]


def test_416_for_a_whole_file_is_an_error():
    with (
        ScriptedServer(as_json({}, 416)) as server,
        _client(server) as client,
        pytest.raises(BadRequestError),
    ):
        client.download_file("f")


@pytest.mark.parametrize("cuts", [[], [1_000]])
def test_compressed_against_our_wish(cuts):
    packed = gzip.compress(CONTENT[:100_000])
    headers = {"Content-Encoding": "gzip", "ETag": '"v1"'}
    steps = [*(Answer(200, packed, headers, cut) for cut in cuts), Answer(200, packed, headers)]
    with ScriptedServer(*steps) as server, _client(server) as client:
        assert client.download_file("f") == CONTENT[:100_000]
        assert {request.headers["accept-encoding"] for request in server.requests} == {"identity"}
        assert _ranges(server) == [None] * (1 + len(cuts))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(200, b"<html>log in</html>", {"Content-Type": "text/html"}), MistralResponseError),
        (Answer(204, headers={"Content-Length": None}), MistralResponseError),
        (as_json({"message": "gone"}, 404), NotFoundError),
        (as_json({"message": "oops"}, 500), ServerError),
    ],
)
@pytest.mark.parametrize("begun", [False, True])
def test_what_is_no_file_is_never_given(answer, error, begun):
    steps = [Storage(cuts=[1_000_000]), answer] if begun else [answer]
    with ScriptedServer(*steps) as server, _client(server) as client:
        assert _until_it_fails(client, error) == (CONTENT[:1_000_000] if begun else b"")


def test_trouble_between_two_parts_is_waited_out():
    steps = [Storage(cuts=[1_000_000]), as_json({}, 503), RESET, Storage()]
    with ScriptedServer(*steps) as server, _client(server) as client:
        assert client.download_file("f") == CONTENT


def test_less_than_announced_is_no_file():
    with (
        ScriptedServer(Answer(200, b"ab", {"Content-Length": "3"}, sends=2)) as server,
        _client(server) as client,
        pytest.raises(MistralCallError, match=r"broke off|ended after"),
    ):
        client.download_file("f")


def test_an_empty_file():
    with ScriptedServer(Answer(200)) as server, _client(server) as client:
        assert client.download_file("f") == b""
        assert len(server.requests) == 1


def test_a_key_that_is_rotated_in_the_middle():
    def new_key_only(request: Received):
        good = request.headers["authorization"] == "Bearer new"
        return Storage()(request) if good else as_json({"message": "Unauthorized"}, 401)

    with ScriptedServer(Storage(cuts=[1_000_000]), new_key_only) as server:
        client = MistralBatchClient("k3y", server.url, renew_key=lambda: "new", timeout=5)
        assert client.download_file("f") == CONTENT
        client.close()


def test_who_stops_early_frees_the_connection_and_asks_for_no_more():
    with ScriptedServer(Storage()) as server, _client(server) as client:
        chunks = client.stream_file("f")
        next(chunks)
        assert isinstance(chunks, Generator)
        chunks.close()
        assert client.download_file("f") == CONTENT
        assert len(server.requests) == 2


def test_chunks_are_of_bounded_size():
    with ScriptedServer(Storage()) as server, _client(server) as client:
        assert max(map(len, client.stream_file("f"))) <= 1 << 20


def test_nothing_is_asked_before_the_first_chunk_is():
    with ScriptedServer(Storage()) as server, _client(server) as client:
        client.stream_file("f")
        assert server.requests == []


#: An HTTP/1.0 server closes the connection at the end of a body, and so does a break.
UNMARKED, UNMARKED_HALF = (
    Raw(b'HTTP/1.0 200 OK\r\nETag: "v1"\r\n\r\n' + CONTENT[:length]) for length in (2000, 1000)
)


@pytest.mark.parametrize(
    "file",
    [as_json({"id": "f", "bytes": 2000}), as_json({"id": "f"}), as_json({"message": "no"}, 404)],
    ids=["its size is known", "its size is not known", "the server knows no files"],
)
def test_an_end_that_nothing_marks(file):
    with ScriptedServer(UNMARKED, file) as server, _client(server) as client:
        assert client.download_file("f") == CONTENT[:2000]


def _contents_and_trouble(trouble, *contents: Raw):
    """The file in one reading after the other, and trouble for who asks about it; readings are counted."""
    readings: list[Received] = []

    def step(request: Received):
        if not request.path.endswith("/content"):
            return trouble
        readings.append(request)
        # A download that has no end is to be seen as one.
        return contents[min(len(readings), len(contents)) - 1] if len(readings) < 6 else as_json({}, 404)

    return step, readings


@pytest.mark.parametrize(
    ("trouble", "count"),
    [
        # It answers that it cannot say: there is nothing more to ask.
        (as_json({"message": "no"}, 405), 1),
        (as_json({"message": "no"}, 403), 1),
        # It may have broken off: what ends at the same byte again ends there.
        (CLOSE, 2),
        (as_json({"message": "oops"}, 500), 2),
        (Answer(200, b"<html>log in</html>", {"Content-Type": "text/html"}), 2),
    ],
)
def test_an_end_that_nothing_marks_while_the_size_cannot_be_asked(trouble, count):
    step, readings = _contents_and_trouble(trouble, UNMARKED)
    with ScriptedServer(step) as server, _client(server) as client:
        assert client.download_file("f") == CONTENT[:2000]
    assert len(readings) == count


def test_a_break_that_nothing_marks_while_the_size_cannot_be_asked():
    step, readings = _contents_and_trouble(CLOSE, UNMARKED_HALF, UNMARKED)
    with ScriptedServer(step) as server, _client(server) as client:
        assert client.download_file("f") == CONTENT[:2000]
    assert len(readings) == 3


def test_a_server_that_is_gone_in_the_middle_has_given_no_file():
    with ScriptedServer(UNMARKED_HALF, CLOSE) as server, _client(server) as client:
        assert _until_it_fails(client, MistralConnectionError) == CONTENT[:1000]


def test_a_break_that_nothing_marks_is_not_taken_for_the_end():
    file = as_json({"id": "f", "bytes": 2000})
    with ScriptedServer(UNMARKED_HALF, file, UNMARKED, file) as server, _client(server) as client:
        assert client.download_file("f") == CONTENT[:2000]
