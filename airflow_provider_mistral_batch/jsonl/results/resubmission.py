"""Another round for the requests that failed but can pass, and one final outcome for each request after all rounds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import compress, filterfalse
from pathlib import Path
from typing import Any

import msgspec

from airflow_provider_mistral_batch.api.decoding import UNREADABLE
from airflow_provider_mistral_batch.api.limits import MAX_FILE_BYTES, MAX_REQUESTS_PER_JOB
from airflow_provider_mistral_batch.jsonl.custom_ids import CustomIds
from airflow_provider_mistral_batch.jsonl.lines import ANY_LENGTH, file_chunks, line_blocks
from airflow_provider_mistral_batch.jsonl.requests.shards import Shard, ShardWriter
from airflow_provider_mistral_batch.jsonl.requests.validation import request_ids
from airflow_provider_mistral_batch.jsonl.results.outcomes import INVALID_OUTPUT, custom_ids, failure
from airflow_provider_mistral_batch.jsonl.results.placeholder_rows import is_missing_row
from airflow_provider_mistral_batch.jsonl.results.reader import ResultRow, result_batches, result_row
from airflow_provider_mistral_batch.jsonl.results.row_table import InvalidRows
from airflow_provider_mistral_batch.jsonl.results.split import OutputFormat, ResultsSummary, split_results

#: Gives the body to ask with next, from the request's body and the row whose answer was not acceptable.
Reask = Callable[[dict[str, Any], ResultRow], "dict[str, Any] | None"]


def write_resubmission(
    requests: Iterable[Any],
    results_path: Any,
    errors_path: Any,
    *,
    directory: str | os.PathLike[str],
    reask: Reask | None = None,
    max_shard_bytes: int = MAX_FILE_BYTES,
    max_job_requests: int = MAX_REQUESTS_PER_JOB,
) -> tuple[Shard, ...]:
    """
    Write the request files of the next round: requests without an outcome, and failed ones that can pass.

    What can pass, :func:`~airflow_provider_mistral_batch.jsonl.results.outcomes.may_pass` says. The rows stay byte for
    byte as they were sent, in their order.

    :param requests: The request files of the round that is over.
    :param results_path: The file of answers that :func:`~.split_results`
        made of its results.
    :param errors_path: The file of failures.
    :param directory: Local directory for the new request files.
    :param reask: Is asked about each row whose answer was not acceptable (``invalid_output``): takes the request's body
        and the failed row, and gives the body to ask with next, or None to leave it failed. Without it such rows are
        not asked again.
    :param max_shard_bytes: Most bytes in one request file.
    :param max_job_requests: Most requests in the files of one job.
    :return: The files; none if no request is worth another try.
    """
    files = list(requests)
    target = Path(directory)
    writer = ShardWriter(target, max_shard_bytes=max_shard_bytes, max_job_requests=max_job_requests)
    with ExitStack() as stack:
        settled = stack.enter_context(CustomIds(target))
        asked = stack.enter_context(CustomIds(target))
        invalid = None if reask is None else stack.enter_context(InvalidRows(target))
        for lines in result_batches(results_path):
            settled.extend(_ids(lines))
        for lines in result_batches(errors_path):
            reasons = list(map(failure, lines))
            again = [invalid is not None and reason.code == INVALID_OUTPUT for reason in reasons]
            if invalid is not None:
                invalid.extend(list(compress(lines, again)))
            final = [not (reason.may_pass or asked) for reason, asked in zip(reasons, again, strict=True)]
            settled.extend(_ids(list(compress(lines, final))))
        for file in files:
            for ids in request_ids(file):
                asked.extend(ids)
        undecided, _ = asked.unshared(settled)
        try:
            start = 0
            for file in files:
                for block in line_blocks(file_chunks(file), max_line_bytes=ANY_LENGTH):
                    end = start + len(block.lines)
                    lines = list(compress(block.lines, undecided[start:end]))
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


def merge_rounds(
    rounds: Sequence[Mapping[str, Any]],
    results_path: Any,
    errors_path: Any,
    *,
    requests: Iterable[Any],
    output_format: OutputFormat = "jsonl",
) -> ResultsSummary:
    """
    Make one pair of files of several rounds': each request has its answer, or else its last failure.

    :param rounds: ``ResultsSummary.as_dict()`` of each round, in their order.
    :param results_path: Where the rows that succeeded go: str, Path or ObjectStoragePath.
    :param errors_path: Where the failed rows go.
    :param requests: The request files of the first round, which has every request.
    :param output_format: ``jsonl`` or ``parquet``.
    :return: Counts of the final outcomes; ``usage`` sums all rounds, for all of them were paid.
    """
    latest_first = list(reversed(rounds))
    streams = [_stream(one["results_path"]) for one in latest_first]
    streams += [_stream(one["errors_path"], _failures) for one in latest_first]
    # That a later round has no row is no news where an earlier one has.
    streams += [_stream(one["errors_path"], _missing) for one in latest_first]
    merged = split_results(streams, results_path, errors_path, requests=requests, output_format=output_format)
    usage: dict[str, int | float] = {}
    for one in rounds:
        for name, amount in one["usage"].items():
            usage[name] = usage.get(name, 0) + amount
    # A row of an earlier round that a later one replaced is no duplicate of the API's making.
    duplicates = sum(one["counts"]["duplicates"] for one in rounds)
    return replace(merged, usage=usage, counts={**merged.counts, "duplicates": duplicates})


def _ids(lines: list[bytes]) -> list[str]:
    """Give the ids of result rows; a row without one settles nothing."""
    return [id_ or "" for id_ in custom_ids(lines)]


def _stream(path: Any, chosen: Callable[[list[bytes]], Iterable[bytes]] = list) -> Iterator[bytes]:
    for lines in result_batches(path):
        yield b"".join([line + b"\n" for line in chosen(lines)])


def _failures(lines: list[bytes]) -> Iterator[bytes]:
    return filterfalse(is_missing_row, lines)


def _missing(lines: list[bytes]) -> Iterator[bytes]:
    return filter(is_missing_row, lines)


class _Request(msgspec.Struct, gc=False, omit_defaults=True, kw_only=True):
    custom_id: str
    method: str | None = None
    url: str | None = None
    body: msgspec.Raw


_decode_request = msgspec.json.Decoder(_Request).decode
_decode_body = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


def _reasked(request: bytes, invalid: InvalidRows, reask: Reask, max_bytes: int) -> bytes | None:
    """Give a request as it is to be asked again; None if it is not, or cannot be with its newline in some bytes."""
    row = _decode_request(request)
    failed = invalid.get(row.custom_id)
    if failed is None:
        return request
    try:
        body = _decode_body(row.body)
    except UNREADABLE:
        # A number that Python cannot hold. The row went as it is, and cannot be written anew.
        return None
    next_body = reask(body, result_row(failed))
    if next_body is None:
        return None
    row.body = msgspec.Raw(_encode(next_body))
    again = _encode(row)
    # The conversation has grown by an answer, which may be longer than any request.
    return again if len(again) < max_bytes else None
