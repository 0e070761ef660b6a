"""Rows are found by their ids, and are not in memory."""

from __future__ import annotations

import json
import tracemalloc

from airflow_provider_mistral_batch.jsonl.results.row_table import RowTable


def line(custom_id, text=""):
    return json.dumps({"custom_id": custom_id, "text": text}).encode()


def test_rows_are_found_by_their_ids(tmp_path):
    with RowTable(tmp_path) as rows:
        assert not rows
        rows.extend([line("é"), line("b", "first"), b"\xff", line(7)])
        rows.extend([line("c", "\x00'")])
        assert len(rows) == 5
        assert [rows.get(id_) for id_ in ("c", "é", "b", "7", "")] == [
            line("c", "\x00'"),
            line("é"),
            line("b", "first"),
            None,
            None,
        ]
    assert list(tmp_path.iterdir()) == []


def test_rows_are_not_in_memory(tmp_path):
    with RowTable(tmp_path) as rows:
        tracemalloc.start()
        for start in range(0, 50_000, 100):
            rows.extend([line(f"row-{number}") for number in range(start, start + 100)])
        assert rows.get("row-49999") == line("row-49999")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 500_000
