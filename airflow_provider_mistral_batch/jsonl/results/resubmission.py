"""The request files of the next round: requests without a result, and failed ones that are worth another try."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from itertools import compress
from pathlib import Path
from typing import Any

import msgspec

from airflow_provider_mistral_batch.api.decoding import UNREADABLE
from airflow_provider_mistral_batch.api.limits import MAX_FILE_BYTES, MAX_REQUESTS_PER_JOB
from airflow_provider_mistral_batch.jsonl.custom_ids import CertainIds
from airflow_provider_mistral_batch.jsonl.lines import ANY_LENGTH, file_chunks, line_blocks
from airflow_provider_mistral_batch.jsonl.requests.shards import Shard, ShardWriter
from airflow_provider_mistral_batch.jsonl.results.outcomes import INVALID_OUTPUT, failure
from airflow_provider_mistral_batch.jsonl.results.reader import read_blocks
from airflow_provider_mistral_batch.jsonl.results.row_table import RowTable
from airflow_provider_mistral_batch.jsonl.results.rows import ResultRow, result_row
from airflow_provider_mistral_batch.jsonl.row_ids import request_ids, row_ids
from airflow_provider_mistral_batch.storage.paths import StoragePath
from airflow_provider_mistral_batch.storage.trouble import naming_disk

#: Takes a request's body and its row, whose answer was not acceptable. Gives the body to ask with next, or None.
Reask = Callable[[dict[str, Any], ResultRow], "dict[str, Any] | None"]


def write_resubmission(
    requests: Iterable[StoragePath | str],
    results_path: StoragePath | str,
    errors_path: StoragePath | str,
    *,
    directory: str | os.PathLike[str],
    reask: Reask | None = None,
    max_shard_bytes: int = MAX_FILE_BYTES,
    max_job_requests: int = MAX_REQUESTS_PER_JOB,
) -> tuple[Shard, ...]:
    """
    Write the request files of the next round: requests without a result, and failed ones worth another try.

    :func:`~airflow_provider_mistral_batch.jsonl.results.outcomes.may_pass` decides which failures are. The rows stay
    byte for byte as they were sent, in their order.

    :param requests: The request files of the round that is over.
    :param results_path: The file of answers that :func:`~.split_results` made of its results.
    :param errors_path: The file of failures.
    :param directory: Local directory for the new request files.
    :param reask: Called for each row whose answer was not acceptable (``invalid_output``): takes the request's body
        and the failed row, and gives the body to ask with next, or None to leave it failed. Without it such rows are
        not asked again.
    :param max_shard_bytes: Most bytes in one request file.
    :param max_job_requests: Most requests in the files of one job.
    :return: The files; none if no request is worth another try.
    """
    files = list(requests)
    target = Path(directory)
    writer = ShardWriter(target, max_shard_bytes=max_shard_bytes, max_job_requests=max_job_requests)
    with naming_disk(target), ExitStack() as stack:
        settled = stack.enter_context(CertainIds(target))
        asked = stack.enter_context(CertainIds(target))
        invalid = None if reask is None else stack.enter_context(RowTable(target))
        for lines in read_blocks(results_path):
            settled.extend(_ids(lines))
        for lines in read_blocks(errors_path):
            reasons = list(map(failure, lines))
            reaskable = [invalid is not None and reason.code == INVALID_OUTPUT for reason in reasons]
            if invalid is not None:
                invalid.extend(list(compress(lines, reaskable)))
            final = [
                not (reason.may_pass or is_reaskable)
                for reason, is_reaskable in zip(reasons, reaskable, strict=True)
            ]
            settled.extend(_ids(list(compress(lines, final))))
        for file in files:
            for ids in request_ids(file):
                asked.extend(ids)
        unsettled, _ = asked.unshared(settled)
        try:
            start = 0
            for file in files:
                for block in line_blocks(file_chunks(file), max_line_bytes=ANY_LENGTH):
                    end = start + len(block.lines)
                    lines = list(compress(block.lines, unsettled[start:end]))
                    start = end
                    if reask is not None and invalid:
                        reasked = [_reasked(line, invalid, reask, max_shard_bytes) for line in lines]
                        lines = [line for line in reasked if line]
                    if lines:
                        writer.write(b"\n".join(lines), len(lines))
            return writer.finish()
        except BaseException:
            writer.discard()
            raise


def _ids(lines: list[bytes]) -> list[str]:
    """Give the ids of result rows; a row without one settles no request."""
    return [id_ or "" for id_ in row_ids(lines)]


class _Request(msgspec.Struct, gc=False, omit_defaults=True, kw_only=True):
    custom_id: str
    method: str | None = None
    url: str | None = None
    body: msgspec.Raw


_decode_request = msgspec.json.Decoder(_Request).decode
_decode_body = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


def _reasked(request: bytes, invalid: RowTable, reask: Reask, max_bytes: int) -> bytes | None:
    """
    Give a request as it is to be asked again.

    :param request: The request's row.
    :param invalid: Rows whose answers were not acceptable. A request without one is asked as it was.
    :param reask: Gives the next body.
    :param max_bytes: Most bytes in the row, its newline included.
    :return: The row; None if the request is not to be asked again, or cannot be.
    """
    row = _decode_request(request)
    failed = invalid.get(row.custom_id)
    if failed is None:
        return request
    try:
        body = _decode_body(row.body)
    except UNREADABLE:
        # It has a number that Python cannot hold. The row was sent as it was written, but cannot be written anew.
        return None
    next_body = reask(body, result_row(failed))
    if next_body is None:
        return None
    row.body = msgspec.Raw(_encode(next_body))
    again = _encode(row)
    # The conversation has grown by an answer, which may be longer than any request.
    return again if len(again) < max_bytes else None
