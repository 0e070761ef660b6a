"""Whatever dies, clears or changes: the same requests are paid for once, and nothing that nobody waits for runs on."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import pytest

from airflow_provider_mistral_batch.inference.batch import Batch
from airflow_provider_mistral_batch.inference.request_files import RequestFiles

from ...airflow_versions import RETRY_POLICIES


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
    with mock.patch.object(Batch, "wait", _die):
        make().execute(ti.context)


def _die(*_: Any) -> NoReturn:
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
    wait = Batch.wait

    def die_in_the_second_round(batch: Batch) -> Any:
        return wait(batch) if len(batch.plan.rounds) == 1 else _die()

    with mock.patch.object(Batch, "wait", die_in_the_second_round), pytest.raises(RuntimeError):
        batch(5)().execute(ti.context)
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


def test_a_lost_call_that_is_carried_out_after_the_deferral_is_cancelled_at_the_end(
    airflow: Any, batch: Any, connect: Any, control: Any, at_deferral: Any, jobs: Any
) -> None:
    connect(timeout=1)
    held = control.fault("hold", "POST", "/v1/batch/jobs")

    def carry_out() -> None:
        control.end_jobs([jobs()[0]["id"]])
        control.release(held)
        deadline = time.monotonic() + 30
        while len(jobs()) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        airflow.on_deferral = lambda: None

    control.settings(job_seconds=3600)
    airflow.on_deferral = carry_out
    outcome = airflow.run(batch(deferrable=True))
    assert outcome.state == "success", outcome.message
    assert sorted(job["status"] for job in jobs()) in (
        ["CANCELLATION_REQUESTED", "SUCCESS"],
        ["CANCELLED", "SUCCESS"],
    )


def test_results_that_came_while_there_was_no_triggerer_are_landed(
    without_triggerer: Any, airflow: Any, batch: Any, jobs: Any, rows_of: Any
) -> None:
    without_triggerer("SUCCESS")
    outcome = airflow.run(batch(deferrable=True))
    assert outcome.state == "success", outcome.message
    assert outcome.worker_starts == 2
    assert len(rows_of(outcome.value["results_path"])) == 5
    assert len(jobs()) == 1


@pytest.mark.parametrize("end", ["FAILED", "CANCELLED", "TIMEOUT_EXCEEDED"])
def test_a_job_that_ended_badly_while_there_was_no_triggerer_is_for_the_next_try(
    end: str, without_triggerer: Any, airflow: Any, batch: Any, jobs: Any
) -> None:
    without_triggerer(end)
    outcome = airflow.run(batch(deferrable=True))
    assert (outcome.state, outcome.worker_starts) == ("retry", 2)
    assert len(jobs()) == 1


@pytest.mark.parametrize(
    ("cancel_on_timeout", "state", "status"), [(True, "retry", "CANCELLED"), (False, "failed", "RUNNING")]
)
def test_the_deadline_passes_while_there_is_no_triggerer(
    cancel_on_timeout: bool,
    state: str,
    status: str,
    without_triggerer: Any,
    airflow: Any,
    batch: Any,
    control: Any,
    settled: Any,
) -> None:
    without_triggerer(None)
    # Slower than the next look.
    control.settings(cancel_seconds=1)
    outcome = airflow.run(batch(deferrable=True, timeout=3, cancel_on_timeout=cancel_on_timeout))
    assert outcome.state == state
    # It ends on the worker: the triggerer may still be away.
    assert outcome.worker_starts <= 2
    settled(status)


def test_a_wait_for_room_that_airflow_ended_is_for_the_next_try(
    airflow: Any, batch: Any, control: Any, jobs: Any
) -> None:
    airflow.without_triggerer = True
    control.make_jobs(1, total_requests=48)
    outcome = airflow.run(batch(deferrable=True, max_pending_requests=50))
    assert (outcome.state, outcome.worker_starts) == ("retry", 2)
    assert "no batch job to continue with" in outcome.message
    assert len(jobs()) == 1


def test_two_task_instances_with_the_same_requests_share_the_upload_but_not_the_job(
    airflow: Any, new_ti: Any, batch: Any, jobs: Any, hook: Any, control: Any, tmp_path: Path
) -> None:
    for index in range(2):
        outcome = airflow.run(batch(destination=str(tmp_path / str(index))), new_ti(map_index=index))
        assert outcome.state == "success", outcome.message
    assert len(jobs()) == 2
    assert len(uploaded(control, hook)) == 1


@pytest.mark.parametrize(
    ("owner", "step"),
    [(RequestFiles, "upload"), (Batch, "submit")],
    ids=["before the upload", "after the upload"],
)
def test_a_kill_before_the_submission_submits_nothing(
    owner: type, step: str, airflow: Any, supervisor: Any, batch: Any, jobs: Any, monkeypatch: Any
) -> None:
    task = batch()()
    original = getattr(owner, step)

    def killed(*arguments: Any) -> Any:
        task.on_kill()
        return original(*arguments)

    monkeypatch.setattr(owner, step, killed)
    outcome = airflow.run(lambda: task)
    assert "the task was killed, so no batch job was submitted" in outcome.message
    assert jobs() == []


def test_a_kill_while_results_land_finishes_no_batch_whose_requests_can_be_asked_again(
    airflow: Any, supervisor: Any, batch: Any, out: Path, jobs: Any, control: Any, monkeypatch: Any
) -> None:
    control.plan_jobs(failed_rows=2)
    task = batch()()
    land = Batch.land

    def killed(at_work: Batch) -> None:
        land(at_work)
        task.on_kill()

    monkeypatch.setattr(Batch, "land", killed)
    outcome = airflow.run(lambda: task)
    assert "the task was killed" in outcome.message
    # A manifest would tell the run after a clear that there is nothing to do.
    assert not (out / "manifest.json").exists()
    assert len(jobs()) == 1


@pytest.mark.parametrize(
    ("owner", "step"),
    [(RequestFiles, "upload"), (Batch, "submit")],
    ids=["before the upload", "after the upload"],
)
def test_a_kill_of_a_retry_cancels_what_the_try_before_has_left(
    owner: type,
    step: str,
    airflow: Any,
    supervisor: Any,
    new_ti: Any,
    batch: Any,
    settled: Any,
    control: Any,
    monkeypatch: Any,
) -> None:
    control.settings(job_seconds=1000)
    ti = new_ti()
    with pytest.raises(RuntimeError):
        _die_while_waiting(batch(), ti)
    task = batch()()
    monkeypatch.setattr(owner, step, lambda *arguments: (task.on_kill(), _die()))
    assert airflow.run(lambda: task, ti.next_try()).state == "retry"
    settled("CANCELLED")


@pytest.mark.parametrize("refused", [402, 403, 422])
def test_a_task_that_fails_for_good_leaves_none_of_its_jobs_running(
    refused: int, airflow: Any, batch: Any, settled: Any, control: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(
        "airflow_provider_mistral_batch.submission.pending_limit.PendingLimit.check", lambda room: None
    )
    control.settings(job_seconds=1000)
    control.fault("status", "POST", "/v1/batch/jobs", status=refused, skip=1)
    outcome = airflow.run(batch(4, max_pending_requests=2))
    assert outcome.state == "failed", outcome.message
    settled("CANCELLED")


@pytest.mark.parametrize(("tries_left", "status"), [(True, "RUNNING"), (False, "CANCELLED")])
def test_a_failure_cancels_only_if_no_other_try_follows(
    tries_left: bool,
    status: str,
    airflow: Any,
    new_ti: Any,
    batch: Any,
    settled: Any,
    control: Any,
    monkeypatch: Any,
) -> None:
    control.settings(job_seconds=1000)
    ti = new_ti()
    ti.max_tries = 1 if tries_left else 0
    monkeypatch.setattr(Batch, "wait", _die)
    assert airflow.run(batch(), ti).state == "retry"
    settled(status)


@RETRY_POLICIES
def test_a_retry_policy_that_gives_up_is_an_end_too(
    airflow: Any, batch: Any, settled: Any, control: Any, monkeypatch: Any
) -> None:
    from airflow.sdk import RetryDecision, RetryPolicy

    class Hopeless(RetryPolicy):
        """Gives up at once, whatever tries are left."""

        def evaluate(self, exception: BaseException, *arguments: Any, **more: Any) -> RetryDecision:
            return RetryDecision.fail()

    control.settings(job_seconds=1000)
    monkeypatch.setattr(Batch, "wait", _die)
    # The stand-in for Airflow knows no policies, so it says what would be without one.
    assert airflow.run(batch(retry_policy=Hopeless())).state == "retry"
    settled("CANCELLED")


def test_a_failure_for_good_leaves_the_jobs_if_told(
    airflow: Any, batch: Any, settled: Any, control: Any
) -> None:
    control.settings(job_seconds=1000)
    assert airflow.run(batch(timeout=0.2, cancel_on_timeout=False)).state == "failed"
    settled("RUNNING")


def test_of_several_jobs_one_that_is_gone_ends_the_others(
    airflow: Any, batch: Any, settled: Any, control: Any, hook: Any, jobs: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(
        "airflow_provider_mistral_batch.submission.pending_limit.PendingLimit.check", lambda room: None
    )
    control.settings(job_seconds=1000)
    airflow.on_deferral = lambda: hook.delete(jobs()[0]["id"])
    outcome = airflow.run(batch(4, max_pending_requests=2, deferrable=True))
    assert outcome.state == "failed", outcome.message
    deadline = time.monotonic() + 30
    while jobs()[1]["status"] != "CANCELLED":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_api_that_is_away_during_the_wait_costs_no_try(airflow: Any, batch: Any, control: Any) -> None:
    control.settings(job_seconds=0.5)
    control.fault("status", "GET", "/v1/batch/jobs/*", status=500, times=5)
    outcome = airflow.run(batch())
    assert outcome.state == "success", outcome.message


def test_a_try_that_airflow_took_for_dead_may_end_first(
    airflow: Any, new_ti: Any, batch: Any, jobs: Any, rows_of: Any, out: Path
) -> None:
    ti = new_ti()
    land = Batch.land

    def land_after_the_older(newer: Batch) -> None:
        with mock.patch.object(Batch, "land", land):
            older = airflow.run(batch(), ti)
        assert older.state == "success", older.message
        land(newer)

    with mock.patch.object(Batch, "land", land_after_the_older):
        outcome = airflow.run(batch(), ti.next_try())
    assert outcome.state == "success", outcome.message
    assert len(jobs()) == 1
    assert len(rows_of(out / "results.jsonl")) == 5
    assert sorted(path.name for path in out.iterdir()) == ["errors.jsonl", "manifest.json", "results.jsonl"]


def test_work_that_is_cleared_away_under_a_try_was_done_by_another(
    airflow: Any, new_ti: Any, batch: Any, rows_of: Any, out: Path
) -> None:
    ti = new_ti()
    finish = Batch.finish

    def end_first(newer: Batch) -> NoReturn:
        with mock.patch.object(Batch, "finish", finish):
            assert airflow.run(batch(), ti).state == "success"
        raise FileNotFoundError("results.jsonl")

    with mock.patch.object(Batch, "finish", end_first):
        outcome = airflow.run(batch(), ti.next_try())
    assert outcome.state == "success", outcome.message
    assert len(rows_of(outcome.value["results_path"])) == 5


def test_a_finished_task_leaves_the_same_xcoms_when_it_is_run_again(
    airflow: Any, new_ti: Any, batch: Any
) -> None:
    ti = new_ti()
    first = airflow.run(batch(), ti)
    assert airflow.run(batch(), ti.next_try()).xcoms == first.xcoms


def test_killing_the_worker_cancels_the_job(airflow: Any, batch: Any, jobs: Any, control: Any) -> None:
    control.settings(job_seconds=3600)
    task = batch(row_retries=0)()
    result: list[Any] = []
    worker = threading.Thread(target=lambda: result.append(airflow.run(lambda: task)), daemon=True)
    worker.start()
    deadline = time.monotonic() + 30
    while not jobs() or not task.submission.batch_ids:
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
    assert "no batch job was submitted" in outcome.message
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
