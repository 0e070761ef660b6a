"""``MistralCancelBatchJobOperator``: running, finished and unknown jobs, with and without waiting."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_mistral_batch.emulator.client import Control
from airflow_provider_mistral_batch.observability import metrics
from airflow_provider_mistral_batch.operators.mistral_batch import MistralCancelBatchJobOperator

CANCEL = "POST /v1/batch/jobs/{id}/cancel"
LONG = {"job_seconds": 1000}


@pytest.fixture
def cancel(airflow: Any) -> Callable[..., Any]:
    def cancel(batch_id: Any, **arguments: Any) -> Any:
        arguments = {"poll_interval": 0.05, **arguments}
        return airflow.run(
            lambda: MistralCancelBatchJobOperator(task_id="cancel", batch_id=batch_id, **arguments)
        )

    return cancel


def running(make_job: Any, jobs: Any, **plan: Any) -> str:
    batch_id: str = make_job(wait=False, **{**LONG, **plan})
    while jobs()[0]["status"] == "QUEUED":
        time.sleep(0.01)
    return batch_id


def test_a_running_job_without_waiting(cancel: Any, control: Control, make_job: Any, jobs: Any) -> None:
    control.settings(cancel_seconds=1000)
    batch_id = running(make_job, jobs)
    outcome = cancel(batch_id)
    assert (outcome.state, outcome.value) == ("success", batch_id)
    assert outcome.xcoms["status"] == "cancelling"
    assert jobs()[0]["status"] == "CANCELLATION_REQUESTED"


def test_a_running_job_until_it_is_really_over(
    cancel: Any, control: Control, make_job: Any, jobs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = []
    stats = SimpleNamespace(
        incr=lambda name, count=1, **options: counted.append((name, options["tags"].get("status"))),
        timing=lambda *_, **__: None,
    )
    monkeypatch.setattr(metrics, "_stats", lambda: stats)
    control.settings(cancel_seconds=0.3)
    batch_id = running(make_job, jobs)
    outcome = cancel(batch_id, wait_for_completion=True)
    assert (outcome.state, outcome.value) == ("success", batch_id)
    assert outcome.xcoms["status"] == "cancelled"
    assert jobs()[0]["status"] == "CANCELLED"
    assert counted.count((metrics.ENDED, "cancelled")) == 1


def test_a_job_of_which_some_is_done_keeps_it(
    cancel: Any, control: Control, make_job: Any, jobs: Any
) -> None:
    # A row a second, for a minute: long enough for a busy machine.
    batch_id = make_job(rows=60, wait=False, job_seconds=60)
    while not jobs()[0]["succeeded_requests"]:
        time.sleep(0.02)
    outcome = cancel(batch_id, wait_for_completion=True)
    assert outcome.xcoms["status"] == "cancelled"
    assert outcome.xcoms["output_file_id"] == jobs()[0]["output_file"] is not None
    assert outcome.xcoms["request_counts"]["completed"] >= 1


@pytest.mark.parametrize("wait", [False, True])
@pytest.mark.parametrize("cancel_finished", ["unchanged", "error"])
@pytest.mark.parametrize(
    ("end", "status"), [("SUCCESS", "completed"), ("FAILED", "failed"), ("CANCELLED", "cancelled")]
)
def test_a_finished_job_is_a_success_that_says_so(
    end: str,
    status: str,
    cancel_finished: str,
    wait: bool,
    cancel: Any,
    control: Control,
    make_job: Any,
    logged: Any,
) -> None:
    control.settings(cancel_finished=cancel_finished)
    batch_id = make_job(end=end)
    outcome = cancel(batch_id, wait_for_completion=wait)
    assert (outcome.state, outcome.value) == ("success", batch_id)
    assert outcome.xcoms["status"] == status
    assert f"info: Batch job {batch_id} is already over, so there is nothing to cancel." in logged()
    assert CANCEL not in control.requests()


@pytest.mark.parametrize("cancel_finished", ["unchanged", "error"])
def test_a_job_that_ends_while_we_ask(
    cancel_finished: str, cancel: Any, control: Control, make_job: Any
) -> None:
    control.settings(cancel_finished=cancel_finished)
    batch_id = make_job()
    control.fault("alter", "GET", f"*/{batch_id}", fields={"status": "RUNNING"})
    outcome = cancel(batch_id, wait_for_completion=True)
    assert (outcome.state, outcome.xcoms["status"]) == ("success", "completed")
    assert control.requests()[CANCEL] == 1


def test_a_refusal_of_a_job_that_runs_is_a_failure(
    cancel: Any, control: Control, make_job: Any, jobs: Any
) -> None:
    batch_id = running(make_job, jobs)
    control.fault("status", "POST", status=400, message="Not now")
    outcome = cancel(batch_id)
    assert outcome.state == "failed"
    assert "Not now" in outcome.message


def test_an_unknown_job(cancel: Any) -> None:
    batch_id = "00000000-0000-4000-8000-000000000000"
    outcome = cancel(batch_id)
    assert outcome.state == "failed"
    assert [word for word in ("404", batch_id, "another workspace") if word not in outcome.message] == []


@pytest.mark.parametrize("batch_id", ["", "..", None, "a\nb"])
def test_an_id_that_is_none(batch_id: Any, cancel: Any, control: Control) -> None:
    outcome = cancel(batch_id)
    assert outcome.state == "failed"
    assert f"batch_id={batch_id!r}" in outcome.message
    assert control.requests() == {}


@pytest.mark.parametrize(
    ("arguments", "word"), [({"timeout": 0}, "timeout=0"), ({"poll_interval": -1}, "poll_interval=-1")]
)
def test_bad_arguments_cancel_nothing(
    arguments: dict[str, Any], word: str, cancel: Any, control: Control
) -> None:
    outcome = cancel("b", wait_for_completion=True, **arguments)
    assert outcome.state == "failed"
    assert word in outcome.message
    assert control.requests() == {}


def test_a_cancellation_that_takes_too_long_can_be_tried_again(
    cancel: Any, control: Control, make_job: Any, jobs: Any
) -> None:
    control.settings(cancel_seconds=1000)
    batch_id = running(make_job, jobs)
    outcome = cancel(batch_id, wait_for_completion=True, timeout=0.3)
    assert outcome.state == "retry"
    assert f"batch job {batch_id} was not over 0.3 s after" in outcome.message


def test_trouble_while_it_waits(
    cancel: Any, connect: Any, control: Control, make_job: Any, jobs: Any
) -> None:
    control.settings(cancel_seconds=0.5)
    batch_id = running(make_job, jobs)
    connect(retries=1)
    control.fault("status", "GET", f"*/{batch_id}", status=502, skip=1, times=3)
    outcome = cancel(batch_id, wait_for_completion=True)
    assert (outcome.state, outcome.xcoms["status"]) == ("success", "cancelled")
