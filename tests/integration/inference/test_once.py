"""Whatever dies, clears or changes: the same requests are paid for once, and nothing that nobody waits for runs on."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import pytest


def uploaded(control: Any, hook: Any) -> list[str]:
    """Ids of request files in this test's workspace."""
    return [file.id for file in hook.list_files(source=["upload"]).data]


def test_clearing_a_finished_task_gives_the_same_results_for_free(
    airflow: Any, new_ti: Any, batch: Any, way: dict[str, Any], sent: Any, jobs: Any
) -> None:
    ti = new_ti()
    first = airflow.run(batch(**way), ti)
    before = sent()
    again = airflow.run(batch(**way), ti.next_try())
    assert again.state == "success"
    assert again.value == first.value
    assert sent() == before


def test_clearing_a_task_whose_results_were_removed_lands_them_again_for_free(
    airflow: Any, new_ti: Any, batch: Any, out: Path, sent: Any, rows_of: Any, control: Any
) -> None:
    control.plan_jobs(failed_rows=2)
    ti = new_ti()
    first = airflow.run(batch(), ti)
    before = sent()
    shutil.rmtree(out)
    again = airflow.run(batch(), ti.next_try())
    assert again.state == "success", again.message
    assert again.value["batch_ids"] == first.value["batch_ids"]
    assert len(rows_of(again.value["results_path"])) == 5
    assert sent() == before


def test_force_new_pays_again_when_the_task_is_cleared(
    airflow: Any, new_ti: Any, batch: Any, jobs: Any
) -> None:
    ti = new_ti()
    first = airflow.run(batch(force_new=True), ti)
    retried = airflow.run(batch(force_new=True), ti.next_try())
    assert retried.value["batch_ids"] == first.value["batch_ids"]
    again = airflow.run(batch(force_new=True), ti.cleared())
    assert again.state == "success", again.message
    assert again.value["batch_ids"] != first.value["batch_ids"]
    assert len(jobs()) == 2


def test_a_retry_finds_the_running_job(
    airflow: Any, new_ti: Any, batch: Any, jobs: Any, hook: Any, control: Any
) -> None:
    control.settings(job_seconds=0.5)
    ti = new_ti()
    with pytest.raises(RuntimeError, match="the worker died"):
        _die_while_waiting(batch(), ti)
    assert len(jobs()) == 1
    outcome = airflow.run(batch(), ti.next_try())
    assert outcome.state == "success", outcome.message
    assert len(jobs()) == 1
    assert len(uploaded(control, hook)) == 1


def _die_while_waiting(make: Any, ti: Any) -> None:
    task = make()
    task._wait = lambda plan: _die()
    task.execute(ti.context)


def _die() -> NoReturn:
    raise RuntimeError("the worker died")


def test_changed_input_is_asked_anew_and_what_still_runs_is_cancelled(
    airflow: Any, new_ti: Any, batch: Any, jobs: Any, control: Any, rows_of: Any
) -> None:
    control.settings(job_seconds=3600)
    ti = new_ti()
    with pytest.raises(RuntimeError):
        _die_while_waiting(batch(5, max_pending_requests=6), ti)
    control.settings(job_seconds=0.0)
    outcome = airflow.run(batch(3), ti.next_try())
    assert outcome.state == "success", outcome.message
    assert outcome.value["counts"]["total"] == 3
    assert [job["status"] for job in jobs()] == ["CANCELLED", "SUCCESS"]


def test_changed_input_gets_nothing_of_the_rounds_before(
    airflow: Any, new_ti: Any, batch: Any, control: Any, rows_of: Any, out: Path
) -> None:
    control.plan_jobs(failed_rows=2)
    ti = new_ti()
    task = batch(5)()
    wait = task._wait
    task._wait = lambda plan: wait(plan) if len(plan.rounds) == 1 else _die()
    with pytest.raises(RuntimeError):
        task.execute(ti.context)
    assert list(out.glob(".rounds/*/0/results.jsonl"))
    outcome = airflow.run(batch(3), ti.next_try())
    assert outcome.state == "success", outcome.message
    assert sorted(rows_of(outcome.value["results_path"])) == ["row-1", "row-2", "row-3"]
    counts = outcome.value["counts"]
    assert (counts["total"], counts["unknown"], outcome.value["rounds"]) == (3, 0, 1)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("path", ["/v1/batch/jobs", "/v1/files"])
def test_a_lost_answer_costs_nothing(
    path: str, when: str, airflow: Any, batch: Any, jobs: Any, hook: Any, control: Any, way: dict[str, Any]
) -> None:
    control.fault("drop", "POST", path, when=when)
    outcome = airflow.run(batch(**way))
    assert outcome.state == "success", outcome.message
    assert len(jobs()) == 1
    assert len(uploaded(control, hook)) == 1


def test_two_task_instances_with_the_same_requests_share_the_upload_but_not_the_job(
    airflow: Any, new_ti: Any, batch: Any, jobs: Any, hook: Any, control: Any, tmp_path: Path
) -> None:
    for index in range(2):
        outcome = airflow.run(batch(destination=str(tmp_path / str(index))), new_ti(map_index=index))
        assert outcome.state == "success", outcome.message
    assert len(jobs()) == 2
    assert len(uploaded(control, hook)) == 1


def test_killing_the_worker_cancels_the_job(airflow: Any, batch: Any, jobs: Any, control: Any) -> None:
    control.settings(job_seconds=3600)
    task = batch(row_retries=0)()
    result: list[Any] = []
    worker = threading.Thread(target=lambda: result.append(airflow.run(lambda: task)))
    worker.start()
    deadline = time.monotonic() + 30
    while not jobs() or task._plan is None or not task._plan.batch_ids:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    task.on_kill()
    worker.join(30)
    assert [job["status"] for job in jobs()] == ["CANCELLED"]
    assert result[0].state == "retry"


@pytest.mark.parametrize("when", ["before", "after"], ids=["during the call", "when the job is made"])
def test_a_kill_during_the_submission_leaves_nothing_running(
    when: str, airflow: Any, supervisor: Any, new_ti: Any, batch: Any, control: Any, settled: Any
) -> None:
    control.settings(job_seconds=1000)
    held = control.fault("hold", "POST", "/v1/batch/jobs", when=when)
    task = batch()()
    with ThreadPoolExecutor(1) as beside:
        run = beside.submit(airflow.run, lambda: task, new_ti())
        control.wait_for_fault(held)
        # Airflow calls this from a signal handler, after which the task goes on for some seconds (seen in 3.3.2).
        task.on_kill()
        control.release(held)
        outcome = run.result()
    assert outcome.state == "retry"
    assert "the task was killed" in outcome.message
    settled("CANCELLED")


def test_a_kill_while_it_waits_for_room_submits_nothing_more(
    airflow: Any, supervisor: Any, new_ti: Any, batch: Any, control: Any, jobs: Any, settled: Any
) -> None:
    control.settings(job_seconds=1000)
    task = batch(4, max_pending_requests=2)()
    with ThreadPoolExecutor(1) as beside:
        run = beside.submit(airflow.run, lambda: task, new_ti())
        while not jobs():
            time.sleep(0.01)
        task.on_kill()
        # There is room now.
        outcome = run.result()
    assert "submits nothing any more" in outcome.message
    settled("CANCELLED")


def test_ending_a_deferred_task_cancels_the_jobs(
    airflow: Any, batch: Any, jobs: Any, control: Any, trigger_tools: Any, at_deferral: Any
) -> None:
    at_deferral(lambda: None)
    outcome = airflow.run(batch(deferrable=True))
    trigger = trigger_tools.through_database(outcome.triggers[0])
    job_id = jobs()[0]["id"]
    assert trigger.batch_ids == [job_id]
    control.reset()
    asyncio.run(trigger.on_kill())
    assert control.requests() == {"POST /v1/batch/jobs/{id}/cancel": 1}


def test_ending_a_deferred_task_leaves_the_jobs_if_told(
    airflow: Any, batch: Any, control: Any, trigger_tools: Any, at_deferral: Any
) -> None:
    at_deferral(lambda: None)
    outcome = airflow.run(batch(deferrable=True, cancel_on_kill=False))
    control.reset()
    asyncio.run(trigger_tools.through_database(outcome.triggers[0]).on_kill())
    assert control.requests() == {}
