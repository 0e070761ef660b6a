"""Landed rows are read back with types, from JSONL and from Parquet alike."""

from __future__ import annotations

import builtins
import gzip
import json

import pyarrow.parquet
import pydantic
import pytest

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.jsonl.lines import MissingExtraError, file_chunks
from airflow_provider_mistral_batch.jsonl.results import row_columns
from airflow_provider_mistral_batch.jsonl.results.reader import read_blocks
from airflow_provider_mistral_batch.jsonl.results.rows import result_row
from airflow_provider_mistral_batch.jsonl.results.split import split_results
from airflow_provider_mistral_batch.results import read_results

from .answers import BODIES, CHAT_BODY
from .result_rows import row_line


def test_a_frame_takes_one_line(tmp_path):
    (tmp_path / "r.jsonl").write_bytes(row_line("a", CHAT_BODY) + b"\n" + row_line("b", CHAT_BODY))
    rows = list(read_results(tmp_path / "r.jsonl"))
    table = pyarrow.Table.from_pylist([row.as_dict() for row in rows])
    assert table.column("content").to_pylist() == ["Hé", "Hé"]
    assert "raw" not in table.column_names
    table = pyarrow.Table.from_pylist([row.as_dict(raw=True) for row in rows])
    assert json.loads(table.column("raw")[1].as_py())["custom_id"] == "b"


def test_reading_is_lazy_and_takes_compressed_files(tmp_path):
    content = b"\n".join(row_line(str(number), CHAT_BODY) for number in range(5000))
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
    rows = row_line("a", CHAT_BODY) + b"\n" + row_line("stranger", CHAT_BODY)
    summary = split_results([[rows]], tmp_path / "r", tmp_path / "e", requests=[tmp_path / "requests"])
    assert [(row.custom_id, row.error) for row in read_results(summary.as_dict(), failed=True)] == [
        ("a", None),
        ("stranger", "nobody asked for this custom_id"),
    ]


def test_batches_of_long_rows_are_small_whatever_their_groups(tmp_path, monkeypatch):
    rows = [row_line(f"r{number}", {"x": "x" * 300_000}) for number in range(40)]
    for output_format in ("jsonl", "parquet"):
        path = tmp_path / output_format
        with monkeypatch.context() as patch:
            patch.setattr(row_columns, "_BYTES_AT_ONCE", 1 << 40)
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
            [[row_line("a", CHAT_BODY)]], tmp_path / "r", tmp_path / "e", output_format="parquet"
        ),
        "zstd": lambda: list(file_chunks(path)),
    }[extra]
    with pytest.raises(MissingExtraError, match=rf"\[{extra}\]"):
        needing()
    assert not (tmp_path / "r").exists()


class Mood(pydantic.BaseModel):
    mood: str
    score: int = 0


def answer_line(custom_id, text, **fields):
    body = {"model": "m", "choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
    return row_line(custom_id, body, **fields)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ('{"mood": "happy", "score": 2}', {"mood": "happy", "score": 2}),
        ("[1, 2]", [1, 2]),
        (' "text" ', "text"),
        ("null", None),
        ("Happy.", None),
        ('{"mood": "hap', None),
        ("", None),
        (None, None),
        ("[" * 100_000, None),
    ],
)
def test_parsed_is_the_answers_json(text, parsed):
    assert result_row(answer_line("a", text)).parsed == parsed


def test_with_a_model_parsed_is_its_instance(tmp_path):
    path = tmp_path / "r.jsonl"
    lines = [
        answer_line("good", '{"mood": "happy", "score": 2}'),
        answer_line("failed", '{"mood": "odd"}', error={"message": "no"}),
        answer_line("bad", '{"score": "many"}'),
    ]
    path.write_bytes(b"\n".join(lines))
    good, failed, bad = read_results(path, response_model=Mood)
    assert good.parsed == Mood(mood="happy", score=2)
    assert failed.parsed is None
    with pytest.raises(
        InvalidInputError, match=r"^the answer of 'bad' does not match Mood: 2 validation errors"
    ):
        _ = bad.parsed
    assert good.as_dict() == result_row(lines[0]).as_dict()


@pytest.mark.parametrize("model", [{"type": "object"}, Mood(mood="x"), dict])
def test_what_is_no_model_is_refused_at_once(model):
    with pytest.raises(
        InvalidInputError, match=r"^response_model=.* is not a pydantic model class: pass one"
    ):
        read_results("/nowhere", response_model=model)


def test_what_is_no_manifest_is_named():
    with pytest.raises(InvalidInputError, match=r"^results=\{'counts': 1\} is not a manifest"):
        read_results({"counts": 1})


def test_tables_of_answers_are_read_by_their_rows_if_they_have_them(tmp_path):
    path = tmp_path / "results.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"id": [1], "answer": ["Hé"]}), path)
    with pytest.raises(InvalidInputError, match=r"is a table of answers.*use read_table or read_models"):
        list(read_results(path))
    lines = [row_line("1", CHAT_BODY), None]
    pyarrow.parquet.write_table(pyarrow.table({"id": [1, 2], "raw": lines}), path)
    assert list(read_results(path)) == [result_row(lines[0])]
