"""Results of two batches never mix: who may write to a destination, and when others find out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from airflow.sdk import ObjectStoragePath

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.policies.ownership import TaskIdentity
from airflow_provider_mistral_batch.tasks.destination import Destination


@pytest.fixture
def other_run(new_ti: Any) -> Any:
    ti = new_ti()
    ti.run_id = "another run"
    return ti


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
    assert "was taken by another task with if_exists='replace'" in first.message
    assert len(rows_of(out / "results.jsonl")) == 3
    assert sorted(path.name for path in out.iterdir()) == ["errors.jsonl", "manifest.json", "results.jsonl"]


def destination_of(run_id: str, folder: Any) -> Destination:
    return Destination(folder, TaskIdentity(dag_id="d", task_id="t", run_id=run_id), "jsonl")


def test_of_two_at_the_same_moment_one_goes_on_at_most(tmp_path: Path) -> None:
    first, second = (destination_of(run_id, tmp_path) for run_id in ("first", "second"))
    first.claim("fail")
    # As if both had looked before either wrote.
    second._occupant = lambda: None  # type: ignore[method-assign]
    with pytest.raises(InvalidInputError, match="unfinished results of task 't' of Dag 'd', run 'first'"):
        second.claim("fail")
    first.check_claim()
    del second._occupant
    with pytest.raises(InvalidInputError):
        second.check_claim()


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


def test_a_task_of_the_same_name_in_another_deployment_is_another_task(tmp_path: Path) -> None:
    identity = TaskIdentity(dag_id="d", task_id="t", run_id="r")
    staging = Destination(tmp_path, msgspec.structs.replace(identity, deployment="staging"), "jsonl")
    staging.claim("fail")
    staging.write_manifest({"key": "k"})
    production = Destination(tmp_path, msgspec.structs.replace(identity, deployment="production"), "jsonl")
    assert production.own_manifest() is None
    with pytest.raises(InvalidInputError, match="run 'r', deployment 'staging'"):
        production.claim("fail")
    staging.claim("fail")


# In an object store, `rmdir` removes all that is below, other than in a file system.


def test_who_leaves_an_object_store_takes_nothing_of_others_along(bucket: ObjectStoragePath) -> None:
    leaving = destination_of("leaving", bucket / "run")
    leaving.claim("fail")
    others = bucket / "run" / "details" / "results.jsonl"
    others.write_text("paid")
    leaving.withdraw()
    assert others.read_text() == "paid"
    assert [path.name for path in (bucket / "run").iterdir()] == ["details"]


def test_a_claim_in_an_object_store_outlives_who_is_turned_away(bucket: ObjectStoragePath) -> None:
    first, second, third = (destination_of(run_id, bucket) for run_id in ("first", "second", "third"))
    first.claim("fail")
    # As if both had looked before either wrote.
    second._occupant = lambda: None  # type: ignore[method-assign]
    for late in (second, third):
        with pytest.raises(InvalidInputError, match="run 'first'"):
            late.claim("fail")


@pytest.mark.parametrize("gone", ["results.jsonl", "errors.jsonl"])
def test_what_is_published_stays_when_there_is_nothing_to_replace_it(gone: str, tmp_path: Path) -> None:
    destination = destination_of("run", tmp_path)
    destination.claim("fail")
    for _ in range(2):
        for path in (Path(str(path)) for path in destination.round_paths(0)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")
        if not destination.manifest_path.exists():
            destination.publish(0)
            destination.write_manifest({})
    destination.round_path(0, gone).unlink()
    with pytest.raises(FileNotFoundError, match=gone):
        destination.publish(0)
    assert destination.own_manifest() is not None


def test_object_storage(airflow: Any, batch: Any, tmp_path: Path, control: Any, rows_of: Any) -> None:
    control.plan_jobs(failed_rows=2)
    outcome = airflow.run(batch(destination=f"file://{tmp_path}/bucket/{{{{ run_id }}}}"))
    assert outcome.state == "success", outcome.message
    assert outcome.value["results_path"].startswith("file://")
    assert len(rows_of(outcome.value["results_path"].removeprefix("file://"))) == 5
