"""Results become Parquet files with typed columns, and are read back from them."""

from __future__ import annotations

import pyarrow.parquet
import pytest

from airflow_provider_mistral_batch.jsonl.results.split import split_results
from airflow_provider_mistral_batch.results import read_results

from .answers import CHAT_BODY
from .result_rows import row_line


def test_parquet_columns_and_row_groups(tmp_path):
    rows = [row_line(f"r{number}", CHAT_BODY) for number in range(12_000)] + [
        row_line("bad", {"message": "x"}, 500)
    ]
    split_results(
        [[b"\n".join(rows)]], tmp_path / "r.parquet", tmp_path / "e.parquet", output_format="parquet"
    )
    with pyarrow.parquet.ParquetFile(tmp_path / "r.parquet") as file:
        groups = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        assert sum(groups) == 12_000
        assert max(groups) < 6_000
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
        row_line("a", CHAT_BODY),
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
