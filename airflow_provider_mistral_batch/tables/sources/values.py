"""Python's values become Arrow columns, unchanged; of a database's rows, the first decide the types."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING, Any

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.tables.databases.column_types import arrow_type, fixed_decimal

if TYPE_CHECKING:
    import pyarrow

_WIDEST_DECIMAL = 38


def array_of(name: str, values: Sequence[Any], first: int) -> pyarrow.Array:
    """
    Make a column of values that have one type.

    :param name: The column.
    :param values: Its values.
    :param first: The number of the first row.
    :raises InvalidInputError: When they are not of one type.
    """
    import pyarrow

    try:
        array = pyarrow.array(values)
        changed = next((kind for kind, some in _risky(array.type, values) if _changes(kind, some)), None)
        if changed is None:
            return array
        reason = f"some would change as {changed}"
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, OverflowError) as error:
        reason = str(error)
    raise InvalidInputError(
        f"column {name!r}, rows {first} to {first + len(values) - 1}: the values are not of one type ({reason}); "
        "give each column one type"
    )


class ColumnValues:
    """
    One column of a result, batch after batch.

    :param name: The column's name.
    :param type_name: What the database calls its type; empty if the driver does not tell.
    """

    def __init__(self, name: str, type_name: str = "") -> None:
        self.name = name
        self._type_name = type_name
        self._type: pyarrow.DataType | None = None
        #: Python's types that the Arrow type is known to have room for.
        self._types: set[type] = set()

    def array(self, values: Sequence[Any]) -> pyarrow.Array:
        """
        Make an Arrow array of the next values.

        :param values: The values, as the driver gave them.
        :raises InvalidInputError: When a value does not fit the type that the first values decided.
        """
        import pyarrow

        # Of floats, such as an embedding's, pyarrow itself refuses what would change.
        types = {float} if _holds_floats(self._type) else _types_within(values)
        if self._type is None:
            array = self._first(values)
            if (
                len(types - {type(None)}) > 1
                and not pyarrow.types.is_string(array.type)
                and is_lossy(array, values)
            ):
                array = self._texts(values)
            self._type, self._types = array.type, types | {type(None)}
            return array
        with contextlib.suppress(TypeError, ValueError, OverflowError, pyarrow.ArrowException):
            array = pyarrow.array(values, type=self._type)
            # pyarrow makes 2 of 2.5, and a day of a moment.
            if types <= self._types or not is_lossy(array, values):
                return array
        if pyarrow.types.is_string(self._type):
            return self._texts(values)
        raise InvalidInputError(
            f"column {self.name!r} began as {self._type}, and later has {self._unfit(values)}: give it one type, for "
            f"example with 'select cast({self.name} as …) as {self.name}'"
        )

    def _first(self, values: Sequence[Any]) -> pyarrow.Array:
        import pyarrow

        known = arrow_type(self._type_name)
        try:
            array = pyarrow.array(values)
        except OverflowError:
            # Whole numbers of more than 64 bits.
            return pyarrow.array(list(map(_as_decimal, values)), type=pyarrow.decimal128(_WIDEST_DECIMAL, 0))
        except (TypeError, ValueError, pyarrow.ArrowException):
            return self._texts(values)
        kind = array.type
        if pyarrow.types.is_null(kind):
            return pyarrow.nulls(len(values), pyarrow.string() if known is None else known)
        if pyarrow.types.is_decimal(kind):
            # Later values may be longer; those that have more places cannot be foreseen.
            wide = fixed_decimal(self._type_name) or pyarrow.decimal128(_WIDEST_DECIMAL, kind.scale)
            return pyarrow.array(values, type=wide)
        if _has_fields(kind):
            return self._texts(values)
        if pyarrow.types.is_list(kind) and pyarrow.types.is_null(kind.value_type):
            return pyarrow.array(values, type=pyarrow.list_(pyarrow.string()))
        return array

    def _texts(self, values: Sequence[Any]) -> pyarrow.Array:
        import pyarrow

        try:
            return pyarrow.array(list(map(_as_text, values)), type=pyarrow.string())
        except UnicodeDecodeError:
            raise InvalidInputError(
                f"column {self.name!r} has both text and bytes: give it one type in the query"
            ) from None

    def _unfit(self, values: Iterable[Any]) -> str:
        """Show the first value that does not fit."""
        import pyarrow

        for value in values:
            try:
                if not is_lossy(pyarrow.array([value], type=self._type), [value]):
                    continue
            except (TypeError, ValueError, OverflowError, pyarrow.ArrowException):
                pass
            return f"{value!r:.60} ({type(value).__name__})"
        return "values of several types"


def _risky(kind: pyarrow.DataType, values: Sequence[Any]) -> Iterator[tuple[pyarrow.DataType, Sequence[Any]]]:
    """Give the values, also those within lists and dicts, of each type of which pyarrow may change some."""
    from pyarrow import types

    if types.is_list(kind):
        if _has_risky(kind):
            yield from _risky(
                kind.value_type, list(chain.from_iterable(one for one in values if one is not None))
            )
    elif types.is_struct(kind):
        for field in kind:
            if _has_risky(field.type):
                yield from _risky(field.type, [one.get(field.name) for one in values if one is not None])
    elif _has_risky(kind):
        yield kind, values


def _has_risky(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    if types.is_nested(kind):
        return any(_has_risky(kind.field(index).type) for index in range(kind.num_fields))
    return bool(types.is_temporal(kind) or types.is_binary(kind) or types.is_string(kind))


def _changes(kind: pyarrow.DataType, values: Sequence[Any]) -> bool:
    """Tell whether pyarrow makes a day of a moment, loses a time zone, or makes a text of bytes."""
    import pyarrow

    zoned = {value.tzinfo is None for value in values if hasattr(value, "tzinfo")}
    if len(zoned) < 2 and len({*map(type, values)} - {type(None)}) < 2:
        return False
    return is_lossy(pyarrow.array(values, type=kind), values)


def _holds_floats(kind: pyarrow.DataType | None) -> bool:
    from pyarrow import types

    return kind is not None and types.is_list(kind) and bool(types.is_floating(kind.value_type))


def _types_within(values: Sequence[Any]) -> set[type]:
    """Give Python's types of the values, and instead of lists of what is in them."""
    types = set(map(type, values))
    if list not in types:
        return types
    lists = [one for one in values if isinstance(one, list)]
    within = set(map(type, chain.from_iterable(lists)))
    if list in within:
        within = _types_within(list(chain.from_iterable(lists)))
    return (types - {list}) | within


def is_lossy(array: pyarrow.Array, values: Sequence[Any]) -> bool:
    """
    Tell whether a value is another one in Arrow. NaN and NaT are not, which are not equal to themselves.

    :param array: The values in Arrow.
    :param values: The values.
    """
    return any(
        kept != value and value == value for kept, value in zip(array.to_pylist(), values, strict=True)
    )


def _has_fields(kind: pyarrow.DataType) -> bool:
    """Tell whether values have fields of their own, which may differ from row to row."""
    import pyarrow

    if pyarrow.types.is_list(kind):
        return _has_fields(kind.value_type)
    return bool(pyarrow.types.is_struct(kind) or pyarrow.types.is_map(kind))


def _as_decimal(value: Any) -> Decimal | None:
    return None if value is None else Decimal(value)


def _as_text(value: Any) -> str | None:
    """Make a text of a value that Arrow has no type for: JSON of what has parts, else what Python writes."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).decode()
    return str(value)
