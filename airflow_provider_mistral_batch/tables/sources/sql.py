"""A query or a table of a database as a source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_mistral_batch.api.checks import check_exactly_one
from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.jsonl.collection import no_collection
from airflow_provider_mistral_batch.tables.databases.column_names import check_columns
from airflow_provider_mistral_batch.tables.databases.column_types import type_name
from airflow_provider_mistral_batch.tables.databases.database import opened
from airflow_provider_mistral_batch.tables.sources.base import (
    BYTES_IN_BATCH,
    ROWS_IN_BATCH,
    RowSource,
    import_pyarrow,
    row_bytes,
)
from airflow_provider_mistral_batch.tables.sources.values import ColumnValues

if TYPE_CHECKING:
    import pyarrow

    from airflow_provider_mistral_batch.tables.databases.database import Database


#: Rows of the first fetch, before anything is known of their size; and how many of them tell it.
_FIRST_FETCH, _SAMPLE = 10, 20

#: Expressions of which equal keys have equal values, whatever their type. Where there is none, keys are whole numbers.
_HASHES = {
    "postgresql": "CAST(hashtext(CAST({key} AS text)) AS bigint)",
    "mysql": "CRC32({key})",
    "duckdb": "CAST(hash({key}) // 2 AS BIGINT)",
}


class SqlRows(RowSource):
    """
    Rows of a database: those of a query, or of a table.

    Any connection works whose hook is a ``DbApiHook`` of the common-sql provider. The rows are read in constant memory
    from PostgreSQL and MySQL (by a server-side cursor), SQLite and DuckDB; other drivers may hold the whole result.

    The rows are those of one statement. In PostgreSQL, DuckDB, SQLite and MySQL's InnoDB this is one consistent state
    of the database, as it was when the statement began, also while others write. Nothing is locked against writers,
    but for SQLite without its write-ahead log. What the statement changes, if anything, is undone.

    A query runs as it is written, with the placeholders of the database's driver (``%s`` or ``%(day)s``; ``?`` for
    SQLite and DuckDB), once for its columns without rows, and once for its rows. Rendered values are part of the
    query's text; bind what others can write with ``parameters``.

    JSON comes as its text, a UUID as Arrow's UUID (as text with pyarrow before 24), an array as a list, and what Arrow
    has no type for as text.

    :param sql: The query; exactly one of ``sql`` and ``table`` is given.
    :param table: The table, ``table`` or ``schema.table``, as the database writes it.
    :param conn_id: The Airflow connection of the database.
    :param parameters: Values for the query's placeholders: a list, or a dict by name.
    :param partition_key: The column by which :meth:`partitions` divides the rows: one with many values that never
        change, best the primary key. In databases other than PostgreSQL, MySQL and DuckDB it has whole numbers.
    :raises InvalidInputError: When an argument is wrong.
    """

    template_fields: ClassVar[Sequence[str]] = ("sql", "table", "conn_id", "parameters", "partition_key")

    def __init__(
        self,
        sql: str | None = None,
        *,
        table: str | None = None,
        conn_id: str,
        parameters: Sequence[Any] | Mapping[str, Any] | None = None,
        partition_key: str | None = None,
    ) -> None:
        self.sql = sql
        self.table = table
        self.conn_id = conn_id
        self.parameters = parameters
        self.partition_key = partition_key
        self.check_arguments()

    def check_arguments(self) -> None:
        """
        Check the arguments, also once Airflow has rendered them.

        :raises InvalidInputError: When one is wrong, or ``sql`` and ``table`` are both given, or neither is.
        """
        check_exactly_one(sql=self.sql, table=self.table)
        for field in ("sql", "table", "conn_id", "partition_key"):
            value = getattr(self, field)
            if (value is not None or field == "conn_id") and not (isinstance(value, str) and value.strip()):
                raise InvalidInputError(f"{field}={value!r:.80} is not a string, or is empty: pass a string")
        if self.parameters is not None and self.table is not None:
            raise InvalidInputError(
                "parameters are for the placeholders of a query, and table has none: pass sql, or leave parameters out"
            )
        if self.parameters is not None and (
            isinstance(self.parameters, (str, bytes)) or not isinstance(self.parameters, (Sequence, Mapping))
        ):
            raise InvalidInputError(
                f"parameters is a {type(self.parameters).__name__}, not a list or a dict: pass a "
                "list, or a dict by name"
            )

    def __repr__(self) -> str:
        what = f"{' '.join(self.sql.split())!r:.80}" if self.sql is not None else f"table={self.table!r}"
        return f"{type(self).__name__}({what}, conn_id={self.conn_id!r}{self._part_shown()})"

    def columns(self) -> list[str]:
        """
        Name the columns of the query or table, without reading a row.

        :raises InvalidInputError: When the query is wrong, the connection is unknown, or two columns have one name.
        :raises DatabaseError: When the database does not answer.
        """
        with opened(self.conn_id) as database:
            return self._columns(database)

    def read(self, columns: Sequence[str]) -> Iterator[pyarrow.RecordBatch]:
        """
        Read some columns of all rows.

        :param columns: The columns. Of a table no others are read; of a query the others are dropped as they come.
        :raises InvalidInputError: When the query is wrong, a column is unknown, or its values are of several types.
        :raises DatabaseError: When the database does not answer, or breaks off.
        """
        import_pyarrow()
        with opened(self.conn_id) as database:
            if self.table is not None:
                check_columns(columns, self._columns(database), self)
            with database.transaction(keep=False, streaming=True) as cursor:
                with database.trouble(f"{self!r} cannot be read"):
                    self._execute(cursor, self._statement(database, columns))
                yield from _batches(database, cursor, columns, self)

    def partitions(self, number: int) -> list[RowSource]:
        """
        Cut the source into parts for mapped tasks, by a hash of the ``partition_key``.

        No database is asked. Each part reads the table by itself, at its own time: a row that is written in between is
        in at most one of them, unless its key changes. The database scans the table once for each part.

        :param number: How many parts.
        :raises InvalidInputError: When there is no ``partition_key``.
        """
        if self.partition_key is None:
            raise InvalidInputError(
                f"{self!r} has no partition_key: pass the column to divide the rows by, for example partition_key='id'"
            )
        return self._parts(number)

    def _columns(self, database: Database) -> list[str]:
        with database.trouble(f"{self!r} cannot be read"):
            if self.table is not None:
                statement = f"SELECT * FROM {database.quoted_table(self.table)} WHERE 1 = 0"  # noqa: S608
                return self._described(database, statement)
            try:
                # Without running the query, if possible.
                return self._described(database, f"SELECT * FROM ({self._query()}\n) q WHERE 1 = 0")  # noqa: S608
            except Exception:
                # Some databases take no WITH or ORDER BY within parentheses. And a message about what the user wrote
                # says more than one about what was made of it.
                return self._described(database, self._query())

    def _described(self, database: Database, statement: str) -> list[str]:
        with database.transaction(keep=False) as cursor:
            self._execute(cursor, statement)
            names = _names(cursor.description, self)
        _check_distinct(names, names, self)
        return names

    def _statement(self, database: Database, columns: Sequence[str]) -> str:
        if self.table is not None:
            chosen = ", ".join(database.quoted(name) for name in columns) or "1"
            statement = f"SELECT {chosen} FROM {database.quoted_table(self.table)}"  # noqa: S608
        elif self.partition is None:
            return self._query()
        else:
            statement = f"SELECT * FROM ({self._query()}\n) q"  # noqa: S608
        return statement if self.partition is None else f"{statement} WHERE {self._condition(database)}"

    def _condition(self, database: Database) -> str:
        assert self.partition is not None
        assert self.partition_key is not None
        index, number = self.partition
        key = database.quoted(self.partition_key, bound=self.parameters is not None)
        value = _HASHES.get(database.kind, "{key}").format(key=key)
        rest = f"{value} % {number}" if database.kind == "sqlite" else f"MOD({value}, {number})"
        return f"COALESCE(ABS({rest}), 0) = {index}"

    def _query(self) -> str:
        assert self.sql is not None
        return self.sql.strip().rstrip(";")

    def _execute(self, cursor: Any, statement: str) -> None:
        # With an empty list, drivers would read a lone % as a placeholder.
        if self.parameters:
            cursor.execute(statement, self.parameters)
        else:
            cursor.execute(statement)


def _batches(
    database: Database, cursor: Any, columns: Sequence[str], source: SqlRows
) -> Iterator[pyarrow.RecordBatch]:
    """Fetch rows, as many at a time as make a batch of bounded size."""
    import pyarrow

    chosen: list[tuple[int, ColumnValues]] | None = None
    rows: list[Any] = []
    count, size, fetch, more = 0, 0, min(_FIRST_FETCH, ROWS_IN_BATCH), True
    while more:
        batch = None
        with no_collection():
            with database.trouble(
                f"{source!r} broke off after {count:,} rows; a new try reads it from the start"
            ):
                found = cursor.fetchmany(fetch)
            if chosen is None:
                # Server-side cursors know their columns only now.
                chosen = _chosen(database, cursor.description, columns, source)
            more = bool(found)
            count += len(found)
            rows.extend(found)
            row_size = _row_size(found)
            size += row_size * len(found)
            fetch = _next_fetch(fetch, len(rows), row_size, size)
            if rows and (not more or not fetch):
                values = list(zip(*rows, strict=True))
                arrays = [column.array(values[index]) for index, column in chosen]
                batch = pyarrow.RecordBatch.from_arrays(arrays, names=list(columns))
                rows, values, size = [], [], 0
                fetch = _next_fetch(ROWS_IN_BATCH, 0, row_size, 0)
            del found
        if batch is not None:
            yield batch


def _chosen(
    database: Database, description: Sequence[Any] | None, columns: Sequence[str], source: SqlRows
) -> list[tuple[int, ColumnValues]]:
    """Find the places of the columns in a row."""
    names = _names(description, source)
    check_columns(columns, names, source)
    _check_distinct(columns, names, source)
    assert description is not None
    places = [names.index(name) for name in columns]
    return [
        (place, ColumnValues(names[place], type_name(database.kind, description[place]))) for place in places
    ]


def _names(description: Sequence[Any] | None, source: SqlRows) -> list[str]:
    if description is None:
        raise InvalidInputError(f"{source!r} gives no rows: write a query that selects some")
    return [str(one[0]) for one in description]


def _check_distinct(wanted: Sequence[str], there: Sequence[str], source: SqlRows) -> None:
    for name in wanted:
        if there.count(name) > 1:
            raise InvalidInputError(
                f"{source!r} has two columns {name!r}: name them apart, for example 'select a.id, b.id as b_id'"
            )


def _next_fetch(last: int, rows: int, row_size: int, size: int) -> int:
    """
    Choose how many rows to fetch next into a batch.

    :param last: How many were fetched last.
    :param rows: How many rows the batch has.
    :param row_size: Bytes of one of the last rows, about.
    :param size: Bytes that the batch has, about.
    :return: How many; 0 if the batch is full.
    """
    if rows >= ROWS_IN_BATCH or size >= BYTES_IN_BATCH:
        return 0
    fitting = max(1, (BYTES_IN_BATCH - size) // max(1, row_size))
    return min(fitting, ROWS_IN_BATCH - rows, 10 * last)


def _row_size(rows: Sequence[Sequence[Any]]) -> int:
    """Estimate the bytes of a row by some of them."""
    some = rows[:: max(1, len(rows) // _SAMPLE)]
    return sum(map(row_bytes, some)) // len(some) if some else 0
