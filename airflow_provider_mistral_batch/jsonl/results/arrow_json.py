"""Lines of JSON become Arrow columns without a Python object for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow


def read_json_lines(
    lines: pyarrow.Buffer | bytes, schema: pyarrow.Schema, *, newlines_in_values: bool = False
) -> pyarrow.Table | None:
    """
    Read some fields of objects.

    :param lines: The objects, one a line.
    :param schema: The fields; all others are left out.
    :param newlines_in_values: Whether objects may have line ends between their fields.
    :return: One row an object. ``None`` if a value is not of its type, or the lines are no valid JSON in UTF-8: each
        has to be looked at.
    """
    import pyarrow
    from pyarrow import json

    try:
        table = json.read_json(
            pyarrow.BufferReader(lines),
            read_options=json.ReadOptions(use_threads=False, block_size=len(lines) + 1),
            parse_options=json.ParseOptions(
                explicit_schema=schema,
                newlines_in_values=newlines_in_values,
                unexpected_field_behavior="ignore",
            ),
        )
        # What it reads, Arrow takes for UTF-8.
        table.validate(full=True)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError):
        return None
    return table
