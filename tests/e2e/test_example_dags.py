"""Each example Dag runs to its end in a real Airflow and leaves what it promises."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
from pyarrow import parquet

from airflow_provider_mistral_batch.api.client import MistralBatchClient
from airflow_provider_mistral_batch.emulator import Emulator
from airflow_rest import AirflowRest
from local_airflow import LocalAirflow

from ..airflow_versions import since


def rows_of(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path.removeprefix("file://")).read_text("utf-8").splitlines()]


def count_rows(path: str) -> int:
    local = path.removeprefix("file://")
    return parquet.read_metadata(local).num_rows if local.endswith(".parquet") else len(rows_of(path))


def failed_logs(airflow: LocalAirflow, dag_id: str, run_id: str) -> str:
    """Logs of the failed tasks: what somebody wants to read when a run is not a success."""
    return "\n\n".join(
        f"{ti['task_id']}:\n{airflow.rest.log(dag_id, run_id, ti['task_id'], ti['try_number'])}"
        for ti in airflow.rest.task_instances(dag_id, run_id)
        if ti["state"] == "failed"
    )


def finished(airflow: LocalAirflow, dag_id: str, run_id: str) -> dict[str, str | None]:
    """Wait for a run's success and return its tasks' states."""
    state = airflow.wait_for_run(dag_id, run_id, timeout=180)
    assert state == "success", failed_logs(airflow, dag_id, run_id)
    return airflow.rest.task_states(dag_id, run_id)


@pytest.fixture(scope="module")
def nightly_run(airflow: LocalAirflow, runs: dict[str, str], emulator: Emulator) -> str:
    """Id of the nightly run, whose job ends once its sensor waits in the triggerer."""
    dag_id = "mistral_batch_nightly"
    deadline = time.monotonic() + 180
    while airflow.rest.task_states(dag_id, runs[dag_id]).get("wait") != "deferred":
        assert time.monotonic() < deadline, failed_logs(airflow, dag_id, runs[dag_id])
        time.sleep(0.5)
    emulator.control.end_jobs(metadata={"airflow_dag_id": dag_id})
    return runs[dag_id]


def test_nightly(airflow: LocalAirflow, nightly_run: str, client: MistralBatchClient) -> None:
    dag_id, run_id = "mistral_batch_nightly", nightly_run
    states = finished(airflow, dag_id, run_id)
    tasks = ("write_requests", "upload", "submit", "wait", "download", "process")
    assert states == dict.fromkeys(tasks, "success")

    def xcom(task_id: str, key: str = "return_value") -> Any:
        return airflow.rest.xcom(dag_id, run_id, task_id, key)

    assert xcom("upload") == xcom("upload", "file_ids")
    assert xcom("upload", "request_count") == len(topics)

    batch_id = xcom("submit")
    job = client.get(batch_id)
    assert job.status == "completed"
    assert job.input_files == xcom("upload")
    assert (job.metadata or {})["description"] == "Summaries of the Python help"
    assert xcom("wait") == xcom("wait", "output_file_id") == job.output_file_id
    assert xcom("wait", "batch_id") == batch_id
    assert xcom("wait", "status") == "completed"
    assert xcom("wait", "request_counts") == {"total": len(topics), "completed": len(topics), "failed": 0}

    manifest = xcom("download")
    assert manifest["batch_ids"] == [batch_id]
    assert manifest["counts"]["succeeded"] == manifest["counts"]["total"] == len(topics)
    rows = rows_of(manifest["results_path"])
    assert sorted(row["custom_id"] for row in rows) == sorted(topics)
    tokens = sum(row["response"]["body"]["usage"]["total_tokens"] for row in rows)
    assert manifest["usage"]["total_tokens"] == tokens > 0

    summary = xcom("process")
    assert summary["answers"] == len(topics)
    assert summary["output_file_id"] == job.output_file_id


@since("3.3", "tasks keep state")
def test_the_storage_tab_shows_batch_ids_and_counts(airflow: LocalAirflow, nightly_run: str) -> None:
    dag_id, run_id = "mistral_batch_nightly", nightly_run
    finished(airflow, dag_id, run_id)
    batch_id = airflow.rest.xcom(dag_id, run_id, "submit")
    path = ("dags", dag_id, "dagRuns", run_id, "taskInstances")

    def kept(task_id: str) -> dict[str, Any]:
        entries = airflow.rest.call("GET", *path, task_id, "state-store")["task_state_store"]
        return {entry["key"]: entry["value"] for entry in entries}

    assert kept("submit") == {"batch_ids": [batch_id]}
    manifest = airflow.rest.xcom(dag_id, run_id, "download")
    assert kept("download") == {"batch_ids": [batch_id], "counts": manifest["counts"]}


def test_gate(airflow: LocalAirflow, runs: dict[str, str], client: MistralBatchClient) -> None:
    run_id = runs["mistral_batch_submit"]
    finished(airflow, "mistral_batch_submit", run_id)
    batch_id = airflow.rest.xcom("mistral_batch_submit", run_id, "submit")

    (gate,) = airflow.rest.dag_runs("mistral_batch_gate")
    assert gate["conf"] == {"batch_id": batch_id}
    states = finished(airflow, "mistral_batch_gate", gate["dag_run_id"])
    assert states == {"wait": "success", "publish": "success"}
    published = airflow.rest.xcom("mistral_batch_gate", gate["dag_run_id"], "publish")
    assert published == {"output_file_id": client.get(batch_id).output_file_id, "answers": 6}


def test_inline(airflow: LocalAirflow, runs: dict[str, str]) -> None:
    dag_id = "mistral_batch_inline"
    finished(airflow, dag_id, runs[dag_id])
    answers = airflow.rest.xcom(dag_id, runs[dag_id], "read_answers")
    assert sorted(answers) == ["ticket-1", "ticket-2", "ticket-3", "ticket-4"]
    assert all(answers.values())


def test_cancel(airflow: LocalAirflow, runs: dict[str, str], client: MistralBatchClient) -> None:
    dag_id = "mistral_batch_cancel"
    states = finished(airflow, dag_id, runs[dag_id])
    assert states == {
        "upload": "success",
        "submit": "success",
        "wait": "failed",
        "cancel": "success",
        "download": "success",
        "report": "success",
    }
    batch_id = airflow.rest.xcom(dag_id, runs[dag_id], "submit")
    assert client.get(batch_id).status == "cancelled"
    assert airflow.rest.xcom(dag_id, runs[dag_id], "cancel", "status") == "cancelled"
    manifest = airflow.rest.xcom(dag_id, runs[dag_id], "download")
    assert manifest["batch_ids"] == [batch_id]
    assert manifest["counts"]["succeeded"] == len(rows_of(manifest["results_path"]))


@pytest.mark.parametrize(
    "dag_id",
    [
        "mistral_batch_inference",
        "mistral_batch_table",
        "mistral_batch_decorator",
        "mistral_batch_mapped",
        "mistral_batch_embeddings",
        "mistral_batch_ocr",
    ],
)
def test_batches_in_one_task(airflow: LocalAirflow, runs: dict[str, str], dag_id: str) -> None:
    finished(airflow, dag_id, runs[dag_id])
    manifests = [
        airflow.rest.xcom(dag_id, runs[dag_id], ti["task_id"], map_index=ti["map_index"])
        for ti in airflow.rest.task_instances(dag_id, runs[dag_id])
        if ti["operator"] in ("MistralBatchInferenceOperator", "MistralBatchDecoratedOperator")
    ]
    assert manifests
    for manifest in manifests:
        counts = manifest["counts"]
        assert counts["succeeded"] == counts["total"] == count_rows(manifest["results_path"]) > 0


def test_documents_become_markdown(airflow: LocalAirflow, runs: dict[str, str]) -> None:
    dag_id = "mistral_batch_ocr"
    finished(airflow, dag_id, runs[dag_id])
    markdown = airflow.rest.xcom(dag_id, runs[dag_id], "read")["table"]["markdown"]
    folder = Path(markdown["path"].removeprefix("file://"))
    assert sorted(path.name for path in folder.iterdir()) == ["lease.md", "receipt.md"]
    assert len(airflow.rest.xcom(dag_id, runs[dag_id], "list_pages")) == markdown["files"] == 2


def test_tables(airflow: LocalAirflow, runs: dict[str, str], warehouse: Path) -> None:
    dag_id = "mistral_batch_table"
    finished(airflow, dag_id, runs[dag_id])
    manifest = airflow.rest.xcom(dag_id, runs[dag_id], "read_reviews")
    assert (manifest["counts"]["succeeded"], manifest["table"]["skipped"]) == (5, 1)
    with contextlib.closing(sqlite3.connect(warehouse)) as database:
        rows = database.execute("select id, product, mood, status from example_moods order by id").fetchall()
    assert [row[:2] for row in rows] == [(1, "bag"), (2, "bag"), (3, "bag"), (4, "belt"), (5, "belt")]
    assert sum(airflow.rest.xcom(dag_id, runs[dag_id], "report").values()) == 5

    dag_id = "mistral_batch_embeddings"
    finished(airflow, dag_id, runs[dag_id])
    texts = {"bread", "pizza", "tax", "invoice", "comet"}
    assert airflow.rest.xcom(dag_id, runs[dag_id], "find_neighbours").keys() == texts


def test_one_job_for_each_run(
    airflow: LocalAirflow, runs: dict[str, str], client: MistralBatchClient
) -> None:
    for dag_id in (
        "mistral_batch_nightly",
        "mistral_batch_submit",
        "mistral_batch_cancel",
        "mistral_batch_inline",
    ):
        run_id = runs[dag_id]
        finished(airflow, dag_id, run_id)
        jobs = list(client.iter_jobs(metadata={"airflow_dag_id": dag_id, "airflow_run_id": run_id}))
        assert len(jobs) == 1


def test_no_import_errors(rest: AirflowRest, runs: dict[str, str]) -> None:
    assert rest.import_errors() == {}
