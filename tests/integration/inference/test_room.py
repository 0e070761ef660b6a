"""More than a job, or the workspace, has room for: several jobs, one after the other as they fit."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mistral_batch.api import limits
from airflow_provider_mistral_batch.triggers.inference import MistralBatchJobsTrigger, MistralBatchRoomTrigger


def test_more_than_a_job_takes_becomes_several_that_never_exceed_the_limit(
    airflow: Any, way: dict[str, Any], batch: Any, jobs: Any, control: Any, rows_of: Any
) -> None:
    control.settings(job_seconds=0.2, max_pending_requests=4)
    outcome = airflow.run(batch(7, max_pending_requests=4, **way))
    assert outcome.state == "success", outcome.message
    assert [job["total_requests"] for job in jobs()] == [4, 3]
    assert outcome.value["batch_ids"] == [job["id"] for job in jobs()]
    assert outcome.value["counts"]["succeeded"] == 7
    assert len(rows_of(outcome.value["results_path"])) == 7
    # The server would have refused a job too early.
    assert "POST /v1/batch/jobs 429" not in control.record()["answers"]
    assert outcome.xcoms["batch_id"] == jobs()[1]["id"]


def test_jobs_that_fit_run_together_and_their_failed_rows_share_a_round(
    airflow: Any,
    way: dict[str, Any],
    batch: Any,
    jobs: Any,
    control: Any,
    rows_of: Any,
    at_deferral: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "MAX_REQUESTS_PER_JOB", 2)
    if way["deferrable"]:
        at_deferral(lambda: None)
    control.plan_jobs(times=2, failed_rows=1)
    outcome = airflow.run(batch(6, **way))
    assert outcome.state == "success", outcome.message
    assert [job["total_requests"] for job in jobs()] == [2, 2, 2, 2]
    assert [job["metadata"]["airflow_part"].split("/", 1)[1] for job in jobs()] == [
        "0/0",
        "0/1",
        "0/2",
        "1/0",
    ]
    assert len(rows_of(outcome.value["results_path"])) == 6
    if way["deferrable"]:
        assert [len(trigger.batch_ids) for trigger in outcome.triggers] == [3, 1]


def test_a_submission_waits_until_others_leave_room(
    airflow: Any, way: dict[str, Any], batch: Any, jobs: Any, control: Any
) -> None:
    control.settings(max_pending_requests=100)
    others = control.make_jobs(2, total_requests=48)
    freed: list[float] = []

    def free() -> None:
        if not freed:
            freed.append(time.monotonic())
            control.end_jobs(others[:1])

    if way["deferrable"]:
        airflow.on_deferral = free
    else:
        threading.Timer(0.3, free).start()
    outcome = airflow.run(batch(5, max_pending_requests=100, **way))
    assert outcome.state == "success", outcome.message
    assert freed
    assert len(jobs()) == 3


def test_jobs_that_are_still_validating_count_by_what_we_submitted(
    airflow: Any, batch: Any, jobs: Any, control: Any
) -> None:
    control.settings(validation_seconds=0.2, max_pending_requests=4)
    outcome = airflow.run(batch(6, max_pending_requests=4, deferrable=True))
    assert outcome.state == "success", outcome.message
    assert "POST /v1/batch/jobs 429" not in control.record()["answers"]
    assert [job["metadata"]["airflow_requests"] for job in jobs()] == ["4", "2"]


def test_a_refusal_by_the_api_itself_is_waited_out(
    airflow: Any, way: dict[str, Any], batch: Any, jobs: Any, control: Any, connect: Any
) -> None:
    connect(retries=1)
    control.fault("status", "POST", "/v1/batch/jobs", status=429, times=2)
    outcome = airflow.run(batch(**way))
    assert outcome.state == "success", outcome.message
    assert len(jobs()) == 1


def test_the_wait_for_room_has_an_end(hook: Any, control: Any, trigger_tools: Any) -> None:
    control.make_jobs(1, total_requests=48)
    trigger = MistralBatchRoomTrigger(5, 50, deadline=time.time() + 0.2, poll_interval=0.05)
    assert trigger_tools.run(trigger).payload == {"timed_out": True}


def test_ending_a_task_that_waits_for_room_cancels_what_it_has_running(
    hook: Any, control: Any, jobs: Any, trigger_tools: Any
) -> None:
    ours = control.make_jobs(1)
    trigger = MistralBatchRoomTrigger(5, 5, deadline=0.0, batch_ids=ours, cancel_on_kill=True)
    asyncio.run(trigger_tools.through_database(trigger).on_kill())
    assert control.requests() == {"POST /v1/batch/jobs/{id}/cancel": 1}


def test_ending_a_task_cancels_each_of_its_jobs_although_some_cannot_be_cancelled(
    hook: Any, control: Any, connect: Any, trigger_tools: Any, logged: Any
) -> None:
    connect(retries=1)
    first, second = control.make_jobs(2)
    control.fault("status", "POST", f"/v1/batch/jobs/{first}/cancel", status=500)
    trigger = MistralBatchJobsTrigger([first, second], cancel_on_kill=True)
    asyncio.run(trigger_tools.through_database(trigger).on_kill())
    assert control.requests() == {"POST /v1/batch/jobs/{id}/cancel": 2}
    assert [line for line in logged() if f"Batch job {first} may keep running" in line]


def test_a_task_that_goes_on_elsewhere_is_asked_about_once_and_keeps_its_jobs(
    hook: Any, control: Any, trigger_tools: Any, supervisor: Any, new_ti: Any, logged: Any
) -> None:
    supervisor.state = "deferred"
    trigger = trigger_tools.through_database(
        MistralBatchJobsTrigger(control.make_jobs(2), cancel_on_kill=True)
    )
    trigger.task_instance = new_ti()
    asyncio.run(trigger.on_kill())
    assert control.requests() == {}
    assert len([line for line in logged() if "goes on elsewhere" in line]) == 1


def test_a_key_that_is_refused_ends_the_wait_for_room(
    hook: Any, control: Any, connect: Any, trigger_tools: Any
) -> None:
    control.fault("status", "GET", "/v1/batch/jobs", status=401, times=None)
    event = trigger_tools.run(MistralBatchRoomTrigger(5, 5, deadline=time.time() + 60, poll_interval=0.05))
    assert event.payload["error_is_permanent"]
    assert "mistral_default" in event.payload["error"]


def test_a_job_that_cannot_be_watched_ends_the_wait_for_all(
    airflow: Any, batch: Any, hook: Any, jobs: Any, control: Any, out: Path
) -> None:
    control.settings(job_seconds=3600)
    airflow.on_deferral = lambda: hook.delete(jobs()[-1]["id"])
    outcome = airflow.run(batch(deferrable=True))
    assert outcome.state == "failed"
    assert "404" in outcome.message


def test_a_refusal_is_not_answered_at_once_with_another_call(
    airflow: Any, way: dict[str, Any], batch: Any, control: Any, connect: Any
) -> None:
    connect(retries=1)
    control.fault("status", "POST", "/v1/batch/jobs", status=429, times=3)
    started = time.monotonic()
    outcome = airflow.run(batch(poll_interval=0.3, **way))
    assert outcome.state == "success", outcome.message
    assert time.monotonic() - started > 3 * 0.3 * 0.75
