"""Executing rows: from lines of the input to lines of the output and the error file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import msgspec

from airflow_provider_mistral_batch.emulator.engine.inputs import decode_row
from airflow_provider_mistral_batch.emulator.http.errors import error_body
from airflow_provider_mistral_batch.emulator.state.plans import JobPlan

logger = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode

#: Answers one request body: status code and body of the response.
Answer = Callable[[bytes], "tuple[int, Any]"]


class Response(msgspec.Struct):
    """A result row's ``response``."""

    status_code: int
    body: Any


class Result(msgspec.Struct):
    """A result row, as the published samples have it."""

    id: str
    custom_id: str
    response: Response | None
    error: dict[str, Any] | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the row belongs into the output file: everything but an error does."""
        return self.error is None and self.response is not None and self.response.status_code < 400


@dataclass
class Written:
    """What executing some rows gave."""

    output: list[bytes]
    errors: list[bytes]
    succeeded: int = 0
    failed: int = 0

    def add(self, result: Result, *, counted: bool = True) -> None:
        """Write a result to the file it belongs to."""
        line = _encode(result) + b"\n"
        if result.succeeded:
            self.output.append(line)
        else:
            self.errors.append(line)
        if counted:
            self.count(result)

    def extend(self, other: Written) -> None:
        """Append what other rows gave."""
        self.output += other.output
        self.errors += other.errors
        self.succeeded += other.succeeded
        self.failed += other.failed

    def count(self, result: Result) -> None:
        """Count a result without writing it."""
        if result.succeeded:
            self.succeeded += 1
        else:
            self.failed += 1


@dataclass
class Batch:
    """Rows that were executed in one go, and where in the input they end."""

    written: Written
    rows: int
    index: int
    offset: int


def execute(job_id: str, lines: Iterable[bytes], first: int, answer: Answer, plan: JobPlan) -> Written:
    """Answer rows one after the other.

    :param first: number of the first of them in the job, from 0.
    """
    written = Written([], [])
    touched = plan.touches_rows
    for number, line in enumerate(lines, first):
        row = decode_row(line)
        custom_id = str(number) if row.custom_id is None else row.custom_id
        if touched:
            mishap = plan.mishap(number, custom_id)
            if mishap is not None:
                _suffer(mishap, job_id, number, custom_id, row.body, answer, plan, written)
                continue
        response = _answered(job_id, number, row.body, answer)
        written.add(Result(result_id(job_id, number), custom_id, response))
    return written


def _answered(job_id: str, number: int, body: bytes, answer: Answer) -> Response:
    """The response to a row; a 500 if the emulator fails at it, so that the other rows get theirs."""
    try:
        return Response(*answer(body))
    except Exception:
        logger.exception("Row %d of batch job %s cannot be answered", number + 1, job_id)
        return Response(
            500, error_body("The emulator failed at this row: its log says why", "internal_error")
        )


def result_id(job_id: str, number: int) -> str:
    """``batch-<first 8 of the job's id>-<number from 1>-<uuid>``; the same whenever the row is executed."""
    digest = blake2b(f"{job_id}/{number}".encode(), digest_size=16).hexdigest()
    uuid = f"{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-a{digest[17:20]}-{digest[20:]}"
    return f"batch-{job_id[:8]}-{number + 1}-{uuid}"


def _suffer(
    mishap: str,
    job_id: str,
    number: int,
    custom_id: str,
    body: bytes,
    answer: Answer,
    plan: JobPlan,
    written: Written,
) -> None:
    row_id = result_id(job_id, number)
    if mishap == "failed":
        written.add(_failure(row_id, custom_id, plan.failed_status(number), plan.error_style))
        return
    if mishap == "zero":
        written.add(Result(row_id, custom_id, Response(0, None)))
        return
    result = Result(row_id, custom_id, _answered(job_id, number, body, answer))
    if mishap == "missing":
        written.count(result)
        return
    written.add(result)
    if mishap == "duplicate":
        written.add(result, counted=False)
    elif mishap == "unknown":
        written.add(Result(row_id + "-unknown", f"unknown-{number}", result.response), counted=False)


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
    body = error_body(message, kind)
    if style == "error":
        return Result(row_id, custom_id, None, {"message": message, "code": status, "type": kind})
    return Result(row_id, custom_id, Response(status, body))
