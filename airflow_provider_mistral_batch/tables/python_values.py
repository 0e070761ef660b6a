"""Values of Arrow columns as Python's own, and as messages show them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_mistral_batch.api.errors import InvalidInputError

if TYPE_CHECKING:
    import pyarrow


def python_values(column: pyarrow.Array, name: str, *, field: str) -> list[Any]:
    """
    Give the values of a column as Python's.

    :param column: The column.
    :param name: Its name.
    :param field: The parameter that names it.
    :raises InvalidInputError: When Python has no value for one.
    """
    try:
        return column.to_pylist()  # type: ignore[no-any-return]
    except OverflowError:
        reason = "a moment that Python cannot hold (years 1 to 9999): leave such rows out, or cast the column to a text"
    except LookupError as error:
        reason = f"a time zone that is not known here, {error}: cast the column to UTC"
    except ValueError:
        reason = (
            "nanoseconds, for which Python has no type: install pandas, or cast the column to microseconds"
        )
    raise InvalidInputError(f"{field}: column {name!r} has {reason} in the source")


def check_texts(rows: pyarrow.RecordBatch, key: Sequence[str]) -> None:
    """
    Check that all texts of some rows are UTF-8: files may hold others.

    :param rows: The rows.
    :param key: The columns that name a row in a message.
    :raises InvalidInputError: Names the first column with another text.
    """
    import pyarrow

    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        if not holds(column.type, _is_text):
            continue
        try:
            column.validate(full=True)
            continue
        except pyarrow.ArrowInvalid as error:
            reason = str(error)
        number = next((number for number, value in enumerate(column) if not _is_readable(value)), None)
        place = ""
        if number is not None:
            others = [other for other in key if other != name]
            place = f", in the row with {row_shown(rows, number, [*others, name], 40)}"
        raise InvalidInputError(
            f"column {name!r} has a text that is not UTF-8 ({reason}){place}: write the source in UTF-8, or leave such "
            "rows out"
        )


def holds(kind: pyarrow.DataType, is_wanted: Callable[[pyarrow.DataType], bool]) -> bool:
    """
    Tell whether values of a type are of a kind, or have such values within them.

    :param kind: The type.
    :param is_wanted: Tells it of a type without parts.
    """
    from pyarrow import types

    if types.is_dictionary(kind):
        return holds(kind.value_type, is_wanted)
    if types.is_nested(kind):
        return any(holds(kind.field(index).type, is_wanted) for index in range(kind.num_fields))
    return is_wanted(kind)


def shown(value: pyarrow.Scalar, most: int = 60) -> str:
    """
    Show a value in a message.

    :param value: The value.
    :param most: Characters at most.
    """
    try:
        return f"{value.as_py()!r:.{most}}"
    except UnicodeDecodeError as error:
        return f"{error.object!r:.{most}}"
    except (ValueError, OverflowError, LookupError):
        # Python has no value for some moments: without pandas, for those with nanoseconds.
        unit = getattr(value.type, "unit", "days")
        return f"{value.value} {unit}" if hasattr(value, "value") else f"a {value.type}"


def _is_text(kind: pyarrow.DataType) -> bool:
    return str(kind) in ("string", "large_string", "string_view")


def _is_readable(value: pyarrow.Scalar) -> bool:
    try:
        value.as_py()
    except UnicodeDecodeError:
        return False
    except (ValueError, OverflowError, LookupError):
        pass
    return True


def row_shown(rows: pyarrow.RecordBatch, number: int, names: Iterable[str], most: int = 60) -> str:
    """
    Show a row in a message.

    :param rows: The rows.
    :param number: Which of them, from 0.
    :param names: The columns to show.
    :param most: Characters of each value at most.
    """
    return ", ".join(f"{name}={shown(rows.column(name)[number], most)}" for name in names)
