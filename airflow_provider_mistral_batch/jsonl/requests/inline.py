"""The requests of a job that carries them in its own body instead of files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from airflow_provider_mistral_batch.api.checks import check_inline_count
from airflow_provider_mistral_batch.api.decoding import UNREADABLE
from airflow_provider_mistral_batch.jsonl.lines import MAX_ROW_BYTES
from airflow_provider_mistral_batch.jsonl.requests.acceptance import RequestReader
from airflow_provider_mistral_batch.jsonl.requests.numbering import unused_id
from airflow_provider_mistral_batch.jsonl.requests.problems import Problem, shortened
from airflow_provider_mistral_batch.jsonl.requests.template import RowTemplate


class InlineRequests(NamedTuple):
    """
    Validated requests of a job that carries them in its own body.

    :param rows: The rows, each with ``custom_id`` and ``body``.
    :param model: The model that bodies name, if any does.
    :param numbered: How many rows had no ``custom_id`` and were numbered.
    :param agent: The first agent that bodies name, if they name agents.
    """

    rows: list[dict[str, Any]]
    model: str | None
    numbered: int
    agent: str | None = None


def validate_inline(
    requests: Sequence[Any],
    *,
    endpoint: str,
    template: RowTemplate | None = None,
) -> InlineRequests:
    """
    Validate and number the requests of a job that carries them in its own body.

    :param requests: Rows or prompts, as for :func:`~.prepare_requests`.
    :param endpoint: The endpoint that the job targets.
    :param template: What prompts and bodies have in common.
    :raises InvalidRequestsError: If any row cannot be sent.
    :raises InvalidInputError: If there are none, or more than 10,000 (the API's ``requests``, ``maxItems``).
    """
    check_inline_count(len(requests))
    reader = RequestReader(
        endpoint, with_url=False, template=template or RowTemplate(), max_row_bytes=MAX_ROW_BYTES
    )
    lines: list[bytes] = []
    ids: list[str] = []
    for accepted in reader.read(requests):
        ids += accepted.ids
        lines += accepted.data.split(b"\n")
    rows: list[dict[str, Any]] = []
    for index, line in enumerate(lines):
        row = _read_back(line)
        if isinstance(row, Problem):
            reader.refuse(index, row)
        else:
            # The published examples have `method` and `url`, but an inline request has neither.
            rows.append({name: row[name] for name in ("custom_id", "body")})
    first: dict[str, int] = {}
    for index, id_ in enumerate(ids):
        if not reader.is_numbered(index) and (earlier := first.setdefault(id_, index)) != index:
            reader.refuse_duplicate(id_, earlier, index)
    reader.problems.raise_if_any()
    for index, id_ in enumerate(ids):
        if reader.is_numbered(index) and id_ in first:
            rows[index]["custom_id"] = unused_id(index + 1, first.__contains__)
    reader.log_numbered()
    return InlineRequests(rows, reader.model, reader.numbered, reader.agent)


def _read_back(line: bytes) -> dict[str, Any] | Problem:
    try:
        row: dict[str, Any] = msgspec.json.decode(line)
    except UNREADABLE as error:
        # The row was checked to be JSON, whose numbers have no bounds.
        return Problem(
            f"Python cannot hold it: {error}", "Change it, or send it in a file", value=shortened(line)
        )
    return row
