"""What each operator tells OpenLineage, after real work against the emulator."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, Asset

from airflow_provider_mistral_batch.observability.lineage import reporting
from airflow_provider_mistral_batch.operators import (
    MistralBatchInferenceOperator,
    MistralCancelBatchJobOperator,
    MistralCreateBatchJobOperator,
    MistralDownloadBatchResultsOperator,
    MistralUploadBatchFileOperator,
)
from airflow_provider_mistral_batch.sensors import MistralBatchJobSensor
from airflow_provider_mistral_batch.triggers.finishing import may_finish_in_triggerer

ROW = {"prompt": "Hello", "custom_id": "1"}


@pytest.fixture
def run(airflow: Any, hook: Any, new_ti: Any) -> Callable[..., tuple[Any, Any, Any]]:
    """Runs a task; gives how it ended, the task as its last worker had it, and its task instance."""

    def run(operator: type, **options: Any) -> tuple[Any, Any, Any]:
        ti, made = new_ti(), []

        def make() -> Any:
            with DAG("dag", schedule=None):
                made.append(operator(task_id="task", **options))
            return made[-1]

        return airflow.run(make, ti), made[-1], ti

    return run


def names(datasets: list[Any]) -> list[str]:
    return [f"{one.namespace} {one.name}" for one in datasets]


def test_each_operator_tells_of_its_job_and_its_files(
    run: Callable[..., tuple[Any, Any, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps(ROW) + "\n")
    _, upload, ti = run(MistralUploadBatchFileOperator, path=str(path))
    told = upload.get_openlineage_facets_on_complete(ti)
    assert names(told.inputs) == [f"file {path}"]
    assert told.run_facets["mistral_batch"].counts == {"total": 1}
    assert "externalQuery" not in told.run_facets

    outcome, create, ti = run(
        MistralCreateBatchJobOperator,
        requests=[ROW],
        model="mistral-small-latest",
        wait_for_completion=True,
        poll_interval_min=0.05,
    )
    batch_id = outcome.value
    told = create.get_openlineage_facets_on_complete(ti)
    assert told.run_facets["externalQuery"].externalQueryId == batch_id
    assert told.run_facets["mistral_batch"].counts == {"total": 1, "succeeded": 1, "failed": 0}

    _, download, ti = run(
        MistralDownloadBatchResultsOperator,
        batch_id=batch_id,
        destination=str(tmp_path / "out"),
        inlets=[Asset("file:///users/own")],
    )
    told = download.get_openlineage_facets_on_complete(ti)
    assert names(told.inputs) == ["file /users/own"]
    assert names(told.outputs) == [f"file {tmp_path}/out/results.jsonl", f"file {tmp_path}/out/errors.jsonl"]
    assert told.outputs[0].outputFacets["outputStatistics"].rowCount == 1
    assert told.run_facets["mistral_batch"].model == "mistral-small-latest"
    assert told.run_facets["mistral_batch"].tokens["prompt_tokens"] > 0

    _, cancel, ti = run(MistralCancelBatchJobOperator, batch_id=batch_id)
    told = cancel.get_openlineage_facets_on_complete(ti)
    assert told.run_facets["externalQuery"].externalQueryId == batch_id
    assert (told.inputs, told.outputs) == ([], [])


def test_a_failure_after_the_landing_tells_of_the_results(
    run: Callable[..., tuple[Any, Any, Any]], tmp_path: Path, control: Any
) -> None:
    control.plan_jobs(failed_rows=1)
    outcome, task, ti = run(
        MistralBatchInferenceOperator,
        requests=["Hello", "Goodbye"],
        model="mistral-small-latest",
        destination=str(tmp_path / "out"),
        max_failed_ratio=0.0,
        row_retries=0,
        poll_interval_min=0.05,
    )
    assert outcome.state != "success", outcome
    told = task.get_openlineage_facets_on_failure(ti)
    assert names(told.outputs) == [f"file {tmp_path}/out/results.jsonl", f"file {tmp_path}/out/errors.jsonl"]
    assert [one.outputFacets["outputStatistics"].rowCount for one in told.outputs] == [1, 1]


def test_files_and_tables_of_the_users_are_told_and_an_odd_one_costs_no_other(tmp_path: Path) -> None:
    from airflow.providers.common.compat.lineage.entities import File, Table

    class Odd:
        uri = property(lambda _: 1 / 0)

    task = MistralBatchInferenceOperator(
        task_id="task",
        requests=["Hello"],
        model="mistral-small-latest",
        destination=str(tmp_path / "out"),
        inlets=[
            Odd(),
            File("s3://bucket/own.csv"),
            Table(cluster="dwh", database="db", name="t"),
            Asset("file:///own"),
        ],
    )
    told: Any = task.get_openlineage_facets_on_start()
    assert names(told.inputs) == ["s3://bucket own.csv", "dwh db.t", "file /own"]


def test_what_goes_wrong_in_lineage_is_a_line_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    sensor = MistralBatchJobSensor(task_id="sensor", batch_id="x")

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("broken")

    monkeypatch.setattr(sensor, "told", broken)
    assert sensor.get_openlineage_facets_on_start() is None


@pytest.mark.parametrize(
    ("listening", "wanted", "outlets", "in_triggerer"),
    [
        (False, None, [], True),
        (True, None, [], False),
        (True, True, [], True),
        (False, False, [], False),
        # Outlets need a worker in any case.
        (False, True, [Asset("a")], False),
    ],
)
@pytest.mark.parametrize("operator", [MistralBatchJobSensor, MistralCreateBatchJobOperator])
def test_where_openlineage_listens_a_task_ends_on_a_worker(
    operator: Any,
    listening: bool,
    wanted: bool | None,
    outlets: list[Any],
    in_triggerer: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if listening:
        monkeypatch.setenv("OPENLINEAGE_URL", "http://localhost:1")
    assert reporting.is_listening() is listening
    given = {"batch_id": "x"} if operator is MistralBatchJobSensor else {"input_files": ["x"]}
    task = operator(task_id="task", finish_in_triggerer=wanted, outlets=outlets, **given)
    assert may_finish_in_triggerer(task) is in_triggerer


def test_a_wish_that_is_no_switch_is_refused() -> None:
    with pytest.raises(ValueError, match="finish_in_triggerer='no' is not a bool"):
        MistralBatchJobSensor(task_id="task", batch_id="x", finish_in_triggerer="no")  # type: ignore[arg-type]
