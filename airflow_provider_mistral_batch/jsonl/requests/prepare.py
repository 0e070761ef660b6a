"""From any source of requests to validated, numbered, upload-ready request files, in one pass."""

from __future__ import annotations

import os
from dataclasses import dataclass
from operator import and_, gt
from pathlib import Path
from typing import Any

from airflow_provider_mistral_batch.api.limits import MAX_FILE_BYTES, MAX_REQUESTS_PER_JOB
from airflow_provider_mistral_batch.jsonl.custom_ids import CustomIds
from airflow_provider_mistral_batch.jsonl.lines import MAX_ROW_BYTES
from airflow_provider_mistral_batch.jsonl.requests.acceptance import RequestReader
from airflow_provider_mistral_batch.jsonl.requests.numbering import unused_prefixes, with_prefixes
from airflow_provider_mistral_batch.jsonl.requests.shards import Shard, ShardWriter
from airflow_provider_mistral_batch.jsonl.requests.template import RowTemplate
from airflow_provider_mistral_batch.jsonl.row_ids import request_ids
from airflow_provider_mistral_batch.storage.trouble import naming_disk

# Ids that seem to repeat are compared one by one, up to this many. Beyond, each one counts as repeated: in one of
# 10^8 files that is wrong.
_MAX_SUSPECTS = 100_000


@dataclass(frozen=True)
class PreparedRequests:
    """
    Validated requests on the local disk.

    :param shards: The request files in order.
    :param endpoint: The endpoint that all of them are for.
    :param model: The model that bodies name, if any does.
    :param numbered: How many rows had no ``custom_id`` and were numbered.
    :param agent: The first agent that bodies name, if they name agents.
    """

    shards: tuple[Shard, ...]
    endpoint: str
    model: str | None
    numbered: int
    agent: str | None = None

    @property
    def request_count(self) -> int:
        """Rows in all files."""
        return sum(shard.request_count for shard in self.shards)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Where the files are."""
        return tuple(shard.path for shard in self.shards)


def prepare_requests(
    source: Any,
    *,
    endpoint: str,
    directory: str | os.PathLike[str],
    with_url: bool = False,
    template: RowTemplate | None = None,
    max_shard_bytes: int = MAX_FILE_BYTES,
    max_job_requests: int = MAX_REQUESTS_PER_JOB,
    max_row_bytes: int = MAX_ROW_BYTES,
) -> PreparedRequests:
    """
    Validate, number and shard requests in one pass and constant memory.

    :param source: A path (str, Path or ObjectStoragePath; JSONL, also gzip or Zstandard; may be a glob), several path
        objects, or any iterable of rows and prompts: rows are ``{"custom_id", "body"}`` or ``{"custom_id", "prompt"}``,
        with or without ``method`` and ``url``; prompts are strings.
    :param endpoint: The endpoint that the job targets, such as ``/v1/chat/completions``.
    :param directory: Local directory for the request files; made if it is not there.
    :param with_url: Whether the API wants ``method`` and ``url`` in each row; otherwise, rows that have them keep them.
    :param template: What prompts and bodies have in common.
    :param max_shard_bytes: Most bytes in one request file.
    :param max_job_requests: Most requests in the files of one job.
    :param max_row_bytes: Most bytes in one row.
    :raises InvalidRequestsError: If any row cannot be sent: names the first problems with file and line, and counts
        them; after 1,000 it stops reading. No request file is left behind.
    :raises InvalidInputError: If the endpoint or the template is wrong, or there are no requests.
    """
    target = Path(directory)
    max_row_bytes = min(max_row_bytes, max_shard_bytes - 1)
    reader = RequestReader(
        endpoint, with_url=with_url, template=template or RowTemplate(), max_row_bytes=max_row_bytes
    )
    writer = ShardWriter(target, max_shard_bytes=max_shard_bytes, max_job_requests=max_job_requests)
    try:
        with naming_disk(target), CustomIds(target) as ids:
            for accepted in reader.read(source):
                ids.extend(accepted.ids)
                writer.write(accepted.data, len(accepted.ids))
            shards = writer.finish()
            repeated = ids.repeated(reader.numbered_rows)
            if 1 in repeated:
                shards = _resolve_repeated(shards, ids, repeated, reader)
        reader.problems.raise_if_any()
        reader.log_numbered()
        return PreparedRequests(shards, endpoint, reader.model, reader.numbered, reader.agent)
    except BaseException:
        writer.discard()
        raise


def _resolve_repeated(
    shards: tuple[Shard, ...], ids: CustomIds, repeated: bytearray, reader: RequestReader
) -> tuple[Shard, ...]:
    """
    Refuse rows whose ids were given to rows before them, or else give rows that we numbered other ids.

    :param shards: The files of all rows.
    :param ids: The ids of all rows.
    :param repeated: One flag for each row: 1 if a row before it has its id. Numbered rows count as the last ones.
    :param reader: Knows which rows were numbered, and takes the problems.
    """
    numbered = reader.numbered_rows or bytes(len(repeated))
    duplicates = bytearray(map(gt, repeated, numbered))
    if 1 in duplicates:
        _refuse_duplicates(shards, ids, duplicates, reader)
    if reader.problems.total:
        return shards
    clashing = bytes(map(and_, repeated, numbered))
    if 1 not in clashing:
        return shards
    return with_prefixes(shards, unused_prefixes(clashing, ids, shards[0].path.parent))


def _refuse_duplicates(
    shards: tuple[Shard, ...], ids: CustomIds, duplicates: bytearray, reader: RequestReader
) -> None:
    """
    Read the ids that seem to repeat, and refuse the rows whose ids do.

    Memory is bounded by the number of suspected ids that are looked at.
    """
    suspects = ids.keys_at(duplicates, _MAX_SUSPECTS)
    first: dict[str, int] = {}
    listed = 0
    index = 0
    for shard in shards:
        for ids_of_rows in request_ids(shard.path):
            for id_ in ids_of_rows:
                if (
                    ids.key(id_) in suspects
                    and not reader.is_numbered(index)
                    and (earlier := first.setdefault(id_, index)) != index
                ):
                    reader.refuse_duplicate(id_, earlier, index)
                    listed += 1
                index += 1
    if len(suspects) == _MAX_SUSPECTS:
        reader.problems.total += max(0, duplicates.count(1) - listed)
