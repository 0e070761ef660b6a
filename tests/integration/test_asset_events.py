"""The asset events of tasks: each kind that ends or lands a batch describes it, on workers and after deferral."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, Asset, AssetAlias, task

from airflow_provider_mistral_batch.operators.mistral_batch import (
    MistralBatchInferenceOperator,
    MistralCreateBatchJobOperator,
    MistralDownloadBatchResultsOperator,
)
from airflow_provider_mistral_batch.results import read_results
from airflow_provider_mistral_batch.sensors.mistral_batch import MistralBatchJobSensor

from . import conftest

ANSWERS, ALIAS = Asset("answers"), AssetAlias("results")
OUTLETS: dict[str, Any] = {"outlets": [ANSWERS, ALIAS]}
SOON: dict[str, Any] = {"poll_interval": 0.05, "poll_interval_min": 0.02}
PROMPTS = ["comet", "tax", "pizza"]


@pytest.fixture
def extras(airflow: Any, new_ti: Any) -> Callable[[Callable[[], Any]], tuple[dict[str, Any], list[Any]]]:
    """Runs a task; gives the extra of its asset's event, and what was added to its alias."""

    def extras(make: Callable[[], Any]) -> tuple[dict[str, Any], list[Any]]:
        ti = new_ti()
        outcome = airflow.run(make, ti)
        assert outcome.state == "success", outcome.message
        return ti.outlet_events[ANSWERS].extra, ti.outlet_events[ALIAS].asset_alias_events

    return extras


def inference(folder: Path, **options: Any) -> Any:
    return MistralBatchInferenceOperator(
        task_id="ask", requests=PROMPTS, model="m", max_tokens=9, destination=str(folder), **SOON, **options
    )


def decorated(folder: Path, **options: Any) -> Any:
    with DAG("dag", schedule=None):

        @task.mistral_batch(
            task_id="ask", model="m", max_tokens=9, destination=str(folder), **{**SOON, **options}
        )
        def ask() -> list[str]:
            return PROMPTS

        asked: Any = ask()
        return asked.operator


@pytest.mark.parametrize("deferrable", [False, True])
def test_what_a_function_writes_into_its_event_wins_also_on_another_worker(
    deferrable: bool, airflow: Any, new_ti: Any, control: Any, tmp_path: Path, logged: Any
) -> None:
    control.settings(job_seconds=0.1)
    ti = new_ti()

    def make() -> Any:
        with DAG("dag", schedule=None):

            @task.mistral_batch(
                task_id="ask",
                model="m",
                max_tokens=9,
                destination=str(tmp_path / "out"),
                deferrable=deferrable,
                **SOON,
                **OUTLETS,
            )
            def ask(outlet_events: Any = None) -> list[str]:
                outlet_events[ANSWERS].extra.update(usage="mine", team="x", odd={"a": [1]})
                return PROMPTS

            asked: Any = ask()
            return asked.operator

    outcome = airflow.run(make, ti)
    assert outcome.state == "success", outcome.message
    extra = ti.outlet_events[ANSWERS].extra
    assert (extra["usage"], extra["team"], extra["odd"]) == ("mine", "x", {"a": [1]})
    assert extra["counts"]["succeeded"] == 3
    assert not [line for line in logged() if "outlet_events" in line]


@pytest.mark.parametrize("make", [inference, decorated])
@pytest.mark.parametrize("deferrable", [False, True])
def test_a_batch_that_lands(make: Any, deferrable: bool, extras: Any, control: Any, tmp_path: Path) -> None:
    control.settings(job_seconds=0.1)
    extra, added = extras(lambda: make(tmp_path / "out", deferrable=deferrable, **OUTLETS))
    assert [row.content for row in read_results(extra)] != []
    assert len(list(read_results(extra))) == extra["counts"]["succeeded"] == 3
    assert len(extra["batch_ids"]) == 1
    assert extra["usage"]
    assert "estimated_cost_usd" in extra
    (event,) = added
    assert event.dest_asset_key.uri == (tmp_path / "out" / "results.jsonl").as_uri()
    assert event.extra == extra


def test_results_that_are_downloaded(extras: Any, make_job: Any, tmp_path: Path) -> None:
    batch_id = make_job()
    extra, added = extras(
        lambda: MistralDownloadBatchResultsOperator(
            task_id="get", batch_id=batch_id, destination=str(tmp_path), **OUTLETS
        )
    )
    assert extra["batch_ids"] == [batch_id]
    assert len(list(read_results(extra))) == 4
    assert len(added) == 1


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_job_that_is_created(deferrable: bool, extras: Any, control: Any) -> None:
    control.settings(job_seconds=0.1)
    extra, added = extras(
        lambda: MistralCreateBatchJobOperator(
            task_id="create",
            requests=[{"custom_id": "a", "prompt": "comet"}],
            model="m",
            wait_for_completion=True,
            deferrable=deferrable,
            **SOON,
            **OUTLETS,
        )
    )
    assert (extra["status"], extra["request_counts"]["completed"]) == ("completed", 1)
    # Nothing has landed.
    assert added == []


@pytest.mark.parametrize("options", [{}, {"deferrable": True}])
def test_a_job_that_is_waited_for(options: Any, extras: Any, control: Any, make_job: Any) -> None:
    control.settings(job_seconds=0.2)
    batch_id = make_job(wait=False)
    extra, _ = extras(
        lambda: MistralBatchJobSensor(
            task_id="wait", batch_id=batch_id, poke_interval=0.05, **options, **OUTLETS
        )
    )
    assert (extra["batch_ids"], extra["status"]) == ([batch_id], "completed")


def test_an_event_that_cannot_be_described_costs_a_warning(
    airflow: Any, new_ti: Any, tmp_path: Path, logged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(dict[Any, Any]):
        def __getitem__(self, key: Any) -> Any:
            raise RuntimeError("no events today")

    monkeypatch.setattr(conftest, "OutletEventAccessors", Broken)
    outcome = airflow.run(lambda: inference(tmp_path / "out", **OUTLETS), new_ti())
    assert outcome.state == "success", outcome.message
    assert [line for line in logged() if line.startswith("warning: ") and "no events today" in line]
