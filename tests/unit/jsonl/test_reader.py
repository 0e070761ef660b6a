"""Landed rows are read back with types, from JSONL and from Parquet alike."""

from __future__ import annotations

import builtins
import gzip
import json

import pyarrow.parquet
import pytest

from airflow_provider_mistral_batch.jsonl.lines import MissingExtraError, file_chunks
from airflow_provider_mistral_batch.jsonl.results import parquet
from airflow_provider_mistral_batch.jsonl.results.reader import read_blocks
from airflow_provider_mistral_batch.jsonl.results.rows import result_row
from airflow_provider_mistral_batch.jsonl.results.split import split_results
from airflow_provider_mistral_batch.results import read_results

CHAT = {
    "model": "m",
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    "choices": [{"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "Hé"}}],
}

# The shapes of the API's answers, by endpoint.
BODIES = {
    "chat": (CHAT, ("Hé", "length", 3, 2, "m")),
    "chat in chunks": (
        {
            "model": "m",
            "choices": [
                {
                    "message": {
                        "content": [
                            {"type": "text", "text": "a"},
                            {"type": "thinking"},
                            {"type": "text", "text": "b"},
                        ]
                    }
                }
            ],
        },
        ("ab", None, None, None, "m"),
    ),
    "tool calls only": (
        {"choices": [{"finish_reason": "tool_calls", "message": {"content": None}}]},
        (None, "tool_calls", None, None, None),
    ),
    "embeddings": (
        {"model": "e", "data": [{"embedding": [0.5]}], "usage": {"prompt_tokens": 7}},
        (None, None, 7, None, "e"),
    ),
    "OCR": (
        {"model": "o", "pages": [{"index": 0, "markdown": "# A"}, {"index": 1, "markdown": "B"}]},
        ("# A\n\nB", None, None, None, "o"),
    ),
    "transcription": (
        {"model": "v", "text": "Good evening.", "language": None, "segments": []},
        ("Good evening.", None, None, None, "v"),
    ),
    "conversation": (
        {
            "outputs": [{"type": "tool.execution"}, {"type": "message.output", "content": "Done."}],
            "usage": {"prompt_tokens": 1},
        },
        ("Done.", None, 1, None, None),
    ),
    "moderation": ({"model": "x", "results": [{"categories": {}}]}, (None, None, None, None, "x")),
    "no choices": ({"choices": []}, (None, None, None, None, None)),
    "odd": ({"choices": "none", "model": 5}, (None, None, None, None, None)),
}


def row_line(custom_id, body, status_code=200, error=None):
    row = {
        "id": "x",
        "custom_id": custom_id,
        "response": {"status_code": status_code, "body": body},
        "error": error,
    }
    return json.dumps(row).encode()


@pytest.mark.parametrize("kind", BODIES)
def test_every_endpoint_has_its_content(kind):
    body, expected = BODIES[kind]
    line = row_line("a", body)
    row = result_row(line)
    assert (row.content, row.finish_reason, row.prompt_tokens, row.completion_tokens, row.model) == expected
    assert (row.custom_id, row.status_code, row.error, row.succeeded, row.raw) == ("a", 200, None, True, line)
    assert row.body == body


def test_a_failed_row_has_an_error_and_what_there_is_beside():
    row = result_row(row_line("a", CHAT, error={"code": "invalid_output", "message": "no number"}))
    assert (row.error, row.content, row.succeeded) == ("no number", "Hé", False)
    row = result_row(row_line("a", None, status_code=0))
    assert (row.error, row.status_code, row.body) == ("no answer (status code 0)", 0, None)


@pytest.mark.parametrize("line", [b"oops", b"[]", b"{}", b'{"response": 1}', b"\xff", b'{"custom_id": 5}'])
def test_what_is_no_row_is_a_failed_row(line):
    row = result_row(line)
    assert not row.succeeded
    assert (row.custom_id, row.content) == (None, None)


def test_a_frame_takes_one_line(tmp_path):
    (tmp_path / "r.jsonl").write_bytes(row_line("a", CHAT) + b"\n" + row_line("b", CHAT))
    table = pyarrow.Table.from_pylist([row.as_dict() for row in read_results(tmp_path / "r.jsonl")])
    assert table.column("content").to_pylist() == ["Hé", "Hé"]
    assert json.loads(table.column("raw")[1].as_py())["custom_id"] == "b"


def test_reading_is_lazy_and_takes_compressed_files(tmp_path):
    content = b"\n".join(row_line(str(number), CHAT) for number in range(5000))
    path = tmp_path / "r.jsonl.gz"
    path.write_bytes(gzip.compress(content)[:-20])
    rows = read_results(path)
    assert [next(rows).custom_id for _ in range(3)] == ["0", "1", "2"]


@pytest.mark.parametrize("output_format", ["jsonl", "parquet"])
@pytest.mark.parametrize("failed", [False, True])
def test_manifests(tmp_path, output_format, failed):
    rows = [row_line(kind, body) for kind, (body, _) in BODIES.items()]
    rows += [row_line("f1", {"message": "slow"}, 429), row_line("f2", None, 0)]
    summary = split_results([[b"\n".join(rows)]], tmp_path / "r", tmp_path / "e", output_format=output_format)
    found = list(read_results(summary.as_dict(), failed=failed))
    assert found == [result_row(row) for row in rows[: len(rows) if failed else -2]]


def test_strangers_among_the_failures_are_failures(tmp_path):
    (tmp_path / "requests").write_bytes(b'{"custom_id":"a","body":{}}\n')
    rows = row_line("a", CHAT) + b"\n" + row_line("stranger", CHAT)
    summary = split_results([[rows]], tmp_path / "r", tmp_path / "e", requests=[tmp_path / "requests"])
    assert [(row.custom_id, row.error) for row in read_results(summary.as_dict(), failed=True)] == [
        ("a", None),
        ("stranger", "nobody asked for this custom_id"),
    ]


def test_parquet_columns_and_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_ROWS_IN_GROUP", 10)
    rows = [row_line(f"r{number}", CHAT) for number in range(25)] + [row_line("bad", {"message": "x"}, 500)]
    split_results(
        [[b"\n".join(rows)]], tmp_path / "r.parquet", tmp_path / "e.parquet", output_format="parquet"
    )
    with pyarrow.parquet.ParquetFile(tmp_path / "r.parquet") as file:
        assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [
            10,
            10,
            5,
        ]
        types = {field.name: str(field.type) for field in file.schema_arrow}
    assert types == {
        "custom_id": "string",
        "status_code": "int64",
        "content": "string",
        "finish_reason": "string",
        "prompt_tokens": "int64",
        "completion_tokens": "int64",
        "model": "string",
        "error": "string",
        "raw": "binary",
    }
    table = pyarrow.parquet.read_table(tmp_path / "e.parquet").to_pylist()
    assert [(row["custom_id"], row["status_code"], row["error"]) for row in table] == [("bad", 500, "x")]
    assert {path.name for path in tmp_path.iterdir()} == {"r.parquet", "e.parquet"}


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 12345678901234567890])
def test_numbers_that_no_column_can_have_are_in_raw(tmp_path, number):
    rows = [
        row_line("a", CHAT),
        row_line("b", {"usage": {"prompt_tokens": number, "completion_tokens": 2**63 - 1}}),
    ]
    rows.append(row_line("c", None, number))
    split_results([[b"\n".join(rows)]], tmp_path / "r", tmp_path / "e", output_format="parquet")
    table = pyarrow.parquet.read_table(tmp_path / "r")
    assert table.column("prompt_tokens").to_pylist() == [3, None]
    assert table.column("completion_tokens").to_pylist() == [2, 2**63 - 1]
    assert pyarrow.parquet.read_table(tmp_path / "e").column("status_code").to_pylist() == [None]
    assert [row.prompt_tokens for row in read_results(tmp_path / "r")] == [3, number]


def test_row_groups_of_long_rows_are_small(tmp_path):
    long = {"model": "o", "pages": [{"index": 0, "markdown": "x" * 300_000}]}
    rows = [row_line(f"r{number}", long) for number in range(40)]
    split_results([[row + b"\n"] for row in rows], tmp_path / "r", tmp_path / "e", output_format="parquet")
    with pyarrow.parquet.ParquetFile(tmp_path / "r") as file:
        groups = [file.metadata.row_group(group) for group in range(file.num_row_groups)]
    assert sum(group.num_rows for group in groups) == 40
    assert max(group.num_rows for group in groups) < 10


def test_batches_of_long_rows_are_small_whatever_their_groups(tmp_path, monkeypatch):
    rows = [row_line(f"r{number}", {"x": "x" * 300_000}) for number in range(40)]
    for output_format in ("jsonl", "parquet"):
        path = tmp_path / output_format
        with monkeypatch.context() as patch:
            patch.setattr(parquet, "_BYTES_IN_GROUP", 1 << 40)
            split_results([[row + b"\n"] for row in rows], path, tmp_path / "e", output_format=output_format)
        batches = list(read_blocks(path))
        assert [row for batch in batches for row in batch] == rows
        assert max(map(len, batches)) < 10


@pytest.mark.parametrize("extra", ["parquet", "zstd"])
def test_a_missing_extra_is_named(tmp_path, monkeypatch, extra):
    module = {"parquet": "pyarrow", "zstd": "zstandard"}[extra]
    real = builtins.__import__

    def without(name, *rest, **options):
        if name.partition(".")[0] == module:
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd rest")
    needing = {
        "parquet": lambda: split_results(
            [[row_line("a", CHAT)]], tmp_path / "r", tmp_path / "e", output_format="parquet"
        ),
        "zstd": lambda: list(file_chunks(path)),
    }[extra]
    with pytest.raises(MissingExtraError, match=rf"\[{extra}\]"):
        needing()
    assert not (tmp_path / "r").exists()
