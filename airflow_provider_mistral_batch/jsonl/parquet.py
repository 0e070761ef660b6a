"""Landed results as Parquet files with typed columns, written and read in row groups."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from airflow_provider_mistral_batch.jsonl.lines import MissingExtraError, local_or_remote
from airflow_provider_mistral_batch.jsonl.reader import ResultRow, result_lines, result_row

# One group is in memory at a time, as Python objects and as Arrow's.
_ROWS_IN_GROUP = 5_000

# A dictionary of texts that differ in every row would be built in vain.
_REPEATING_COLUMNS = ["status_code", "finish_reason", "model", "error"]


def convert_to_parquet(path: Path) -> None:
    """
    Replace a local JSONL file of result rows by a Parquet file of the same name.

    :param path: The file.
    :raises MissingExtraError: If the extra ``parquet`` is not installed.
    """
    pyarrow, parquet = _pyarrow()
    numbers = ("status_code", "prompt_tokens", "completion_tokens")
    kinds = {"raw": pyarrow.binary(), **dict.fromkeys(numbers, pyarrow.int64())}
    schema = pyarrow.schema(
        [(name, kinds.get(name, pyarrow.string())) for name in ResultRow.__struct_fields__]
    )
    part = path.with_name(f"{path.name}.parquet")
    rows = map(result_row, result_lines(path))
    try:
        with parquet.ParquetWriter(
            part, schema, compression="zstd", use_dictionary=_REPEATING_COLUMNS
        ) as writer:
            while (batch := _next_batch(pyarrow, schema, rows)).num_rows:
                writer.write_batch(batch)
                del batch
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _next_batch(pyarrow: Any, schema: Any, rows: Iterator[ResultRow]) -> Any:
    group = list(islice(rows, _ROWS_IN_GROUP))
    columns = [pyarrow.array([getattr(row, field.name) for row in group], field.type) for field in schema]
    return pyarrow.record_batch(columns, schema=schema)


def parquet_lines(path: Any) -> Iterator[bytes]:
    """
    Give the rows of a Parquet file of results as the API gave them.

    :param path: The file: str, Path or ObjectStoragePath.
    """
    _, parquet = _pyarrow()
    with local_or_remote(path).open("rb") as file, parquet.ParquetFile(file) as table:
        for batch in table.iter_batches(batch_size=_ROWS_IN_GROUP, columns=["raw"]):
            for raw in batch.column(0):
                yield raw.as_py()


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError(
            "Parquet results need pyarrow: install airflow-provider-mistral-batch[parquet]"
        ) from None
    return pyarrow, parquet
