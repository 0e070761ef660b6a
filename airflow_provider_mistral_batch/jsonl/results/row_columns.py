"""Many result rows at once, field by field: what :class:`ResultRow` has, as lists."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import msgspec

from airflow_provider_mistral_batch.api.decoding import UNREADABLE
from airflow_provider_mistral_batch.jsonl.results.api_rows import Answer, SucceededRow
from airflow_provider_mistral_batch.jsonl.results.rows import result_row

_decode = msgspec.json.Decoder(SucceededRow[Answer]).decode

_fields = attrgetter(
    "custom_id",
    "response.body.model",
    "response.body.usage.prompt_tokens",
    "response.body.usage.completion_tokens",
    "response.body.choices",
)
_by_row = attrgetter(
    "custom_id", "content", "finish_reason", "prompt_tokens", "completion_tokens", "model", "error"
)


class RowColumns(msgspec.Struct, frozen=True):
    """
    The fields of some rows. Each list has one value a row; :class:`ResultRow` says what they mean.

    :ivar lines: The rows as the API gave them.
    """

    lines: Sequence[bytes]
    custom_id: Sequence[str | None]
    content: Sequence[str | None]
    finish_reason: Sequence[str | None]
    prompt_tokens: Sequence[int | None]
    completion_tokens: Sequence[int | None]
    model: Sequence[str | None]
    error: Sequence[str | None]

    def __len__(self) -> int:
        return len(self.lines)


def row_columns(lines: Sequence[bytes]) -> RowColumns:
    """
    Read rows.

    :param lines: The rows as the API gave them.
    """
    return _plain_chats(lines) or _any_rows(lines)


def _plain_chats(lines: Sequence[bytes]) -> RowColumns | None:
    """Read rows that are all answers of chats with one text, twice as fast; ``None`` if one is anything else."""
    try:
        rows = [_decode(line) for line in lines]
        ids, models, prompts, completions, choices = zip(*map(_fields, rows), strict=True)
        firsts = [choice[0] for choice in choices]
        contents = [first.message.content for first in firsts]
    except (*UNREADABLE, AttributeError, TypeError, IndexError, ValueError):
        return None
    if set(map(type, contents)) != {str}:
        return None
    reasons = [first.finish_reason for first in firsts]
    return RowColumns(lines, ids, contents, reasons, prompts, completions, models, [None] * len(lines))


def _any_rows(lines: Sequence[bytes]) -> RowColumns:
    fields: Any = zip(*map(_by_row, map(result_row, lines)), strict=True) if lines else [[]] * 7
    return RowColumns(lines, *fields)
