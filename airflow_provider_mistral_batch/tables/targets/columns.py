"""The columns that a table has, and whether they take what is to be written."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.tables.databases.column_names import check_columns
from airflow_provider_mistral_batch.tables.databases.column_types import kind_of
from airflow_provider_mistral_batch.tables.databases.database import table_parts
from airflow_provider_mistral_batch.tables.targets.statements import column_type

if TYPE_CHECKING:
    import pyarrow

    from airflow_provider_mistral_batch.tables.databases.database import Database

_log = logging.getLogger(__name__)

#: Databases with an information schema, which our own connection reads: the condition for a table that is named
#: without its schema, and the one for a column that the database fills by itself.
_SCHEMAS = {
    "postgresql": ("= ANY (current_schemas(true))", "is_identity = 'YES' OR is_generated = 'ALWAYS'"),
    "duckdb": ("= current_schema()", "FALSE"),
    "mysql": ("= DATABASE()", "extra <> ''"),
}

#: How MySQL's collations end that tell texts apart by case and accents.
_EXACT_COLLATIONS = ("_bin", "_as_cs")

#: Kinds of columns that cannot take values of a kind. The database knows the rest.
_REFUSES = {
    "whole": {"boolean", "date", "time", "timestamp", "uuid", "array", "json"},
    "number": {"whole", "boolean", "date", "time", "timestamp", "uuid", "array", "json"},
    "boolean": {"whole", "number", "date", "time", "timestamp", "uuid", "array", "json"},
    "text": {"whole", "number", "boolean", "array"},
    "date": {"whole", "number", "boolean", "uuid", "array", "json"},
    "time": {"whole", "number", "boolean", "uuid", "array", "json"},
    "timestamp": {"whole", "number", "boolean", "uuid", "array", "json"},
    "uuid": {"whole", "number", "boolean", "date", "time", "timestamp", "array", "json"},
    "array": {"whole", "number", "boolean", "date", "time", "timestamp", "uuid"},
    "json": {"whole", "number", "boolean", "date", "time", "timestamp", "uuid", "array"},
}


class TableColumn(NamedTuple):
    """
    What is known of a column of the table.

    :param name: Its name, as the database writes it.
    :param type_name: What the database calls its type; empty if that is not known.
    :param not_null: Whether it takes no null.
    :param filled: Whether the database fills it by itself.
    """

    name: str
    type_name: str = ""
    not_null: bool = False
    filled: bool = False


def matched(
    schema: pyarrow.Schema,
    there: Sequence[TableColumn],
    database: str,
    where: str,
    nulls: Sequence[str] = (),
) -> list[TableColumn]:
    """
    Find the column of the table for each column that is to be written.

    :param schema: What is to be written.
    :param there: The table's columns.
    :param database: The kind of database.
    :param where: What the table is, for messages.
    :param nulls: Columns that will have nulls.
    :raises InvalidInputError: When a column is missing, cannot take the values, would stay without a value, or would
        get those of two columns.
    """
    exact = {column.name: column for column in there}
    folded = {column.name.casefold(): column for column in there}
    missing = [name for name in schema.names if name not in exact and name.casefold() not in folded]
    if len(missing) > 1:
        raise InvalidInputError(
            f"{where} has no columns {', '.join(map(repr, missing))}: add them to the table; create=True makes a table "
            "that is missing, and changes none"
        )
    check_columns(missing, list(exact), where)
    found = [exact.get(name) or folded[name.casefold()] for name in schema.names]
    writers = {column.name: name for name, column in zip(schema.names, found, strict=True)}
    for name, column in zip(schema.names, found, strict=True):
        # SQLite would write one of the two, and say nothing.
        if writers[column.name] != name:
            raise InvalidInputError(
                f"{where}: {name!r} and {writers[column.name]!r} would both be written into the column "
                f"{column.name!r}: add a column for each, or rename one of them in the source or the response_model"
            )
    for one, column in zip(schema, found, strict=True):
        kind = kind_of(column_type(one.type, "duckdb"))
        refused = _REFUSES.get(kind, set())
        if database == "mysql" and kind == "boolean":
            # MySQL's BOOLEAN is TINYINT(1).
            refused = refused - {"whole"}
        # SQLite's types are no more than hints, and a column of nulls fits any.
        if database != "sqlite" and str(one.type) != "null" and kind_of(column.type_name) in refused:
            raise InvalidInputError(
                f"{where}: column {column.name!r} is {column.type_name}, and the answers have {one.type} there: change "
                "the column's type, or choose another table"
            )
    refusing = [
        column.name
        for name, column in zip(schema.names, found, strict=True)
        if name in nulls and column.not_null
    ]
    if refusing:
        raise InvalidInputError(
            f"{where}: {', '.join(map(repr, refusing))} must not be null, and the answers have nulls there: a failed "
            "row has no answer (failed=True), and an answer has no error. Allow nulls there, or choose another table"
        )
    written = {column.name for column in found}
    unfilled = [one.name for one in there if one.not_null and not one.filled and one.name not in written]
    if unfilled:
        raise InvalidInputError(
            f"{where}: {', '.join(map(repr, unfilled))} must not be null, and the answers do not have it: give the "
            "column a default, allow nulls there, or keep such a column of the source"
        )
    return found


def described(database: Database, table: str) -> Mapping[str, TableColumn]:
    """
    Describe the columns of a table as well as the database tells them.

    :param database: The database.
    :param table: The table's name.
    :return: The columns by their names in lower case; none if the database does not tell.
    """
    describe = _by_information_schema if database.kind in _SCHEMAS else _by_inspector
    try:
        return {column.name.casefold(): column for column in describe(database, table_parts(table))}
    except Exception as error:
        # Without types, the database itself refuses what it cannot take.
        _log.debug(
            "%s of %r: nothing is known of its columns (%s)", database.conn_id, table, type(error).__name__
        )
        return {}


def is_unique(database: Database, table: str, key: Sequence[str]) -> bool:
    """
    Tell whether a table of MySQL has at most one row a key. Elsewhere, the database refuses an upsert if it has not.

    :param database: The database.
    :param table: The table's name.
    :param key: The key's columns.
    """
    where, values = _place(database, table_parts(table))
    indexes = defaultdict(set)
    with database.transaction(keep=False) as cursor:
        cursor.execute(
            "SELECT index_name, column_name FROM information_schema.statistics "  # noqa: S608
            f"WHERE non_unique = 0 AND {where}",
            values,
        )
        for index, column in cursor.fetchall():
            indexes[index].add(column)
    return any(columns <= set(key) for columns in indexes.values())


def alike_keys(database: Database, table: str, key: Sequence[str]) -> dict[str, str]:
    """
    Find columns of a key, in a table of MySQL, that take different texts for one.

    :param database: The database.
    :param table: The table's name.
    :param key: The key's columns.
    :return: Their names, and the collation of each.
    """
    where, values = _place(database, table_parts(table))
    with database.transaction(keep=False) as cursor:
        cursor.execute(
            "SELECT column_name, collation_name FROM information_schema.columns "  # noqa: S608
            f"WHERE collation_name IS NOT NULL AND {where}",
            values,
        )
        collations = {name.casefold(): collation for name, collation in cursor.fetchall()}
    found = {name: collations.get(name.casefold()) for name in key}
    return {name: one for name, one in found.items() if one and not one.endswith(_EXACT_COLLATIONS)}


def _by_information_schema(database: Database, parts: Sequence[str]) -> list[TableColumn]:
    where, values = _place(database, parts)
    with database.transaction(keep=False) as cursor:
        cursor.execute(
            "SELECT column_name, data_type, is_nullable, column_default, "  # noqa: S608
            f"{_SCHEMAS[database.kind][1]} FROM information_schema.columns WHERE {where}",
            values,
        )
        return [
            TableColumn(column, kind, nullable == "NO", default is not None or bool(filled))
            for column, kind, nullable, default, filled in cursor.fetchall()
        ]


def _place(database: Database, parts: Sequence[str]) -> tuple[str, list[str]]:
    """Choose the rows of the information schema that are about a table."""
    *schema, name = parts
    value = database.hook.placeholder
    if schema:
        return f"table_name = {value} AND table_schema = {value}", [name, schema[-1]]
    return f"table_name = {value} AND table_schema {_SCHEMAS[database.kind][0]}", [name]


def _by_inspector(database: Database, parts: Sequence[str]) -> list[TableColumn]:
    from sqlalchemy import inspect

    *schema, name = parts
    engine = database.hook.get_sqlalchemy_engine()
    try:
        columns: list[Any] = list(inspect(engine).get_columns(name, schema=".".join(schema) or None))
    finally:
        engine.dispose()
    return [
        TableColumn(
            one["name"],
            str(one["type"]),
            not one["nullable"],
            one.get("default") is not None
            or one.get("autoincrement") is True
            or bool(one.get("identity") or one.get("computed"))
            # SQLite numbers the rows in such a column.
            or (database.kind == "sqlite" and bool(one.get("primary_key")) and str(one["type"]) == "INTEGER"),
        )
        for one in columns
    ]
