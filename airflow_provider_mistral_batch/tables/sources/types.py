"""One Arrow type for a column whose batches, or files, came with several."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_mistral_batch.api.errors import InvalidInputError

if TYPE_CHECKING:
    import pyarrow


def common_type(name: str, before: pyarrow.DataType, now: pyarrow.DataType) -> pyarrow.DataType:
    """
    Find a type that holds the values of two types, unchanged.

    :param name: The column.
    :param before: The type of the rows before.
    :param now: The type of these rows.
    :raises InvalidInputError: When there is none.
    """
    import pyarrow

    kinds = [before, now]
    if any(map(pyarrow.types.is_decimal, kinds)):
        kinds = list(map(_as_decimal, kinds))
    schemas = [pyarrow.schema([(name, kind)]) for kind in kinds]
    try:
        return pyarrow.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pyarrow.ArrowTypeError, pyarrow.ArrowInvalid):
        raise InvalidInputError(
            f"column {name!r} is {now}, and {before} in the rows before: give it one type"
        ) from None


def widened(name: str, column: pyarrow.Array, kind: pyarrow.DataType) -> pyarrow.Array:
    """
    Give a column the type that :func:`common_type` has found.

    :param name: The column.
    :param column: Its values.
    :param kind: The type.
    :raises InvalidInputError: When a value would change: a double has no room for some long whole numbers.
    """
    import pyarrow

    try:
        return column.cast(kind)
    except pyarrow.ArrowInvalid as error:
        reason = str(error).split("\n", 1)[0].rstrip(".")
        raise InvalidInputError(
            f"column {name!r}: no type has room for the values of all rows ({reason}); give it one type"
        ) from None


def _as_decimal(kind: pyarrow.DataType) -> pyarrow.DataType:
    """Give whole numbers a decimal type with room for each: pyarrow takes that of the decimal beside them."""
    import pyarrow

    digits = {8: 3, 16: 5, 32: 10, 64: 20}
    return pyarrow.decimal128(digits[kind.bit_width]) if pyarrow.types.is_integer(kind) else kind
