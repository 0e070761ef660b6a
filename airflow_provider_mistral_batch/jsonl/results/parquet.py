"""Landed results as Parquet files with typed columns, written and read in row groups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.jsonl.lines import MissingExtraError
from airflow_provider_mistral_batch.jsonl.results.rows import ResultRow
from airflow_provider_mistral_batch.storage.parquet_batches import parquet_batches
from airflow_provider_mistral_batch.storage.paths import StoragePath
from airflow_provider_mistral_batch.storage.reading import reading

if TYPE_CHECKING:
    import pyarrow

#: How a Parquet file begins and ends.
PARQUET_MAGIC = b"PAR1"

# The footer's length, and the magic number after it.
_FOOTER_END = 8

# What is read at once.
_ROWS_IN_BLOCK = 5_000
_BYTES_IN_BLOCK = 2 * 1000 * 1000

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
        if "raw" not in table.schema_arrow.names:
            raise InvalidInputError(
                f"{path} is a table of answers, without the rows as the API gave them: use read_table or read_models, "
                "or pass columns=AnswerColumns(raw=True) to the task"
            )
        for block in parquet_batches(table, ["raw"], most_rows=_ROWS_IN_BLOCK, most_bytes=_BYTES_IN_BLOCK):
            # Of a table's rows that were not asked about there is nothing.
            yield block.column(0).drop_null().to_pylist()


def first_parquet_rows(
    file: IO[Any], size: int, *, most_rows: int, most_bytes: int
) -> tuple[list[bytes | dict[str, Any]], int]:
    """
    Read the first rows of a Parquet file of results or of a table of answers, for people.

    :param file: The file, open for reading in any place.
    :param size: Its bytes.
    :param most_rows: Most rows to read, all of its first row group.
    :param most_bytes: Most bytes of its footer, and of that group.
    :return: The rows, each as the API gave it or, where the file has not kept that, as its columns; and how many rows
        the file has.
    :raises InvalidInputError: If the file is not Parquet, or cannot be read as cheaply.
    :raises MissingExtraError: If the extra ``parquet`` is not installed.
    """
    pyarrow, parquet = _pyarrow()
    file.seek(max(0, size - _FOOTER_END))
    end = file.read(_FOOTER_END)
    if len(end) < _FOOTER_END or not end.endswith(PARQUET_MAGIC):
        raise InvalidInputError("the file is not a Parquet file, or is cut: look at it where it is")
    if int.from_bytes(end[:4], "little") > most_bytes:
        raise _too_large("footer", int.from_bytes(end[:4], "little"))
    try:
        with parquet.ParquetFile(file) as table:
            count = table.metadata.num_rows
            if not table.num_row_groups:
                return [], count
            has_raw = table.schema_arrow.get_field_index("raw") >= 0
            names = ["raw"] if has_raw else None
            group = table.metadata.row_group(0)
            columns = [group.column(number) for number in range(group.num_columns)]
            wanted = [column for column in columns if not has_raw or column.path_in_schema == "raw"]
            needed = sum(column.total_uncompressed_size for column in wanted)
            if needed > most_bytes:
                raise _too_large("first row group", needed)
            batch = next(table.iter_batches(batch_size=most_rows, row_groups=[0], columns=names), None)
            rows = [] if batch is None else batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise InvalidInputError(
            f"the file is not a Parquet file, or is damaged ({error}): look at it where it is"
        ) from None
    return [row["raw"] if isinstance(row.get("raw"), bytes) else row for row in rows], count


def _too_large(what: str, size: int) -> InvalidInputError:
    return InvalidInputError(
        f"the {what} of the Parquet file has {size:,} bytes, too many to read for a look: read it with "
        "read_table or read_results"
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
