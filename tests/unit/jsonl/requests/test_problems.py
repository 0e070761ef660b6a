"""Problems are listed in the order of the input, and counted."""

from __future__ import annotations

import pickle

import pytest

from airflow_provider_mistral_batch.api.errors import MistralBatchError
from airflow_provider_mistral_batch.jsonl.requests.problems import MAX_PROBLEMS, MAX_PROBLEMS_SHOWN

from .request_rows import problems_of, row, write


def test_many_problems_are_listed_in_order_and_counted(prepare, tmp_path, out):
    lines = [b"oops" if number % 3 == 0 else row(f"{number // 2}") for number in range(1, 901)]
    error = problems_of(lambda: prepare(write(tmp_path / "in.jsonl", lines)))
    good = [str(number // 2) for number in range(1, 901) if number % 3]
    assert error.total == 300 + len(good) - len(set(good))
    assert len(error.problems) == MAX_PROBLEMS_SHOWN
    places = [problem.line for problem in error.problems]
    assert places == sorted(places)
    assert places[:3] == [3, 5, 6] or places[:2] == [3, 6]
    assert f"and {error.total - MAX_PROBLEMS_SHOWN:,} more" in str(error)
    assert list(out.iterdir()) == []
    assert isinstance(error, MistralBatchError)
    assert isinstance(error, ValueError)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_early_problems_that_are_found_late_come_first(prepare, tmp_path):
    lines = [row("a"), row("a"), *[b"oops"] * 100]
    error = problems_of(lambda: prepare(write(tmp_path / "in.jsonl", lines)))
    assert error.total == 101
    assert [problem.line for problem in error.problems] == list(range(2, 2 + MAX_PROBLEMS_SHOWN))


@pytest.mark.parametrize("kind", ["a table", "items", "a binary file"])
def test_what_is_no_request_file_is_not_read_to_its_end(prepare, tmp_path, out, kind):
    read = 0

    def items():
        nonlocal read
        while read < 1_000_000:
            read += 1
            yield read

    if kind == "items":
        error = problems_of(lambda: prepare(items()))
        assert read == MAX_PROBLEMS
    else:
        line = b"1;2;3;a text" if kind == "a table" else b"\xff\x00\x01"
        error = problems_of(lambda: prepare(write(tmp_path / "in.csv", [line] * 500_000)))
    assert (error.total, error.stopped) == (MAX_PROBLEMS, True)
    assert str(error).startswith("1,000 problems in the requests, and stopped reading; nothing was sent:")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    "line",
    [
        b"root:x:0:0:hunter2:/root:/bin/bash",
        b'{"password": "hunter2"}',
        b'{"hunter2": 1}',
        b'{"password": "hunter2",}',
        b'{"a": "\\ud800 hunter2"}',
        b'"hunter2"',
        b'["hunter2", "custom_id"]',
        b"hunter2 \xff",
        b"[" * 1000 + b'"hunter2"' + b"]" * 1000,
    ],
)
def test_messages_show_no_content_of_files_that_are_not_for_us(prepare, tmp_path, line):
    path = tmp_path / "secret"
    path.write_bytes(line)
    error = problems_of(lambda: prepare(path))
    assert f"{path}, line 1" in str(error)
    assert "hunter2" not in str(error)
    assert "hunter2" not in repr(error.problems)


@pytest.mark.parametrize(
    "line", [b'{"custom_id": 7, "body": {}}', b'{"body": [] }', b'{"custom_id": "seven", "body": {}, }']
)
def test_messages_show_the_content_of_request_rows(prepare, tmp_path, line):
    (tmp_path / "rows").write_bytes(line)
    (problem,) = problems_of(lambda: prepare(tmp_path / "rows")).problems
    assert problem.value


def test_messages_show_the_content_of_rows_from_python(prepare):
    assert '"hunter2"' in str(problems_of(lambda: prepare([{"question": "hunter2"}])))
