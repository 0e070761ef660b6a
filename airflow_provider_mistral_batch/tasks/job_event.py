"""What a trigger tells the task that waited for a job."""

from __future__ import annotations

from typing import Any

import msgspec

from airflow_provider_mistral_batch.api.models import BatchJobOut


class JobEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    What the trigger tells the task that it waited for. It waits for exactly one.

    :param job: The job as it was seen last: over, unless ``timed_out`` or ``error``.
    :param timed_out: The deadline passed.
    :param error: The job cannot be watched: why.
    :param error_is_permanent: Whether only a person can change that.
    """

    batch_id: str
    job: BatchJobOut | None = None
    timed_out: bool = False
    error: str | None = None
    error_is_permanent: bool = False

    def as_payload(self) -> dict[str, Any]:
        """The event as Airflow carries it in its database."""
        payload: dict[str, Any] = msgspec.to_builtins(self)
        return payload

    @classmethod
    def from_payload(cls, payload: Any) -> JobEvent:
        """
        Read the event as the task's ``execute_complete`` gets it.

        :raises ValueError: When it is not one of ours.
        """
        try:
            return msgspec.convert(payload, cls)
        except msgspec.ValidationError as error:
            raise ValueError(
                f"event={payload!r:.200} is not an event of MistralBatchJobTrigger: {error}"
            ) from None
