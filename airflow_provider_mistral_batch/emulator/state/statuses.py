"""The statuses of a batch job: the API's word, the OpenAI-compatible dialect's word, and whether the job is over."""

from __future__ import annotations

from typing import Literal, get_args

#: All statuses, in the order of the API's description.
Status = Literal[
    "QUEUED", "RUNNING", "SUCCESS", "FAILED", "TIMEOUT_EXCEEDED", "CANCELLATION_REQUESTED", "CANCELLED"
]
#: Statuses of a job that is over.
TerminalStatus = Literal["SUCCESS", "FAILED", "TIMEOUT_EXCEEDED", "CANCELLED"]

TERMINAL: tuple[str, ...] = get_args(TerminalStatus)
ACTIVE: tuple[str, ...] = tuple(status for status in get_args(Status) if status not in TERMINAL)

_OPENAI_STATUSES = {
    "QUEUED": "validating",
    "RUNNING": "in_progress",
    "SUCCESS": "completed",
    "FAILED": "failed",
    "TIMEOUT_EXCEEDED": "expired",
    "CANCELLATION_REQUESTED": "cancelling",
    "CANCELLED": "cancelled",
}


def openai_status(status: str, *, finalizing: bool) -> str:
    """
    Translate a status into the OpenAI-compatible dialect.

    :param status: The API's word.
    :param finalizing: Whether all rows of the job are done: only the dialect has a word for that.
    """
    return "finalizing" if status == "RUNNING" and finalizing else _OPENAI_STATUSES[status]
