"""The types of databases' columns: what a database calls them, their kinds, and their places in Arrow."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow

#: The first that is found in a type's name, in lower case, is the type's kind.
_KINDS = (
    ("array", re.compile(r"\[\d*\]$|^array|^_|\blist\b")),
    ("json", re.compile(r"json|variant|super|^struct|^map|^object")),
    ("uuid", re.compile(r"uuid|uniqueidentifier")),
    ("boolean", re.compile(r"^bool")),
    ("timestamp", re.compile(r"timestamp|datetime")),
    ("date", re.compile(r"^date$")),
    ("time", re.compile(r"^time\b|^timetz")),
    ("text", re.compile(r"char|text|string|clob|enum")),
    ("binary", re.compile(r"blob|binary|bytea|^bytes|^raw")),
    ("whole", re.compile(r"int(?!erval)|serial|hugeint|^long$|^short$|^year$")),
    ("number", re.compile(r"dec|num|real|float|double|money")),
)

#: The type's name by the number that the driver gives for it: PostgreSQL's OIDs, MySQL's field types.
_POSTGRESQL_NAMES = {
    16: "boolean",
    17: "bytea",
    20: "bigint",
    21: "smallint",
    23: "integer",
    700: "real",
    701: "double precision",
    1082: "date",
    1083: "time",
    1114: "timestamp",
    1184: "timestamp with time zone",
    1700: "numeric",
    2950: "uuid",
}
_MYSQL_NAMES = {
    1: "tinyint",
    2: "smallint",
    3: "int",
    4: "float",
    5: "double",
    7: "timestamp",
    8: "bigint",
    9: "mediumint",
    10: "date",
    11: "interval",
    12: "datetime",
    13: "year",
    0: "decimal",
    246: "decimal",
}

_DECIMAL = re.compile(r"\((\d+)\s*,\s*(\d+)\)")


def kind_of(type_name: str) -> str:
    """
    Tell the kind of a column's type.

    :param type_name: What the database calls the type, for example ``character varying(40)``.
    :return: ``whole``, ``number``, ``boolean``, ``text``, ``binary``, ``date``, ``time``, ``timestamp``, ``uuid``,
        ``json``, ``array``, or ``unknown``.
    """
    name = type_name.strip().lower()
    return next((kind for kind, pattern in _KINDS if pattern.search(name)), "unknown")


def type_name(database_kind: str, description: Any) -> str:
    """
    Name the type of a result's column as the driver tells it.

    :param database_kind: See :class:`~airflow_provider_mistral_batch.tables.databases.database.Database`.
    :param description: The column's entry in the cursor's ``description``.
    :return: The name; empty if the driver does not tell.
    """
    code = description[1]
    names = {"postgresql": _POSTGRESQL_NAMES, "mysql": _MYSQL_NAMES}.get(database_kind)
    if names is None:
        return str(code) if database_kind == "duckdb" else ""
    name = names.get(code, "")
    precision, scale = description[4], description[5]
    if name == "numeric" and precision and scale is not None:
        return f"numeric({precision},{scale})"
    return name


def arrow_type(type_name: str) -> pyarrow.DataType | None:
    """
    Choose the Arrow type for a column of which no value is known yet.

    :param type_name: What the database calls its type.
    :return: The type; None if only values can tell.
    """
    import pyarrow

    name = type_name.lower()
    if (decimal := fixed_decimal(name)) is not None:
        return decimal
    if kind_of(name) == "timestamp":
        return pyarrow.timestamp("us", "UTC" if "with time zone" in name or "timestamptz" in name else None)
    return {
        "boolean": pyarrow.bool_(),
        "whole": pyarrow.int64(),
        "number": pyarrow.float64() if re.search("real|float|double", name) else None,
        "date": pyarrow.date32(),
        "time": pyarrow.time64("us"),
        "binary": pyarrow.binary(),
        "uuid": uuid_type(),
    }.get(kind_of(name))


def is_list(kind: pyarrow.DataType) -> bool:
    """
    Tell whether values are lists, of any or of one size.

    :param kind: Their Arrow type.
    """
    from pyarrow import types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def fixed_decimal(type_name: str) -> pyarrow.DataType | None:
    """
    Choose the Arrow type for decimals of fixed places.

    :param type_name: For example ``numeric(12,2)``.
    :return: The type; None if the name has no places, or more than Arrow has.
    """
    import pyarrow

    found = _DECIMAL.search(type_name)
    if kind_of(type_name) != "number" or found is None:
        return None
    precision, scale = int(found[1]), int(found[2])
    return pyarrow.decimal128(precision, scale) if scale <= precision <= 38 else None


def uuid_type() -> pyarrow.DataType:
    """Give Arrow's type for UUIDs; text for pyarrow before 24, which makes no array of Python's UUIDs."""
    import pyarrow

    return pyarrow.uuid() if int(pyarrow.__version__.partition(".")[0]) >= 24 else pyarrow.string()
