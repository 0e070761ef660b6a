"""Ids for rows without ``custom_id``: made of the row's number, in a form that no other row has as its id."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import compress, count, islice
from pathlib import Path

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.api.hashing import sha256_of
from airflow_provider_mistral_batch.jsonl.custom_ids import CustomIds
from airflow_provider_mistral_batch.jsonl.lines import ANY_LENGTH, file_chunks, whole_lines
from airflow_provider_mistral_batch.jsonl.requests.shards import Shard

#: What stands before a row's number (counted from 1) in its id. The first is the rule, the others are used where
#: another row has that id. All are of one length, so that one can be written over another.
PREFIXES = ("row-", "row_", "row.", "row:", "row~", "row#", "row+", "row=", "row@", "row/", "ROW-")

# We write the rows that we number, and their ids first.
_ID_BEGINS_AT = len('{"custom_id":"')

_IDS_AT_ONCE = 10_000


def numbered_id(number: int, prefix: str = PREFIXES[0]) -> str:
    """Make the id of a row from its number."""
    return f"{prefix}{number}"


def unused_id(number: int, is_used: Callable[[str], bool]) -> str:
    """
    Make the id of a row from its number, such that no other row has it.

    :param number: The row's number.
    :param is_used: Tells whether another row has an id.
    :raises InvalidInputError: If every possible id is used.
    """
    ids = (numbered_id(number, prefix) for prefix in PREFIXES)
    id_ = next((id_ for id_ in ids if not is_used(id_)), None)
    if id_ is None:
        raise _no_unused_id(number)
    return id_


def unused_prefixes(clashing: bytes, ids: CustomIds, directory: Path) -> bytearray:
    """
    Choose another prefix for each row whose id from its number is another row's id, too.

    One prefix is tried for all such rows at once: the ids are looked through once for each prefix, not for each row.

    :param clashing: One flag for each row: 1 if it needs another prefix.
    :param ids: The ids of all rows.
    :param directory: Where the temporary files are made.
    :return: For each row the index of its prefix in :data:`PREFIXES`.
    :raises InvalidInputError: If every possible id of a row is used.
    """
    chosen = bytearray(len(clashing))
    waiting: bytes | bytearray = clashing
    for index, prefix in enumerate(PREFIXES[1:], 1):
        with CustomIds(directory) as candidates:
            numbers = compress(count(1), waiting)
            while some := list(islice(numbers, _IDS_AT_ONCE)):
                candidates.extend([numbered_id(number, prefix) for number in some])
            used = candidates.shared(ids)
        still_waiting = bytearray(len(clashing))
        for row, is_used in zip(compress(count(), waiting), used, strict=False):
            if is_used:
                still_waiting[row] = 1
            else:
                chosen[row] = index
        waiting = still_waiting
        if 1 not in waiting:
            return chosen
    raise _no_unused_id(waiting.find(1) + 1)


def with_prefixes(shards: Sequence[Shard], chosen: bytearray) -> tuple[Shard, ...]:
    """
    Write the chosen prefixes over the first one, in the files.

    :param shards: The files of all rows.
    :param chosen: What :func:`unused_prefixes` returned.
    :return: The files, with their new hashes.
    """
    done = []
    start = 0
    for shard in shards:
        end = start + shard.request_count
        indexes = chosen[start:end]
        if any(indexes):
            _write_prefixes(shard.path, indexes)
            with shard.path.open("rb") as file:
                shard = replace(shard, sha256=sha256_of(file)[0])
        done.append(shard)
        start = end
    return tuple(done)


def _write_prefixes(path: Path, indexes: bytearray) -> None:
    row = offset = 0
    with path.open("r+b") as file:
        for data, _ in whole_lines(file_chunks(path), max_line_bytes=ANY_LENGTH):
            lines = data.split(b"\n")
            for line, index in zip(lines, indexes[row : row + len(lines)], strict=True):
                if index:
                    file.seek(offset + _ID_BEGINS_AT)
                    file.write(PREFIXES[index].encode())
                offset += len(line) + 1
            row += len(lines)


def _no_unused_id(number: int) -> InvalidInputError:
    return InvalidInputError(
        f"custom_id: row {number} has none, and other rows have every id that it could get; give it one"
    )
