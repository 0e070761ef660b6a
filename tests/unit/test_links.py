"""The link to Mistral's console."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import XCom

from airflow_provider_mistral_batch.links.mistral_batch import CONSOLE_URL, MistralBatchJobLink
from airflow_provider_mistral_batch.operators.mistral_batch import (
    MistralCancelBatchJobOperator,
    MistralCreateBatchJobOperator,
)
from airflow_provider_mistral_batch.sensors.mistral_batch import MistralBatchJobSensor


@pytest.mark.parametrize(
    ("xcom", "argument", "link"),
    [
        ("job-1", None, f"{CONSOLE_URL}/job-1"),
        ("job-1", "job-2", f"{CONSOLE_URL}/job-1"),
        # A deferred sensor has pushed nothing yet, and knows what it waits for.
        (None, "job-2", f"{CONSOLE_URL}/job-2"),
        (None, None, CONSOLE_URL),
        ("../../evil?x#y", None, f"{CONSOLE_URL}/..%2F..%2Fevil%3Fx%23y"),
        (["job-1"], None, CONSOLE_URL),
    ],
)
def test_link(xcom: Any, argument: Any, link: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Stands for Airflow's database.
    monkeypatch.setattr(XCom, "get_value", lambda *, key, ti_key: xcom if key == "batch_id" else None)
    operator = SimpleNamespace() if argument is None else SimpleNamespace(batch_id=argument)
    assert MistralBatchJobLink().get_link(operator, ti_key=SimpleNamespace()) == link  # type: ignore[arg-type]


def test_our_tasks_know_their_job_and_read_no_xcom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow logs an error for an XCom that is not there, after each deferral and each poke."""
    monkeypatch.setattr(XCom, "get_value", lambda **_: pytest.fail("an XCom was read"))
    create = MistralCreateBatchJobOperator(task_id="create", input_files=["f"])
    for task, link in (
        (MistralBatchJobSensor(task_id="sensor", batch_id="job-1"), f"{CONSOLE_URL}/job-1"),
        (MistralCancelBatchJobOperator(task_id="cancel", batch_id="job-1"), f"{CONSOLE_URL}/job-1"),
        (create, CONSOLE_URL),
    ):
        assert MistralBatchJobLink().get_link(task, ti_key=SimpleNamespace()) == link  # type: ignore[arg-type]
    create._submission = SimpleNamespace(batch_ids=["job-1", "job-2"])  # type: ignore[assignment]
    assert MistralBatchJobLink().get_link(create, ti_key=SimpleNamespace()) == f"{CONSOLE_URL}/job-2"  # type: ignore[arg-type]
