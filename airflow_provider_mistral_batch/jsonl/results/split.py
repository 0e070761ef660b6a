"""From result streams to a file of answers and a file of failures, with every request accounted for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

from airflow_provider_mistral_batch.jsonl.custom_ids import CertainIds
from airflow_provider_mistral_batch.jsonl.lines import MAX_RESULT_ROW_BYTES, line_blocks
from airflow_provider_mistral_batch.jsonl.results.parquet import write_parquet
from airflow_provider_mistral_batch.jsonl.results.reconciliation import reconcile
from airflow_provider_mistral_batch.jsonl.results.row_columns import read_row_columns
from airflow_provider_mistral_batch.jsonl.results.splitter import Check, RowSplitter, TruncatedResultsError
from airflow_provider_mistral_batch.jsonl.row_ids import flagged_request_ids, request_ids
from airflow_provider_mistral_batch.storage.atomic import AtomicFiles
from airflow_provider_mistral_batch.storage.paths import StoragePath

log = logging.getLogger(__name__)

OutputFormat = Literal["jsonl", "parquet"]


@dataclass(frozen=True)
class ResultsSummary:
    """
    What came back for a set of requests.

    :param counts: ``total`` (requests, or distinct ids of rows if the requests are not known), ``succeeded``,
        ``failed``, ``missing`` (requests without a row; not counted among ``failed``), ``unknown`` (rows that nobody
        asked for), ``duplicates`` (dropped rows, whose id another row has), and ``by_status`` (the API's rows by HTTP
        status code as a string; ``none`` for rows without a response).
    :param usage: Sums of ``prompt_tokens``, ``completion_tokens``, ``total_tokens``; where rows have them, of
        ``cached_tokens`` (those of the prompts that were read from a cache), ``prompt_audio_seconds``,
        ``pages_processed`` and ``pages_processed_annotation`` (those of the pages that were annotated). What cannot be
        read is not in the sums: ``rows_not_measured`` then counts the answers whose amounts are missing there.
    :param errors: The most frequent kinds of failure, missing rows among them: ``status_code``, ``code``, ``message``,
        ``count``, ``example`` (a ``custom_id``), ``may_pass``.
    :param may_pass: Number of failed and missing rows whose requests another try can answer.
    :param results_path: Where the rows that succeeded are.
    :param errors_path: Where all other rows are.
    """

    counts: dict[str, Any]
    usage: dict[str, int | float]
    errors: list[dict[str, Any]]
    may_pass: int
    results_path: str
    errors_path: str

    def as_dict(self) -> dict[str, Any]:
        """Give the fields for a manifest."""
        return {
            "results_path": self.results_path,
            "errors_path": self.errors_path,
            "counts": self.counts,
            "usage": self.usage,
            "errors": self.errors,
        }


def split_results(
    streams: Iterable[Iterable[bytes]],
    results_path: StoragePath | str,
    errors_path: StoragePath | str,
    *,
    requests: Iterable[StoragePath | str] | None = None,
    check: Check | None = None,
    output_format: OutputFormat = "jsonl",
    keep_cut_rows: bool = False,
    without_secrets: Callable[[str], str] = str,
) -> ResultsSummary:
    """
    Split result rows into answers and failures, account for every request, and publish both files whole.

    Rows stay byte for byte as the API gave them. Of several rows with one ``custom_id`` the first counts, an answer
    before a failure; the others are dropped and counted. Rows that nobody asked for go to the errors file. So does a
    row that we write for each request without one, with error code ``missing_row``.

    :param streams: The content of the job's output and error files, in any order, as chunks cut anywhere.
    :param results_path: Where the rows that succeeded go.
    :param errors_path: Where all other rows go.
    :param requests: Request files that the rows answer (see
        :attr:`~airflow_provider_mistral_batch.jsonl.requests.prepare.PreparedRequests.paths`); without them, missing
        and unknown rows cannot be found.
    :param check: Looks at each row that succeeded and gives a reason if its answer is not acceptable. The row then
        counts as failed, with error code ``invalid_output``, and keeps its answer: only its ``error`` is changed.
    :param output_format: ``jsonl``, or ``parquet`` (needs the extra ``parquet``).
    :param keep_cut_rows: Take a row that ends in the middle for a malformed one, so that its request has no result.
    :param without_secrets: Removes secrets from what the summary says of rows. The rows themselves are not changed.
    :raises TruncatedResultsError: If a stream ends in the middle of a row, unless ``keep_cut_rows`` is set. Nothing is
        published.
    """
    files = None if requests is None else list(requests)
    with AtomicFiles() as published, ExitStack() as stack:
        spools = published.spool(results_path), published.spool(errors_path)
        split = stack.enter_context(
            RowSplitter(*spools, check, keep_cut_rows=keep_cut_rows, without_secrets=without_secrets)
        )
        for number, stream in enumerate(streams, 1):
            for block in line_blocks(stream, max_line_bytes=MAX_RESULT_ROW_BYTES):
                split.add(block, stream=number)
        asked = None
        if files is not None:
            asked = stack.enter_context(CertainIds(spools[0].parent))
            for path in files:
                for ids in request_ids(path):
                    asked.extend(ids)
        found = reconcile(split.ids, split.failures, asked)
        if found.repeated or found.unknown:
            scratch = published.scratch(results_path), published.scratch(errors_path)
            reconciled = stack.enter_context(RowSplitter(*scratch, without_secrets=without_secrets))
            split.copy_reconciled(reconciled, found)
            for file, spool in zip(scratch, spools, strict=True):
                file.replace(spool)
            split = reconciled
        if found.missing:
            split.add_missing(flagged_request_ids(files or (), found.missing))
        split.close_files()
        if output_format == "parquet":
            for spool in spools:
                write_parquet(spool, read_row_columns(spool))
        published.publish()
    tally = split.tally
    return ResultsSummary(
        counts={
            "total": found.total,
            "succeeded": tally.succeeded,
            "failed": tally.failed,
            "missing": tally.missing,
            "unknown": found.unknown.count(1),
            "duplicates": found.duplicates,
            "by_status": dict(sorted(tally.by_status.items())),
        },
        usage=tally.usage,
        errors=tally.digest,
        may_pass=tally.may_pass,
        results_path=str(results_path),
        errors_path=str(errors_path),
    )


def split_downloads(
    streams: Callable[[], Iterable[Iterable[bytes]]],
    results_path: StoragePath | str,
    errors_path: StoragePath | str,
    **options: Any,
) -> ResultsSummary:
    """
    Split downloaded files, and download them once more if one ends in the middle of a row.

    A file that is cut again is cut on the server. The rows that it has are paid for, so they are landed.

    :param streams: Opens the files; called again if one of them was cut.
    :param results_path: As for :func:`split_results`.
    :param errors_path: As for :func:`split_results`.
    :param options: The other parameters of :func:`split_results`.
    """
    try:
        return split_results(streams(), results_path, errors_path, **options)
    except TruncatedResultsError as error:
        log.warning(
            "A result file seems to be cut, and is downloaded again (%s). If the server's own file is cut, that row's "
            "request has no result.",
            error,
        )
    return split_results(streams(), results_path, errors_path, **options, keep_cut_rows=True)
