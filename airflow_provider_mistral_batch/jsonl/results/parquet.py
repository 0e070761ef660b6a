"""Landed results as Parquet files with typed columns, written and read in row groups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from airflow_provider_mistral_batch.jsonl.lines import MissingExtraError
from airflow_provider_mistral_batch.jsonl.results.reader import ResultRow, result_lines, result_row
from airflow_provider_mistral_batch.storage.paths import as_path

# One group is in memory at a time, as Python objects, as Arrow's and as the writer's pages: that is 20 times its bytes.
_ROWS_IN_GROUP = 5_000
_BYTES_IN_GROUP = 2 * 1000 * 1000

# A dictionary of texts that differ in every row would be built in vain.
_REPEATING_COLUMNS = ["status_code", "finish_reason", "model", "error"]

# Nobody asks for a range of long texts, and the footer, which is in memory, would have the ends of each group's.
_LONG_COLUMNS = frozenset({"content", "error", "raw"})

# What the columns of numbers have room for.
_INT64 = range(-(2**63), 2**63)


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
            part,
            schema,
            compression="zstd",
            use_dictionary=_REPEATING_COLUMNS,
            write_statistics=[name for name in schema.names if name not in _LONG_COLUMNS],
        ) as writer:
            for group in _groups(rows):
                writer.write_batch(_batch(pyarrow, schema, group))
                # The next group is on its way while the loop has this one.
                group.clear()
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def parquet_batches(path: Any) -> Iterator[list[bytes]]:
    """
    Give the rows of a Parquet file of results as the API gave them, some at a time: few if they are long.

    :param path: The file: str, Path or ObjectStoragePath.
    """
    _, parquet = _pyarrow()
    with as_path(path).open("rb") as file, parquet.ParquetFile(file) as table:
        raw = table.schema_arrow.get_field_index("raw")
        for number in range(table.num_row_groups):
            group = table.metadata.row_group(number)
            row_bytes = group.column(raw).total_uncompressed_size // max(1, group.num_rows)
            for batch in table.iter_batches(
                batch_size=min(_ROWS_IN_GROUP, 1 + _BYTES_IN_GROUP // (1 + row_bytes)),
                row_groups=[number],
                columns=["raw"],
            ):
                yield batch.column(0).to_pylist()


def _groups(rows: Iterable[ResultRow]) -> Iterator[list[ResultRow]]:
    group: list[ResultRow] = []
    size = 0
    for row in rows:
        group.append(row)
        size += len(row.raw)
        if size >= _BYTES_IN_GROUP or len(group) == _ROWS_IN_GROUP:
            yield group
            group, size = [], 0
    if group:
        yield group


def _batch(pyarrow: Any, schema: Any, group: list[ResultRow]) -> Any:
    columns = [_column(pyarrow, [getattr(row, field.name) for row in group], field.type) for field in schema]
    return pyarrow.record_batch(columns, schema=schema)


def _column(pyarrow: Any, values: list[Any], kind: Any) -> Any:
    try:
        return pyarrow.array(values, kind)
    except OverflowError:
        # JSON's numbers have no bounds. Those that do not fit are in raw.
        return pyarrow.array(
            [None if value is None or value not in _INT64 else value for value in values], kind
        )


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError(
            "Parquet results need pyarrow: install airflow-provider-mistral-batch[parquet]"
        ) from None
    return pyarrow, parquet
