"""Arrow columns become the values that a database's driver takes."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.tables.databases.column_types import is_list

if TYPE_CHECKING:
    import pyarrow

_NUL, _INSTEAD = "\x00", "\ufffd"


def driver_values(array: pyarrow.Array, name: str, database: str, column_kind: str) -> list[Any]:
    """
    Make values for a driver.

    :param array: One column of a batch.
    :param name: Its name.
    :param database: The kind of database.
    :param column_kind: The kind of the table's column, as
        :func:`~airflow_provider_mistral_batch.tables.databases.column_types.kind_of` tells it.
    :raises InvalidInputError: When Python has no value for one.
    """
    from pyarrow import types

    kind = array.type
    try:
        values: list[Any] = array.to_pylist()
    except (ValueError, OverflowError, LookupError) as error:
        # Nanoseconds without pandas, or an unknown time zone: seen before a batch is paid for, if on the same worker.
        raise InvalidInputError(
            f"target: column {name!r} has a value that Python cannot hold ({error}): cast the column in the source"
        ) from None
    if types.is_dictionary(kind):
        kind = kind.value_type
    if database == "postgresql" and (types.is_nested(kind) or _is_text(kind)):
        values = [_without_nul(value) for value in values]
    change = _change(kind, database, column_kind)
    return values if change is None else [None if value is None else change(value) for value in values]


def _change(kind: pyarrow.DataType, database: str, column_kind: str) -> Callable[[Any], Any] | None:
    from pyarrow import types

    if types.is_nested(kind):
        if column_kind == "array" and is_list(kind):
            return None
        return lambda value: _as_json(_with_objects(value, kind))
    if _is_text(kind):
        return None
    if column_kind == "text" or getattr(kind, "extension_name", "") == "arrow.uuid":
        return _as_text
    if database == "sqlite" and (types.is_temporal(kind) or types.is_decimal(kind)):
        # SQLite has no such types; as texts, times are in order.
        return _as_text
    if database == "mysql" and types.is_timestamp(kind) and kind.tz:
        return _in_utc
    return None


def _is_text(kind: pyarrow.DataType) -> bool:
    return str(kind) in ("string", "large_string", "string_view")


def _with_objects(value: Any, kind: pyarrow.DataType) -> Any:
    """Make a dict of each map, whose entries Arrow gives as pairs: in JSON it becomes an object."""
    from pyarrow import types

    if value is None or not types.is_nested(kind):
        return value
    if types.is_map(kind):
        pairs = [(key, _with_objects(one, kind.item_type)) for key, one in value]
        return dict(pairs) if _is_text(kind.key_type) else pairs
    if types.is_struct(kind):
        return {name: _with_objects(one, kind.field(name).type) for name, one in value.items()}
    return [_with_objects(one, kind.value_type) for one in value]


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=_as_text)


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat(" ") if isinstance(value, datetime.datetime) else value.isoformat()
    return str(value)


def _in_utc(value: datetime.datetime) -> datetime.datetime:
    return value.astimezone(datetime.timezone.utc).replace(tzinfo=None)


def _without_nul(value: Any) -> Any:
    """Replace the one character that PostgreSQL's texts cannot have: a paid answer must not fail for it."""
    if isinstance(value, str):
        return value.replace(_NUL, _INSTEAD) if _NUL in value else value
    if isinstance(value, list):
        return [_without_nul(one) for one in value]
    if isinstance(value, tuple):
        return tuple(_without_nul(one) for one in value)
    if isinstance(value, dict):
        return {_without_nul(name): _without_nul(one) for name, one in value.items()}
    return value
