"""Parquet files a part of a row group at a time: a row group may have any size, and its rows any width."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from airflow_provider_mistral_batch.tables.sources.base import BYTES_IN_BATCH, ROWS_IN_BATCH

if TYPE_CHECKING:
    import pyarrow
    from pyarrow import parquet


def parquet_batches(file: parquet.ParquetFile, columns: Sequence[str]) -> Iterator[pyarrow.RecordBatch]:
    """
    Read some columns in record batches of bounded size, none of which has rows of two row groups.

    :param file: The file.
    :param columns: The columns.
    """
    for number in range(file.num_row_groups):
        rows = _rows_in_batch(file.metadata.row_group(number), columns)
        # With threads, each of them keeps memory that others have freed: many times the size of a batch.
        yield from file.iter_batches(rows, row_groups=[number], columns=columns, use_threads=False)


def _rows_in_batch(group: parquet.RowGroupMetaData, columns: Sequence[str]) -> int:
    """Choose how many rows of a row group to read at once, so that they have a bounded size."""
    wanted = set(columns)
    chunks = map(group.column, range(group.num_columns))
    size: int = sum(chunk.total_uncompressed_size for chunk in chunks if _is_of(chunk.path_in_schema, wanted))
    rows: int = group.num_rows
    return min(ROWS_IN_BATCH, 1 + BYTES_IN_BATCH * rows // (1 + size))


def _is_of(path: str, columns: set[str]) -> bool:
    """Tell whether a leaf belongs to one of some columns. Their names may have dots, too."""
    steps = path.split(".")
    return any(".".join(steps[:length]) in columns for length in range(1, len(steps) + 1))
