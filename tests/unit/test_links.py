"""The link to Mistral's console."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time.xcom import XCom

from airflow_provider_mistral_batch.links.mistral_batch import CONSOLE_URL, MistralBatchJobLink
from airflow_provider_mistral_batch.operators.inference import MistralBatchInferenceOperator
from airflow_provider_mistral_batch.sensors.mistral_batch import MistralBatchJobSensor


@pytest.fixture(autouse=True)
def stored(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stands for Airflow's database: the task's XComs."""
    xcoms: dict[str, Any] = {}
    monkeypatch.setattr(XCom, "get_value", lambda *, key, ti_key: xcoms.get(key))
    return xcoms


def link_of(task: Any) -> str:
    return MistralBatchJobLink().get_link(task, ti_key=object())  # type: ignore[arg-type]


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
def test_which_job_of_a_task_of_another_class(xcom: Any, argument: Any, link: str, stored: Any) -> None:
    stored["batch_id"] = xcom
    assert link_of(SimpleNamespace(batch_id=argument)) == link


def test_our_tasks_know_their_job_and_read_no_xcom(
    connection: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow logs an error for an XCom that is not there, after each deferral and each poke."""
    connection()
    monkeypatch.setattr(XCom, "get_value", lambda **_: pytest.fail("an XCom was read"))
    assert link_of(MistralBatchJobSensor(task_id="t", batch_id="job-1")) == f"{CONSOLE_URL}/job-1"
    batch = MistralBatchInferenceOperator(task_id="t", requests=[], destination="/r")
    assert link_of(batch) == CONSOLE_URL
    batch._submission = SimpleNamespace(batch_ids=["job-1", "job-2"])  # type: ignore[assignment]
    assert link_of(batch) == f"{CONSOLE_URL}/job-2"


@pytest.mark.parametrize(
    ("host", "has_link"),
    [
        ("", True),
        ("https://api.mistral.ai", True),
        ("https://API.mistral.ai/v1", True),
        ("https://api.eu.mistral.ai", True),
        ("http://127.0.0.1:8321", False),
        ("https://gateway.example.com/mistral.ai", False),
        ("https://mistral.ai.example.com", False),
        ("https://notmistral.ai", False),
    ],
)
def test_a_job_that_is_not_in_the_console_has_no_link(
    host: str, has_link: bool, connection: Callable[..., Any]
) -> None:
    connection(host=host)
    assert link_of(MistralBatchJobSensor(task_id="t", batch_id="job-1")) == (
        f"{CONSOLE_URL}/job-1" if has_link else ""
    )


@pytest.mark.parametrize("hook", [{}, {"hook": None}, {"hook": SimpleNamespace(conn_type="http")}])
def test_a_task_of_another_class_uses_mistrals_api(hook: dict[str, Any]) -> None:
    assert link_of(SimpleNamespace(batch_id="job-1", **hook)) == f"{CONSOLE_URL}/job-1"


def test_a_connection_that_cannot_be_read_gives_no_link_and_no_error(
    connection: Callable[..., Any],
) -> None:
    connection(password="")
    assert link_of(MistralBatchJobSensor(task_id="t", batch_id="job-1")) == ""
