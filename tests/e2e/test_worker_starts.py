"""How often a wait starts a worker, in each of its variants, and that each ends as it should."""

from __future__ import annotations

import pytest

from airflow_rest import AirflowRest
from local_airflow import LocalAirflow

DAG_ID = "worker_starts"


@pytest.fixture(scope="module")
def run_id(runs: dict[str, str], airflow: LocalAirflow) -> str:
    state = airflow.wait_for_run(DAG_ID, runs[DAG_ID], timeout=240)
    assert state == "success", airflow.rest.task_states(DAG_ID, runs[DAG_ID])
    return runs[DAG_ID]


@pytest.mark.parametrize(
    ("task_id", "starts"),
    [
        ("started_in_triggerer", 0),
        ("deferred", 1),
        ("create_and_wait", 1),
        # What cannot start in the triggerer is deferred from a worker.
        ("template", 1),
        # Outlets are registered by a worker.
        ("outlets", 1),
    ],
)
def test_worker_starts(rest: AirflowRest, run_id: str, task_id: str, starts: int) -> None:
    assert rest.worker_starts(DAG_ID, run_id, task_id) == starts


@pytest.mark.parametrize("map_index", [0, 1])
def test_airflow_starts_no_mapped_task_in_the_triggerer(
    rest: AirflowRest, run_id: str, map_index: int
) -> None:
    assert rest.worker_starts(DAG_ID, run_id, "mapped", map_index) == 1


def test_a_wait_without_a_worker_leaves_the_same_xcoms(rest: AirflowRest, run_id: str) -> None:
    keys = ("batch_id", "status", "output_file_id", "error_file_id", "request_counts")
    triggerers, workers = (
        {key: rest.xcom(DAG_ID, run_id, task_id, key) for key in keys}
        for task_id in ("started_in_triggerer", "outlets")
    )
    assert triggerers == workers
    assert triggerers["request_counts"] == {"total": 1, "completed": 1, "failed": 0}


def test_what_it_leaves_is_read_downstream(rest: AirflowRest, run_id: str) -> None:
    read = rest.xcom(DAG_ID, run_id, "read")
    assert read["counts"] == {"total": 1, "completed": 1, "failed": 0}
