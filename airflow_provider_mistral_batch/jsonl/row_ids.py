"""The custom ids of rows, read from request files and from result rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import compress
from typing import Any

import msgspec

from airflow_provider_mistral_batch.api.decoding import UNREADABLE, decoded, decoded_leniently
from airflow_provider_mistral_batch.jsonl.lines import ANY_LENGTH, file_chunks, whole_lines
from airflow_provider_mistral_batch.storage.paths import StoragePath


class _RequestId(msgspec.Struct, gc=False):
    custom_id: str


class _RowId(msgspec.Struct, gc=False):
    custom_id: Any = None


_decode_request_ids = msgspec.json.Decoder(_RequestId).decode_lines
_decode_row_id = msgspec.json.Decoder(_RowId).decode


def request_ids(path: StoragePath | str) -> Iterator[list[str]]:
    """
    Read the ids of a prepared request file, one block of rows at a time.

    :param path: A file of validated rows: each has a ``custom_id``.
    """
    for data, _ in whole_lines(file_chunks(path), max_line_bytes=ANY_LENGTH):
        yield [row.custom_id for row in _decode_request_ids(data)]


def flagged_request_ids(paths: Iterable[StoragePath | str], flags: bytes | bytearray) -> Iterator[str]:
    """
    Read the ids of some rows of prepared request files.

    :param paths: The files.
    :param flags: One flag for each row of all files, in their order: 1 if its id is wanted.
    """
    start = 0
    for path in paths:
        for data, _ in whole_lines(file_chunks(path), max_line_bytes=ANY_LENGTH):
            end = start + data.count(b"\n") + 1
            if flags.find(1, start, end) >= 0:
                yield from [row.custom_id for row in compress(_decode_request_ids(data), flags[start:end])]
            start = end


def row_ids(lines: list[bytes]) -> list[str | None]:
    """
    Give the ids of rows, whatever else is in them.

    :param lines: Rows of a request, results or errors file.
    :return: For each row its id; None if it has none that is a string, or is not JSON.
    """
    try:
        ids = [row.custom_id for row in map(_decode_row_id, lines)]
    except UNREADABLE:
        ids = list(map(_row_id, lines))
    return [id_ if isinstance(id_, str) else None for id_ in ids]


def _row_id(line: bytes) -> Any:
    try:
        return decoded(_decode_row_id, line).custom_id
    except UNREADABLE:
        pass
    try:
        fields = decoded_leniently(line)
    except (ValueError, RecursionError):
        return None
    return fields.get("custom_id") if isinstance(fields, dict) else None
