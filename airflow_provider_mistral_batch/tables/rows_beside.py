"""The rows that were asked about, kept beside the requests: their keys with their types, and the columns to keep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_mistral_batch.storage.parquet_batches import parquet_batches
from airflow_provider_mistral_batch.storage.reading import reading
from airflow_provider_mistral_batch.tables.python_values import holds, python_values
from airflow_provider_mistral_batch.tables.sources.base import BYTES_IN_BATCH, ROWS_IN_BATCH
from airflow_provider_mistral_batch.tables.sources.types import common_type, widened

if TYPE_CHECKING:
    import pyarrow

    from airflow_provider_mistral_batch.storage.paths import StoragePath

#: The last column: whether a row was skipped. Names of a table's columns do not end with a space.
SKIPPED = "skipped "

_ROWS_IN_GROUP = 20_000
_BYTES_IN_GROUP = 8 * 1000 * 1000


class RowsWriter:
    """
    Writes the rows of a table in their order, to Parquet files: a new one where a column gets a wider type, or one at
    all, after rows in which it was null.

    :param directory: Local directory for the files.
    """

    def __init__(self, directory: Path) -> None:
        self.paths: list[Path] = []
        self._directory = directory
        self._writer: Any = None
        self._schema: Any = None
        self._waiting: list[pyarrow.RecordBatch] = []
        self._rows = self._bytes = 0

    def __enter__(self) -> RowsWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def add(self, batch: pyarrow.RecordBatch, skipped: Any) -> None:
        """
        Add rows.

        :param batch: The key's columns and the columns to keep.
        :param skipped: Whether each of the rows is skipped, as an Arrow array.
        :raises InvalidInputError: When a column has another type than in the rows before.
        """
        from pyarrow import parquet

        batch = batch.append_column(SKIPPED, skipped)
        if self._schema is not None:
            batch = _fitted(batch, self._schema)
        if batch.schema != self._schema:
            self._close()
            self._check_room(batch.schema)
            self._schema = batch.schema
            self.paths.append(self._directory / f"rows-{len(self.paths)}.parquet")
            # The rows are read whole and once: an index of their values would be of no use.
            self._writer = parquet.ParquetWriter(
                self.paths[-1], self._schema, compression="zstd", use_dictionary=False, write_statistics=False
            )
        self._waiting.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._rows >= _ROWS_IN_GROUP or self._bytes >= _BYTES_IN_GROUP:
            self._write()

    def _write(self) -> None:
        import pyarrow

        self._writer.write_table(pyarrow.Table.from_batches(self._waiting, self._schema))
        self._waiting = []
        self._rows = self._bytes = 0

    def _check_room(self, schema: pyarrow.Schema) -> None:
        """Check that the rows before fit wider types: a double has no room for some long whole numbers."""
        import pyarrow

        if self._schema is None:
            return
        changed = [field for field in schema if field.type != self._schema.field(field.name).type]
        for _ in _read(self.paths, pyarrow.schema(changed)):
            pass

    def _close(self) -> None:
        if self._writer is not None:
            self._write()
            self._writer.close()
            self._writer = None


def read_rows_beside(
    paths: Sequence[StoragePath], columns: Sequence[str] | None = None
) -> Iterator[pyarrow.RecordBatch]:
    """
    Read the rows in their order, all batches with one schema.

    :param paths: The files.
    :param columns: The columns to read; all if ``None``.
    """
    import pyarrow

    schema = schema_of(paths)
    if columns is not None:
        schema = pyarrow.schema([schema.field(name) for name in columns])
    yield from _read(paths, schema)


def _read(paths: Sequence[StoragePath], schema: pyarrow.Schema) -> Iterator[pyarrow.RecordBatch]:
    import pyarrow
    from pyarrow import parquet

    for path in paths:
        with reading(path) as file, parquet.ParquetFile(file) as rows:
            for batch in parquet_batches(
                rows, schema.names, most_rows=ROWS_IN_BATCH, most_bytes=BYTES_IN_BATCH
            ):
                yield pyarrow.record_batch(
                    [widened(field.name, batch.column(field.name), field.type) for field in schema],
                    schema=schema,
                )


def schema_of(paths: Sequence[StoragePath]) -> pyarrow.Schema:
    """
    Give the schema of the rows: that of the last file, whose columns have the widest types.

    :param paths: The files.
    """
    from pyarrow import parquet

    with reading(paths[-1]) as file:
        return parquet.read_schema(file)


def check_moments(paths: Sequence[StoragePath], fields: Mapping[str, str]) -> None:
    """
    Check that Python has a value for each moment of some columns: drivers of databases take no other.

    :param paths: The files.
    :param fields: The columns, and the parameter that names each.
    :raises InvalidInputError: When Python has no value for one.
    """
    from pyarrow import types

    names = [
        one.name for one in schema_of(paths) if one.name in fields and holds(one.type, types.is_temporal)
    ]
    if names:
        for batch in read_rows_beside(paths, names):
            for name in names:
                python_values(batch.column(name), name, field=fields[name])


def _fitted(batch: pyarrow.RecordBatch, schema: pyarrow.Schema) -> pyarrow.RecordBatch:
    """Give each column a type that holds its values and those before, such as ``double`` after ``int64``."""
    import pyarrow

    columns = []
    for field, column in zip(schema, batch.columns, strict=True):
        if column.type != field.type:
            column = widened(field.name, column, common_type(field.name, field.type, column.type))
        columns.append(column)
    return pyarrow.record_batch(columns, names=schema.names)
