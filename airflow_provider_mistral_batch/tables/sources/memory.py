"""Rows that a function gives: data frames, Arrow tables and readers, dicts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.jsonl.requests.problems import shortened
from airflow_provider_mistral_batch.tables.sources.base import (
    ROWS_IN_BATCH,
    RowSource,
    import_pyarrow,
    in_batches,
    row_bytes,
)
from airflow_provider_mistral_batch.tables.sources.values import array_of

if TYPE_CHECKING:
    import pyarrow


#: The first versions whose data frames speak Arrow's stream interface.
_PANDAS, _POLARS = "2.2", "1.3"


def rows_of(value: Any) -> RowSource:
    """
    Make a source of what a function returned.

    :param value: A source, a pandas or polars DataFrame, an Arrow table or reader, or an iterable of dicts.
    :raises InvalidInputError: If it is anything else.
    """
    if isinstance(value, RowSource):
        return value
    if hasattr(value, "__arrow_c_stream__"):
        return ArrowRows(value)
    if type(value).__name__ == "DataFrame":
        # Reading it row by row would give the names of its columns.
        raise InvalidInputError(
            f"source is a DataFrame of {type(value).__module__.partition('.')[0]} that does not speak Arrow's stream "
            f"interface: install pandas {_PANDAS} or newer, polars {_POLARS} or newer, or give an Arrow table"
        )
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping)):
        return DictRows(value)
    raise InvalidInputError(
        f"source={value!r:.80} is not a table: pass a source such as FileRows(path) or SqlRows, a DataFrame, an Arrow "
        "table, or dicts"
    )


class ArrowRows(RowSource):
    """
    Rows of anything that speaks Arrow's stream interface: pandas and polars DataFrames, Arrow tables and readers.

    :param table: The table or reader.
    :raises InvalidInputError: When a column has values of several types.
    """

    def __init__(self, table: Any) -> None:
        import_pyarrow()
        import pyarrow

        try:
            self._reader = pyarrow.RecordBatchReader.from_stream(table)
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, pyarrow.ArrowNotImplementedError) as error:
            raise InvalidInputError(
                f"source: the {type(table).__name__} cannot be read: {error}; give each column one type"
            ) from None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._reader.schema.names):.100})"

    def columns(self) -> list[str]:
        """Name the columns."""
        return list(self._reader.schema.names)

    def read(self, columns: Sequence[str]) -> Iterator[pyarrow.RecordBatch]:
        """
        Read some columns, once.

        :param columns: The columns.
        """
        import pyarrow

        for whole in self._reader:
            for start in range(0, whole.num_rows, ROWS_IN_BATCH):
                batch = whole.select(list(columns)).slice(start, ROWS_IN_BATCH)
                yield pyarrow.record_batch(list(map(_without_views, batch.columns)), names=batch.schema.names)


def _without_views(column: pyarrow.Array) -> pyarrow.Array:
    """Give texts and bytes the types that Parquet and every kernel know: polars has views, also within categories."""
    import pyarrow

    plain = {"string_view": pyarrow.string(), "binary_view": pyarrow.binary()}
    if pyarrow.types.is_dictionary(column.type):
        values = _without_views(column.dictionary)
        return pyarrow.DictionaryArray.from_arrays(column.indices, values)
    return column.cast(plain[str(column.type)]) if str(column.type) in plain else column


class DictRows(RowSource):
    """
    Rows as dicts. The columns are those of the first row; a row that lacks one has a null there.

    :param rows: The dicts, read once.
    """

    def __init__(self, rows: Iterable[Any]) -> None:
        import_pyarrow()
        self._rows = iter(rows)
        self._first = list(islice(self._rows, 1))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'…' if self._first else ''})"

    def columns(self) -> list[str]:
        """Name the keys of the first row."""
        for row in self._first:
            if not isinstance(row, Mapping) or not all(isinstance(name, str) for name in row):
                raise InvalidInputError(
                    f"source: row 1 is {shortened(row)}, not a dict whose keys are column names: give such dicts"
                )
            return list(row)
        return []

    def read(self, columns: Sequence[str]) -> Iterator[pyarrow.RecordBatch]:
        """
        Read some columns, once.

        :param columns: The columns.
        :raises InvalidInputError: When a row is no dict, or the values of a column are of several types.
        """
        import pyarrow

        number = 0
        for some in in_batches(self._values(columns), row_bytes):
            arrays = [
                array_of(name, values, number + 1)
                for name, values in zip(columns, zip(*some, strict=True), strict=True)
            ]
            yield pyarrow.record_batch(arrays, names=list(columns))
            number += len(some)

    def _values(self, columns: Sequence[str]) -> Iterator[list[Any]]:
        """Give the values of each row."""
        for number, row in enumerate(chain(self._first, self._rows), 1):
            if not isinstance(row, Mapping):
                raise InvalidInputError(
                    f"source: row {number} is {shortened(row)}, not a dict: give dicts only"
                )
            yield [row.get(name) for name in columns]
