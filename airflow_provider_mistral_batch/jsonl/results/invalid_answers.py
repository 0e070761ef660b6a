"""Answers that were not acceptable, kept beside what went wrong when their requests were asked again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from airflow_provider_mistral_batch.jsonl.results.outcomes import (
    ASKED_AGAIN_IN_VAIN,
    INVALID_OUTPUT,
    Failure,
    failure,
)
from airflow_provider_mistral_batch.jsonl.results.placeholder_rows import with_error
from airflow_provider_mistral_batch.jsonl.results.row_table import RowTable
from airflow_provider_mistral_batch.jsonl.row_ids import row_ids

_MARK = INVALID_OUTPUT.encode()


class InvalidAnswers:
    """The rows of all rounds whose answers were not acceptable, in temporary files."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._rounds: dict[int, RowTable] = {}

    def __enter__(self) -> InvalidAnswers:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def extend(self, number: int, lines: list[bytes]) -> None:
        """
        Add those among the rows of an errors file.

        :param number: The round, from 0.
        :param lines: The rows.
        """
        invalid = [line for line in lines if _MARK in line and failure(line).code == INVALID_OUTPUT]
        if invalid:
            if number not in self._rounds:
                self._rounds[number] = self._stack.enter_context(RowTable())
            self._rounds[number].extend(invalid)

    def kept(self, number: int, lines: list[bytes]) -> Iterator[bytes]:
        """
        Give the failures of a round, each with the text of an earlier answer to its request, if there was one.

        :param number: The round, from 0.
        :param lines: The failures.
        """
        earlier = [self._rounds[one] for one in sorted(self._rounds, reverse=True) if one < number]
        if not earlier:
            yield from lines
            return
        for line, id_ in zip(lines, row_ids(lines), strict=True):
            answers = (answer for table in earlier if id_ is not None and (answer := table.get(id_)))
            answer = next(answers, None)
            reason = failure(line)
            yield line if answer is None or reason.code == INVALID_OUTPUT else _saying_both(answer, reason)


def _saying_both(answer: bytes, later: Failure) -> bytes:
    said = later.message or later.code or "no answer"
    status = "" if later.status_code is None else f"{later.status_code} "
    message = f"{failure(answer).message}; it was asked again, which failed: {status}{said}"
    # What can pass, or be asked another time, stays an answer that was not acceptable.
    return with_error(answer, INVALID_OUTPUT if later.may_pass else ASKED_AGAIN_IN_VAIN, message)
