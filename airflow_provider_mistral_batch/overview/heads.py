"""``Head``: the first rows of a result file as people see them, of bounded size, whatever the rows hold."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import Any

import msgspec

from airflow_provider_mistral_batch.api.errors import MistralCallError, NotFoundError
from airflow_provider_mistral_batch.api.texts import excerpt
from airflow_provider_mistral_batch.overview.jobs import clean

#: Bytes of each result file that are read, rows that are shown, and characters of a row's text.
HEAD_BYTES, ROWS_SHOWN, TEXT_LENGTH = 1 << 18, 10, 2000


class RowView(msgspec.Struct, frozen=True, kw_only=True):
    """
    A result row as people see it.

    :param text: The answer's text, cut; ``None`` for failures and for answers without text.
    :param error: Why the row failed.
    """

    custom_id: str | None = None
    status_code: int | None = None
    finish_reason: str | None = None
    text: str | None = None
    error: str | None = None


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """
    The first rows of a result file.

    :param rows: The first of them, to show.
    :param rows_read: How many were read.
    :param is_whole: Whether these are all rows of the file.
    :param by_status: Rows read by HTTP status code; ``none`` for rows without a response.
    :param usage: Sums over the rows read.
    :param errors: Kinds of failure among them, the most frequent first, each with an ``example``.
    :param problem: Why the file could not be read.
    """

    rows: list[RowView] = []
    rows_read: int = 0
    is_whole: bool = False
    by_status: dict[str, int] = {}
    usage: dict[str, float] = {}
    errors: list[dict[str, Any]] = []
    problem: str | None = None


def read_head(
    stream: Callable[[str], Generator[bytes, None, None]],
    file_id: str,
    without_secrets: Callable[[str], str],
    *,
    max_bytes: int = HEAD_BYTES,
) -> Head:
    """
    Read the first rows of a result file of the API, and no more.

    :param stream: Downloads a file in chunks.
    :param file_id: The file's id.
    :param without_secrets: Removes secrets from a text.
    :param max_bytes: Most bytes to look at.
    """
    content = b""
    try:
        with contextlib.closing(stream(file_id)) as chunks:
            for chunk in chunks:
                content += chunk
                if len(content) > max_bytes:
                    break
    except NotFoundError:
        return Head(problem="the API has the file no more: it expired, or somebody deleted it")
    except MistralCallError as error:
        return Head(problem=excerpt(str(error)))
    return head_of_beginning(content[:max_bytes], without_secrets, is_whole=len(content) <= max_bytes)


def head_of_beginning(content: bytes, without_secrets: Callable[[str], str], *, is_whole: bool) -> Head:
    """
    Make the head of a file of JSON lines from its beginning.

    :param content: The file's first bytes. A row that is cut at their end is left out.
    :param without_secrets: Removes secrets from a text.
    :param is_whole: Whether these are all.
    """
    if not is_whole:
        content, read = content[: content.rfind(b"\n") + 1], len(content)
        if not content.strip():
            return Head(problem=f"its first row has more than {read:,} bytes")
    lines = [line for line in content.split(b"\n") if line.strip()]
    return head_of_lines(lines, without_secrets, is_whole=is_whole)


def head_of_lines(lines: list[bytes], without_secrets: Callable[[str], str], *, is_whole: bool) -> Head:
    """
    Make the head of a file from its first rows.

    :param lines: The rows as the API gave them.
    :param without_secrets: Removes secrets from a text.
    :param is_whole: Whether these are all.
    """
    # Imported late: a list of jobs needs none of it.
    from airflow_provider_mistral_batch.jsonl.results.api_rows import read_api_row
    from airflow_provider_mistral_batch.jsonl.results.outcomes import succeeded
    from airflow_provider_mistral_batch.jsonl.results.rows import result_row
    from airflow_provider_mistral_batch.jsonl.results.tally import Tally

    tally = Tally(without_secrets)
    for line in lines:
        row = read_api_row(line)
        if row is not None and row.response is not None and succeeded(row):
            tally.add_succeeded([row.response])
        else:
            tally.add_failed(row, line)

    def shown(line: bytes) -> RowView:
        row = result_row(line)
        return RowView(
            custom_id=_line(row.custom_id, without_secrets),
            status_code=row.status_code,
            finish_reason=_line(row.finish_reason, without_secrets),
            text=None if row.content is None else passage(row.content, without_secrets),
            error=_line(row.error, without_secrets),
        )

    return Head(
        rows=[shown(line) for line in lines[:ROWS_SHOWN]],
        rows_read=len(lines),
        is_whole=is_whole,
        by_status=dict(tally.by_status),
        usage=dict(tally.usage),
        errors=tally.digest,
    )


def passage(text: str, without_secrets: Callable[[str], str] = str, limit: int = TEXT_LENGTH) -> str:
    """
    Give a text of several lines for people: cut, without secrets and control characters.

    :param text: Any text.
    :param without_secrets: Removes secrets from a text.
    :param limit: Most characters to keep.
    """
    hidden = without_secrets(text[: limit * 2])
    cut = hidden[:limit] + ("…" if len(hidden) > limit or len(text) > limit * 2 else "")
    return "".join(char if char.isprintable() or char == "\n" else " " for char in cut)


def _line(text: str | None, without_secrets: Callable[[str], str]) -> str | None:
    return None if text is None else clean(without_secrets(text[:4000]), 500)
