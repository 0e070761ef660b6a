"""Executing rows: lines of the input become lines of the output file and the error file."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import msgspec

from airflow_provider_mistral_batch.emulator.answers.dispatch import Answer
from airflow_provider_mistral_batch.emulator.answers.errors import error_body
from airflow_provider_mistral_batch.emulator.engine.inputs import decode_row
from airflow_provider_mistral_batch.emulator.state.plans import JobPlan, RowFault

log = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode


class Response(msgspec.Struct):
    """The ``response`` of a result."""

    status_code: int
    body: Any


class Result(msgspec.Struct):
    """A line of a result file, as in the samples of the API's documentation."""

    id: str
    custom_id: str
    response: Response | None
    error: dict[str, Any] | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the line belongs to the output file rather than to the error file."""
        return self.error is None and self.response is not None and self.response.status_code < 400


@dataclass
class ResultLines:
    """
    The results of some rows.

    :param output: Lines of the output file.
    :param errors: Lines of the error file.
    :param succeeded: How many rows succeeded.
    :param failed: How many rows failed.
    """

    output: list[bytes]
    errors: list[bytes]
    succeeded: int = 0
    failed: int = 0

    def add(self, result: Result, *, counted: bool = True) -> None:
        """Append a result, and count its row unless told otherwise."""
        line = _encode(result) + b"\n"
        if result.succeeded:
            self.output.append(line)
        else:
            self.errors.append(line)
        if counted:
            self.count(result)

    def extend(self, other: ResultLines) -> None:
        """Append the results of other rows."""
        self.output += other.output
        self.errors += other.errors
        self.succeeded += other.succeeded
        self.failed += other.failed

    def count(self, result: Result) -> None:
        """Count a row without its result."""
        if result.succeeded:
            self.succeeded += 1
        else:
            self.failed += 1


@dataclass
class Chunk:
    """
    Rows of a job that were executed together.

    :param results: Their results.
    :param rows: How many they are.
    :param index: Which of the job's files has the next row, from 0.
    :param offset: Where in that file the next row begins, in bytes.
    """

    results: ResultLines
    rows: int
    index: int
    offset: int


def execute(
    job_id: str,
    lines: Iterable[bytes],
    first: int,
    answer: Answer,
    plan: JobPlan,
    until: float | None = None,
) -> tuple[ResultLines, int]:
    """
    Execute rows one after the other.

    :param job_id: The job's id.
    :param lines: The rows, as they are in the input.
    :param first: Number of the first of them in the job, from 0.
    :param answer: Answers a row's body.
    :param plan: The job's plan, which says what goes wrong with which rows.
    :param until: Monotonic seconds after which no further row is begun; all rows are executed if not given.
    :return: The results, and how many rows were executed.
    """
    results = ResultLines([], [])
    rows = 0
    has_row_faults = plan.has_row_faults
    for number, line in enumerate(lines, first):
        rows += 1
        row = decode_row(line)
        custom_id = str(number) if row.custom_id is None else row.custom_id
        fault = plan.row_fault(number, custom_id) if has_row_faults else None
        if fault is not None:
            _execute_with_fault(fault, job_id, number, custom_id, row.body, answer, plan, results)
        else:
            response = _response(job_id, number, row.body, answer)
            results.add(Result(_result_id(job_id, number), custom_id, response))
        if until is not None and time.monotonic() >= until:
            break
    return results, rows


def _response(job_id: str, number: int, body: bytes, answer: Answer) -> Response:
    try:
        return Response(*answer(body))
    except Exception:
        # A bug that one row reveals must not cost the other rows their answers.
        log.exception("Row %d of batch job %s cannot be answered", number + 1, job_id)
        return Response(
            500, error_body("The emulator failed at this row: its log says why", "internal_error")
        )


def _result_id(job_id: str, number: int) -> str:
    """``batch-<first 8 of the job's id>-<number from 1>-<uuid>``; the same whenever the row is executed."""
    digest = blake2b(f"{job_id}/{number}".encode(), digest_size=16).hexdigest()
    uuid = f"{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-a{digest[17:20]}-{digest[20:]}"
    return f"batch-{job_id[:8]}-{number + 1}-{uuid}"


def _execute_with_fault(
    fault: RowFault,
    job_id: str,
    number: int,
    custom_id: str,
    body: bytes,
    answer: Answer,
    plan: JobPlan,
    results: ResultLines,
) -> None:
    row_id = _result_id(job_id, number)
    if fault == "failed":
        results.add(_failure(row_id, custom_id, plan.failed_status(number), plan.error_style))
        return
    if fault == "zero":
        results.add(Result(row_id, custom_id, Response(0, None)))
        return
    result = Result(row_id, custom_id, _response(job_id, number, body, answer))
    if fault == "unfinished" and result.response is not None:
        _cut_choices(result.response.body, plan.finish_reason(number))
    if fault == "missing":
        results.count(result)
        return
    results.add(result)
    if fault == "duplicate":
        results.add(result, counted=False)
    elif fault == "unknown":
        results.add(Result(row_id + "-unknown", f"unknown-{number}", result.response), counted=False)


def _cut_choices(body: Any, reason: str) -> None:
    """Give the choices of an answer another ``finish_reason``, and half of their text."""
    for choice in body.get("choices", ()):
        choice["finish_reason"] = reason
        messages = choice.get("messages") or [choice["message"]]
        last = messages[-1] = dict(messages[-1])
        if isinstance(last["content"], str):
            last["content"] = last["content"][: len(last["content"]) // 2]
        if "message" in choice:
            choice["message"] = last


_FAILURES = {
    400: ("invalid_request_error", "The request is invalid"),
    408: ("timeout_error", "The request took too long"),
    409: ("conflict_error", "The request conflicts with another one"),
    422: ("invalid_request_error", "The request cannot be processed"),
    429: ("rate_limited", "Rate limit exceeded"),
    503: ("service_tier_capacity_exceeded", "Service tier capacity exceeded for this model"),
}


def _failure(row_id: str, custom_id: str, status: int, style: str) -> Result:
    kind, message = _FAILURES.get(status, ("internal_error", "Service unavailable: internal error"))
    if style == "error":
        return Result(row_id, custom_id, None, {"message": message, "code": status, "type": kind})
    return Result(row_id, custom_id, Response(status, error_body(message, kind)))
