"""The SQL statements that write rows to a table. Names come quoted, values are bound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_mistral_batch.tables.databases.column_types import is_list

if TYPE_CHECKING:
    import pyarrow

#: Databases that can insert or update in one statement.
UPSERTS = ("postgresql", "mysql", "sqlite", "duckdb")

#: Databases that have arrays as columns.
_ARRAYS = ("postgresql", "duckdb")

#: What a database calls a type, where it is not what most do.
_OWN_NAMES = {
    "postgresql": {"binary": "BYTEA", "json": "JSONB", "uuid": "UUID"},
    "duckdb": {"json": "JSON", "uuid": "UUID"},
    "mysql": {
        # Its own character set may be one without most letters.
        "text": "LONGTEXT CHARACTER SET utf8mb4",
        # The default collation takes keys for one that differ in case only, or in accents.
        "key text": "VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        "binary": "LONGBLOB",
        "timestamp": "DATETIME(6)",
        "timestamp with time zone": "DATETIME(6)",
        "time": "TIME(6)",
        "json": "JSON",
    },
}
_NAMES = {
    "boolean": "BOOLEAN",
    "integer": "INTEGER",
    "bigint": "BIGINT",
    "long": "DECIMAL(20)",
    "float": "DOUBLE PRECISION",
    "text": "TEXT",
    "key text": "TEXT",
    "binary": "BLOB",
    "date": "DATE",
    "time": "TIME",
    "timestamp": "TIMESTAMP",
    "timestamp with time zone": "TIMESTAMP WITH TIME ZONE",
    "uuid": "CHAR(36)",
    "json": "TEXT",
}


class Form(NamedTuple):
    """
    What of a statement depends on the table and the database.

    :param database: The kind of database.
    :param table: The table's quoted name.
    :param columns: The quoted names of the columns that are written.
    :param key: Those of the key.
    :param placeholder: What stands for a value.
    """

    database: str
    table: str
    columns: Sequence[str]
    key: Sequence[str]
    placeholder: str


def insert(form: Form, rows: int) -> str:
    """Insert some rows."""
    row = f"({', '.join([form.placeholder] * len(form.columns))})"
    return f"{_insert_into(form)} VALUES {', '.join([row] * rows)}"


def upsert(form: Form, rows: int) -> str:
    """Insert some rows, or update those that have their keys."""
    return f"{insert(form, rows)} {_on_conflict(form)}"


def delete(form: Form, rows: int) -> str:
    """Delete the rows that have some keys."""
    row = " AND ".join(f"{name} = {form.placeholder}" for name in form.key)
    return f"DELETE FROM {form.table} WHERE {' OR '.join([f'({row})'] * rows)}"  # noqa: S608


def trial_of_insert(form: Form) -> str:
    """Insert no row at all, which a database refuses for the same reasons as some rows."""
    columns = ", ".join(form.columns)
    return f"{_insert_into(form)} SELECT {columns} FROM {form.table} WHERE 1 = 0"  # noqa: S608


def trial_of_upsert(form: Form) -> str:
    """Insert or update no row at all, which a database refuses if the key is not unique."""
    return f"{trial_of_insert(form)} {_on_conflict(form)}"


def trial_of_delete(form: Form) -> str:
    """Delete no row at all."""
    return f"DELETE FROM {form.table} WHERE 1 = 0"  # noqa: S608


def create_table(form: Form, types: Sequence[str]) -> str:
    """
    Make the table.

    :param types: The columns' types.
    """
    columns = [f"{name} {one}" for name, one in zip(form.columns, types, strict=True)]
    return f"CREATE TABLE {form.table} ({', '.join(columns)}, PRIMARY KEY ({', '.join(form.key)}))"


def column_type(kind: pyarrow.DataType, database: str, *, of_key: bool = False) -> str:
    """
    Choose a column's type.

    :param kind: The Arrow type of its values.
    :param database: The kind of database.
    :param of_key: Whether the column is part of the key.
    """
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_decimal(kind):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    if database in _ARRAYS and is_list(kind) and not _is_nested(kind.value_type):
        return f"{column_type(kind.value_type, database)}[]"
    name = _name(kind)
    if name == "text" and of_key:
        name = "key text"
    return _OWN_NAMES.get(database, {}).get(name, _NAMES[name])


def _name(kind: pyarrow.DataType) -> str:
    from pyarrow import types

    if types.is_boolean(kind):
        return "boolean"
    if types.is_integer(kind):
        if kind.bit_width < 32 or kind.equals("int32"):
            return "integer"
        return "long" if kind.equals("uint64") else "bigint"
    if types.is_floating(kind):
        return "float"
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return "binary"
    if types.is_date(kind):
        return "date"
    if types.is_time(kind):
        return "time"
    if types.is_timestamp(kind):
        return "timestamp with time zone" if kind.tz else "timestamp"
    if getattr(kind, "extension_name", "") == "arrow.uuid":
        return "uuid"
    return "json" if _is_nested(kind) else "text"


def _is_nested(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    return bool(types.is_nested(kind))


def _insert_into(form: Form) -> str:
    return f"INSERT INTO {form.table} ({', '.join(form.columns)})"


def _on_conflict(form: Form) -> str:
    others = [name for name in form.columns if name not in form.key]
    if form.database == "mysql":
        changes = ", ".join(f"{name} = VALUES({name})" for name in others or form.key)
        return f"ON DUPLICATE KEY UPDATE {changes}"
    changes = ", ".join(f"{name} = excluded.{name}" for name in others)
    return f"ON CONFLICT ({', '.join(form.key)}) DO {f'UPDATE SET {changes}' if changes else 'NOTHING'}"
