"""``ResumingTrigger``: a trigger whose event starts a worker, which it does not do too soon after the deferral."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_mistral_batch.policies.resumption import seconds_to_resumption


class ResumingTrigger(BaseTrigger):
    """
    Base of the triggers that resume a task.

    :param deferred_at: When a worker deferred the task (epoch seconds of its clock): a point in time, so that a
        triggerer's restart begins no new pause. ``None``: no worker did so yet.
    """

    def __init__(self, *, deferred_at: float | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.deferred_at = deferred_at
        self._made_at = time.time()

    def deferral(self) -> dict[str, Any]:
        """Return the argument that a trigger made from the database gets: a worker makes the first, and defers."""
        return {"deferred_at": self._made_at if self.deferred_at is None else self.deferred_at}

    async def resumption(self, payload: dict[str, Any]) -> TriggerEvent:
        """
        Make the event that resumes the task on a worker, as soon as that is safe.

        :param payload: What the event tells.
        """
        # Where no worker deferred the task (start_from_trigger), or no triggerer runs the trigger (`dag.test()`), no
        # executor reports a worker's end.
        if self.deferred_at is not None and self.trigger_id is not None:
            await asyncio.sleep(seconds_to_resumption(self.deferred_at, time.time()))
        return TriggerEvent(payload)
