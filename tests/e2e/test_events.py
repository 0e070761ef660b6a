"""Dags that assets start: by a batch that lands, and by a job that ends, also one that nobody submitted in Airflow."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mistral_batch.emulator import Emulator
from local_airflow import LocalAirflow

EXAMPLE = Path(__file__).parents[2] / "example_dags" / "example_mistral_batch_events.py"


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    """A server of its own: the tests count its calls, and other Airflows have event triggers, too."""
    with Emulator(validation_seconds=0.5, job_seconds=12) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def airflow(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAirflow]:
    """An Airflow of its own: one whose scheduler makes runs, which would start other examples, too."""
    dags = tmp_path_factory.mktemp("dags")
    shutil.copy(EXAMPLE, dags)
    with LocalAirflow(
        tmp_path_factory.mktemp("airflow-events"),
        dags,
        connections={
            "mistral_default": {"conn_type": "mistral", "host": emulator.url, "password": emulator.api_key}
        },
        settings={"scheduler": {"use_job_schedule": True}},
    ) as airflow:
        airflow.wait_for_dags("mistral_batch_land", "mistral_batch_read", "mistral_batch_on_end")
        # Only what ends after the first look counts.
        until(lambda: emulator.control.requests().get("GET /v1/batch/jobs", 0) >= 2, "a first look")
        yield airflow


@pytest.fixture(scope="module")
def landed(airflow: LocalAirflow) -> str:
    """Id of the run that has landed a batch."""
    run_id = airflow.rest.trigger("mistral_batch_land")
    assert airflow.wait_for_run("mistral_batch_land", run_id, timeout=180) == "success"
    return run_id


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + 120
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.5)
    return found


def jobs_told(airflow: LocalAirflow) -> list[str]:
    """Ids of the jobs in the results of all runs that ends of jobs have started."""
    told: list[str] = []
    for run in airflow.rest.dag_runs("mistral_batch_on_end"):
        assert airflow.wait_for_run("mistral_batch_on_end", run["dag_run_id"], timeout=120) == "success"
        told += airflow.rest.xcom("mistral_batch_on_end", run["dag_run_id"], "list_jobs")
    return told


def test_an_asset_event_has_the_manifest(airflow: LocalAirflow, landed: str) -> None:
    (run,) = until(lambda: airflow.rest.dag_runs("mistral_batch_read"), "a run by the asset")
    assert airflow.wait_for_run("mistral_batch_read", run["dag_run_id"], timeout=120) == "success"
    words = airflow.rest.xcom("mistral_batch_read", run["dag_run_id"], "count_words")
    assert words.keys() == {"comet", "tax", "pizza"}
    assert all(words.values())


def test_a_killed_triggerer_misses_no_end_and_repeats_none(
    airflow: LocalAirflow, landed: str, emulator: Emulator
) -> None:
    (by_airflow,) = airflow.rest.xcom("mistral_batch_land", landed, "ask")["batch_ids"]
    until(lambda: by_airflow in jobs_told(airflow), "a run by the end of Airflow's own job")

    # Once an event counts as told: that takes a look after it.
    looks = emulator.control.requests()["GET /v1/batch/jobs"]
    time.sleep(6)
    until(lambda: emulator.control.requests()["GET /v1/batch/jobs"] >= looks + 4, "looks")
    triggerer = airflow.processes["triggerer"]
    triggerer.kill()
    # Nobody in Airflow knows of these jobs: they begin and end while there is no triggerer.
    missed = emulator.control.make_jobs(3, metadata={"team": "search"})
    others = emulator.control.make_jobs(1, metadata={"team": "news"})
    emulator.control.end_jobs([*missed, *others])
    triggerer.restart()
    until(lambda: set(missed) <= set(jobs_told(airflow)), "a run by the ends that nobody saw")

    late = emulator.control.make_jobs(1, metadata={"team": "search"})
    emulator.control.end_jobs(late)
    until(lambda: set(late) <= set(jobs_told(airflow)), "a run by an end after the restart")
    assert sorted(jobs_told(airflow)) == sorted([by_airflow, *missed, *late])


def test_ends_while_the_dag_is_paused_are_told_afterwards(
    airflow: LocalAirflow, landed: str, emulator: Emulator
) -> None:
    before = jobs_told(airflow)
    airflow.rest.write("PATCH", "dags", "mistral_batch_on_end", json={"is_paused": True})
    looks = -1
    # The trigger ends once the scheduler has removed it: its loop looks every five seconds.
    while looks != (looks := emulator.control.requests()["GET /v1/batch/jobs"]):
        time.sleep(8)
    missed = emulator.control.make_jobs(2, metadata={"team": "search"})
    emulator.control.end_jobs(missed)
    airflow.rest.write("PATCH", "dags", "mistral_batch_on_end", json={"is_paused": False})
    until(lambda: set(missed) <= set(jobs_told(airflow)), "a run by the ends while the Dag was paused")
    assert sorted(jobs_told(airflow)) == sorted([*before, *missed])
