"""One pass over result rows: answers into one local file, failures into another, each row byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import compress, count, islice
from pathlib import Path

import msgspec

from airflow_provider_mistral_batch.api.decoding import UNREADABLE, is_utf8
from airflow_provider_mistral_batch.api.errors import MistralBatchError
from airflow_provider_mistral_batch.jsonl.custom_ids import CertainIds
from airflow_provider_mistral_batch.jsonl.lines import (
    MAX_RESULT_ROW_BYTES,
    LineBlock,
    file_chunks,
    line_blocks,
)
from airflow_provider_mistral_batch.jsonl.requests.nesting import any_too_deep, is_too_deep
from airflow_provider_mistral_batch.jsonl.results.api_rows import (
    ApiResponse,
    ApiRow,
    Costs,
    SucceededRow,
    read_api_row,
)
from airflow_provider_mistral_batch.jsonl.results.outcomes import INVALID_OUTPUT, succeeded
from airflow_provider_mistral_batch.jsonl.results.placeholder_rows import (
    malformed_row,
    missing_row,
    too_deep_row,
    too_long_row,
    with_error,
)
from airflow_provider_mistral_batch.jsonl.results.reconciliation import Reconciliation
from airflow_provider_mistral_batch.jsonl.results.rows import ResultRow, result_row
from airflow_provider_mistral_batch.jsonl.results.tally import Tally
from airflow_provider_mistral_batch.storage.atomic import open_spool

#: Looks at a row that succeeded, and gives a reason if its answer is not acceptable.
Check = Callable[[ResultRow], str | None]

_decode_row = msgspec.json.Decoder(ApiRow[Costs]).decode
_decode_succeeded = msgspec.json.Decoder(SucceededRow[Costs]).decode


class TruncatedResultsError(MistralBatchError, ValueError):
    """A result stream ended in the middle of a row: it is not complete. Downloading it again can help."""


class RowSplitter:
    """
    Two local files of result rows, with their tally and their ids.

    :param results: The file for answers.
    :param errors: The file for failures.
    :param check: Says which answers count as failures; without it none does.
    :param keep_cut_rows: Take a row that ends in the middle for a malformed one instead of raising an error.
    :param without_secrets: Removes secrets from texts of the tally. Rows stay as they are.
    """

    def __init__(
        self,
        results: Path,
        errors: Path,
        check: Check | None = None,
        *,
        keep_cut_rows: bool = False,
        without_secrets: Callable[[str], str] = str,
    ) -> None:
        self.tally = Tally(without_secrets)
        #: The ids of all rows, in the order in which they came.
        self.ids = CertainIds(results.parent)
        #: One flag for each row, in the same order: 1 if it failed.
        self.failures = bytearray()
        self._paths = (results, errors)
        self._check = check
        self._keep_cut_rows = keep_cut_rows
        self._results = open_spool(results)
        self._errors = open_spool(errors)
        self._rows_without_id = count()

    def __enter__(self) -> RowSplitter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_files()
        self.ids.close()

    def close_files(self) -> None:
        """Write out what is buffered."""
        self._results.close()
        self._errors.close()

    def add(self, block: LineBlock, *, stream: int) -> None:
        """
        Add a block of rows.

        :param block: The rows.
        :param stream: Number of the stream that they come from, for messages.
        :raises TruncatedResultsError: If the last row ends in the middle, and such rows are not kept.
        """
        if not is_utf8(block.data) or any_too_deep(block.lines):
            self._add_each(block, stream)
            return
        if self._check is None:
            try:
                good = list(map(_decode_succeeded, block.lines))
            except UNREADABLE:
                pass
            else:
                self._results.write(block.data + b"\n")
                self.ids.extend([row.custom_id for row in good])
                self.failures.extend(bytes(len(good)))
                self.tally.add_succeeded([row.response for row in good])
                return
        try:
            rows = list(map(_decode_row, block.lines))
        except UNREADABLE:
            self._add_each(block, stream)
        else:
            self._add_rows(block.lines, rows)

    def add_missing(self, ids: Iterable[str]) -> None:
        """Write a row for each request that has none."""
        for id_ in ids:
            line = missing_row(id_)
            self._errors.write(line + b"\n")
            self.tally.add_failed(ApiRow(id_), line)

    def copy_reconciled(self, target: RowSplitter, found: Reconciliation) -> None:
        """
        Copy all rows but the repeated ones. Unknown rows go to the errors file, and are not counted.

        :param target: Takes the rows.
        :param found: Which rows are repeated or unknown.
        """
        self.close_files()
        row_count = len(self.failures)
        repeated, unknown = found.repeated or bytes(row_count), found.unknown or bytes(row_count)
        successes = bytes(not failed for failed in self.failures)
        for path, in_this_file in zip(self._paths, (successes, self.failures), strict=True):
            repeated_here = compress(repeated, in_this_file)
            unknown_here = compress(unknown, in_this_file)
            for block in line_blocks(file_chunks(path), max_line_bytes=MAX_RESULT_ROW_BYTES):
                aside = bytes(islice(unknown_here, len(block.lines)))
                kept = bytes(
                    not (is_unknown or is_repeated)
                    for is_unknown, is_repeated in zip(aside, repeated_here, strict=False)
                )
                for line in compress(block.lines, aside):
                    target._errors.write(line + b"\n")
                if lines := list(compress(block.lines, kept)):
                    target.add(
                        LineBlock(b"\n".join(lines), lines, block.first_line, ends_cut=False), stream=0
                    )

    def _add_rows(self, lines: list[bytes], rows: list[ApiRow[Costs]]) -> None:
        failed = bytearray(not succeeded(row) for row in rows)
        if self._check is not None:
            lines = list(lines)
            for index, line in enumerate(lines):
                if not failed[index] and (reason := self._check(result_row(line))):
                    failed[index] = True
                    lines[index] = with_error(line, INVALID_OUTPUT, reason)
        good: list[ApiResponse[Costs]] = []
        for line, row, has_failed in zip(lines, rows, failed, strict=True):
            if has_failed or row.response is None:
                self._errors.write(line + b"\n")
                self.tally.add_failed(row, line)
            else:
                self._results.write(line + b"\n")
                good.append(row.response)
        self.tally.add_succeeded(good)
        self.failures.extend(failed)
        # A row without an id answers no request, and repeats no other row: it gets an id that no request can have, for
        # half a character is in no text that was decoded.
        self.ids.extend([row.custom_id or f"\ud800{next(self._rows_without_id)}" for row in rows])

    def _add_each(self, block: LineBlock, stream: int) -> None:
        for number, line in enumerate(block.lines, block.first_line):
            if not line.strip():
                continue
            row = read_api_row(line)
            if row is None:
                if len(line) > MAX_RESULT_ROW_BYTES:
                    line = too_long_row(line, number)
                elif block.ends_cut and not self._keep_cut_rows:
                    raise TruncatedResultsError(
                        f"result file {stream}, line {number}: the last row is cut after {len(line):,} bytes; "
                        "nothing was written. Download the file again"
                    )
                elif is_too_deep(line):
                    line = too_deep_row(line, number)
                else:
                    line = malformed_row(line, number)
                row = _decode_row(line)
            self._add_rows([line], [row])
