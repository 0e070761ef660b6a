"""Names of rows without ``custom_id``: their numbers, in a form that no other row was given as its id."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import compress, count, islice
from pathlib import Path

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.jsonl.custom_ids import CustomIds
from airflow_provider_mistral_batch.jsonl.lines import ANY_LENGTH, file_chunks, whole_lines
from airflow_provider_mistral_batch.jsonl.requests.shards import Shard

#: What comes before a row's number in the input, from 1. The first is the rule; names with the others are as long, so
#: that they can be written over it.
PREFIXES = ("row-", "row_", "row.", "row:", "row~", "row#", "row+", "row=", "row@", "row/", "ROW-")

# We write a row that we number ourselves, and its id first.
_NAME_BEGINS_AT = len('{"custom_id":"')

_NAMES_AT_ONCE = 10_000


def row_name(number: int, prefix: str = PREFIXES[0]) -> str:
    """Name a row after its number."""
    return f"{prefix}{number}"


def free_name(number: int, taken: Callable[[str], bool]) -> str:
    """
    Name a row whose name is another row's id.

    :param number: The row's number.
    :param taken: Tells whether a name is another row's id.
    :raises InvalidInputError: If all names are.
    """
    names = (row_name(number, prefix) for prefix in PREFIXES)
    name = next((name for name in names if not taken(name)), None)
    if name is None:
        raise _no_name(number)
    return name


def free_prefixes(clashing: bytes, ids: CustomIds, directory: Path) -> bytearray:
    """
    Choose a prefix for each row whose name is another row's id.

    All of them try a prefix at once: the ids are looked through once for each prefix, however many rows there are.

    :param clashing: A flag for each row.
    :param ids: The ids of all rows.
    :param directory: Where the temporary files are made.
    :return: For each row the place of its prefix in :data:`PREFIXES`.
    :raises InvalidInputError: If all names of a row are other rows' ids.
    """
    chosen = bytearray(len(clashing))
    waiting: bytes | bytearray = clashing
    for place, prefix in enumerate(PREFIXES[1:], 1):
        with CustomIds(directory) as names:
            numbers = compress(count(1), waiting)
            while some := list(islice(numbers, _NAMES_AT_ONCE)):
                names.extend([row_name(number, prefix) for number in some])
            taken = names.shared(ids)
        still_waiting = bytearray(len(clashing))
        for row, is_taken in zip(compress(count(), waiting), taken, strict=False):
            if is_taken:
                still_waiting[row] = 1
            else:
                chosen[row] = place
        waiting = still_waiting
        if 1 not in waiting:
            return chosen
    raise _no_name(waiting.find(1) + 1)


def renamed(shards: Sequence[Shard], chosen: bytearray) -> tuple[Shard, ...]:
    """
    Write the names of rows with another prefix into their files.

    :param shards: The files of all rows.
    :param chosen: What :func:`free_prefixes` gave.
    """
    done = []
    start = 0
    for shard in shards:
        end = start + shard.request_count
        places = chosen[start:end]
        if any(places):
            _rename(shard.path, places)
            shard = replace(shard, sha256=_sha256(shard.path))
        done.append(shard)
        start = end
    return tuple(done)


def _rename(path: Path, places: bytearray) -> None:
    row = offset = 0
    with path.open("r+b") as file:
        for data, _ in whole_lines(file_chunks(path), max_line_bytes=ANY_LENGTH):
            lines = data.split(b"\n")
            for line, place in zip(lines, places[row : row + len(lines)], strict=True):
                if place:
                    file.seek(offset + _NAME_BEGINS_AT)
                    file.write(PREFIXES[place].encode())
                offset += len(line) + 1
            row += len(lines)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    for chunk in file_chunks(path):
        digest.update(chunk)
    return digest.hexdigest()


def _no_name(number: int) -> InvalidInputError:
    return InvalidInputError(
        f"custom_id: row {number} has none, and all names that it could get are other rows' ids; give it one"
    )
