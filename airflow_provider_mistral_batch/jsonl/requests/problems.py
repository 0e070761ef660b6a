"""What is wrong with the requests: each problem with its place and its remedy, and one error for all of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from airflow_provider_mistral_batch.api.errors import InvalidInputError

#: How many problems an error lists one by one.
MAX_PROBLEMS_SHOWN = 20

#: How many problems are counted. Then reading stops: the file is probably no request file at all.
MAX_PROBLEMS = 1000

_MAX_VALUE_LENGTH = 80


@dataclass(frozen=True)
class Problem:
    """
    One thing that is wrong in one place.

    :param reason: What is wrong, as a sentence without a full stop.
    :param remedy: What the user can do about it.
    :param file: Path of the file, or None when the rows came from an iterable.
    :param line: Number of the line in the (uncompressed) file, or of the row in the iterable, from 1.
    :param byte: Number of the offending byte in its line, from 1, where it is known.
    :param field: Name of the field, such as ``custom_id`` or ``body``.
    :param value: The offending value, shortened.
    """

    reason: str
    remedy: str = ""
    file: str | None = None
    line: int | None = None
    byte: int | None = None
    field: str | None = None
    value: str | None = None

    def __str__(self) -> str:
        place = [] if self.file is None else [self.file]
        if self.line is not None:
            place.append(f"{'row' if self.file is None else 'line'} {self.line}")
        if self.byte is not None:
            place.append(f"byte {self.byte}")
        parts = [", ".join(place)] if place else []
        if self.field is not None:
            parts.append(self.field if self.value is None else f"{self.field} = {self.value}")
        elif self.value is not None:
            parts.append(self.value)
        text = ": ".join([*parts, self.reason])
        return f"{text}. {self.remedy}." if self.remedy else f"{text}."


class InvalidRequestsError(InvalidInputError):
    """
    The requests cannot be sent as they are. Nothing was sent, and no request file was left behind.

    :param problems: The first problems (:data:`MAX_PROBLEMS_SHOWN` at most), in the order of the input.
    :param total: How many problems were found.
    :param stopped: Whether reading stopped there (:data:`MAX_PROBLEMS`), so that there may be more.
    """

    def __init__(self, problems: tuple[Problem, ...], total: int, stopped: bool = False) -> None:
        self.problems = problems
        self.total = total
        self.stopped = stopped
        head = "1 problem in the requests" if total == 1 else f"{total:,} problems in the requests"
        if stopped:
            head += ", and stopped reading"
        lines = [f"{head}; nothing was sent:", *(f"  {problem}" for problem in problems)]
        if total > len(problems):
            lines.append(f"  … and {total - len(problems):,} more.")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[type, tuple[tuple[Problem, ...], int, bool]]:
        return type(self), (self.problems, self.total, self.stopped)


class Problems:
    """Collects the problems of one pass in bounded memory and time: keeps the first ones, and counts up to a limit."""

    def __init__(self) -> None:
        self.total = 0
        self._first: list[tuple[tuple[int, int], Problem]] = []

    def add(self, problem: Problem, *, position: tuple[int, int]) -> None:
        """
        Note a problem.

        :param problem: The problem.
        :param position: Number of the file and number of the line: problems are listed in this order.
        :raises InvalidRequestsError: If there are :data:`MAX_PROBLEMS`, so that nothing more is read.
        """
        self.total += 1
        self._first.append((position, problem))
        if len(self._first) == 2 * MAX_PROBLEMS_SHOWN:
            self._first.sort(key=lambda entry: entry[0])
            del self._first[MAX_PROBLEMS_SHOWN:]
        if self.total == MAX_PROBLEMS:
            raise self._error(stopped=True)

    def raise_if_any(self) -> None:
        """
        Raise one error for all problems.

        :raises InvalidRequestsError: If there is a problem.
        """
        if self.total:
            raise self._error()

    def _error(self, *, stopped: bool = False) -> InvalidRequestsError:
        self._first.sort(key=lambda entry: entry[0])
        shown = tuple(problem for _, problem in self._first[:MAX_PROBLEMS_SHOWN])
        return InvalidRequestsError(shown, self.total, stopped)


def shortened(value: Any) -> str:
    """Write a value for a message: in one line, quoted as in JSON, cut after 80 characters."""
    if isinstance(value, bytes):
        text = value[: 4 * _MAX_VALUE_LENGTH].decode("utf-8", "replace")
    else:
        try:
            text = json.dumps(value, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError):
            text = repr(value)
    text = " ".join(text.split())
    text = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )
    return text if len(text) <= _MAX_VALUE_LENGTH else f"{text[:_MAX_VALUE_LENGTH]}…"
