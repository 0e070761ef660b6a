"""``dag.test()``, ``airflow dags test`` and ``airflow tasks test``: each of our tasks passes there, and pays once."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mistral_batch.emulator import Emulator
from local_airflow import LocalAirflow

DAG_ID = "every_task"
DAGS = Path(__file__).parent / "dags"

#: Jobs of one run: a row of each job fails, so two tasks make a second round; its only row fails again.
JOBS = {"inference": 2, "decorated": 2, "create": 1}


@pytest.fixture(scope="module")
def server() -> Iterator[Emulator]:
    with Emulator(job_seconds=1) as emulator:
        emulator.control.plan_jobs(failed_rows=1, times=None)
        yield emulator


@pytest.fixture(scope="module")
def airflow_home(server: Emulator, tmp_path_factory: pytest.TempPathFactory) -> LocalAirflow:
    """An Airflow of which no process runs."""
    connection = {"conn_type": "mistral", "host": server.url, "password": server.api_key}
    airflow = LocalAirflow(
        tmp_path_factory.mktemp("airflow"), DAGS, connections={"mistral_default": connection}
    )
    airflow.prepare()
    return airflow


@pytest.fixture
def new_jobs(server: Emulator) -> Callable[[], dict[str, int]]:
    """Counts the jobs that the test has made, by task."""
    before = len(server.control.jobs())
    return lambda: Counter(job["metadata"]["airflow_task_id"] for job in server.control.jobs()[before:])


def run(airflow: LocalAirflow, *command: str) -> None:
    done = subprocess.run(
        [sys.executable, *command],
        env=airflow.env,
        cwd=airflow.home,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]


@pytest.mark.parametrize(
    "command",
    [[str(DAGS / "every_task.py")], ["-m", "airflow", "dags", "test", DAG_ID]],
    ids=["dag.test()", "airflow dags test"],
)
def test_a_run(command: list[str], airflow_home: LocalAirflow, new_jobs: Any) -> None:
    run(airflow_home, *command)
    assert new_jobs() == JOBS


def test_a_task_alone(airflow_home: LocalAirflow, new_jobs: Any) -> None:
    # It is deferred twice, by the operator that it inherits from.
    run(airflow_home, "-m", "airflow", "tasks", "test", DAG_ID, "decorated")
    assert new_jobs() == {"decorated": JOBS["decorated"]}
