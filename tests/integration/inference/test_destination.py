"""Results of two batches never mix: who may write to a destination, and when others find out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def test_another_runs_results_are_left_alone(
    airflow: Any, new_ti: Any, other_run: Any, batch: Any, out: Path, sent: Any
) -> None:
    airflow.run(batch(), other_run)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    requests = sent()
    outcome = airflow.run(batch(3), new_ti())
    assert outcome.state == "failed"
    assert str(out) in outcome.message
    assert "run 'another run'" in outcome.message
    assert "if_exists='replace'" in outcome.message
    assert sent() == requests
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_another_runs_results_are_replaced_if_told(
    airflow: Any, new_ti: Any, other_run: Any, batch: Any, out: Path, rows_of: Any
) -> None:
    airflow.run(batch(), other_run)
    outcome = airflow.run(batch(3, if_exists="replace"), new_ti())
    assert outcome.state == "success", outcome.message
    assert len(rows_of(out / "results.jsonl")) == 3
    assert json.loads((out / "manifest.json").read_text())["task"]["run_id"] == "run"


def test_they_are_replaced_only_by_results(
    airflow: Any, new_ti: Any, other_run: Any, batch: Any, out: Path, rows_of: Any, control: Any
) -> None:
    airflow.run(batch(), other_run)
    control.plan_jobs(end="FAILED")
    outcome = airflow.run(batch(3, if_exists="replace"), new_ti())
    assert outcome.state == "retry"
    assert len(rows_of(out / "results.jsonl")) == 5
    assert json.loads((out / "manifest.json").read_text())["task"]["run_id"] == "another run"


def test_files_of_unknown_origin_are_left_alone(airflow: Any, batch: Any, out: Path, sent: Any) -> None:
    out.mkdir()
    (out / "errors.parquet").write_text("somebody's")
    outcome = airflow.run(batch())
    assert outcome.state == "failed"
    assert "errors.parquet of an unknown batch" in outcome.message
    assert sent() == 0


def test_mapped_tasks_that_share_a_destination_find_out_before_they_pay(
    airflow: Any, new_ti: Any, batch: Any, jobs: Any, at_deferral: Any
) -> None:
    second: list[Any] = []

    def start_second() -> None:
        second.append(airflow.run(batch(3), new_ti(map_index=1)))

    at_deferral(start_second)
    first = airflow.run(batch(deferrable=True), new_ti(map_index=0))
    assert first.state == "success", first.message
    assert second[0].state == "failed"
    assert "unfinished results of task 'task'" in second[0].message
    assert "map index 0" in second[0].message
    assert len(jobs()) == 1


def test_who_is_replaced_while_under_way_finds_out_before_it_publishes(
    airflow: Any,
    new_ti: Any,
    other_run: Any,
    batch: Any,
    out: Path,
    at_deferral: Any,
    control: Any,
    rows_of: Any,
) -> None:
    second: list[Any] = []

    def start_second() -> None:
        control.settings(job_seconds=0)
        second.append(airflow.run(batch(3, if_exists="replace"), new_ti()))

    at_deferral(start_second)
    first = airflow.run(batch(deferrable=True), other_run)
    assert second[0].state == "success", second[0].message
    assert first.state == "failed"
    assert "was taken over by another task with if_exists='replace'" in first.message
    assert len(rows_of(out / "results.jsonl")) == 3
    assert sorted(path.name for path in out.iterdir()) == ["errors.jsonl", "manifest.json", "results.jsonl"]


def test_a_retry_that_sends_nothing_keeps_the_claim_of_the_try_before(
    airflow: Any, new_ti: Any, batch: Any, out: Path, control: Any
) -> None:
    control.plan_jobs(job_seconds=3600)
    ti = new_ti()
    assert airflow.run(batch(timeout=0.5, cancel_on_timeout=False), ti).state == "failed"
    assert airflow.run(batch(path="/nowhere.jsonl", requests=None), ti.next_try()).state == "failed"
    outcome = airflow.run(batch(3), new_ti(map_index=1))
    assert "unfinished results of task 'task'" in outcome.message


def test_a_batch_that_was_never_asked_leaves_no_claim(
    airflow: Any, new_ti: Any, other_run: Any, batch: Any, out: Path, control: Any
) -> None:
    control.fault("status", "POST", "/v1/files", status=413, times=None)
    outcome = airflow.run(batch(), other_run)
    assert outcome.state == "failed"
    control.clear_faults()
    outcome = airflow.run(batch(), new_ti())
    assert outcome.state == "success", outcome.message


def test_a_destination_that_cannot_be_written_is_found_before_anything_is_sent(
    airflow: Any, batch: Any, tmp_path: Path, sent: Any
) -> None:
    (tmp_path / "file").write_text("")
    outcome = airflow.run(batch(destination=str(tmp_path / "file" / "folder")))
    assert outcome.state == "failed"
    assert "cannot be written" in outcome.message
    assert sent() == 0


def test_object_storage(airflow: Any, batch: Any, tmp_path: Path, control: Any, rows_of: Any) -> None:
    control.plan_jobs(failed_rows=2)
    outcome = airflow.run(batch(destination=f"file://{tmp_path}/bucket/run"))
    assert outcome.state == "success", outcome.message
    assert outcome.value["results_path"].startswith("file://")
    assert len(rows_of(outcome.value["results_path"].removeprefix("file://"))) == 5
