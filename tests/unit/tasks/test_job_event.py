"""What a trigger tells its task, on its way through Airflow's database."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_mistral_batch.api.models import BatchError, BatchJobOut, BatchJobRequestCounts
from airflow_provider_mistral_batch.tasks.job_event import JobEvent


def unheard_of() -> BatchJobOut:
    return BatchJobOut(
        id="job-1",
        status="resting",
        raw_status="RESTING",
        created_at=1_700_000_000,
        request_counts=BatchJobRequestCounts(total=3, completed=1, failed=1),
        errors=[BatchError(message="odd", count=2)],
        metadata={"a": "b", "nested": {"n": 1}},
        outputs=[{"custom_id": "x"}],
    )


@pytest.mark.parametrize(
    "event",
    [
        JobEvent(batch_id="job-1", job=unheard_of()),
        JobEvent(batch_id="job-1", timed_out=True),
        JobEvent(batch_id="job-1", job=unheard_of(), timed_out=True),
        JobEvent(batch_id="job-1", error="gone", error_is_permanent=True),
    ],
)
def test_an_event_survives_the_database(event: JobEvent) -> None:
    payload = json.loads(json.dumps(event.as_payload()))
    assert JobEvent.from_payload(payload) == event


def test_an_event_of_a_newer_version_is_understood() -> None:
    payload = JobEvent(batch_id="job-1", job=unheard_of()).as_payload()
    payload["mood"] = "fine"
    payload["job"]["colour"] = "orange"
    assert JobEvent.from_payload(payload).job == unheard_of()


@pytest.mark.parametrize(
    "payload", [None, "success", {}, {"status": "success"}, {"batch_id": 1}, [], {"batch_id": "b", "job": {}}]
)
def test_an_event_of_someone_else_is_refused(payload: Any) -> None:
    with pytest.raises(ValueError, match="is not an event of MistralBatchJobTrigger"):
        JobEvent.from_payload(payload)
