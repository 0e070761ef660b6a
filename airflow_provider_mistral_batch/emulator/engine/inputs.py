"""A job's input: its JSONL files read in steps, and checked as a whole before any row is executed."""

from __future__ import annotations

from array import array
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

#: Lines that are checked before somebody else gets a turn.
LINES_PER_STEP = 20_000

_BUCKETS = 256


class Row(msgspec.Struct):
    """A request row. ``method`` and ``url`` are of the OpenAI-compatible dialect, and tolerated in ours."""

    body: msgspec.Raw
    custom_id: str | None = None
    method: str | None = None
    url: str | None = None


class _CheckedRow(msgspec.Struct):
    body: dict[str, Any]
    custom_id: str | None = None
    method: str | None = None
    url: str | None = None


decode_row = msgspec.json.Decoder(Row).decode
_decode_checked_row = msgspec.json.Decoder(_CheckedRow).decode


@dataclass
class Problem:
    """What is wrong with one or more lines: the first of them, and how many."""

    code: str
    message: str
    line: int
    param: str | None
    count: int = 1

    def as_error(self) -> dict[str, Any]:
        """The entry in the job's ``errors``."""
        return {
            "message": f"Line {self.line}: {self.message}",
            "count": self.count,
            "code": self.code,
            "param": self.param,
            "line": self.line,
        }


@dataclass
class Report:
    """What reading the whole input found."""

    rows: int = 0
    problems: dict[str, Problem] = field(default_factory=dict)

    def add(self, code: str, message: str, line: int, param: str | None = None) -> None:
        """Note a problem of a line; further ones with the same code are only counted."""
        known = self.problems.get(code)
        if known is None:
            self.problems[code] = Problem(code, message, line, param)
        else:
            known.count += 1

    def errors(self) -> list[dict[str, Any]]:
        """The job's ``errors``: empty if it can run."""
        return [problem.as_error() for problem in self.problems.values()]


def check(paths: Sequence[Path], endpoint: str, *, strict: bool) -> Generator[None, None, Report]:
    """Read the whole input in steps of a few lines, and return what was found.

    Custom ids are compared by 64-bit hashes in buckets, so memory stays at eight bytes a row.

    :param strict: require ``custom_id``, ``method`` and ``url``, as the OpenAI-compatible dialect does.
    """
    report = Report()
    hashes = [array("q") for _ in range(_BUCKETS)]
    line_number = 0
    for path in paths:
        with path.open("rb") as lines:
            for line in lines:
                line_number += 1
                if line_number % LINES_PER_STEP == 0:
                    yield
                if line.isspace():
                    continue
                row = _checked(line, line_number, endpoint, strict, report)
                if row is not None:
                    hashed = hash(str(report.rows) if row.custom_id is None else row.custom_id)
                    hashes[hashed % _BUCKETS].append(hashed)
                report.rows += 1
    if not report.rows:
        report.add("empty_file", "the input has no requests", 1)
    duplicates = {
        hashed for bucket in hashes if len(set(bucket)) < len(bucket) for hashed in _repeated(bucket)
    }
    if duplicates:
        _name_duplicates(paths, duplicates, report)
    return report


def _checked(line: bytes, number: int, endpoint: str, strict: bool, report: Report) -> _CheckedRow | None:
    try:
        row = _decode_checked_row(line)
    except msgspec.ValidationError as error:
        report.add("invalid_request", f"not a request: {error}", number)
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        report.add("invalid_json_line", f"not valid JSON: {error}", number)
        return None
    if strict:
        for name in ("custom_id", "method", "url"):
            if getattr(row, name) is None:
                report.add(f"missing_{name}", f"Missing required parameter: '{name}'", number, name)
                return None
    if row.method not in (None, "POST"):
        report.add("invalid_method", f"method is {row.method!r}, must be 'POST'", number, "method")
    elif row.url not in (None, endpoint):
        report.add(
            "mismatched_url", f"url is {row.url!r}, must be the job's endpoint {endpoint!r}", number, "url"
        )
    return row


def _repeated(bucket: array[int]) -> set[int]:
    seen: set[int] = set()
    return {hashed for hashed in bucket if hashed in seen or seen.add(hashed)}  # type: ignore[func-returns-value]


def _name_duplicates(paths: Sequence[Path], duplicates: set[int], report: Report) -> None:
    seen: dict[int, int] = {}
    line_number = rows = 0
    for path in paths:
        with path.open("rb") as lines:
            for line in lines:
                line_number += 1
                if line.isspace():
                    continue
                number, rows = rows, rows + 1
                try:
                    row = decode_row(line)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue
                custom_id = str(number) if row.custom_id is None else row.custom_id
                if hash(custom_id) not in duplicates:
                    continue
                first = seen.setdefault(hash(custom_id), line_number)
                if first != line_number:
                    message = f"custom_id {custom_id!r} is already on line {first}"
                    report.add("duplicate_custom_id", message, line_number, "custom_id")


class Reader:
    """Reads a job's input row by row from where it stopped last.

    :param index: which of the files, from 0.
    :param offset: where in that file, in bytes.
    """

    def __init__(self, paths: Sequence[Path], index: int, offset: int) -> None:
        self._paths = paths
        self.index = index
        self.offset = offset

    def lines(self, count: int) -> Iterator[bytes]:
        """Up to ``count`` lines that are not blank. ``index`` and ``offset`` are right once it is exhausted."""
        while count > 0 and self.index < len(self._paths):
            with self._paths[self.index].open("rb") as file:
                file.seek(self.offset)
                while count > 0:
                    line = file.readline()
                    if not line:
                        break
                    self.offset += len(line)
                    if not line.isspace():
                        count -= 1
                        yield line
            if count > 0:
                self.index += 1
                self.offset = 0
