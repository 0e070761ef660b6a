"""The event with which a trigger tells a task how the wait for its job ended."""

from __future__ import annotations

from typing import Any

import msgspec

from airflow_provider_mistral_batch.api.models import BatchJobOut


class JobEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    How the wait for one job ended.

    :param batch_id: The job's id.
    :param job: The last snapshot of the job. The job is over unless ``timed_out`` or ``error`` is set.
    :param timed_out: Whether the deadline passed.
    :param error: Why the job cannot be watched; ``None`` if it can.
    :param error_is_permanent: Whether the error lasts until somebody fixes its cause.
    """

    batch_id: str
    job: BatchJobOut | None = None
    timed_out: bool = False
    error: str | None = None
    error_is_permanent: bool = False

    def as_payload(self) -> dict[str, Any]:
        """Return the event in the form that Airflow stores in its database."""
        payload: dict[str, Any] = msgspec.to_builtins(self)
        return payload

    @classmethod
    def from_payload(cls, payload: Any) -> JobEvent:
        """
        Read the event from what the task's ``execute_complete`` receives.

        :raises ValueError: When it is not an event of ours.
        """
        try:
            return msgspec.convert(payload, cls)
        except msgspec.ValidationError as error:
            raise ValueError(
                f"event={payload!r:.200} is not an event of MistralBatchJobTrigger: {error}"
            ) from None
