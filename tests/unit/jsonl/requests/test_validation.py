"""What is wrong with a row is named: the line, the field, the byte."""

from __future__ import annotations

import gzip

import pytest

from .request_rows import CHAT, problems_of, row, write

BAD_LINES = {
    "not JSON": (b'{"custom_id": "z", "body": {]}', "body", None, "not JSON"),
    "cut": (b'{"custom_id": "z", "body": {"x": 1', None, None, "ends too early"),
    "not UTF-8": (b'{"custom_id": "z", "body": {"x": "\xff"}}', None, 35, "0xff is not UTF-8"),
    "NUL byte": (b'{"custom_id": "z", "body": {"x": "\x00"}}', None, 35, "NUL"),
    "NaN": (b'{"custom_id": "z", "body": {"x": NaN}}', None, 34, "NaN"),
    "Infinity": (b'{"custom_id": "z", "body": {"x": -Infinity}}', None, 35, "Infinity"),
    "an array": (b"[1, 2]", None, None, "not an object"),
    "two rows": (
        b'{"custom_id": "y", "body": {}} {"custom_id": "z", "body": {}}',
        None,
        None,
        "more than one JSON value",
    ),
    "a comma too many": (
        b'{"custom_id": "z", "body": {"x": 1,}}',
        None,
        35,
        "not JSON: trailing comma in object",
    ),
    "a comma too many in a list": (
        b'{"custom_id": "z", "body": {"x": [1,]}}',
        None,
        36,
        "trailing comma in array",
    ),
    "a brace too many": (b'{"custom_id": "z", "body": {}}}', None, 31, "more than one JSON value"),
    "no body": (b'{"custom_id": "z"}', "body", None, "missing"),
    "body is null": (b'{"custom_id": "z", "body": null}', "body", None, "must be an object"),
    "body is a list": (b'{"custom_id": "z", "body": [{}]}', "body", None, "must be an object"),
    "custom_id is a number": (b'{"custom_id": 17, "body": {}}', "custom_id", None, "must be a string"),
    "custom_id is empty": (b'{"custom_id": "", "body": {}}', "custom_id", None, "not empty"),
    "unknown field": (b'{"custom_id": "z", "messages": [], "body": {}}', "messages", None, "unknown field"),
    "other endpoint": (b'{"custom_id": "z", "url": "/v1/ocr", "body": {}}', "url", None, CHAT),
    "other method": (b'{"custom_id": "z", "method": "GET", "body": {}}', "method", None, "must be POST"),
    "model is a number": (
        b'{"custom_id": "z", "body": {"model": 1}}',
        "body.model",
        None,
        "must be a string",
    ),
    "nested too deeply": (
        b'{"custom_id": "z", "body": {"x": ' + b"[" * 5000 + b"]" * 5000 + b"}}",
        None,
        None,
        "deeply",
    ),
    "lone surrogate": (
        b'{"custom_id": "z", "body": {"x": "\\ud800"}}',
        None,
        35,
        "\\ud800 is half a character",
    ),
    "lone surrogate, and more": (
        b'{"custom_id": "z", "body": {"x": "\\\\\\ud83d\\ude00 \\uDE00", "y": 1, "z": [2, 3, 4]}}',
        None,
        50,
        "\\uDE00 is half a character (a lone surrogate)",
    ),
    "same custom_id": (b'{"custom_id": "first", "body": {}}', "custom_id", None, "the same as on line 1"),
}


@pytest.mark.parametrize("kind", BAD_LINES)
@pytest.mark.parametrize("place", [2, 3000], ids=["near the beginning", "far into a gzip file"])
@pytest.mark.parametrize("with_url", [False, True])
def test_a_bad_line_is_named(prepare, out, tmp_path, kind, place, with_url):
    line, field, byte, reason = BAD_LINES[kind]
    lines = [row("first"), *(row(f"r{n}", {"x": "x" * 100}) for n in range(2, place)), line, row("last")]
    path = tmp_path / "in.jsonl.gz"
    path.write_bytes(gzip.compress(write(tmp_path / "in.jsonl", lines).read_bytes()))
    error = problems_of(lambda: prepare(path, with_url=with_url))
    assert error.total == len(error.problems) == 1
    (problem,) = error.problems
    assert (problem.file, problem.line) == (str(path), place)
    assert reason in problem.reason
    if kind != "not JSON":
        assert problem.field == field
    if byte is not None:
        assert problem.byte == byte
    assert f"{path}, line {place}" in str(error)
    assert list(out.iterdir()) == []


def test_every_problem_of_a_line_is_named(prepare):
    error = problems_of(
        lambda: prepare([{"custom_id": 3, "method": "PUT", "url": "/x", "body": [], "extra": 1}])
    )
    assert {problem.field for problem in error.problems} == {"custom_id", "method", "url", "body", "extra"}
    assert {problem.line for problem in error.problems} == {1}
    assert "row 1" in str(error)


def test_a_file_for_another_endpoint(prepare, tmp_path):
    lines = [row(str(number), method="POST", url="/v1/embeddings") for number in range(30)]
    published = [
        {"custom_id": line["custom_id"], "method": "POST", "url": line["url"], "body": {}} for line in lines
    ]
    error = problems_of(lambda: prepare(write(tmp_path / "in.jsonl", published)))
    assert error.total == 30
    assert {problem.field for problem in error.problems} == {"url"}
