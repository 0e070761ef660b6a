"""Every Python block of the documentation runs: Dags in the real Airflow, other code as a program."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_mistral_batch.emulator import Emulator
from airflow_rest import AirflowRest
from local_airflow import LocalAirflow

from .documentation import Block, blocks

BLOCKS = list(blocks())


def approve(rest: AirflowRest, dag_id: str, run_id: str, emulator: Emulator) -> None:
    """Approve what the task ``approval`` asks; nothing was sent before."""
    deadline = time.monotonic() + 180
    while rest.task_states(dag_id, run_id).get("approval") not in ("deferred", "awaiting_input"):
        assert time.monotonic() < deadline, rest.task_states(dag_id, run_id)
        time.sleep(0.5)
    assert dag_id not in {
        (job["metadata"] or {}).get("airflow_dag_id") for job in emulator.control.record()["jobs"]
    }
    task = ("dags", dag_id, "dagRuns", run_id, "taskInstances", "approval", "-1")
    rest.call("PATCH", *task, "hitlDetails", json={"chosen_options": ["Approve"], "params_input": {}})


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.dag_ids], ids=str)
def test_dag(block: Block, runs: dict[str, str], airflow: LocalAirflow, emulator: Emulator) -> None:
    for dag_id in block.dag_ids:
        if block.needs_a_person:
            approve(airflow.rest, dag_id, runs[dag_id], emulator)
        state = airflow.wait_for_run(dag_id, runs[dag_id], timeout=240)
        assert state == "success", airflow.rest.task_states(dag_id, runs[dag_id])


@pytest.fixture(scope="module")
def connection() -> Iterator[str]:
    """A connection to an emulator whose jobs take no time: a program has to wait for them."""
    with Emulator() as emulator:
        yield json.dumps({"conn_type": "mistral", "host": emulator.url, "password": emulator.api_key})


@pytest.mark.parametrize("block", [block for block in BLOCKS if not block.dag_ids], ids=str)
def test_program(block: Block, connection: str, airflow: LocalAirflow, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", block.code],
        cwd=tmp_path,
        env={**airflow.env, "AIRFLOW_CONN_MISTRAL_DEFAULT": connection},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
