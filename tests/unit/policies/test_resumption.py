"""How soon a task may be resumed after its deferral."""

from __future__ import annotations

import pytest

from airflow_provider_mistral_batch.policies.resumption import RESUMPTION_SECONDS, seconds_to_resumption


@pytest.mark.parametrize(
    ("deferred_at", "seconds"),
    [
        (1000.0, RESUMPTION_SECONDS),
        (996.0, RESUMPTION_SECONDS - 4),
        # A job of hours, or a trigger that a triggerer has started anew.
        (500.0, 0.0),
        # The worker's clock is ahead of ours.
        (5000.0, RESUMPTION_SECONDS),
    ],
)
def test_seconds_to_resumption(deferred_at: float, seconds: float) -> None:
    assert seconds_to_resumption(deferred_at, 1000.0) == seconds
