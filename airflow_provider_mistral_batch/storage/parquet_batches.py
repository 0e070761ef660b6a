"""Parquet files a part of a row group at a time: a row group may have any size, and its rows any width."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow
    from pyarrow import parquet


def parquet_batches(
    file: parquet.ParquetFile, columns: Sequence[str], *, most_rows: int, most_bytes: int
) -> Iterator[pyarrow.RecordBatch]:
    """
    Read some columns in record batches of bounded size, none of which has rows of two row groups.

    :param file: The file.
    :param columns: The columns.
    :param most_rows: Most rows in a batch.
    :param most_bytes: Most bytes in a batch, by the mean of its row group.
    """
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        rows = min(most_rows, 1 + most_bytes * group.num_rows // (1 + _size(group, columns)))
        # With threads, each of them keeps memory that others have freed: many times the size of a batch.
        yield from file.iter_batches(rows, row_groups=[number], columns=columns, use_threads=False)


def _size(group: parquet.RowGroupMetaData, columns: Sequence[str]) -> int:
    """Give the bytes of some columns of a row group."""
    wanted = set(columns)
    chunks = map(group.column, range(group.num_columns))
    return sum(chunk.total_uncompressed_size for chunk in chunks if _is_of(chunk.path_in_schema, wanted))


def _is_of(path: str, columns: set[str]) -> bool:
    """Tell whether a leaf belongs to one of some columns. Their names may have dots, too."""
    steps = path.split(".")
    return any(".".join(steps[:length]) in columns for length in range(1, len(steps) + 1))
