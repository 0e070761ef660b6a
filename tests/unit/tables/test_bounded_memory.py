"""Wide rows take no more memory than narrow ones: they are read, written and landed fewer at a time."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_provider_mistral_batch.tables.reading import read_table
from airflow_provider_mistral_batch.tables.sources.files import FileRows
from airflow_provider_mistral_batch.tables.sources.memory import rows_of

#: Wide rows after narrow ones: nothing told that they would come.
ROWS = [
    {"id": f"{number}", "a.body": "x" * (100_000 if number >= 500 else 10), "other": "y"}
    for number in range(1_000)
]


def written(tmp_path, kind):
    path = tmp_path / f"rows.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=500, use_dictionary=False)
    elif kind == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(ROWS[0]))
            writer.writeheader()
            writer.writerows(ROWS)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return FileRows(str(path))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "dicts"])
def test_batches_of_sources_are_bounded(tmp_path, kind):
    source = rows_of(iter(ROWS)) if kind == "dicts" else written(tmp_path, kind)

    batches = list(source.read(["id", "a.body"]))

    assert max(batch.nbytes for batch in batches) < 12_000_000
    assert batches[0].num_rows >= 500
    assert [one for batch in batches for one in batch.column("id").to_pylist()] == [row["id"] for row in ROWS]


def test_batches_of_landed_tables_are_bounded(tmp_path):
    written(tmp_path, "parquet")
    manifest = {"results_path": str(tmp_path / "rows.parquet"), "table": {"key": ["id"]}}

    batches = list(read_table(manifest))

    assert max(batch.nbytes for batch in batches) < 12_000_000
    assert sum(batch.num_rows for batch in batches) == len(ROWS)


#: Run in a process of their own: peaks of memory are never undone.
READ = """
import resource, sys
from airflow_provider_mistral_batch.results import read_results, read_table
manifest = {"results_path": sys.argv[1], "errors_path": "/none", "table": {"key": ["id"]}}
next(iter(READ))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = sum(1 for _ in READ)
print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux alone")
@pytest.mark.parametrize(
    "reads",
    ["(row for batch in read_table(manifest) for row in batch.column('id'))", "read_results(manifest)"],
)
def test_reading_back_takes_the_memory_of_some_rows(tmp_path, reads):
    """With threads of pyarrow, it took several times what was read."""
    row = {"custom_id": "7", "response": {"status_code": 200, "body": {"text": "x" * 250_000}}, "error": None}
    group = pa.table({"id": range(30), "raw": [json.dumps(row).encode()] * 30})
    with pq.ParquetWriter(tmp_path / "results.parquet", group.schema, use_dictionary=False) as writer:
        for _ in range(40):
            writer.write_table(group)

    done = subprocess.run(
        [sys.executable, "-c", READ.replace("READ", reads), str(tmp_path / "results.parquet")],
        capture_output=True,
        text=True,
        check=True,
    )

    rows, growth = map(int, done.stdout.split()[-2:])
    assert rows == 1_200
    assert growth < 60_000, f"{growth} kB for 300 MB of rows"
