"""A row's key: the columns that name it, and the ``custom_id`` that stands for them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.tables.python_values import row_shown

if TYPE_CHECKING:
    from decimal import Decimal

    import pyarrow

_encode = msgspec.json.Encoder().encode

#: In the text of a time, zeros at the end of the fraction, and what may follow. How many there are is the unit's.
_ZEROS = r"(?:(\.[0-9]*[1-9])0+|\.0+)(Z|[+-][0-9]{4})?$"

_OFFSET = re.compile(r"[+-]\d\d:?\d\d")

_NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


def key_columns(key: str | Sequence[str] | None) -> tuple[str, ...]:
    """
    Read the parameter ``key``.

    :param key: One column or several.
    :raises InvalidInputError: When it names none, or one twice.
    """
    names = (key,) if isinstance(key, str) else tuple(key or ())
    if not names or not all(isinstance(name, str) and name for name in names):
        raise InvalidInputError(
            f"key={key!r:.80} names no column: name the column, or columns, that tell the rows of the source apart"
        )
    if len(set(names)) < len(names):
        raise InvalidInputError(f"key={list(names)!r:.200} names a column twice: name each once")
    return names


def custom_ids(batch: pyarrow.RecordBatch, key: Sequence[str]) -> pyarrow.StringArray:
    """
    Make the ``custom_id`` of each row: the value as text, or a JSON list of texts where the key has several columns.

    Equal values have equal texts, and different ones different texts, also if a column has a wider type in later rows:
    a decimal with more places, a time with a finer unit. The values themselves are kept beside the requests, with their
    types.

    :param batch: The rows.
    :param key: The key's columns.
    :raises InvalidInputError: When a value is null, an empty text, or of a type that has no exact text.
    """
    import pyarrow

    columns = [_texts(batch.column(name), name, batch, key) for name in key]
    if len(columns) == 1:
        return columns[0]
    rows = zip(*[column.to_pylist() for column in columns], strict=True)
    return pyarrow.array([_encode(row).decode() for row in rows], pyarrow.string())


def check_key_type(name: str, kind: pyarrow.DataType) -> None:
    """
    Check that a column can be part of a key.

    :param name: The column.
    :param kind: Its type.
    :raises InvalidInputError: When values of its type have no exact text.
    """
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    taken = not types.is_interval(kind) and (
        types.is_integer(kind)
        or str(kind) in ("string", "large_string", "string_view")
        or types.is_boolean(kind)
        or types.is_temporal(kind)
        or types.is_decimal(kind)
        or _is_uuid(kind)
    )
    if not taken:
        raise InvalidInputError(
            f"key: column {name!r} is {kind}, of which two values may have one text; cast it to a text, a number "
            "without decimals, a date, a decimal or a UUID"
        )


def _texts(column: Any, name: str, batch: pyarrow.RecordBatch, key: Sequence[str]) -> pyarrow.StringArray:
    import pyarrow

    kind = column.type
    if pyarrow.types.is_null(kind):
        raise _null(name, batch, 0, key)
    check_key_type(name, kind)
    if column.null_count:
        raise _null(name, batch, column.is_null().to_pylist().index(True), key)
    try:
        texts = _exact_texts(column)
    except pyarrow.ArrowInvalid as error:
        raise InvalidInputError(
            f"key: column {name!r} is {kind}, which has no exact text here ({error}); cast it to a text or, if it is "
            "a time, to UTC in the source"
        ) from None
    if (empty := texts.index(pyarrow.scalar("", pyarrow.string())).as_py()) >= 0:
        raise InvalidInputError(
            f"key: column {name!r} has an empty text{_beside(name, batch, empty, key)}: each row needs a key; "
            "leave such rows out"
        )
    return texts


def _exact_texts(column: Any) -> pyarrow.StringArray:
    import pyarrow
    from pyarrow import compute, types

    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if _is_uuid(kind):
        return pyarrow.array(map(str, column.to_pylist()), pyarrow.string())
    if types.is_decimal(kind) and kind.scale:
        return pyarrow.array([_plain(value) for value in column.to_pylist()], pyarrow.string())
    if types.is_duration(kind):
        factor = _NANOSECONDS[kind.unit]
        counts = column.cast(pyarrow.int64()).to_pylist()
        return pyarrow.array([str(count * factor) for count in counts], pyarrow.string())
    if types.is_timestamp(kind) and _OFFSET.fullmatch(kind.tz or ""):
        # Not each version of pyarrow writes moments of a zone that is no more than an offset.
        column = column.cast(pyarrow.timestamp(kind.unit, "UTC"))
    texts = column.cast(pyarrow.string())
    if types.is_timestamp(kind) or types.is_time(kind):
        texts = compute.replace_substring_regex(texts, pattern=_ZEROS, replacement=r"\1\2")
    return texts


def _plain(value: Decimal) -> str:
    """Write a decimal without an exponent, and without zeros at its end."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _null(name: str, batch: pyarrow.RecordBatch, index: int, key: Sequence[str]) -> InvalidInputError:
    return InvalidInputError(
        f"key: column {name!r} has a null{_beside(name, batch, index, key)}: each row needs a key; leave such rows out"
    )


def _beside(name: str, batch: pyarrow.RecordBatch, index: int, key: Sequence[str]) -> str:
    """Describe a row without this column."""
    others = [other for other in batch.schema.names if other != name]
    row = row_shown(batch, index, sorted(others, key=lambda other: other not in key)[:3], 40)
    return f", in the row with {row}" if row else ""


def _is_uuid(kind: Any) -> bool:
    return str(getattr(kind, "extension_name", "")) == "arrow.uuid"
