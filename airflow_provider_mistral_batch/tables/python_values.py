"""Values of Arrow columns as Python's own, and as messages show them."""

from __future__ import annotations

from collections.abc import Iterable
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
    :raises InvalidInputError: When Python has no type for one.
    """
    try:
        return column.to_pylist()  # type: ignore[no-any-return]
    except ValueError:
        raise InvalidInputError(
            f"{field}: column {name!r} has nanoseconds, for which Python has no type: install pandas, or cast the "
            "column to microseconds in the source"
        ) from None


def shown(value: pyarrow.Scalar, most: int = 60) -> str:
    """
    Show a value in a message.

    :param value: The value.
    :param most: Characters at most.
    """
    try:
        return f"{value.as_py()!r:.{most}}"
    except ValueError:
        # Without pandas, Python has no value for a moment with nanoseconds.
        return f"{value.value} ns"


def row_shown(rows: pyarrow.RecordBatch, number: int, names: Iterable[str], most: int = 60) -> str:
    """
    Show a row in a message.

    :param rows: The rows.
    :param number: Which of them, from 0.
    :param names: The columns to show.
    :param most: Characters of each value at most.
    """
    return ", ".join(f"{name}={shown(rows.column(name)[number], most)}" for name in names)
