"""The measured steps of tables, and the steps that limit them; each runs in its own process."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import jsonl_steps
from table_in_postgresql import POSTGRESQL, TABLE

ENDPOINT = "/v1/chat/completions"
PROMPT = "Title: {title}\n\n{body}"

#: One row in 25 of the others' has an embedding: it is as long as 25 of those.
_ROWS_PER_EMBEDDING = 25
_NUMBERS = 1024

REVIEW: dict[str, Any] = {
    "type": "object",
    "properties": {
        "sentiment": {"type": "string", "enum": ["good", "bad"]},
        "topics": {"type": "array", "items": {"type": "string"}},
        "confidence": {"type": "number"},
    },
}


def make_files(directory: Path, rows: int) -> None:
    """Write a table, the requests that it becomes, and their results in another order."""
    import pyarrow
    from pyarrow import parquet

    random = Random(1)
    directory.mkdir(parents=True, exist_ok=True)
    columns = {
        "id": list(range(rows)),
        "title": [" ".join(random.choices(jsonl_steps.WORDS, k=5)) for _ in range(rows)],
        "body": [" ".join(random.choices(jsonl_steps.WORDS, k=40)) for _ in range(rows)],
        "unread": [" ".join(random.choices(jsonl_steps.WORDS, k=20)) for _ in range(rows)],
    }
    table = pyarrow.table(columns)
    parquet.write_table(table, directory / "rows.parquet", row_group_size=100_000)
    _make_results(directory, rows, random)
    _make_embeddings(directory, table, random)
    _parquet_to_requests(directory, rows)
    (directory / "shards" / "requests-00000.jsonl").replace(directory / "requests.jsonl")


def _make_results(directory: Path, rows: int, random: Random) -> None:
    order = list(range(rows))
    random.shuffle(order)
    with (directory / "results.jsonl").open("w") as results:
        for number in order:
            topics = random.sample(jsonl_steps.WORDS, 3)
            answer = {
                "sentiment": random.choice(["good", "bad"]),
                "topics": topics,
                "confidence": random.random(),
            }
            row = jsonl_steps.result(random, number, str(number), json.dumps(answer))
            results.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
    (directory / "errors.jsonl").touch()


def _make_embeddings(directory: Path, table: Any, random: Random) -> None:
    import pyarrow

    from airflow_provider_mistral_batch.tables.rows_beside import RowsWriter

    rows = max(1, table.num_rows // _ROWS_PER_EMBEDDING)
    (directory / "embedded").mkdir(exist_ok=True)
    with RowsWriter(directory / "embedded") as writer:
        for batch in table.select(["id", "title"]).slice(0, rows).to_batches(max_chunksize=5_000):
            writer.add(batch, pyarrow.array([False] * batch.num_rows))
    with (directory / "embeddings.jsonl").open("w") as results:
        for number in range(rows):
            vector = [round(random.uniform(-0.1, 0.1), 8) for _ in range(_NUMBERS)]
            body = {
                "model": "mistral-embed",
                "data": [{"index": 0, "object": "embedding", "embedding": vector}],
            }
            row = {"custom_id": str(number), "response": {"status_code": 200, "body": body}, "error": None}
            results.write(json.dumps(row, separators=(",", ":")) + "\n")


def _question() -> Any:
    from airflow_provider_mistral_batch.tables.requests import TableQuestion

    return TableQuestion(
        key="id",
        prompt=PROMPT,
        prompt_file=None,
        messages=None,
        keep=["title"],
        on_null="fail",
        endpoint=ENDPOINT,
    )


def _to_requests(source: Any, directory: Path, rows: int) -> None:
    from airflow_provider_mistral_batch.jsonl.requests.prepare import prepare_requests
    from airflow_provider_mistral_batch.jsonl.requests.template import RowTemplate
    from airflow_provider_mistral_batch.tables.requests import TableRequests

    prepared = prepare_requests(
        TableRequests(source, _question(), directory=directory),
        endpoint=ENDPOINT,
        directory=directory / "shards",
        template=RowTemplate(system="Classify this review.", max_tokens=100),
        max_shard_bytes=1 << 40,
    )
    assert prepared.request_count == rows


def _parquet_to_requests(directory: Path, rows: int) -> None:
    from airflow_provider_mistral_batch.tables.sources.files import FileRows

    _to_requests(FileRows(directory / "rows.parquet"), directory, rows)


def _postgresql_to_requests(directory: Path, rows: int) -> None:
    _to_requests(_postgresql(), directory, rows)


def _postgresql() -> Any:
    from airflow_provider_mistral_batch.tables.sources.sql import SqlRows

    os.environ["AIRFLOW_CONN_WAREHOUSE"] = POSTGRESQL
    return SqlRows(f"select id, title, body from {TABLE}", conn_id="warehouse")


def _postgresql_rows(directory: Path, rows: int) -> None:
    assert sum(batch.num_rows for batch in _postgresql().read(["id", "title", "body"])) == rows


def _postgresql_cursor(directory: Path, rows: int) -> None:
    import psycopg2

    with psycopg2.connect(POSTGRESQL) as connection, connection.cursor("benchmark") as cursor:
        cursor.itersize = 5_000
        cursor.execute(f"select id, title, body from {TABLE}")
        count = 0
        while some := cursor.fetchmany(5_000):
            count += len(some)
    assert count == rows


def _to_columns(
    name: str, rows_beside: str, endpoint: str, schema: dict[str, Any] | None
) -> Callable[[Path, int], None]:
    def to_columns(directory: Path, rows: int) -> None:
        from airflow_provider_mistral_batch.tables.answers import AnswerColumns, AnswerTable
        from airflow_provider_mistral_batch.tables.shapes import shape_of

        landed = directory / "landed"
        landed.mkdir(exist_ok=True)
        AnswerTable(
            sorted(directory.glob(rows_beside)),
            key=["id"],
            shape=shape_of(endpoint, schema, embedding="float32"),
            columns=AnswerColumns(),
        ).write(
            directory / name,
            directory / "errors.jsonl",
            results_path=landed / "results.parquet",
            errors_path=landed / "errors.parquet",
        )

    return to_columns


def _read_to_columns(directory: Path, rows: int) -> None:
    from airflow_provider_mistral_batch.jsonl.results.row_columns import read_row_columns
    from airflow_provider_mistral_batch.tables.shapes import shape_of

    shape = shape_of(ENDPOINT, REVIEW, embedding="float32")
    count = 0
    for batch in read_row_columns(directory / "results.jsonl"):
        shape.read(batch, {})
        count += batch.num_rows
    assert count == rows


def _results_to_parquet(directory: Path, rows: int) -> None:
    from airflow_provider_mistral_batch.jsonl.results.parquet import write_parquet
    from airflow_provider_mistral_batch.jsonl.results.row_columns import read_row_columns

    (directory / "landed").mkdir(exist_ok=True)
    write_parquet(directory / "landed" / "rows", read_row_columns(directory / "results.jsonl"))


STEPS: dict[str, Callable[[Path, int], None]] = {
    "decode requests": jsonl_steps.decode("requests.jsonl"),
    "parquet to requests": _parquet_to_requests,
    "decode results": jsonl_steps.decode("results.jsonl"),
    "read to columns": _read_to_columns,
    "results to parquet": _results_to_parquet,
    "results to columns": _to_columns("results.jsonl", "rows-*.parquet", ENDPOINT, REVIEW),
    "postgresql cursor": _postgresql_cursor,
    "postgresql rows": _postgresql_rows,
    "postgresql to requests": _postgresql_to_requests,
    "decode embeddings": jsonl_steps.decode("embeddings.jsonl"),
    "embeddings to columns": _to_columns(
        "embeddings.jsonl", "embedded/rows-*.parquet", "/v1/embeddings", None
    ),
}

_SOURCES = {"parquet to requests": "rows.parquet", "decode requests": "requests.jsonl"}


def main() -> None:
    """Run one step and print its time and memory: ``python benchmarks/table_steps.py STEP DIRECTORY ROWS``."""
    name, directory, rows = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    if name == "make files":
        make_files(directory, rows)
        return
    _import_everything(name)
    before = jsonl_steps.peak_mb()
    started, busy = time.perf_counter(), time.process_time()
    STEPS[name](directory, rows)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - busy
    took = {"rows": rows, "seconds": seconds, "cpu_seconds": cpu_seconds}
    source = _SOURCES.get(name, "embeddings.jsonl" if "embeddings" in name else "results.jsonl")
    size = (directory / source).stat().st_size / 1e6
    print(json.dumps({**took, "peak_mb": jsonl_steps.peak_mb() - before, "mb": size}))


def _import_everything(name: str) -> None:
    import msgspec  # noqa: F401

    if not name.startswith("decode"):
        import pyarrow.dataset
        import pyarrow.json
        import pyarrow.parquet  # noqa: F401

        import airflow_provider_mistral_batch.jsonl.requests.prepare
        import airflow_provider_mistral_batch.jsonl.results.parquet
        import airflow_provider_mistral_batch.tables.answers  # noqa: F401
    if name.startswith("postgresql"):
        import psycopg2  # noqa: F401
        from airflow.providers.common.sql.hooks.sql import DbApiHook  # noqa: F401


if __name__ == "__main__":
    main()
