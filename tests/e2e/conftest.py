"""One real Airflow with the example Dags, and one emulator, for all end-to-end tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_mistral_batch.api.client import MistralBatchClient
from airflow_provider_mistral_batch.emulator import Emulator
from airflow_rest import AirflowRest
from local_airflow import LocalAirflow

from .documentation import DAY, blocks, write_dags, write_warehouse

EXAMPLE_DAGS = Path(__file__).parents[2] / "example_dags"
OUR_DAGS = Path(__file__).parent / "dags"

#: Dags that the tests start, in the order of starting.
STARTED = (
    "mistral_batch_nightly",
    "mistral_batch_submit",
    "mistral_batch_cancel",
    "mistral_batch_inline",
    "mistral_batch_inference",
    "mistral_batch_table",
    "mistral_batch_decorator",
    "mistral_batch_mapped",
    "mistral_batch_embeddings",
    "mistral_batch_ocr",
    "worker_starts",
)


@pytest.fixture(scope="package")
def emulator() -> Iterator[Emulator]:
    # Long enough that the sensors, on a busy machine, too, begin before the jobs are over.
    with Emulator(validation_seconds=0.5, job_seconds=12) as emulator:
        yield emulator


@pytest.fixture(scope="package")
def client(emulator: Emulator) -> Iterator[MistralBatchClient]:
    with MistralBatchClient(emulator.api_key, emulator.url) as client:
        yield client


@pytest.fixture(scope="package")
def dags_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example Dags, those of the documentation, and the tests' own."""
    folder = tmp_path_factory.mktemp("dags")
    for file in (*EXAMPLE_DAGS.glob("*.py"), *OUR_DAGS.glob("*.py")):
        shutil.copy(file, folder)
    write_dags(folder, tmp_path_factory.mktemp("documentation") / "bucket")
    return folder


@pytest.fixture(scope="package")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of the connection ``warehouse``."""
    path = tmp_path_factory.mktemp("warehouse") / "warehouse.db"
    write_warehouse(path)
    return path


@pytest.fixture(scope="package")
def airflow(
    emulator: Emulator, dags_folder: Path, warehouse: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalAirflow]:
    connection = {"conn_type": "mistral", "host": emulator.url, "password": emulator.api_key}
    with LocalAirflow(
        tmp_path_factory.mktemp("airflow"),
        dags_folder,
        connections={
            "mistral_default": connection,
            "warehouse": {"conn_type": "sqlite", "host": str(warehouse)},
        },
        # Sooner than the emulator's jobs are done.
        env={"MISTRAL_BATCH_EXAMPLES_DEADLINE": "1"},
    ) as airflow:
        yield airflow


@pytest.fixture(scope="package")
def runs(airflow: LocalAirflow, emulator: Emulator) -> dict[str, str]:
    """Run id by Dag id; the Dags run side by side, and each test waits for its own."""
    # However busy the machine is: it must be cancelled before it is over, and not before it has some answers.
    emulator.control.plan_jobs(metadata={"airflow_dag_id": "mistral_batch_cancel"}, job_seconds=300)
    # Ended by its test, when its sensor is seen to wait in the triggerer.
    emulator.control.plan_jobs(metadata={"airflow_dag_id": "mistral_batch_nightly"}, job_seconds=3600)
    documented = [dag_id for block in blocks() for dag_id in block.dag_ids]
    airflow.wait_for_dags(*STARTED, "mistral_batch_gate", *documented)
    started = {dag_id: airflow.rest.trigger(dag_id) for dag_id in STARTED}
    return started | {dag_id: airflow.rest.trigger(dag_id, logical_date=DAY) for dag_id in documented}


@pytest.fixture(scope="package")
def rest(airflow: LocalAirflow) -> AirflowRest:
    return airflow.rest
