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

    schemas = [pyarrow.schema([(name, kind)]) for kind in (before, now)]
    try:
        return pyarrow.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pyarrow.ArrowTypeError, pyarrow.ArrowInvalid):
        raise InvalidInputError(
            f"column {name!r} is {now}, and {before} in the rows before: give it one type"
        ) from None
