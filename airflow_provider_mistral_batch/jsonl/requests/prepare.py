"""From any source of requests to validated, numbered, upload-ready request files, in one pass."""

from __future__ import annotations

import logging
import os
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from operator import and_, gt
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from airflow_provider_mistral_batch.api.checks import check_choice, check_inline_count
from airflow_provider_mistral_batch.api.decoding import UNREADABLE, is_utf8
from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.api.limits import (
    ENDPOINTS,
    MAX_FILE_BYTES,
    MAX_REQUESTS_PER_JOB,
)
from airflow_provider_mistral_batch.jsonl.custom_ids import CustomIds
from airflow_provider_mistral_batch.jsonl.lines import (
    MAX_ROW_BYTES,
    DamagedFileError,
    LineBlock,
)
from airflow_provider_mistral_batch.jsonl.requests.numbering import (
    free_name,
    free_prefixes,
    renamed,
    row_name,
)
from airflow_provider_mistral_batch.jsonl.requests.problems import (
    MAX_PROBLEMS_SHOWN,
    Problem,
    Problems,
    shortened,
)
from airflow_provider_mistral_batch.jsonl.requests.shards import Shard, ShardWriter
from airflow_provider_mistral_batch.jsonl.requests.sources import open_sources
from airflow_provider_mistral_batch.jsonl.requests.template import RowTemplate
from airflow_provider_mistral_batch.jsonl.requests.validation import Row, RowRules
from airflow_provider_mistral_batch.jsonl.row_ids import request_ids

# Suspected duplicates that are looked at one by one; beyond, the suspicion counts (it errs once in 10^8 files).
_MAX_SUSPECTS = 100_000


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedRequests:
    """
    Validated requests on the local disk.

    :param shards: The request files in order.
    :param endpoint: The endpoint that all of them are for.
    :param model: The model that bodies name, if any does.
    :param numbered: How many rows had no ``custom_id`` and were numbered.
    """

    shards: tuple[Shard, ...]
    endpoint: str
    model: str | None
    numbered: int

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
        objects, or any iterable of rows: ``{"custom_id", "body"}`` (``method`` and ``url`` may be there), or plain
        prompts as strings.
    :param endpoint: The endpoint that the job targets, such as ``/v1/chat/completions``.
    :param directory: Local directory for the request files; made if it is not there.
    :param with_url: Whether the API wants ``method`` and ``url`` in each row, beside ``custom_id`` and ``body``.
    :param template: What prompts and bodies have in common.
    :param max_shard_bytes: Most bytes in one request file.
    :param max_job_requests: Most requests in the files of one job.
    :param max_row_bytes: Most bytes in one row.
    :raises InvalidRequestsError: If any row cannot be sent: names the first problems with file and line, and their
        number. No request file is left behind.
    :raises InvalidInputError: If endpoint or template are wrong.
    """
    template = template or RowTemplate()
    target = Path(directory)
    max_row_bytes = min(max_row_bytes, max_shard_bytes - 1)
    reading = _Reading(endpoint, with_url=with_url, template=template, max_row_bytes=max_row_bytes)
    writer = ShardWriter(target, max_shard_bytes=max_shard_bytes, max_job_requests=max_job_requests)
    try:
        with CustomIds(target) as ids:
            for batch in reading.batches(source):
                ids.extend(batch.ids)
                writer.write(batch.data, len(batch.ids))
            shards = writer.finish()
            repeated = ids.repeated(reading.numbered_rows)
            if 1 in repeated:
                shards = _resolve_repeated(shards, ids, repeated, reading)
        reading.problems.raise_if_any()
        reading.log_numbered()
        return PreparedRequests(shards, endpoint, next(iter(reading.models), None), reading.numbered)
    except BaseException:
        writer.discard()
        raise


class InlineRequests(NamedTuple):
    """
    Validated requests of a job that carries them in its own body.

    :param rows: The rows, each with ``custom_id`` and ``body``.
    :param model: The model that bodies name, if any does.
    :param numbered: How many rows had no ``custom_id`` and were numbered.
    """

    rows: list[dict[str, Any]]
    model: str | None
    numbered: int


def validate_inline(
    requests: Sequence[Any], *, endpoint: str, template: RowTemplate | None = None
) -> InlineRequests:
    """
    Validate and number the requests of a job that carries them in its own body.

    :param requests: Rows or prompts, as for :func:`prepare_requests`.
    :param endpoint: The endpoint that the job targets.
    :param template: What prompts and bodies have in common.
    :raises InvalidRequestsError: If any row cannot be sent.
    :raises InvalidInputError: If there are none, or more than 10,000 (the API's ``requests``, ``maxItems``).
    """
    check_inline_count(len(requests))
    reading = _Reading(
        endpoint, with_url=False, template=template or RowTemplate(), max_row_bytes=MAX_ROW_BYTES
    )
    lines: list[bytes] = []
    ids: list[str] = []
    for batch in reading.batches(requests):
        ids += batch.ids
        lines += batch.data.split(b"\n")
    rows: list[dict[str, Any]] = []
    for index, line in enumerate(lines):
        row = _read_back(line)
        if isinstance(row, Problem):
            reading.refuse(index, row)
        else:
            rows.append(row)
    first: dict[str, int] = {}
    for index, id_ in enumerate(ids):
        if not reading.is_numbered(index) and (earlier := first.setdefault(id_, index)) != index:
            reading.refuse_duplicate(id_, earlier, index)
    reading.problems.raise_if_any()
    for index, id_ in enumerate(ids):
        if reading.is_numbered(index) and id_ in first:
            rows[index]["custom_id"] = free_name(index + 1, first.__contains__)
    reading.log_numbered()
    return InlineRequests(rows, next(iter(reading.models), None), reading.numbered)


def _read_back(line: bytes) -> dict[str, Any] | Problem:
    try:
        row: dict[str, Any] = msgspec.json.decode(line)
    except UNREADABLE as error:
        # What is only checked to be JSON may have numbers of any size.
        return Problem(
            f"Python cannot hold it: {error}", "Change it, or send it in a file", value=shortened(line)
        )
    return row


class _Batch(NamedTuple):
    """Accepted rows: their ids, and their bytes joined by newlines."""

    ids: list[str]
    data: bytes


class _Reading:
    """One pass over a source: gives accepted rows, and remembers what must be known about them at its end."""

    def __init__(self, endpoint: str, *, with_url: bool, template: RowTemplate, max_row_bytes: int) -> None:
        check_choice("endpoint", endpoint, ENDPOINTS)
        template = template.fitted(endpoint)
        self.models: dict[str, str] = {}
        self.numbered = 0
        #: A flag for each accepted row, set if it got its id from us; empty if none did.
        self.numbered_rows = bytearray()
        self.problems = Problems()
        self._endpoint = endpoint
        self._template = template
        self._max_row_bytes = max_row_bytes
        self._rules = RowRules(
            endpoint=endpoint, with_url=with_url, template=template, max_row_bytes=max_row_bytes
        )
        self._places = _Places()
        self._rows = 0

    def batches(self, source: Any) -> Iterator[_Batch]:
        """Read everything; rows that are not acceptable become problems."""

        def refuse(line: int, problem: Problem) -> None:
            self._add_problem(problem, line)

        for origin in open_sources(
            source,
            template=self._template,
            endpoint=self._endpoint,
            max_row_bytes=self._max_row_bytes,
            refuse=refuse,
        ):
            self._places.next_file(origin.name)
            line = 0
            try:
                for block in origin.blocks:
                    line = block.first_line + len(block.lines) - 1
                    if batch := self._accept(block):
                        yield batch
            except DamagedFileError as error:
                reason = str(error)
                self._add_problem(
                    Problem(reason[:1].lower() + reason[1:], "Write or copy it again"), line + 1
                )
            except FileNotFoundError:
                self._add_problem(Problem("there is no such file", "Check path"), None)
            except IsADirectoryError:
                self._add_problem(
                    Problem("this is a directory", f"Name its files, such as {origin.name}/*.jsonl"), None
                )
        if not self._rows and not self.problems.total:
            names = self._places.names
            raise InvalidInputError(
                f"path: no requests in {', '.join(names)}: a batch needs at least one"
                if names
                else "requests is empty, there are no requests in it: a batch needs at least one"
            )

    def log_numbered(self) -> None:
        """Say how many rows were numbered, if any."""
        if self.numbered:
            log.info("%d of %d requests had no custom_id and were numbered.", self.numbered, self._rows)

    def is_numbered(self, index: int) -> bool:
        """Tell whether an accepted row got its id from us."""
        return index < len(self.numbered_rows) and bool(self.numbered_rows[index])

    def refuse_duplicate(self, custom_id: str, first: int, second: int) -> None:
        """Note that two accepted rows have one id."""
        first_file, first_line = self._places.of(first)
        file, _ = self._places.of(second)
        names = self._places.names
        unit = "line" if names else "row"
        where = f"{unit} {first_line}" + (f" of {names[first_file - 1]}" if first_file != file else "")
        self.refuse(
            second,
            Problem(
                f"the same as on {where}",
                "Give each row an id of its own",
                field="custom_id",
                value=shortened(custom_id),
            ),
        )

    def refuse(self, index: int, problem: Problem) -> None:
        """Note a problem of an accepted row."""
        file, line = self._places.of(index)
        name = self._places.names[file - 1] if file else None
        self.problems.add(replace(problem, file=name, line=line), position=(file, line))

    def _accept(self, block: LineBlock) -> _Batch | None:
        data, lines = block.data, block.lines
        places: Sequence[int] = range(block.first_line, block.first_line + len(lines))
        sound = len(data) <= self._max_row_bytes and is_utf8(data)
        if sound and (ready := self._rules.ready(data, lines)) is not None:
            self._note_models(ready.models, places)
            self._note_rows(places)
            self._check_length(ready.data, places)
            return _Batch(ready.ids, ready.data)
        rows: list[Row]
        models: list[str | None]
        if sound and (acceptable := self._rules.acceptable(lines)) is not None:
            rows, models = acceptable
        else:
            rows, models, places = self._accept_each(block)
            if not rows:
                return None
        ids = self._named([row.custom_id for row in rows])
        self._note_models(models, places)
        self._note_rows(places)
        data = self._rules.encode(rows, ids)
        self._check_length(data, places)
        return _Batch(ids, data)

    def _check_length(self, data: bytes, places: Sequence[int]) -> None:
        """Refuse rows that have become too long by what they were given."""
        if len(data) > self._max_row_bytes:
            for row, line in zip(data.split(b"\n"), places, strict=True):
                if len(row) > self._max_row_bytes:
                    self._add_problem(self._rules.too_long(" with what is added to it"), line)

    def _accept_each(self, block: LineBlock) -> tuple[list[Row], list[str | None], list[int]]:
        rows: list[Row] = []
        models: list[str | None] = []
        places: list[int] = []
        for line_number, line in enumerate(block.lines, block.first_line):
            if not line.strip():
                continue
            verdict = self._rules.diagnose(line)
            if isinstance(verdict, list):
                for problem in verdict:
                    self._add_problem(problem, line_number)
            else:
                rows.append(verdict[0])
                models.append(verdict[1])
                places.append(line_number)
        return rows, models, places

    def _named(self, given: list[str | None]) -> list[str]:
        if None not in given:
            return given  # type: ignore[return-value]
        if not self.numbered_rows:
            self.numbered_rows = bytearray(self._rows)
        self.numbered_rows.extend([id_ is None for id_ in given])
        self.numbered += given.count(None)
        return [row_name(number) if id_ is None else id_ for number, id_ in enumerate(given, self._rows + 1)]

    def _note_rows(self, places: Sequence[int]) -> None:
        self._places.note(self._rows, places)
        self._rows += len(places)
        if self.numbered_rows:
            self.numbered_rows.extend(bytes(self._rows - len(self.numbered_rows)))

    def _note_models(self, models: list[str | None], places: Sequence[int]) -> None:
        for model in dict.fromkeys(models):
            if model is None or model in self.models or len(self.models) == MAX_PROBLEMS_SHOWN:
                continue
            line = places[models.index(model)]
            if self.models:
                known, where = next(iter(self.models.items()))
                self._add_problem(
                    Problem(
                        f"{where} names {shortened(known)}, and a batch job runs one model",
                        "Make one batch for each model",
                        field="body.model",
                        value=shortened(model),
                    ),
                    line,
                )
            self.models[model] = self._places.describe(line)

    def _add_problem(self, problem: Problem, line: int | None) -> None:
        """Note a problem of a line of the current file, or of the file itself."""
        file = self._places.names[-1] if self._places.names else None
        self.problems.add(
            replace(problem, file=file, line=line), position=(len(self._places.names), line or 0)
        )


class _Places:
    """Where each accepted row was, for millions of rows: only where a run of consecutive lines begins is kept."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._rows = array("Q")
        self._lines = array("Q")
        self._files = array("L")
        self._next = (-1, -1)

    def next_file(self, name: str | None) -> None:
        """Begin with the next file; None if the rows come from Python."""
        if name is not None:
            self.names.append(name)
        self._next = (-1, -1)

    def note(self, row: int, lines: Sequence[int]) -> None:
        """Say on which lines the accepted rows from number ``row`` (from 0) on are."""
        if isinstance(lines, range):
            lines, last = lines[:1], lines[-1]
        else:
            last = lines[-1]
        for line in lines:
            if (row, line) != self._next:
                self._rows.append(row)
                self._lines.append(line)
                self._files.append(len(self.names))
            row += 1
            self._next = (row, line + 1)
        self._next = (self._next[0] + last - self._next[1] + 1, last + 1)

    def of(self, row: int) -> tuple[int, int]:
        """Give the number of the file (from 1, or 0 for rows from Python) and of the line of an accepted row."""
        run = bisect_right(self._rows, row) - 1
        return self._files[run], self._lines[run] + row - self._rows[run]

    def describe(self, line: int) -> str:
        """Say where a line of the current file is."""
        return f"{self.names[-1]}, line {line}" if self.names else f"row {line}"


def _resolve_repeated(
    shards: tuple[Shard, ...], ids: CustomIds, repeated: bytearray, reading: _Reading
) -> tuple[Shard, ...]:
    """
    Refuse rows whose ids repeat those of rows before them, or else rename those that we numbered.

    :param repeated: A flag for each row; a row that we numbered goes after all that have ids of their own.
    """
    numbered = reading.numbered_rows or bytes(len(repeated))
    duplicates = bytearray(map(gt, repeated, numbered))
    if 1 in duplicates:
        _refuse_duplicates(shards, ids, duplicates, reading)
    if reading.problems.total:
        return shards
    clashing = bytes(map(and_, repeated, numbered))
    return renamed(shards, free_prefixes(clashing, ids, shards[0].path.parent)) if 1 in clashing else shards


def _refuse_duplicates(
    shards: tuple[Shard, ...], ids: CustomIds, duplicates: bytearray, reading: _Reading
) -> None:
    """
    Look at the rows whose ids seem to repeat, and refuse those that do.

    Memory is bounded by the number of suspects that are looked at.
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
                    and not reading.is_numbered(index)
                    and (earlier := first.setdefault(id_, index)) != index
                ):
                    reading.refuse_duplicate(id_, earlier, index)
                    listed += 1
                index += 1
    if len(suspects) == _MAX_SUSPECTS:
        reading.problems.total += max(0, duplicates.count(1) - listed)
