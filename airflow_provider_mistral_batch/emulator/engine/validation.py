"""Validation of a job's input: all of it is checked before any row is executed."""

from __future__ import annotations

from array import array
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from airflow_provider_mistral_batch.emulator.engine.inputs import decode_row

#: Lines that are checked before other jobs may get their turn.
_LINES_PER_STEP = 500

_BUCKETS = 256


class _CheckedRow(msgspec.Struct):
    body: dict[str, Any]
    custom_id: str | None = None
    method: str | None = None
    url: str | None = None


_decode_checked_row = msgspec.json.Decoder(_CheckedRow).decode


@dataclass
class Problem:
    """
    A problem of one or more lines.

    :param line: The first of the lines, from 1.
    :param param: The field that is wrong, if it is one.
    :param count: How many lines have the problem.
    """

    code: str
    message: str
    line: int
    param: str | None
    count: int = 1

    def as_error(self) -> dict[str, Any]:
        """The problem as an entry of the job's ``errors``."""
        return {
            "message": f"Line {self.line}: {self.message}",
            "count": self.count,
            "code": self.code,
            "param": self.param,
            "line": self.line,
        }


@dataclass
class Report:
    """
    What the validation found.

    :param rows: How many requests there are, valid or not.
    :param problems: The problems by their code.
    """

    rows: int = 0
    problems: dict[str, Problem] = field(default_factory=dict)

    def add(self, code: str, message: str, line: int, param: str | None = None) -> None:
        """
        Add a problem of a line. If another line has one with the same code, this one is only counted.

        :param code: The kind of problem.
        :param message: What is wrong.
        :param line: The line, from 1.
        :param param: The field that is wrong, if it is one.
        """
        known = self.problems.get(code)
        if known is None:
            self.problems[code] = Problem(code, message, line, param)
        else:
            known.count += 1

    def errors(self) -> list[dict[str, Any]]:
        """The job's ``errors``; none if the input is valid."""
        return [problem.as_error() for problem in self.problems.values()]


def validate(paths: Sequence[Path], endpoint: str, *, strict: bool) -> Generator[None, None, Report]:
    """
    Check the whole input and return what was found. Between two steps other jobs get their turn.

    Custom ids are compared by their 64-bit hashes, in buckets, so memory stays at eight bytes a row.

    :param paths: The job's files.
    :param endpoint: The job's endpoint, which ``url`` must equal.
    :param strict: Whether ``custom_id``, ``method`` and ``url`` are required, as in the OpenAI-compatible dialect.
    """
    report = Report()
    hashes = [array("q") for _ in range(_BUCKETS)]
    line_number = 0
    for path in paths:
        with path.open("rb") as lines:
            for line in lines:
                line_number += 1
                if line_number % _LINES_PER_STEP == 0:
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
        yield from _report_duplicates(paths, duplicates, report)
    return report


def _checked(line: bytes, number: int, endpoint: str, strict: bool, report: Report) -> _CheckedRow | None:
    try:
        row = _decode_checked_row(line)
    except msgspec.ValidationError as error:
        report.add("invalid_request", f"not a request: {error}", number)
        return None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
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


def _report_duplicates(
    paths: Sequence[Path], duplicates: set[int], report: Report
) -> Generator[None, None, None]:
    """
    Read the input once more, to find the lines of custom ids that occur twice.

    :param duplicates: Hashes of these custom ids.
    """
    seen: dict[int, int] = {}
    line_number = rows = 0
    for path in paths:
        with path.open("rb") as lines:
            for line in lines:
                line_number += 1
                if line_number % _LINES_PER_STEP == 0:
                    yield
                if line.isspace():
                    continue
                number, rows = rows, rows + 1
                try:
                    row = decode_row(line)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    continue
                custom_id = str(number) if row.custom_id is None else row.custom_id
                if hash(custom_id) not in duplicates:
                    continue
                first = seen.setdefault(hash(custom_id), line_number)
                if first != line_number:
                    message = f"custom_id {custom_id!r} is already on line {first}"
                    report.add("duplicate_custom_id", message, line_number, "custom_id")
