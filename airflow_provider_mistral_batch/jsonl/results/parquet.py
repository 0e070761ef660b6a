"""Landed results as Parquet files with typed columns, written and read in row groups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.jsonl.lines import MissingExtraError
from airflow_provider_mistral_batch.jsonl.results.rows import ResultRow
from airflow_provider_mistral_batch.storage.paths import StoragePath
from airflow_provider_mistral_batch.storage.reading import reading

if TYPE_CHECKING:
    import pyarrow

# What is read at once.
_ROWS_IN_GROUP = 5_000
_BYTES_IN_GROUP = 2 * 1000 * 1000

# Dictionary encoding saves nothing where the values differ in every row.
_REPEATING_COLUMNS = ["status_code", "finish_reason", "model", "error"]

# Statistics are the smallest and largest value of each group. For long texts they are of no use to a query, and the
# footer that holds them is kept in memory.
_LONG_COLUMNS = frozenset({"content", "error", "raw"})


def row_schema() -> pyarrow.Schema:
    """
    Give the columns of rows: the fields of :class:`ResultRow`.

    :raises MissingExtraError: If the extra ``parquet`` is not installed.
    """
    pyarrow, _ = _pyarrow()
    numbers = ("status_code", "prompt_tokens", "completion_tokens")
    kinds = {"raw": pyarrow.binary(), **dict.fromkeys(numbers, pyarrow.int64())}
    return pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in ResultRow.__struct_fields__])


def write_parquet(path: Path, batches: Iterable[pyarrow.RecordBatch]) -> None:
    """
    Write rows to a local Parquet file, which replaces a file of that name when it is complete.

    :param path: The file. The rows may be read from the file that is replaced.
    :param batches: The rows, with the columns of :func:`row_schema`; each batch becomes a row group.
    :raises MissingExtraError: If the extra ``parquet`` is not installed.
    """
    schema = row_schema()
    _, parquet = _pyarrow()
    part = path.with_name(f"{path.name}.parquet")
    try:
        # A new file: pyarrow itself would write through a link of that name.
        with (
            part.open("xb") as sink,
            parquet.ParquetWriter(
                sink,
                schema,
                compression="zstd",
                use_dictionary=_REPEATING_COLUMNS,
                write_statistics=[name for name in schema.names if name not in _LONG_COLUMNS],
            ) as writer,
        ):
            for batch in batches:
                writer.write_batch(batch)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read_parquet(path: StoragePath | str) -> Iterator[list[bytes]]:
    """
    Read the rows of a Parquet file of results as the API gave them, in blocks of bounded size.

    :param path: The file.
    :raises InvalidInputError: If it is a table of answers without them.
    :raises MissingExtraError: If the extra ``parquet`` is not installed.
    """
    _, parquet = _pyarrow()
    with reading(path) as file, parquet.ParquetFile(file) as table:
        raw = table.schema_arrow.get_field_index("raw")
        if raw < 0:
            raise InvalidInputError(
                f"{path} is a table of answers, without the rows as the API gave them: use read_table or read_models, "
                "or pass columns=AnswerColumns(raw=True) to the task"
            )
        for number in range(table.num_row_groups):
            group = table.metadata.row_group(number)
            row_bytes = group.column(raw).total_uncompressed_size // max(1, group.num_rows)
            for block in table.iter_batches(
                batch_size=min(_ROWS_IN_GROUP, 1 + _BYTES_IN_GROUP // (1 + row_bytes)),
                row_groups=[number],
                columns=["raw"],
            ):
                # Of a table's rows that were not asked about there is nothing.
                yield block.column(0).drop_null().to_pylist()


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError(
            "Parquet results need pyarrow: install airflow-provider-mistral-batch[parquet]"
        ) from None
    return pyarrow, parquet
