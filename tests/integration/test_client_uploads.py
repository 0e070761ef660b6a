"""Uploads over a real socket: streamed, whole, once."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tempfile
from typing import IO

import pytest

from airflow_provider_mistral_batch.api import limits
from airflow_provider_mistral_batch.api.client import MistralBatchClient
from airflow_provider_mistral_batch.api.errors import (
    InvalidInputError,
    MistralCallError,
    MistralConnectionError,
    RequestTooLargeError,
)
from airflow_provider_mistral_batch.api.retries import RetryPolicy

from ..scripted_server import CLOSE, Answer, ScriptedServer, as_json

ROWS = b'{"custom_id": "a", "body": {}}\n' * 100


def _client(server: ScriptedServer) -> MistralBatchClient:
    return MistralBatchClient("k3y", server.url, retries=RetryPolicy(attempts=3, first_wait=0), timeout=5)


def _uploaded(source, **options) -> dict[str, tuple[str | None, str, bytes]]:
    with ScriptedServer(as_json({"id": "f"})) as server, _client(server) as client:
        assert client.upload_file(source, **options).id == "f"
        (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/files")
    assert int(request.headers["content-length"]) == len(request.body)
    return request.parts


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(ROWS)
    return path


def test_the_form(path):
    assert _uploaded(path) == {
        "purpose": (None, "text/plain", b"batch"),
        "file": ("rows.jsonl", "application/jsonl", ROWS),
    }


def test_the_form_with_everything(path):
    parts = _uploaded(str(path), purpose="ocr", filename="x.jsonl", expiry=24, visibility="user")
    assert {name: part[2] for name, part in parts.items() if name != "file"} == {
        "purpose": b"ocr",
        "expiry": b"24",
        "visibility": b"user",
    }
    assert parts["file"][0] == "x.jsonl"


def _spooled() -> IO[bytes]:
    file = tempfile.SpooledTemporaryFile()  # noqa: SIM115 - closed by the test
    file.write(ROWS)
    return file


def _packed() -> gzip.GzipFile:
    return gzip.open(io.BytesIO(gzip.compress(ROWS)))


@pytest.mark.parametrize(
    "source", [lambda: io.BytesIO(ROWS), _spooled, _packed], ids=["bytes", "spooled", "gzip"]
)
def test_any_binary_file_goes_through_whole(source):
    with source() as file:
        parts = _uploaded(file)
    assert parts["file"][1:] == ("application/jsonl", ROWS)


def test_a_packed_file_on_disk_goes_through_unpacked(tmp_path):
    path = tmp_path / "rows.gz"
    path.write_bytes(gzip.compress(ROWS))
    with gzip.open(path) as file:
        assert _uploaded(file)["file"][2] == ROWS


def test_an_open_file_is_read_from_its_start_and_stays_open(path):
    with path.open("rb") as file:
        file.read(10)
        assert _uploaded(file)["file"] == ("rows.jsonl", "application/jsonl", ROWS)
        assert not file.closed


@pytest.mark.parametrize(
    ("filename", "arrives"),
    [
        ('a"; name="purpose', "a%22; name=%22purpose"),
        ("a\r\nX-Evil: 1", "a%0D%0AX-Evil: 1"),
        ("ü.jsonl", "ü.jsonl"),
    ],
)
def test_no_name_of_a_file_breaks_out_of_its_header(filename, arrives):
    with ScriptedServer(as_json({"id": "f"})) as server, _client(server) as client:
        client.upload_file(io.BytesIO(ROWS), filename=filename)
        body = server.requests[0].body
    assert f'filename="{arrives}"\r\n'.encode() in body
    assert b"\r\nX-Evil" not in body


def test_every_attempt_sends_all_of_it(path):
    steps = [as_json({}, 429, Retry_After="0"), as_json({}, 503, Retry_After="0"), as_json({"id": "f"})]
    with ScriptedServer(*steps) as server, _client(server) as client:
        assert client.upload_file(path).id == "f"
        assert [request.parts["file"][2] for request in server.requests] == [ROWS] * 3


def test_a_lost_answer_is_no_reason_to_send_it_again(path):
    with ScriptedServer(CLOSE) as server, _client(server) as client:
        with pytest.raises(MistralConnectionError) as caught:
            client.upload_file(path)
        assert len(server.requests) == 1
    assert caught.value.may_have_acted


def test_progress_is_told_in_bytes_of_the_file(path):
    told = []
    _uploaded(path, on_progress=lambda sent, total: told.append((sent, total)))
    assert told[-1] == (len(ROWS), len(ROWS))
    assert told == sorted(told)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (lambda: io.BytesIO(), "file 'batch.jsonl' is empty: a request file needs at least one row"),
        (
            lambda: io.StringIO("text"),
            "file 'batch.jsonl' is not an open, seekable, binary file: open it with 'rb'",
        ),
        (lambda: iter([b"rows"]), "is not an open, seekable, binary file"),
        (lambda: os.fdopen(os.pipe()[0], "rb"), "is not an open, seekable, binary file"),
    ],
)
def test_what_cannot_be_uploaded(source, words):
    with ScriptedServer(as_json({"id": "f"})) as server, _client(server) as client:
        with pytest.raises(InvalidInputError) as caught:
            client.upload_file(source())
        assert words in str(caught.value)
        assert server.requests == []


def test_too_large_is_found_before_anything_is_sent(tmp_path):
    path = tmp_path / "sparse.jsonl"
    with path.open("wb") as file:
        file.truncate(limits.MAX_FILE_BYTES + 1)
    with ScriptedServer(as_json({"id": "f"})) as server, _client(server) as client:
        with pytest.raises(
            InvalidInputError, match=r"'sparse.jsonl' has 512,000,001 bytes, .* 512,000,000: split it"
        ):
            client.upload_file(path)
        assert server.requests == []


def test_a_missing_file_is_named(tmp_path):
    client = MistralBatchClient("k3y", "http://127.0.0.1:1")
    with pytest.raises(FileNotFoundError, match=r"no\.jsonl"):
        client.upload_file(tmp_path / "no.jsonl")


def test_413_says_what_to_do(path):
    with ScriptedServer(as_json({"message": "too large"}, 413)) as server, _client(server) as client:
        with pytest.raises(RequestTooLargeError, match="Split the request file"):
            client.upload_file(path)
        assert len(server.requests) == 1


def test_a_server_that_hangs_up_on_a_large_upload_ends_in_one_attempt(tmp_path):
    path = tmp_path / "large.jsonl"
    with path.open("wb") as file:
        file.truncate(20_000_000)
    # Whether its answer is still read before the connection breaks is chance.
    answer = Answer(413, b"too large", sends=9)
    with ScriptedServer(answer, reads_bodies=False) as server, _client(server) as client:
        with pytest.raises(MistralCallError) as caught:
            client.upload_file(path)
        assert len(server.requests) == 1
    assert isinstance(caught.value, RequestTooLargeError) or caught.value.may_have_acted


_UPLOAD = """
import resource, sys
from airflow_provider_mistral_batch.api.client import MistralBatchClient
client = MistralBatchClient("k3y", sys.argv[1])
client.upload_file(sys.argv[2])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
client.upload_file(sys.argv[3])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux alone")
def test_memory_does_not_grow_with_the_file(tmp_path, path):
    large = tmp_path / "large.jsonl"
    with large.open("wb") as file:
        file.truncate(50_000_000)
    with ScriptedServer(as_json({"id": "f"})) as server:
        ran = subprocess.run(
            [sys.executable, "-c", _UPLOAD, server.url, str(path), str(large)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert len(server.requests[1].body) > 50_000_000
    assert int(ran.stdout) < 5_000, "KiB"
