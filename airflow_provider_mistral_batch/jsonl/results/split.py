"""From result streams to a file of answers and a file of failures, with every request accounted for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import compress, count, islice
from pathlib import Path
from typing import Any, Literal

import msgspec

from airflow_provider_mistral_batch.api.decoding import UNREADABLE, is_utf8
from airflow_provider_mistral_batch.api.errors import MistralBatchError
from airflow_provider_mistral_batch.jsonl.custom_ids import CustomIds
from airflow_provider_mistral_batch.jsonl.lines import (
    MAX_RESULT_ROW_BYTES,
    LineBlock,
    file_chunks,
    line_blocks,
)
from airflow_provider_mistral_batch.jsonl.requests.problems import shortened
from airflow_provider_mistral_batch.jsonl.requests.validation import flagged_ids, request_ids
from airflow_provider_mistral_batch.jsonl.results.outcomes import (
    INVALID_OUTPUT,
    GoodOutcome,
    Outcome,
    Response,
    failure,
    read_outcome,
    succeeded,
)
from airflow_provider_mistral_batch.jsonl.results.placeholder_rows import (
    malformed_row,
    missing_row,
    too_long_row,
    with_error,
)
from airflow_provider_mistral_batch.jsonl.results.reader import ResultRow, result_row
from airflow_provider_mistral_batch.jsonl.results.reconciliation import Accounts, account
from airflow_provider_mistral_batch.jsonl.results.tally import Tally
from airflow_provider_mistral_batch.storage.atomic import AtomicFiles

log = logging.getLogger(__name__)

OutputFormat = Literal["jsonl", "parquet"]

_decode_outcome = msgspec.json.Decoder(Outcome).decode
_decode_good = msgspec.json.Decoder(GoodOutcome).decode


class TruncatedResultsError(MistralBatchError, ValueError):
    """A result stream ended in the middle of a row: it is not complete. Downloading it again can help."""


@dataclass(frozen=True)
class ResultsSummary:
    """
    What came back for a set of requests.

    :param counts: ``total`` (requests asked for, or rows if that is not known), ``succeeded``, ``failed``, ``missing``
        (the API gave no row, and they are not among ``failed``), ``unknown`` (rows that nobody asked for),
        ``duplicates`` (further rows of an id that had one), and ``by_status`` (rows of the API by HTTP status code, as
        strings; ``none`` for rows without a response).
    :param usage: Sums of ``prompt_tokens``, ``completion_tokens``, ``total_tokens``; of ``pages_processed`` and
        ``prompt_audio_seconds`` where rows have them.
    :param errors: The most frequent kinds of failure, missing rows among them: ``status_code``, ``code``, ``message``,
        ``count``, ``example`` (a ``custom_id``), ``may_pass``.
    :param may_pass: Failed and missing rows that another try can bring.
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
    results_path: Any,
    errors_path: Any,
    *,
    requests: Iterable[Any] | None = None,
    check: Callable[[ResultRow], str | None] | None = None,
    output_format: OutputFormat = "jsonl",
    keep_cut_rows: bool = False,
) -> ResultsSummary:
    """
    Split result rows into answers and failures, account for every request, and publish both files whole.

    Rows stay byte for byte as the API gave them. Of several rows with one ``custom_id`` the first counts, an answer
    before a failure; the others are dropped and counted. Rows that nobody asked for go to the errors file, and so does
    a row for each request that has none, with error code ``missing_row``.

    :param streams: The content of the job's output and error files, in any order, as chunks cut anywhere.
    :param results_path: Where the rows that succeeded go: str, Path or ObjectStoragePath.
    :param errors_path: Where the failed rows go.
    :param requests: Request files that the rows answer (see
        :attr:`~airflow_provider_mistral_batch.jsonl.requests.prepare.PreparedRequests.paths`); without them nothing can
        be said about missing and unknown rows.
    :param check: Looks at each row that succeeded and gives a reason if its answer is not acceptable. The row then
        counts as failed, with error code ``invalid_output``, and keeps its answer: only its ``error`` is changed.
    :param output_format: ``jsonl``, or ``parquet`` (needs the extra ``parquet``).
    :param keep_cut_rows: A row that ends in the middle is a malformed row: its request has no result.
    :raises TruncatedResultsError: If a stream ends in the middle of a row. Nothing is published.
    """
    files = None if requests is None else list(requests)
    with AtomicFiles() as landing, ExitStack() as stack:
        spools = landing.spool(results_path), landing.spool(errors_path)
        split = stack.enter_context(_Split(*spools, check, keep_cut_rows=keep_cut_rows))
        for number, stream in enumerate(streams, 1):
            for block in line_blocks(stream, max_line_bytes=MAX_RESULT_ROW_BYTES):
                split.take(block, number)
        asked = None
        if files is not None:
            asked = stack.enter_context(CustomIds(spools[0].parent))
            for path in files:
                for ids in request_ids(path):
                    asked.extend(ids)
        accounts = account(split.ids, split.failures, asked)
        if accounts.repeated or accounts.strange:
            again = landing.scratch(results_path), landing.scratch(errors_path)
            sifted = stack.enter_context(_Split(*again, None))
            split.sift(sifted, accounts)
            for kept, spool in zip(again, spools, strict=True):
                kept.replace(spool)
            split = sifted
        if accounts.absent:
            split.add_missing(flagged_ids(files or (), accounts.absent))
        split.close_files()
        if output_format == "parquet":
            from airflow_provider_mistral_batch.jsonl.results.parquet import convert_to_parquet

            for spool in spools:
                convert_to_parquet(spool)
        landing.publish()
    tally = split.tally
    return ResultsSummary(
        counts={
            "total": accounts.total,
            "succeeded": tally.succeeded,
            "failed": tally.failed,
            "missing": tally.missing,
            "unknown": accounts.strange.count(1),
            "duplicates": accounts.duplicates,
            "by_status": dict(sorted(tally.by_status.items())),
        },
        usage=tally.usage,
        errors=tally.digest,
        may_pass=tally.may_pass,
        results_path=str(results_path),
        errors_path=str(errors_path),
    )


def split_downloads(
    streams: Callable[[], Iterable[Iterable[bytes]]], results_path: Any, errors_path: Any, **options: Any
) -> ResultsSummary:
    """
    The same for files on the server, one of which may be cut there: then what it has is paid for, and landed.

    :param streams: Opens the files; called again if one of them was cut.
    :param options: The other parameters of :func:`split_results`.
    """
    try:
        return split_results(streams(), results_path, errors_path, **options)
    except TruncatedResultsError as error:
        log.warning(
            "%s. If it is cut again, it is so on the server, and that row's request has no result.", error
        )
    return split_results(streams(), results_path, errors_path, **options, keep_cut_rows=True)


def inline_stream(outputs: Iterable[Any]) -> Iterator[bytes]:
    """
    Give the ``outputs`` of an inline job as a stream for :func:`split_results`.

    :param outputs: Result rows as dicts.
    """
    encode = msgspec.json.Encoder().encode
    for row in outputs:
        yield encode(row) + b"\n"


class _Split:
    """
    One pass over result rows into two local files, with their tally and their ids.

    :param results: The file for answers.
    :param errors: The file for failures.
    :param check: See :func:`split_results`.
    :param keep_cut_rows: See :func:`split_results`.
    """

    def __init__(
        self,
        results: Path,
        errors: Path,
        check: Callable[[ResultRow], str | None] | None,
        *,
        keep_cut_rows: bool = False,
    ) -> None:
        self.tally = Tally()
        self.ids = CustomIds(results.parent)
        #: A flag for each row in the order in which they came, as their ids are.
        self.failures = bytearray()
        self._paths = (results, errors)
        self._check = check
        self._keep_cut_rows = keep_cut_rows
        self._results = results.open("wb")
        self._errors = errors.open("wb")
        self._nameless = count()

    def __enter__(self) -> _Split:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_files()
        self.ids.close()

    def close_files(self) -> None:
        """Write out what is buffered."""
        self._results.close()
        self._errors.close()

    def take(self, block: LineBlock, stream: int) -> None:
        """
        Sort some rows.

        :param block: The rows.
        :param stream: Number of the stream that they are from, for messages.
        """
        if not is_utf8(block.data):
            self._take_each(block, stream)
            return
        if self._check is None:
            try:
                good = list(map(_decode_good, block.lines))
            except UNREADABLE:
                pass
            else:
                self._results.write(block.data + b"\n")
                self.ids.extend([outcome.custom_id for outcome in good])
                self.failures.extend(bytes(len(good)))
                self.tally.add_succeeded([outcome.response for outcome in good])
                return
        try:
            outcomes = list(map(_decode_outcome, block.lines))
        except UNREADABLE:
            self._take_each(block, stream)
        else:
            self._sort(block.lines, outcomes)

    def sift(self, target: _Split, accounts: Accounts) -> None:
        """
        Give all rows to another split, but repeated ones to none, and strange ones to its errors file uncounted.

        :param target: Takes the rows.
        :param accounts: What is wrong with which row.
        """
        self.close_files()
        rows = len(self.failures)
        repeated, strange = accounts.repeated or bytes(rows), accounts.strange or bytes(rows)
        is_success = bytes(not flag for flag in self.failures)
        for path, here in zip(self._paths, (is_success, self.failures), strict=True):
            drops = compress(repeated, here)
            odds = compress(strange, here)
            for block in line_blocks(file_chunks(path), max_line_bytes=MAX_RESULT_ROW_BYTES):
                odd = bytes(islice(odds, len(block.lines)))
                kept = bytes(not (drop or is_odd) for is_odd, drop in zip(odd, drops, strict=False))
                target.put_aside(compress(block.lines, odd))
                if lines := list(compress(block.lines, kept)):
                    target.take(LineBlock(b"\n".join(lines), lines, block.first_line, ends_cut=False), 0)

    def put_aside(self, lines: Iterable[bytes]) -> None:
        """Keep rows in the errors file without counting them."""
        for line in lines:
            self._errors.write(line + b"\n")

    def add_missing(self, ids: Iterable[str]) -> None:
        """Say of requests that they have no row."""
        for id_ in ids:
            line = missing_row(id_)
            self._errors.write(line + b"\n")
            self.tally.add_failed(Outcome(id_), failure(line))

    def _sort(self, lines: list[bytes], outcomes: list[Outcome]) -> None:
        failed = bytearray(not succeeded(outcome) for outcome in outcomes)
        if self._check is not None:
            lines = list(lines)
            for index, line in enumerate(lines):
                if not failed[index] and (reason := self._check(result_row(line))):
                    failed[index] = True
                    lines[index] = with_error(line, INVALID_OUTPUT, reason)
        good: list[Response] = []
        for line, outcome, has_failed in zip(lines, outcomes, failed, strict=True):
            if has_failed or outcome.response is None:
                self._errors.write(line + b"\n")
                self.tally.add_failed(outcome, failure(line))
            else:
                self._results.write(line + b"\n")
                good.append(outcome.response)
        self.tally.add_succeeded(good)
        self.failures.extend(failed)
        # A row without an id answers no request, and repeats no other row.
        self.ids.extend([outcome.custom_id or f"\0{next(self._nameless)}" for outcome in outcomes])

    def _take_each(self, block: LineBlock, stream: int) -> None:
        for number, line in enumerate(block.lines, block.first_line):
            if not line.strip():
                continue
            outcome = read_outcome(line)
            if outcome is None:
                if len(line) > MAX_RESULT_ROW_BYTES:
                    line = too_long_row(line, number)
                elif block.ends_cut and not self._keep_cut_rows:
                    raise TruncatedResultsError(
                        f"result file {stream}, line {number}: the last row is cut after {len(line):,} bytes "
                        f"({shortened(line[-40:])}); nothing was written. Download the file again"
                    )
                else:
                    line = malformed_row(line, number)
                outcome = _decode_outcome(line)
            self._sort([line], [outcome])
