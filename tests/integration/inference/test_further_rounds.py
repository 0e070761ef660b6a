"""Whatever befalls a further round: what earlier rounds have landed is published, and nothing is paid twice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from airflow_provider_mistral_batch.inference import batch as batches
from airflow_provider_mistral_batch.inference.landed_rounds import LandedRounds

FIRST, AGAIN = {"row-3", "row-4", "row-5"}, {"row-1", "row-2"}

#: An end so long ago that counts without a file are no mistake.
LONG_AGO = "2026-01-31T07:00:00Z"


@pytest.fixture
def before_landing(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], Any]], None]:
    """Lets something happen once, before the results of a round are read."""

    def before_landing(number: int, action: Callable[[], Any]) -> None:
        land = LandedRounds.land
        done: list[Any] = []

        def acting(rounds: LandedRounds, now: int) -> dict[str, Any]:
            if now == number and not done:
                done.append(action())
            return land(rounds, now)

        monkeypatch.setattr(LandedRounds, "land", acting)

    return before_landing


@pytest.fixture
def has_landed(out: Path, rows_of: Any) -> Callable[[Any], None]:
    """Checks that the first round is published, and that a failed task has said so."""

    def has_landed(outcome: Any) -> None:
        assert set(rows_of(out / "results.jsonl")) == FIRST
        assert set(rows_of(out / "errors.jsonl")) == AGAIN
        manifest = outcome.xcoms["return_value"]
        assert (manifest["counts"]["total"], manifest["counts"]["succeeded"]) == (5, 3)
        assert manifest["acceptable"] is (outcome.state == "success")
        assert not ((out / ".rounds").exists() and manifest["acceptable"])

    return has_landed


@pytest.mark.parametrize("lost", ["deleted", "not offered"])
def test_results_of_a_further_round_that_are_gone_cost_nothing_of_the_rounds_before(
    lost: str,
    airflow: Any,
    new_ti: Any,
    batch: Any,
    jobs: Any,
    control: Any,
    hook: Any,
    way: dict[str, Any],
    before_landing: Any,
    has_landed: Any,
) -> None:
    control.plan_jobs(failed_rows=2)
    if lost == "deleted":
        before_landing(1, lambda: hook.delete_file(jobs()[1]["output_file"]))
    else:
        control.plan_jobs(fields={"output_file": None, "completed_at": LONG_AGO})
    ti = new_ti()
    outcome = airflow.run(batch(row_retries=3, **way), ti)
    assert outcome.state == "failed"
    assert f"the results of batch job {jobs()[1]['id']} are no longer in the account" in outcome.message
    assert "3 of 5 requests succeeded" in outcome.message
    assert outcome.message.endswith("set force_new=True and clear the task")
    has_landed(outcome)
    # Nobody asked for paying again.
    cleared = airflow.run(batch(row_retries=3, **way), ti.cleared())
    assert cleared.state == "failed"
    has_landed(cleared)
    assert len(jobs()) == 2


def test_results_of_one_of_several_jobs_that_are_gone_cost_nothing_of_the_others(
    airflow: Any, batch: Any, jobs: Any, control: Any, way: dict[str, Any], out: Path, rows_of: Any
) -> None:
    control.plan_jobs()
    control.plan_jobs(fields={"output_file": None, "completed_at": LONG_AGO})
    outcome = airflow.run(batch(max_job_requests=3, row_retries=3, **way))
    assert outcome.state == "failed"
    assert jobs()[1]["id"] in outcome.message
    assert "no longer in the account" in outcome.message
    assert set(rows_of(out / "results.jsonl")) == {"row-1", "row-2", "row-3"}
    assert outcome.xcoms["return_value"]["counts"]["missing"] == 2
    assert len(jobs()) == 2


def test_fewer_answers_never_replace_more(
    airflow: Any, new_ti: Any, batch: Any, jobs: Any, control: Any, hook: Any, out: Path, rows_of: Any
) -> None:
    control.plan_jobs(failed_rows=2)
    control.plan_jobs(failed_rows=1, failed_statuses=[422])
    ti = new_ti()
    assert airflow.run(batch(max_failed_ratio=0.0), ti).state == "failed"
    assert len(rows_of(out / "results.jsonl")) == 4
    hook.delete_file(jobs()[1]["output_file"])
    hook.delete_file(jobs()[1]["error_file"])
    cleared = airflow.run(batch(max_failed_ratio=0.0), ti.cleared())
    assert cleared.state == "failed"
    assert "no longer in the account" in cleared.message
    assert len(rows_of(out / "results.jsonl")) == 4


@pytest.mark.parametrize("end", ["before", "after"])
def test_a_last_look_lands_the_further_round_that_was_waited_for(
    end: str, airflow: Any, batch: Any, jobs: Any, control: Any, rows_of: Any
) -> None:
    control.plan_jobs(failed_rows=2)
    control.settings(job_seconds=3600)

    def lose_the_triggerer() -> None:
        newest = jobs()[-1]["id"]
        airflow.without_triggerer = len(jobs()) == 2
        if end == "after" and airflow.without_triggerer:
            threading.Timer(0.5, control.end_jobs, [[newest]]).start()
        else:
            control.end_jobs([newest])

    airflow.on_deferral = lose_the_triggerer
    outcome = airflow.run(batch(deferrable=True))
    assert outcome.state == "success", outcome.message
    assert len(outcome.triggers) == 2
    assert [job["status"] for job in jobs()] == ["SUCCESS", "SUCCESS"]
    assert (outcome.value["rounds"], outcome.value["counts"]["succeeded"]) == (2, 5)
    assert set(rows_of(outcome.value["results_path"])) == FIRST | AGAIN


@pytest.mark.parametrize("end", ["FAILED", None], ids=["without results", "never submitted"])
def test_a_last_look_submits_no_further_round(
    end: str | None, airflow: Any, batch: Any, jobs: Any, control: Any, settled: Any, has_landed: Any
) -> None:
    control.plan_jobs(failed_rows=2)
    control.settings(job_seconds=3600)
    rounds = 1 if end is None else 2

    def lose_the_triggerer() -> None:
        airflow.without_triggerer = len(jobs()) == rounds
        status = end if airflow.without_triggerer and end else "SUCCESS"
        control.end_jobs([jobs()[-1]["id"]], status=status)
        settled(*["SUCCESS", status][-len(jobs()) :])

    airflow.on_deferral = lose_the_triggerer
    outcome = airflow.run(batch(deferrable=True))
    assert outcome.state == "success", outcome.message
    assert len(jobs()) == rounds
    has_landed(outcome)


#: The call that a further round is refused, and how.
REFUSALS = {
    "billing": ("/v1/batch/jobs", 402),
    "forbidden": ("/v1/batch/jobs", 403),
    "invalid": ("/v1/batch/jobs", 422),
    "upload": ("/v1/files", 403),
    "too large": ("/v1/files", 413),
}


@pytest.mark.parametrize(("path", "status"), REFUSALS.values(), ids=REFUSALS)
def test_a_further_round_that_is_refused_is_left_out(
    path: str,
    status: int,
    airflow: Any,
    batch: Any,
    jobs: Any,
    control: Any,
    way: dict[str, Any],
    has_landed: Any,
    logged: Any,
) -> None:
    control.plan_jobs(failed_rows=2)
    control.fault("status", "POST", path, status=status, skip=1, times=None)
    outcome = airflow.run(batch(**way))
    assert outcome.state == "success", outcome.message
    assert len(jobs()) == 1
    assert outcome.value["rounds"] == 1
    has_landed(outcome)
    assert [line for line in logged() if "Round 2 cannot go on" in line and str(status) in line]


def test_what_has_landed_without_the_refused_round_is_judged(
    airflow: Any, new_ti: Any, batch: Any, jobs: Any, control: Any, way: dict[str, Any], has_landed: Any
) -> None:
    control.plan_jobs(failed_rows=2)
    control.fault("status", "POST", "/v1/batch/jobs", status=402, skip=1, times=None)
    ti = new_ti()
    outcome = airflow.run(batch(max_failed_ratio=0.1, **way), ti)
    assert outcome.state == "failed"
    assert "40.00% of the requests failed" in outcome.message
    assert "402" in outcome.message
    has_landed(outcome)
    control.clear_faults()
    cleared = airflow.run(batch(max_failed_ratio=0.1, **way), ti.cleared())
    assert cleared.state == "success", cleared.message
    assert [job["total_requests"] for job in jobs()] == [5, 2]


def test_trouble_that_passes_is_left_to_the_next_try(
    airflow: Any,
    new_ti: Any,
    batch: Any,
    jobs: Any,
    control: Any,
    connect: Any,
    way: dict[str, Any],
    out: Path,
) -> None:
    connect(retries=1)
    control.plan_jobs(failed_rows=2)
    control.fault("status", "POST", "/v1/batch/jobs", status=500, skip=1, times=None)
    ti = new_ti()
    assert airflow.run(batch(**way), ti).state == "retry"
    assert not (out / "manifest.json").exists()
    control.clear_faults()
    outcome = airflow.run(batch(**way), ti.next_try())
    assert outcome.state == "success", outcome.message
    assert outcome.value["counts"]["succeeded"] == 5
    assert [job["total_requests"] for job in jobs()] == [5, 2]


def test_trouble_in_the_last_try_costs_only_the_further_round(
    airflow: Any, new_ti: Any, batch: Any, control: Any, connect: Any, way: dict[str, Any], has_landed: Any
) -> None:
    connect(retries=1)
    control.plan_jobs(failed_rows=2)
    control.fault("status", "POST", "/v1/batch/jobs", status=500, skip=1, times=None)
    ti = new_ti()
    ti.max_tries = 0
    outcome = airflow.run(batch(**way), ti)
    assert outcome.state == "success", outcome.message
    has_landed(outcome)


def test_a_further_round_that_cannot_be_read_in_the_last_try_is_landed_after_a_clear(
    airflow: Any,
    new_ti: Any,
    batch: Any,
    jobs: Any,
    control: Any,
    connect: Any,
    way: dict[str, Any],
    has_landed: Any,
    before_landing: Any,
) -> None:
    connect(retries=1)
    control.plan_jobs(failed_rows=2)
    unread = "/v1/files/{}/content"
    before_landing(
        1,
        lambda: control.fault(
            "status", "GET", unread.format(jobs()[1]["output_file"]), status=500, times=None
        ),
    )
    ti = new_ti()
    ti.max_tries = 0
    outcome = airflow.run(batch(**way), ti)
    assert outcome.state == "retry"
    assert "500" in outcome.message
    has_landed(outcome)
    control.clear_faults()
    cleared = airflow.run(batch(**way), ti.cleared())
    assert cleared.state == "success", cleared.message
    assert cleared.value["counts"]["succeeded"] == 5
    assert len(jobs()) == 2


def test_a_further_round_without_room_for_a_week_is_left_out(
    airflow: Any,
    batch: Any,
    control: Any,
    way: dict[str, Any],
    has_landed: Any,
    before_landing: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batches, "LONGEST", timedelta(seconds=0.5))
    control.plan_jobs(failed_rows=2)
    before_landing(0, lambda: control.make_jobs(1, total_requests=49))
    outcome = airflow.run(batch(max_pending_requests=50, **way))
    assert outcome.state == "success", outcome.message
    has_landed(outcome)


def test_a_further_round_that_is_partly_refused_is_continued_after_a_clear(
    airflow: Any,
    new_ti: Any,
    batch: Any,
    jobs: Any,
    control: Any,
    hook: Any,
    way: dict[str, Any],
    has_landed: Any,
    before_landing: Any,
) -> None:
    control.plan_jobs(times=2, failed_rows=1)
    before_landing(0, lambda: control.settings(job_seconds=3600))
    control.fault("status", "POST", "/v1/batch/jobs", status=402, skip=6, times=None)
    ti = new_ti()
    outcome = airflow.run(batch(max_job_requests=1, **way), ti)
    assert outcome.state == "failed"
    assert "402" in outcome.message
    has_landed(outcome)
    # A batch that may have more answers is not taken for done. What has landed is not even read again.
    control.clear_faults()
    control.settings(job_seconds=0)
    for job in jobs()[2:5]:
        hook.delete_file(job["output_file"])
    cleared = airflow.run(batch(max_job_requests=1, **way), ti.cleared())
    assert cleared.state == "success", cleared.message
    assert cleared.value["counts"]["succeeded"] == 5
    assert [job["total_requests"] for job in jobs() if job["status"] == "SUCCESS"] == [1] * 7


@pytest.mark.parametrize("end", ["refused", "deleted"])
def test_jobs_of_the_first_round_that_are_over_land_before_the_task_fails(
    end: str,
    airflow: Any,
    new_ti: Any,
    batch: Any,
    jobs: Any,
    control: Any,
    hook: Any,
    out: Path,
    rows_of: Any,
    way: dict[str, Any],
) -> None:
    wait = batches.Batch.wait

    def delete(at_work: batches.Batch) -> Any:
        hook.delete(jobs()[1]["id"])
        return wait(at_work)

    ti = new_ti()
    # The second job has to wait until the first is over.
    options = {"max_pending_requests": 3, **way}
    if end == "refused":
        control.fault("status", "POST", "/v1/batch/jobs", status=402, skip=1, times=None)
        outcome = airflow.run(batch(**options), ti)
    else:
        with mock.patch.object(batches.Batch, "wait", delete):
            outcome = airflow.run(batch(**options), ti)
    assert outcome.state == "failed"
    assert ("402" if end == "refused" else "404") in outcome.message
    assert set(rows_of(out / "results.jsonl")) == {"row-1", "row-2", "row-3"}
    assert set(rows_of(out / "errors.jsonl")) == {"row-4", "row-5"}
    manifest = outcome.xcoms["return_value"]
    assert (manifest["acceptable"], manifest["batch_ids"]) == (False, [jobs()[0]["id"]])
    assert (manifest["counts"]["total"], manifest["counts"]["missing"]) == (5, 2)
    control.clear_faults()
    cleared = airflow.run(batch(**options), ti.cleared())
    assert cleared.state == "success", cleared.message
    assert cleared.value["counts"]["succeeded"] == 5


def test_a_job_of_a_further_round_that_somebody_deletes_costs_nothing_of_the_rounds_before(
    airflow: Any, new_ti: Any, batch: Any, jobs: Any, control: Any, hook: Any, has_landed: Any
) -> None:
    control.plan_jobs(failed_rows=2)
    control.settings(job_seconds=3600)

    def delete() -> None:
        newest = jobs()[-1]["id"]
        if len(jobs()) == 1:
            control.end_jobs([newest])
        else:
            hook.delete(newest)

    airflow.on_deferral = delete
    ti = new_ti()
    outcome = airflow.run(batch(deferrable=True), ti)
    assert outcome.state == "failed"
    assert "404" in outcome.message
    has_landed(outcome)
    # A batch that may have more answers is not taken for done.
    control.settings(job_seconds=0)
    airflow.on_deferral = lambda: None
    cleared = airflow.run(batch(deferrable=True), ti.cleared())
    assert cleared.state == "success", cleared.message
    assert cleared.value["counts"]["succeeded"] == 5
