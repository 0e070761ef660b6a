"""Many result rows at once, as Arrow columns: the fields of :class:`ResultRow`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from airflow_provider_mistral_batch.api.decoding import UNREADABLE
from airflow_provider_mistral_batch.jsonl.collection import no_collection
from airflow_provider_mistral_batch.jsonl.requests.nesting import any_too_deep
from airflow_provider_mistral_batch.jsonl.results.api_rows import Amount, CustomId, FinishReason, Success
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


@no_collection()
def row_columns(lines: list[bytes]) -> pyarrow.RecordBatch:
    """
    Read rows: one column for each field of :class:`ResultRow`.

    :param lines: The rows as the API gave them.
    """
    return _plain_chats(lines) or _any_rows(lines)


class _Message(msgspec.Struct, gc=False):
    content: str


class _Choice(msgspec.Struct, gc=False):
    message: _Message
    finish_reason: FinishReason | None = None


class _Tokens(msgspec.Struct, gc=False):
    prompt_tokens: Amount | None = None
    completion_tokens: Amount | None = None


class _Body(msgspec.Struct, gc=False):
    choices: Annotated[list[_Choice], msgspec.Meta(min_length=1)]
    model: str | None = None
    usage: _Tokens | None = None


class _Response(msgspec.Struct, gc=False):
    status_code: Success
    body: _Body


class _PlainChat(msgspec.Struct, gc=False):
    custom_id: CustomId
    response: _Response
    error: None = None


_decode_plain_chat = msgspec.json.Decoder(_PlainChat).decode
_NO_TOKENS = _Tokens()


def _plain_chats(lines: list[bytes]) -> pyarrow.RecordBatch | None:
    """
    Read rows that are all answers of chats with one text; ``None`` if one is anything else.

    That takes half the time: no more is decoded than becomes a column.
    """
    import pyarrow

    if any_too_deep(lines):
        return None
    try:
        rows = list(map(_decode_plain_chat, lines))
    except UNREADABLE:
        return None
    responses = [row.response for row in rows]
    bodies = [response.body for response in responses]
    choices = [body.choices[0] for body in bodies]
    usages = [body.usage or _NO_TOKENS for body in bodies]
    columns = {
        "custom_id": [row.custom_id for row in rows],
        "status_code": [response.status_code for response in responses],
        "content": [choice.message.content for choice in choices],
        "finish_reason": [choice.finish_reason for choice in choices],
        "prompt_tokens": [usage.prompt_tokens for usage in usages],
        "completion_tokens": [usage.completion_tokens for usage in usages],
        "model": [body.model for body in bodies],
        "error": [None] * len(rows),
        "raw": lines,
    }
    schema = row_schema()
    return pyarrow.record_batch(
        [pyarrow.array(columns[field.name], field.type) for field in schema], schema=schema
    )


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
