"""Requests come from files of every kind, several files, globs, and rows and prompts from Python."""

from __future__ import annotations

import dataclasses
import gzip

import pytest
import zstandard
from airflow.sdk import ObjectStoragePath

from airflow_provider_mistral_batch.api.errors import InvalidInputError

from .request_rows import problems_of, row, rows_of, write


@pytest.mark.parametrize(
    "content",
    [
        b'\xef\xbb\xbf{"custom_id": "a", "body": {}}\n{"custom_id": "b", "body": {}}\n',
        b'{"custom_id": "a", "body": {}}\r\n{"custom_id": "b", "body": {}}\r\n',
        b'\n\n{"custom_id": "a", "body": {}}\n  \n{"custom_id": "b", "body": {}}\n\n',
        b'{"custom_id": "a", "body": {}}\n{"custom_id": "b", "body": {}}',
    ],
    ids=["byte order mark", "CR LF", "blank lines", "no last newline"],
)
def test_harmless_forms_of_files(prepare, tmp_path, content):
    path = tmp_path / "in.jsonl"
    path.write_bytes(content)
    prepared = prepare(path)
    assert rows_of(prepared) == [row("a"), row("b")]
    assert b"\r" not in prepared.paths[0].read_bytes()


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.compress], ids=["plain", "gz", "zst"])
@pytest.mark.parametrize("store", ["local", "file://", "memory://"])
def test_sources_of_every_kind(prepare, tmp_path, bucket, compress, store):
    name = {bytes: "in.jsonl", gzip.compress: "in.jsonl.gz"}.get(compress, "in.jsonl.zst")
    folder = {"local": tmp_path, "file://": ObjectStoragePath(f"file://{tmp_path}")}.get(store, bucket)
    parent, folder = folder, folder / "nightly"
    folder.mkdir()
    content = compress(b"".join(b'{"custom_id":"%d","body":{}}\n' % number for number in range(5000)))
    for copy in ("1-", "2-"):
        (folder / f"{copy}{name}").write_bytes(
            content.replace(b'{"custom_id":"', b'{"custom_id":"' + copy.encode())
        )
    if compress is bytes:
        assert prepare([folder / f"1-{name}", folder / f"2-{name}"]).request_count == 10_000
        assert prepare(folder / "*-in.jsonl*").request_count == 10_000
        assert prepare(parent / "night*" / "[12]-in.jsonl").request_count == 10_000
    assert prepare(folder / f"1-{name}").request_count == 5000


def test_a_string_is_a_local_path_or_glob(prepare, tmp_path):
    write(tmp_path / "in[1].jsonl", [row("a")])
    write(tmp_path / "in1.jsonl", [row("b")])
    assert rows_of(prepare(str(tmp_path / "in[1].jsonl"))) == [row("a")]
    assert rows_of(prepare(str(tmp_path / "in*.jsonl"))) == [row("b"), row("a")]


@dataclasses.dataclass
class Reading:
    value: float


@pytest.mark.parametrize(
    ("item", "field", "reason"),
    [
        (17, None, "expected a row"),
        (None, None, "expected a row"),
        (b"bytes", None, "expected a row"),
        (row("a", {"t": float("nan"), "none": None}), "body.t", "NaN"),
        (row("a", {"list": [1, {"deep": float("inf")}]}), "body.list[1].deep", "NaN"),
        (row("a", {"x": Reading(float("nan"))}), "body.x.value", "NaN"),
        (row("a", {"x": {float("-inf")}}), "body.x[0]", "NaN"),
        (row("a", {"x": object()}), None, "cannot be written as JSON"),
        (row("a", {"x": "\ud800"}), None, "cannot be written as JSON"),
        ({"messages": []}, "body", "missing"),
        ("requests.jsonl", None, "file name"),
        ("s3://bucket/part-0.jsonl.gz", None, "file name"),
    ],
)
def test_a_bad_item_is_named(prepare, out, item, field, reason):
    error = problems_of(lambda: prepare([row("fine"), item, row("fine, too")]))
    problem = error.problems[-1]
    assert (problem.file, problem.line, problem.field) == (None, 2, field)
    assert reason in problem.reason
    assert list(out.iterdir()) == []


def test_a_bad_first_item_is_named(prepare):
    error = problems_of(lambda: prepare([None, row("fine")]))
    assert [(problem.line, problem.reason) for problem in error.problems] == [
        (1, "expected a row (dict) or a prompt (str), got NoneType")
    ]


@pytest.mark.parametrize("item", ["more-*.jsonl", None, {"custom_id": "a", "body": {}}])
def test_what_is_no_path_among_paths(prepare, tmp_path, item):
    with pytest.raises(InvalidInputError, match=r"but item 2 is .*: make all of them path objects"):
        prepare([write(tmp_path / "in.jsonl", [row("a")]), item])


def test_a_missing_object_in_a_store(prepare, bucket):
    error = problems_of(lambda: prepare([bucket / "missing.jsonl", bucket / "missing.jsonl.gz"]))
    assert [str(problem) for problem in error.problems] == [
        f"{bucket / name}: there is no such file. Check path."
        for name in ("missing.jsonl", "missing.jsonl.gz")
    ]


@pytest.mark.parametrize("source", [[], (), iter(()), ["missing-file"]])
def test_nothing_to_send(prepare, tmp_path, source):
    source = [] if source == ["missing-file"] else source
    with pytest.raises(InvalidInputError, match="no requests"):
        prepare(source)


@pytest.mark.parametrize("content", [b"", b"\n\n \n", b"\xef\xbb\xbf"])
def test_an_empty_file(prepare, tmp_path, content):
    path = tmp_path / "empty.jsonl"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"no requests in .*empty\.jsonl"):
        prepare(path)


def test_files_that_cannot_be_read_are_problems_beside_the_others(prepare, tmp_path, out):
    whole = gzip.compress(b"".join(b'{"custom_id":"%d","body":{}}\n' % number for number in range(30_000)))
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(whole[: len(whole) // 2])
    bad = write(tmp_path / "bad.jsonl", [b"oops"])
    error = problems_of(lambda: prepare([cut, tmp_path / "missing.jsonl", tmp_path, bad]))
    assert [problem.file for problem in error.problems] == [
        str(cut),
        str(tmp_path / "missing.jsonl"),
        str(tmp_path),
        str(bad),
    ]
    assert "is cut" in error.problems[0].reason
    assert error.problems[0].line > 1000
    assert list(out.iterdir()) == []
