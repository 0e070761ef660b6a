"""When a wait for a job ends."""

from __future__ import annotations

import pytest

from airflow_provider_mistral_batch.api.models import BatchJobOut
from airflow_provider_mistral_batch.policies.deadline import seconds_allowed, submitted_at


@pytest.mark.parametrize(
    ("created_at", "noted", "expected"),
    [
        (1000, None, 700.0),
        (1000, "5", 700.0),
        # The API does not say: our own note does, by our own clock.
        (0, "900", 900.0),
        (0, "soon", 2000.0),
        (0, None, 2000.0),
    ],
)
def test_submitted_at(created_at: int, noted: str | None, expected: float) -> None:
    metadata = None if noted is None else {"airflow_submitted_at": noted}
    job = BatchJobOut(id="j", status="x", raw_status="x", created_at=created_at, metadata=metadata)
    assert submitted_at(job, clock_offset=300.0, now=2000.0) == expected


@pytest.mark.parametrize(("timeout", "hours", "expected"), [(None, 24, 90_000.0), (5.0, 24, 5.0)])
def test_seconds_allowed(timeout: float | None, hours: int, expected: float) -> None:
    assert seconds_allowed(timeout, hours) == expected
