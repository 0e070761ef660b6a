"""What happens to tasks in bad moments: jobs vanish, keys are of another workspace, answers are odd."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mistral_batch.emulator.client import Control
from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
from airflow_provider_mistral_batch.operators import (
    MistralCancelBatchJobOperator,
    MistralCreateBatchJobOperator,
    MistralDownloadBatchResultsOperator,
    MistralUploadBatchFileOperator,
)
from airflow_provider_mistral_batch.sensors import MistralBatchJobSensor

WAYS: dict[str, dict[str, Any]] = {
    "poke": {"mode": "poke"},
    "reschedule": {"mode": "reschedule"},
    "deferred": {"deferrable": True},
}

ROWS = [
    {"custom_id": f"row-{number}", "body": {"messages": [{"role": "user", "content": "Hello"}]}}
    for number in range(3)
]


pytestmark = pytest.mark.usefixtures("short_pauses")


def sensor(batch_id: str, way: str) -> MistralBatchJobSensor:
    return MistralBatchJobSensor(
        task_id="wait", batch_id=batch_id, poke_interval=0.02, timeout=30, **WAYS[way]
    )


def create(**arguments: Any) -> MistralCreateBatchJobOperator:
    return MistralCreateBatchJobOperator(
        task_id="create",
        requests=ROWS,
        model="mistral-small-latest",
        wait_for_completion=True,
        poll_interval=0.02,
        **arguments,
    )


@pytest.mark.parametrize("way", WAYS)
def test_a_job_deleted_by_someone_else(
    way: str, airflow: Any, hook: MistralBatchHook, control: Control, make_job: Any
) -> None:
    batch_id = make_job(wait=False, job_seconds=3600)
    control.reset()

    def delete_when_it_is_waited_for() -> None:
        deadline = time.monotonic() + 30
        while control.requests().get("GET /v1/batch/jobs/{id}", 0) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        with MistralBatchHook().get_conn() as client:
            client.delete(batch_id)

    someone_else = threading.Thread(target=delete_when_it_is_waited_for)
    someone_else.start()
    outcome = airflow.run(lambda: sensor(batch_id, way))
    someone_else.join()
    assert outcome.state == "failed"
    assert [word for word in ("404", batch_id, "deleted") if word not in outcome.message] == []


@pytest.mark.parametrize("name", ["poke", "deferred", "cancel", "download", "create from its file"])
def test_a_connection_of_another_workspace(
    name: str, airflow: Any, hook: MistralBatchHook, connect: Any, make_job: Any, tmp_path: Path
) -> None:
    batch_id = make_job()
    (tmp_path / "rows.jsonl").write_text('{"custom_id": "a", "body": {}}\n')
    file_id = hook.upload_file(tmp_path / "rows.jsonl").id
    connect(key="a-key-of-somebody-else")
    tasks: dict[str, Callable[[], Any]] = {
        "poke": lambda: sensor(batch_id, "poke"),
        "deferred": lambda: sensor(batch_id, "deferred"),
        "cancel": lambda: MistralCancelBatchJobOperator(task_id="cancel", batch_id=batch_id),
        "download": lambda: MistralDownloadBatchResultsOperator(
            task_id="download", batch_id=batch_id, destination=str(tmp_path / "results")
        ),
        "create from its file": lambda: MistralCreateBatchJobOperator(
            task_id="create", input_files=[file_id], model="mistral-small-latest"
        ),
    }
    outcome = airflow.run(tasks[name])
    assert outcome.state == "failed"
    wanted = file_id if name == "create from its file" else batch_id
    assert [word for word in ("404", wanted, "another workspace") if word not in outcome.message] == []
    assert not list((tmp_path / "results").glob("*.jsonl"))


@pytest.mark.parametrize("way", [{"deferrable": False}, {"deferrable": True}], ids=["worker", "deferred"])
def test_a_proxys_page_with_200_once_for_each_call(
    way: dict[str, Any], airflow: Any, control: Control, jobs: Any, tmp_path: Path
) -> None:
    for method, path in (("POST", "/v1/batch/jobs"), ("GET", "/v1/batch/jobs"), ("GET", "/v1/batch/jobs/*")):
        control.fault("html", method, path)
    outcome = airflow.run(lambda: create(**way))
    assert outcome.state == "success"
    assert [job["status"] for job in jobs()] == ["SUCCESS"]
    control.fault("html", "GET", "/v1/batch/jobs/*")
    landed = airflow.run(
        lambda: MistralDownloadBatchResultsOperator(
            task_id="download", batch_id=outcome.value, destination=str(tmp_path)
        )
    )
    assert (landed.state, landed.value["counts"]["succeeded"]) == ("success", 3)


@pytest.mark.parametrize("name", ["upload", "create", "download"])
def test_a_proxys_page_with_200_for_ever(
    name: str, airflow: Any, connect: Any, control: Control, make_job: Any, tmp_path: Path
) -> None:
    batch_id = make_job()
    connect(retries=1)
    tasks: dict[str, Callable[[], Any]] = {
        "upload": lambda: MistralUploadBatchFileOperator(task_id="upload", requests=ROWS),
        "create": create,
        "download": lambda: MistralDownloadBatchResultsOperator(
            task_id="download", batch_id=batch_id, destination=str(tmp_path)
        ),
    }
    control.fault("html", times=None)
    outcome = airflow.run(tasks[name])
    # Whoever is between us and the API may be gone by the next try.
    assert outcome.state == "retry"
    assert [word for word in ("proxy", "200", "text/html") if word not in outcome.message] == []
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("way", [{"deferrable": False}, {"deferrable": True}], ids=["worker", "deferred"])
def test_fields_and_statuses_that_nobody_knows(
    way: dict[str, Any], airflow: Any, control: Control, jobs: Any
) -> None:
    control.plan_jobs(
        job_seconds=0.3, status="BEING_PONDERED", fields={"novelty": {"a": [1, None]}, "object": "batch.v2"}
    )
    outcome = airflow.run(lambda: create(**way))
    assert outcome.state == "success"
    assert outcome.xcoms["status"] == "completed"
    assert outcome.xcoms["request_counts"] == {"total": 3, "completed": 3, "failed": 0}
    assert len(jobs()) == 1


@pytest.mark.parametrize("way", WAYS)
def test_optional_fields_that_are_not_there(way: str, airflow: Any, control: Control, make_job: Any) -> None:
    optional = (
        "metadata",
        "model",
        "agent_id",
        "errors",
        "error_file",
        "outputs",
        "started_at",
        "completed_at",
    )
    batch_id = make_job(fields=dict.fromkeys(optional))
    outcome = airflow.run(lambda: sensor(batch_id, way))
    assert outcome.state == "success"
    assert outcome.xcoms["status"] == "completed"
    assert outcome.xcoms.get("error_file_id") is None
