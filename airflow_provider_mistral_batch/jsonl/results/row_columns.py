"""Many result rows at once, as Arrow columns: the fields of :class:`ResultRow`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, get_args

from airflow_provider_mistral_batch.jsonl.requests.nesting import any_too_deep
from airflow_provider_mistral_batch.jsonl.results.api_rows import MOST, FinishReason
from airflow_provider_mistral_batch.jsonl.results.arrow_json import read_json_lines
from airflow_provider_mistral_batch.jsonl.results.parquet import row_schema
from airflow_provider_mistral_batch.jsonl.results.reader import read_blocks
from airflow_provider_mistral_batch.jsonl.results.rows import ResultRow, result_row

if TYPE_CHECKING:
    import pyarrow

    from airflow_provider_mistral_batch.storage.paths import StoragePath

# What becomes columns at once.
_ROWS_AT_ONCE = 5_000
_BYTES_AT_ONCE = 2 * 1000 * 1000

# The range of the number columns.
_INT64 = range(-(2**63), 2**63)

_fields = attrgetter(*ResultRow.__struct_fields__)


def read_row_columns(path: StoragePath | str) -> Iterator[pyarrow.RecordBatch]:
    """
    Read the rows of a landed file, in batches of bounded size.

    :param path: A results or errors file, JSONL (compressed or not) or Parquet.
    :raises MissingExtraError: If the extra ``parquet`` is not installed.
    """
    waiting: list[bytes] = []
    size = 0
    for lines in read_blocks(path):
        waiting += lines
        size += sum(map(len, lines))
        if size >= _BYTES_AT_ONCE or len(waiting) >= _ROWS_AT_ONCE:
            yield row_columns(waiting)
            waiting, size = [], 0
    if waiting:
        yield row_columns(waiting)


def row_columns(lines: list[bytes]) -> pyarrow.RecordBatch:
    """
    Read rows: one column for each field of :class:`ResultRow`.

    :param lines: The rows as the API gave them.
    """
    # One row tells whether it is worth to try it with all.
    plain = _plain_chats(lines[:1]) and _plain_chats(lines)
    return plain or _any_rows(lines)


def _plain_chats(lines: list[bytes]) -> pyarrow.RecordBatch | None:
    """
    Read rows that are all answers of chats with one text; ``None`` if one is anything else.

    Arrow reads them to columns by itself. That takes half the time, since no row becomes an object.
    """
    import pyarrow
    from pyarrow import compute

    if any_too_deep(lines):
        return None
    table = read_json_lines(b"\n".join(lines), _api_schema())
    if table is None or table.num_rows != len(lines):
        return None
    rows = table.combine_chunks().to_batches()[0]
    response = rows.column("response")
    try:
        choice = compute.list_element(compute.struct_field(response, ["body", "choices"]), 0)
    except pyarrow.ArrowInvalid:
        # An answer without choices.
        return None
    columns = {
        "custom_id": rows.column("custom_id"),
        "status_code": compute.struct_field(response, ["status_code"]),
        "content": compute.struct_field(choice, ["message", "content"]),
        "finish_reason": compute.struct_field(choice, ["finish_reason"]),
        "prompt_tokens": compute.struct_field(response, ["body", "usage", "prompt_tokens"]),
        "completion_tokens": compute.struct_field(response, ["body", "usage", "completion_tokens"]),
        "model": compute.struct_field(response, ["body", "model"]),
        "error": rows.column("error"),
        "raw": pyarrow.array(lines, pyarrow.binary()),
    }
    batch = pyarrow.record_batch([columns[name] for name in ResultRow.__struct_fields__], schema=row_schema())
    return batch if _is_plain(batch) else None


def _is_plain(batch: pyarrow.RecordBatch) -> bool:
    """Tell whether rows succeeded, each with a text, and say nothing that has to be looked at one by one."""
    from pyarrow import compute

    if any(batch.column(name).null_count for name in ("custom_id", "status_code", "content")):
        return False
    reasons = batch.column("finish_reason").drop_null().unique().to_pylist()
    return (
        batch.column("error").null_count == batch.num_rows
        and compute.min(compute.binary_length(batch.column("custom_id"))).as_py() > 0
        and set(reasons) <= set(get_args(FinishReason))
        and _are_within(batch.column("status_code"), 200, 299)
        and all(_are_within(batch.column(name), 0, MOST) for name in ("prompt_tokens", "completion_tokens"))
    )


def _are_within(numbers: pyarrow.Array, least: int, most: int) -> bool:
    from pyarrow import compute

    found = compute.min_max(numbers).as_py()
    return found["min"] is None or (least <= found["min"] and found["max"] <= most)


@cache
def _api_schema() -> pyarrow.Schema:
    """Give the fields of a row that are read, as the API has them."""
    import pyarrow

    text, number, struct = pyarrow.string(), pyarrow.int64(), pyarrow.struct
    choice = struct([("finish_reason", text), ("message", struct([("content", text)]))])
    usage = struct([("prompt_tokens", number), ("completion_tokens", number)])
    body = struct([("model", text), ("usage", usage), ("choices", pyarrow.list_(choice))])
    response = struct([("status_code", number), ("body", body)])
    return pyarrow.schema([("custom_id", text), ("response", response), ("error", text)])


def _any_rows(lines: list[bytes]) -> pyarrow.RecordBatch:
    import pyarrow

    schema = row_schema()
    fields = zip(*map(_fields, map(result_row, lines)), strict=True) if lines else [()] * len(schema)
    columns = [_column(values, field.type) for values, field in zip(fields, schema, strict=True)]
    return pyarrow.record_batch(columns, schema=schema)


def _column(values: Sequence[Any], kind: pyarrow.DataType) -> pyarrow.Array:
    import pyarrow

    try:
        return pyarrow.array(values, kind)
    except OverflowError:
        # JSON's numbers have no bounds. A number that does not fit is null here, and stays in raw.
        return pyarrow.array(
            [None if value is None or value not in _INT64 else value for value in values], kind
        )
