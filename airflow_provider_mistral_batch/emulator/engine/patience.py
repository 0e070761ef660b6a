"""
The time that one row may take: a row that needs too much of it fails, and other jobs get their turn.

Processor time is counted, so the result does not depend on what else the machine does.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from airflow_provider_mistral_batch.emulator.answers.dispatch import Answer
from airflow_provider_mistral_batch.emulator.answers.errors import invalid_body

#: Seconds of processor time. A normal row takes less than a thousandth of one.
SECONDS_PER_ROW = 2.0


class _OutOfPatience(Exception):
    """The answer to a row took too long."""


def with_patience(answer: Answer, seconds: float = SECONDS_PER_ROW) -> Answer:
    """
    Make a function that gives up on a row that takes too long, and answers it with a 422.

    It must be called in the main thread, as :func:`signal.signal` must.

    :param answer: Answers a row's body.
    :param seconds: Seconds of processor time that one answer may take.
    """
    signal.signal(signal.SIGPROF, _give_up)

    def patient(raw: bytes) -> tuple[int, Any]:
        try:
            signal.setitimer(signal.ITIMER_PROF, seconds)
            try:
                return answer(raw)
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
        except (_OutOfPatience, MemoryError):
            message = (
                f"The emulator cannot answer this within {seconds:g} seconds of computing: make it simpler"
            )
            return 422, invalid_body((("body",), message, "too_complex"))

    return patient


def _give_up(number: int, frame: FrameType | None) -> None:
    raise _OutOfPatience
