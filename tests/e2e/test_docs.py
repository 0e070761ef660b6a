"""Every Python block of the documentation runs: Dags in the real Airflow, other code as a program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_mistral_batch.emulator import Emulator
from local_airflow import LocalAirflow

from .documentation import Block, blocks

BLOCKS = list(blocks())


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.dag_ids], ids=str)
def test_dag(block: Block, runs: dict[str, str], airflow: LocalAirflow) -> None:
    for dag_id in block.dag_ids:
        state = airflow.wait_for_run(dag_id, runs[dag_id], timeout=240)
        assert state == "success", airflow.rest.task_states(dag_id, runs[dag_id])


@pytest.mark.parametrize("block", [block for block in BLOCKS if not block.dag_ids], ids=str)
def test_program(block: Block, emulator: Emulator, airflow: LocalAirflow, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", block.code],
        cwd=tmp_path,
        env=airflow.env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
