"""A whole batch in one task: whatever befalls jobs and rows, each request has exactly one final outcome."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mistral_batch.inference.landed_rounds import LandedRounds

ROWS = [f"row-{number}" for number in range(1, 6)]


def test_from_prompts_to_manifest(
    airflow: Any, way: dict[str, Any], out: Path, batch: Any, rows_of: Any, jobs: Any, at_deferral: Any
) -> None:
    if way["deferrable"]:
        at_deferral(lambda: None)
    outcome = airflow.run(batch(system="Be brief.", **way))
    assert outcome.state == "success", outcome.message
    manifest = outcome.value
    assert manifest["counts"]["succeeded"] == manifest["counts"]["total"] == 5
    assert sorted(rows_of(manifest["results_path"])) == sorted(ROWS)
    assert rows_of(manifest["errors_path"]) == {}
    assert manifest["usage"]["total_tokens"] > 0
    (job,) = jobs()
    assert manifest["batch_ids"] == [job["id"]]
    assert manifest["rounds"] == 1
    assert job["created_at"] <= manifest["started_at"] <= manifest["completed_at"]
    assert outcome.xcoms["batch_id"] == job["id"]
    assert outcome.xcoms["status"] == "completed"
    assert outcome.xcoms["request_counts"] == {"total": 5, "completed": 5, "failed": 0}
    assert json.loads((out / "manifest.json").read_text()) == manifest
    assert sorted(path.name for path in out.iterdir()) == [
        "errors.jsonl",
        "manifest.json",
        "results.jsonl",
    ]
    assert outcome.worker_starts == (2 if way["deferrable"] else 1)


#: What befalls rows of the first job, and how many of five are worth another try.
MISHAPS: dict[str, tuple[dict[str, Any], int]] = {
    "500": ({"failed_rows": 2}, 2),
    "408, 409, 429": ({"failed_rows": 3, "failed_statuses": [408, 409, 429]}, 3),
    "503 as an error": ({"failed_rows": 1, "failed_statuses": [503], "error_style": "error"}, 1),
    "400 and 422": ({"failed_rows": 2, "failed_statuses": [400, 422]}, 0),
    "400 and 500": ({"failed_rows": 2, "failed_statuses": [400, 500]}, 1),
    "status 0": ({"zero_rows": 2}, 2),
    "missing": ({"missing_rows": 3}, 3),
    "twice": ({"duplicate_rows": 2}, 0),
    "nobody asked": ({"unknown_rows": 2}, 0),
    "all of it": ({"failed_rows": 1, "zero_rows": 1, "missing_rows": 1, "duplicate_rows": 1}, 3),
    "all failed": ({"failed_rows": "all"}, 5),
}


@pytest.mark.parametrize(("plan", "again"), MISHAPS.values(), ids=MISHAPS)
def test_what_can_pass_is_asked_again(
    plan: dict[str, Any],
    again: int,
    airflow: Any,
    way: dict[str, Any],
    out: Path,
    batch: Any,
    rows_of: Any,
    jobs: Any,
    control: Any,
) -> None:
    control.settings(job_seconds=0.05)
    control.plan_jobs(**plan)
    outcome = airflow.run(batch(**way))
    assert outcome.state == "success", outcome.message
    assert [job["total_requests"] for job in jobs()] == ([5, again] if again else [5])
    manifest = outcome.value
    assert manifest["batch_ids"] == [job["id"] for job in jobs()]
    assert manifest["rounds"] == (2 if again else 1)
    refused = [status for status in plan.get("failed_statuses", ()) if status in (400, 422)]
    counts = manifest["counts"]
    assert (counts["total"], counts["succeeded"]) == (5, 5 - len(refused))
    assert (counts["failed"], counts["missing"]) == (len(refused), 0)
    results, errors = rows_of(manifest["results_path"]), rows_of(manifest["errors_path"])
    strangers = {f"unknown-{number}" for number in range(plan.get("unknown_rows", 0))}
    assert set(results) | set(errors) == set(ROWS) | strangers
    assert not set(results) & set(errors)
    assert len(results) == counts["succeeded"]
    assert not (out / ".rounds").exists()


def test_a_batch_without_a_limit_of_costs_reads_no_round_again_to_price_it(
    airflow: Any, batch: Any, control: Any, monkeypatch: Any
) -> None:
    landed: list[int] = []
    land = LandedRounds.land

    def noted(rounds: LandedRounds, number: int) -> dict[str, Any]:
        landed.append(number)
        return land(rounds, number)

    monkeypatch.setattr(LandedRounds, "land", noted)
    control.plan_jobs(failed_rows=2)
    assert airflow.run(batch()).value["rounds"] == 2
    # Each round when its jobs are over, and both at the end.
    assert landed == [0, 1, 0, 1]


def test_no_more_rounds_than_allowed(
    airflow: Any, out: Path, batch: Any, rows_of: Any, jobs: Any, control: Any
) -> None:
    control.plan_jobs(times=None, failed_rows=2)
    outcome = airflow.run(batch(row_retries=2))
    assert outcome.state == "success", outcome.message
    assert [job["total_requests"] for job in jobs()] == [5, 2, 2]
    assert outcome.value["counts"]["failed"] == 2
    assert set(rows_of(outcome.value["errors_path"])) == {"row-1", "row-2"}


def test_no_rounds_without_row_retries(
    airflow: Any, out: Path, batch: Any, rows_of: Any, jobs: Any, control: Any
) -> None:
    control.plan_jobs(failed_rows=2)
    outcome = airflow.run(batch(row_retries=0))
    assert outcome.state == "success"
    assert len(jobs()) == 1
    assert outcome.value["counts"]["failed"] == 2


def test_too_many_failures_fail_the_task_after_landing(
    airflow: Any, way: dict[str, Any], out: Path, batch: Any, rows_of: Any, control: Any
) -> None:
    control.plan_jobs(times=None, failed_rows=2, failed_statuses=[422])
    outcome = airflow.run(batch(max_failed_ratio=0.3, **way))
    # Nothing in it can pass: a retry would find the same.
    assert outcome.state == "failed"
    assert "40.00% of the requests failed" in outcome.message
    assert "2 x 422" in outcome.message
    assert str(out / "errors.jsonl") in outcome.message
    assert len(rows_of(out / "results.jsonl")) == 3
    assert outcome.xcoms["return_value"]["counts"]["failed"] == 2


def test_no_success_at_all_fails_whatever_the_ratio(
    airflow: Any, out: Path, batch: Any, rows_of: Any, control: Any
) -> None:
    control.plan_jobs(times=None, failed_rows="all", failed_statuses=[400])
    outcome = airflow.run(batch())
    assert outcome.state == "failed"
    assert "no request succeeded" in outcome.message


def test_rows_that_an_expired_job_left_are_asked_again(
    airflow: Any, way: dict[str, Any], out: Path, batch: Any, rows_of: Any, jobs: Any, control: Any
) -> None:
    control.plan_jobs(end="TIMEOUT_EXCEEDED", end_after=0.4)
    outcome = airflow.run(batch(**way))
    assert outcome.state == "success", outcome.message
    assert [(job["status"], job["total_requests"]) for job in jobs()] == [
        ("TIMEOUT_EXCEEDED", 5),
        ("SUCCESS", 3),
    ]
    assert len(rows_of(outcome.value["results_path"])) == 5


def test_a_row_that_is_cut_on_the_server_is_asked_again(
    airflow: Any, batch: Any, jobs: Any, rows_of: Any, control: Any
) -> None:
    control.plan_jobs(cut_last_line=True)
    outcome = airflow.run(batch())
    assert outcome.state == "success", outcome.message
    assert [job["total_requests"] for job in jobs()] == [5, 1]
    assert len(rows_of(outcome.value["results_path"])) == 5


def test_rows_that_stay_without_a_result_since_jobs_expire_fail_the_task(
    airflow: Any,
    new_ti: Any,
    way: dict[str, Any],
    out: Path,
    batch: Any,
    rows_of: Any,
    jobs: Any,
    control: Any,
) -> None:
    control.plan_jobs(times=2, end="TIMEOUT_EXCEEDED", end_after=0.4)
    ti = new_ti()
    outcome = airflow.run(batch(**way), ti)
    assert outcome.state == "retry"
    assert "ended as expired" in outcome.message
    assert "2 have no result" in outcome.message
    assert len(rows_of(out / "results.jsonl")) == 3
    # The retry pays for nothing twice: it asks only for what is left.
    outcome = airflow.run(batch(**way), ti.next_try())
    assert outcome.state == "success", outcome.message
    assert [job["total_requests"] for job in jobs()] == [5, 3, 2]
    assert sorted(rows_of(outcome.value["results_path"])) == sorted(ROWS)


def test_a_cancelled_job_is_not_followed_by_another_but_its_rows_are_landed(
    airflow: Any,
    new_ti: Any,
    way: dict[str, Any],
    out: Path,
    batch: Any,
    rows_of: Any,
    jobs: Any,
    control: Any,
) -> None:
    control.plan_jobs(end="CANCELLED", end_after=0.6)
    ti = new_ti()
    outcome = airflow.run(batch(**way), ti)
    assert outcome.state == "retry"
    assert "ended as cancelled" in outcome.message
    assert len(rows_of(out / "results.jsonl")) == 3
    assert len(jobs()) == 1
    outcome = airflow.run(batch(**way), ti.next_try())
    assert outcome.state == "success", outcome.message
    assert [job["total_requests"] for job in jobs()] == [5, 2]


def test_a_job_that_fails_in_validation_fails_the_task_with_its_errors(
    airflow: Any, way: dict[str, Any], out: Path, batch: Any, rows_of: Any, jobs: Any, control: Any
) -> None:
    control.plan_jobs(end="FAILED", errors=["Unknown model: mistral-huge"])
    outcome = airflow.run(batch(**way))
    assert outcome.state == "retry"
    assert "ended as failed (Unknown model: mistral-huge)" in outcome.message
    assert len(jobs()) == 1
    assert list(out.iterdir()) == []


def test_a_worker_without_the_first_rounds_files_fetches_them_again(
    airflow: Any, out: Path, batch: Any, rows_of: Any, control: Any, at_deferral: Any
) -> None:
    control.plan_jobs(failed_rows=2)

    def lose_disk() -> None:
        for path in out.glob(".rounds/0/*"):
            path.unlink()

    at_deferral(lose_disk)
    outcome = airflow.run(batch(deferrable=True))
    assert outcome.state == "success", outcome.message
    assert len(outcome.triggers) == 2
    assert sorted(rows_of(outcome.value["results_path"])) == sorted(ROWS)


def test_results_are_landed_though_somebody_deleted_the_request_file(
    airflow: Any, hook: Any, batch: Any, rows_of: Any, control: Any, jobs: Any, at_deferral: Any
) -> None:
    control.plan_jobs(failed_rows=1)
    at_deferral(lambda: hook.delete_file(jobs()[0]["input_files"][0]))
    outcome = airflow.run(batch(deferrable=True))
    assert outcome.state == "success", outcome.message
    assert outcome.value["counts"]["succeeded"] == 4
    assert set(rows_of(outcome.value["errors_path"])) == {"row-1"}


def test_a_wait_that_is_given_up_cancels_and_lands_what_there_is(
    airflow: Any, way: dict[str, Any], out: Path, batch: Any, rows_of: Any, jobs: Any, control: Any
) -> None:
    control.settings(job_seconds=3600)
    outcome = airflow.run(batch(timeout=1.0, **way))
    assert outcome.state == "retry"
    assert "not over before its deadline" in outcome.message
    assert [job["status"] for job in jobs()] == ["CANCELLED"]


def test_a_wait_that_is_given_up_leaves_the_job_running_if_told(
    airflow: Any, way: dict[str, Any], out: Path, batch: Any, rows_of: Any, jobs: Any, control: Any
) -> None:
    control.settings(job_seconds=3600)
    outcome = airflow.run(batch(timeout=1.0, cancel_on_timeout=False, **way))
    assert outcome.state == "failed"
    assert "left running" in outcome.message
    assert [job["status"] for job in jobs()] == ["RUNNING"]
