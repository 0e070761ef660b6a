"""A table of a database as a target: rows are inserted, or updated by their key."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.tables.databases.column_names import check_columns
from airflow_provider_mistral_batch.tables.databases.column_types import kind_of
from airflow_provider_mistral_batch.tables.databases.database import TRANSACTIONAL, MissingTableError, opened
from airflow_provider_mistral_batch.tables.targets.columns import (
    TableColumn,
    alike_keys,
    described,
    is_unique,
    matched,
)
from airflow_provider_mistral_batch.tables.targets.statements import (
    UPSERTS,
    Form,
    column_type,
    create_table,
    delete,
    insert,
    trial_of_delete,
    trial_of_insert,
    trial_of_upsert,
    upsert,
)
from airflow_provider_mistral_batch.tables.targets.values import driver_values

if TYPE_CHECKING:
    import pyarrow

    from airflow_provider_mistral_batch.tables.databases.database import Database

_log = logging.getLogger(__name__)

#: What ``add_run_columns`` adds.
RUN_COLUMNS = ("run_id", "batch_id")

#: Bounds of one statement: rows, values (SQLite takes 32,766) and bytes (MySQL's default packet is larger).
_MOST_ROWS, _MOST_VALUES, _MOST_BYTES = 500, 30_000, 1 << 20


class _Plan(NamedTuple):
    """
    How rows are written.

    :param form: The parts of the statements.
    :param updates: Whether one statement inserts or updates; otherwise rows are deleted and inserted.
    :param kinds: The kind of each column of the table.
    :param many_rows: Whether a statement has many rows; otherwise the driver repeats one for each row.
    :param creation: The statement that makes the table, if it is missing.
    """

    form: Form
    updates: bool
    kinds: list[str]
    many_rows: bool
    creation: str | None = None


class SqlTable:
    """
    A table of a database that takes the answers: one row a key, however often the task runs.

    Any connection works whose hook is a ``DbApiHook`` of the common-sql provider. A row whose key is in the table is
    updated, in the columns that are written; any other is inserted. If the key has no primary key or unique index, the
    rows with these keys are deleted and inserted anew, and their other columns are lost. No other row is removed.

    All rows are written in one transaction: if it fails, the table is as it was, where the database has transactions.

    Structs, maps and lists are written as JSON; lists of plain values as arrays where the column is one.

    :param name: The table, ``table`` or ``schema.table``, as the database writes it.
    :param conn_id: The Airflow connection of the database.
    :param create: Make the table if it is missing, with the key as its primary key. An existing table is not changed.
    :param add_run_columns: Also write ``run_id`` and ``batch_id``: the Dag run, and the batch that the answer is of.
    """

    template_fields: ClassVar[Sequence[str]] = ("name", "conn_id")

    def __init__(
        self, name: str, *, conn_id: str, create: bool = False, add_run_columns: bool = False
    ) -> None:
        self.name = name
        self.conn_id = conn_id
        self.create = create
        self.add_run_columns = add_run_columns
        self.check_arguments()

    def check_arguments(self) -> None:
        """
        Check the arguments, also once Airflow has rendered them.

        :raises InvalidInputError: When one is wrong.
        """
        for field, value in (("name", self.name), ("conn_id", self.conn_id)):
            if not (isinstance(value, str) and value.strip()):
                raise InvalidInputError(f"{field}={value!r:.80} is not a string, or is empty: pass a string")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, conn_id={self.conn_id!r})"

    def check(self, schema: pyarrow.Schema, key: Sequence[str], *, nulls: Sequence[str] = ()) -> None:
        """
        Check that the table takes what will be written, before a batch is paid for. Nothing is changed.

        :param schema: The columns of the answers.
        :param key: The key's columns.
        :param nulls: Columns that will have nulls.
        :raises InvalidInputError: When the table is missing, or lacks a column, or needs others; when a column cannot
            take the values; when the connection may not write.
        :raises DatabaseError: When the database does not answer.
        """
        with opened(self.conn_id) as database:
            plan = self._plan(database, self._with_run(schema), key, nulls)
            # In other databases, making a table cannot be undone: whether it may be made is seen when it is needed.
            if plan.creation is not None and database.kind in TRANSACTIONAL:
                with database.trouble(f"{self!r} cannot be made"), database.transaction(keep=False) as cursor:
                    cursor.execute(plan.creation)
            if database.kind == "mysql" and plan.creation is None:
                self._warn_of_alike_keys(database, key)
            if not plan.updates and database.kind in UPSERTS:
                _log.warning(
                    "%r has no primary key or unique index on %s: rows are deleted and inserted anew. Two runs at the "
                    "same time may then leave two rows a key: create a unique index on the key",
                    self,
                    ", ".join(key),
                )

    def _warn_of_alike_keys(self, database: Database, key: Sequence[str]) -> None:
        with database.trouble(f"{self!r} cannot be read"):
            alike = alike_keys(database, self.name, key)
        for name, collation in alike.items():
            _log.warning(
                "%r: the column %r of the key has the collation %s, for which keys that differ in case or accents only "
                "may be one key: one answer then replaces the other. If there are such keys, give the column the "
                "collation utf8mb4_bin",
                self,
                name,
                collation,
            )

    def write(
        self, batches: Iterator[pyarrow.RecordBatch], key: Sequence[str], run: Mapping[str, str]
    ) -> int:
        """
        Insert or update all rows, in one transaction.

        :param batches: The rows; each key is there once.
        :param key: The key's columns.
        :param run: ``run_id`` and ``batch_id``, for ``add_run_columns``.
        :return: How many rows were written.
        :raises InvalidInputError: When the table cannot take the rows.
        :raises DatabaseError: When the database does not answer, or refuses for now.
        """
        batches = iter(batches)
        first = next(batches, None)
        if first is None:
            return 0
        schema = self._with_run(first.schema)
        added = [run.get(name) for name in RUN_COLUMNS] if self.add_run_columns else []
        written = 0
        with opened(self.conn_id) as database:
            plan = self._plan(database, schema, key)
            with database.transaction() as cursor:
                if plan.creation is not None:
                    with database.trouble(f"{self!r} cannot be made"):
                        cursor.execute(plan.creation)
                for batch in chain([first], batches):
                    for rows in _chunks(batch, plan, added):
                        with database.trouble(
                            f"{self!r} took no row after {written:,}, and nothing was kept"
                        ):
                            _write_rows(cursor, rows, plan)
                        written += len(rows)
        return written

    def _with_run(self, schema: pyarrow.Schema) -> pyarrow.Schema:
        import pyarrow

        if not self.add_run_columns:
            return schema
        for name in RUN_COLUMNS:
            if name in schema.names:
                raise InvalidInputError(
                    f"add_run_columns: the answers have a column {name!r} already: rename it, or leave this out"
                )
            schema = schema.append(pyarrow.field(name, pyarrow.string()))
        return schema

    def _plan(
        self, database: Database, schema: pyarrow.Schema, key: Sequence[str], nulls: Sequence[str] = ()
    ) -> _Plan:
        check_columns(key, schema.names, "the answers' table")
        there = self._columns(database)
        if there is None:
            form = self._form(database, schema.names, key, bound=False)
            types = [column_type(one.type, database.kind, of_key=one.name in key) for one in schema]
            creation = create_table(form, types)
            names = dict(zip(schema.names, schema.names, strict=True))
            updates = database.kind in UPSERTS
        else:
            own = matched(schema, there, database.kind, repr(self), nulls)
            types = [column.type_name for column in own]
            creation = None
            names = {one: column.name for one, column in zip(schema.names, own, strict=True)}
            updates = self._updates(database, list(names.values()), [names[one] for one in key])
        form = self._form(database, list(names.values()), [names[one] for one in key], bound=True)
        return _Plan(form, updates, [kind_of(one) for one in types], database.many_rows, creation)

    def _columns(self, database: Database) -> list[TableColumn] | None:
        """Describe the table's columns; None if it is missing, and may be made."""
        try:
            with database.trouble(f"{self!r} cannot be read"), database.transaction(keep=False) as cursor:
                cursor.execute(f"SELECT * FROM {database.quoted_table(self.name)} WHERE 1 = 0")  # noqa: S608
                names = [str(one[0]) for one in cursor.description]
        except InvalidInputError as error:
            # Of a database that is not known, nobody knows what the error says.
            is_missing = isinstance(error, MissingTableError) or database.kind == "other"
            if self.create and is_missing:
                return None
            remedy = (
                "Create the table, or pass create=True"
                if is_missing
                else "Correct the name, or grant the connection's user SELECT on the table"
            )
            raise InvalidInputError(f"{error}. {remedy}") from None
        details = described(database, self.name)
        return [details.get(name.casefold(), TableColumn(name))._replace(name=name) for name in names]

    def _updates(self, database: Database, names: Sequence[str], key: Sequence[str]) -> bool:
        """Find out, by writing no row at all, how rows can be written."""
        form = self._form(database, names, key, bound=False)
        with database.trouble(f"{self!r} cannot be written"):
            if database.kind == "mysql" and is_unique(database, self.name, key):
                statements = [trial_of_insert(form)]
            elif database.kind in TRANSACTIONAL and _succeeds(database, trial_of_upsert(form)):
                return True
            else:
                statements = [trial_of_insert(form), trial_of_delete(form)]
            for statement in statements:
                with database.transaction(keep=False) as cursor:
                    cursor.execute(statement)
        return len(statements) == 1

    def _form(self, database: Database, names: Sequence[str], key: Sequence[str], *, bound: bool) -> Form:
        return Form(
            database.kind,
            database.quoted_table(self.name, bound=bound),
            [database.quoted(name, bound=bound) for name in names],
            [database.quoted(name, bound=bound) for name in key],
            database.hook.placeholder,
        )


def _succeeds(database: Database, statement: str) -> bool:
    with contextlib.suppress(Exception), database.transaction(keep=False) as cursor:
        cursor.execute(statement)
        return True
    return False


def _chunks(batch: pyarrow.RecordBatch, plan: _Plan, added: Sequence[str | None]) -> Iterator[list[Any]]:
    """Make rows for the driver, as many at a time as one statement takes."""
    width = len(plan.form.columns)
    row_bytes = max(1, batch.nbytes // max(1, batch.num_rows))
    size = max(1, min(_MOST_ROWS, _MOST_VALUES // width, _MOST_BYTES // row_bytes))
    for start in range(0, batch.num_rows, size):
        part = batch.slice(start, size)
        columns = [
            driver_values(part.column(index), name, plan.form.database, plan.kinds[index])
            for index, name in enumerate(part.schema.names)
        ]
        columns += [[value] * part.num_rows for value in added]
        yield list(zip(*columns, strict=True))


def _write_rows(cursor: Any, rows: Sequence[Sequence[Any]], plan: _Plan) -> None:
    form = plan.form
    if plan.updates:
        _run(cursor, upsert, rows, plan)
        return
    places = [form.columns.index(name) for name in form.key]
    _run(cursor, delete, [tuple(row[place] for place in places) for row in rows], plan)
    _run(cursor, insert, rows, plan)


def _run(
    cursor: Any, statement: Callable[[Form, int], str], rows: Sequence[Sequence[Any]], plan: _Plan
) -> None:
    if plan.many_rows:
        cursor.execute(statement(plan.form, len(rows)), list(chain.from_iterable(rows)))
    else:
        cursor.executemany(statement(plan.form, 1), rows)
