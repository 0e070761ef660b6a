"""The sensor's verdict on every end of a job is the same in all ways of waiting, and so are its XComs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_mistral_batch.emulator.client import Control
from airflow_provider_mistral_batch.sensors.mistral_batch import MistralBatchJobSensor

WAYS: dict[str, dict[str, Any]] = {
    "poke": {"mode": "poke"},
    "reschedule": {"mode": "reschedule"},
    "deferred": {"deferrable": True},
}

#: Plans for a job's end, by published status.
ENDS: dict[str, dict[str, Any]] = {
    "completed": {},
    "failed": {"end": "FAILED", "end_after": 1.0, "errors": ["The model is gone"]},
    "expired": {"end": "TIMEOUT_EXCEEDED", "end_after": 1.0},
    "cancelled": {"end": "CANCELLED", "end_after": 1.0},
}

#: Plans for a job's four rows.
ROWS: dict[str, dict[str, Any]] = {
    "none failed": {},
    "one of four failed": {"failed_rows": 1},
    "all failed": {"failed_rows": "all"},
    "an error file beside 0 failed": {"failed_rows": 1, "fields": {"failed_requests": 0}},
}


def expected_state(status: str, rows: str, max_failed_ratio: float, soft_fail: bool) -> str:
    """The specification, in one expression: what counts is the job's end and then the share of failed rows."""
    succeeds = status == "completed" and (
        rows == "none failed" or (rows != "all failed" and max_failed_ratio >= 0.25)
    )
    return "success" if succeeds else "skipped" if soft_fail else "failed"


CASES = [
    pytest.param(status, rows, ratio, soft_fail, id=f"{status}-{rows}-{ratio}{'-soft' if soft_fail else ''}")
    for status in ENDS
    for rows in ROWS
    for ratio in ((1.0, 0.2) if status == "completed" else (1.0,))
    for soft_fail in (False, True)
]


@pytest.mark.parametrize(("status", "rows", "max_failed_ratio", "soft_fail"), CASES)
def test_every_way_of_waiting_gives_the_same_verdict(
    status: str,
    rows: str,
    max_failed_ratio: float,
    soft_fail: bool,
    airflow: Any,
    new_ti: Any,
    control: Control,
    jobs: Callable[[], list[dict[str, Any]]],
    make_job: Callable[..., str],
) -> None:
    batch_id = make_job(**ENDS[status], **ROWS[rows])
    outcomes = {}
    for way, arguments in WAYS.items():
        # The first look finds it running, so that each way has to wait.
        still_running = {"status": "RUNNING", "output_file": None, "error_file": None}
        control.fault("alter", "GET", f"/v1/batch/jobs/{batch_id}", fields=still_running)
        outcomes[way] = airflow.run(
            lambda arguments=arguments: MistralBatchJobSensor(
                task_id="wait",
                batch_id=batch_id,
                max_failed_ratio=max_failed_ratio,
                soft_fail=soft_fail,
                poke_interval=0.01,
                timeout=30,
                **arguments,
            ),
            new_ti(),
        )

    worker = outcomes["poke"]
    assert worker.state == expected_state(status, rows, max_failed_ratio, soft_fail)
    for way, outcome in outcomes.items():
        assert (way, outcome.state) == (way, worker.state)
        assert (way, outcome.value) == (way, worker.value)
        assert (way, outcome.xcoms) == (way, worker.xcoms)
    (job,) = jobs()
    assert worker.xcoms.pop("return_value", None) == (
        job["output_file"] if worker.state == "success" else None
    )
    assert worker.xcoms == {
        "batch_id": batch_id,
        "status": status,
        "output_file_id": job["output_file"],
        "error_file_id": job["error_file"],
        "request_counts": {
            "total": 4,
            "completed": job["succeeded_requests"],
            "failed": job["failed_requests"],
        },
    }
    assert (job["error_file"] is None) == (rows == "none failed")
    assert (job["output_file"] is None) == (rows == "all failed")
    if worker.state == "failed":
        messages = {outcome.message for outcome in outcomes.values()}
        assert len(messages) == 1
        (message,) = messages
        assert batch_id in message
        assert status in message
        if rows != "none failed":
            assert "Most frequent row errors: " in message
            assert job["error_file"] in message
        if status == "failed":
            assert "The model is gone" in message
    # Two reschedules are two starts; the triggerer ends by itself what ended well and leaves nothing to explain.
    ended_in_triggerer = worker.state == "success" and rows == "none failed"
    starts = {"poke": 1, "reschedule": 2, "deferred": 1 if ended_in_triggerer else 2}
    assert {way: outcome.worker_starts for way, outcome in outcomes.items()} == starts


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("arguments", "state"), [({}, "failed"), ({"never_fail": True}, "skipped"), ({"retries": 3}, "failed")]
)
def test_a_bad_end_is_final(
    way: str, arguments: dict[str, Any], state: str, airflow: Any, make_job: Callable[..., str]
) -> None:
    batch_id = make_job(end="FAILED")
    outcome = airflow.run(
        lambda: MistralBatchJobSensor(
            task_id="wait", batch_id=batch_id, poke_interval=0.01, **WAYS[way], **arguments
        )
    )
    assert outcome.state == state


def test_no_trigger_for_a_job_that_is_over_already(airflow: Any, make_job: Callable[..., str]) -> None:
    batch_id = make_job()
    outcome = airflow.run(lambda: MistralBatchJobSensor(task_id="wait", batch_id=batch_id, deferrable=True))
    assert (outcome.state, outcome.worker_starts, outcome.triggers) == ("success", 1, [])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("arguments", "state"),
    [({}, "timeout"), ({"soft_fail": True}, "skipped"), ({"never_fail": True}, "skipped")],
)
def test_timeout(
    way: str,
    arguments: dict[str, Any],
    state: str,
    airflow: Any,
    control: Control,
    jobs: Callable[[], list[dict[str, Any]]],
) -> None:
    (batch_id,) = control.make_jobs(1)
    outcome = airflow.run(
        lambda: MistralBatchJobSensor(
            task_id="wait", batch_id=batch_id, poke_interval=0.05, timeout=0.2, **WAYS[way], **arguments
        )
    )
    assert outcome.state == state
    if state == "timeout":
        assert outcome.message == f"batch job {batch_id} was not over within timeout=0.2 s"
    assert outcome.xcoms == {}
    assert [job["status"] for job in jobs()] == ["RUNNING"]


@pytest.mark.parametrize("way", WAYS)
def test_a_job_that_ends_right_at_the_deadline_counts(
    way: str, airflow: Any, control: Control, make_job: Callable[..., str]
) -> None:
    # Every mode looks once more after the time is up: what the last look before saw may be long ago.
    batch_id = make_job()
    control.fault("alter", "GET", f"/v1/batch/jobs/{batch_id}", fields={"status": "RUNNING"}, times=1)
    outcome = airflow.run(
        lambda: MistralBatchJobSensor(
            task_id="wait",
            batch_id=batch_id,
            poke_interval=0.3,
            timeout=0.1 if way == "deferred" else 0.29,
            **WAYS[way],
        )
    )
    assert outcome.state == "success"
