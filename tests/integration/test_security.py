"""Secrets and boundaries as a task has them: the key shows up nowhere, and nothing from outside leads elsewhere."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
from airflow.sdk import DAG

from airflow_provider_mistral_batch.emulator import Emulator
from airflow_provider_mistral_batch.emulator.client import Control
from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
from airflow_provider_mistral_batch.operators import (
    MistralBatchInferenceOperator,
    MistralCancelBatchJobOperator,
    MistralCreateBatchJobOperator,
    MistralDownloadBatchResultsOperator,
    MistralUploadBatchFileOperator,
)
from airflow_provider_mistral_batch.sensors import MistralBatchJobSensor

from ..airflow_versions import DagSerialization
from ..scripted_server import ScriptedServer, as_json

ROWS = [{"custom_id": "a", "body": {"messages": [{"role": "user", "content": "Hello"}]}}]

#: Each way in which a task calls the API, by the id that it takes from another task.
TASKS: dict[str, Callable[[str, Path], Any]] = {
    "upload": lambda _, __: MistralUploadBatchFileOperator(task_id="task", requests=ROWS),
    "create": lambda file_id, _: MistralCreateBatchJobOperator(
        task_id="task", input_files=[file_id], model="mistral-small-latest"
    ),
    "sensor": lambda batch_id, _: MistralBatchJobSensor(
        task_id="task", batch_id=batch_id, poke_interval=0.02
    ),
    "deferred sensor": lambda batch_id, _: MistralBatchJobSensor(
        task_id="task", batch_id=batch_id, poke_interval=0.02, deferrable=True
    ),
    "cancel": lambda batch_id, _: MistralCancelBatchJobOperator(task_id="task", batch_id=batch_id),
    "download": lambda batch_id, folder: MistralDownloadBatchResultsOperator(
        task_id="task", batch_id=batch_id, destination=str(folder)
    ),
}

#: Tasks whose id is that of a batch job.
TASKS_ON_JOBS = ("sensor", "deferred sensor", "cancel", "download")


@pytest.fixture
def elsewhere() -> Iterator[ScriptedServer]:
    """A server that is not the API, under another name than it."""
    with ScriptedServer(as_json({"id": "job-1", "status": "SUCCESS"})) as server:
        yield server


@pytest.mark.parametrize("name", TASKS)
def test_a_task_that_fails_shows_no_key(
    name: str, airflow: Any, control: Control, logged: Callable[[], list[str]], tmp_path: Path, caplog: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    control.fault("status", status=400, times=None, message=f"The key {control.api_key} may not do this")
    outcome = airflow.run(lambda: TASKS[name]("job-1", tmp_path))
    assert outcome.state == "failed"
    assert "may not do this" in outcome.message
    everything = [outcome.message, *logged(), str(outcome.xcoms), *map(repr, outcome.triggers)]
    assert [text for text in everything if control.api_key in text] == []


@pytest.mark.parametrize("name", ["download", "inference", "deferred inference"])
def test_what_is_kept_of_rows_has_no_key(
    name: str, airflow: Any, control: Control, logged: Callable[[], list[str]], tmp_path: Path, caplog: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    ids = [f"{quote(control.api_key, safe='')}-{number}\u2028INFO" for number in range(2)]
    ids.append(f"{control.api_key}\nINFO forged\x1b[31m")
    source, folder = tmp_path / "requests.jsonl", tmp_path / "out"
    source.write_text("".join(json.dumps({**ROWS[0], "custom_id": id_}) + "\n" for id_ in ids))
    options: dict[str, Any] = {"path": str(source), "model": "m"}
    control.plan_jobs(failed_ids=ids[1:], failed_statuses=[400, 422], missing_rows=1)
    if name == "download":
        upload = airflow.run(lambda: MistralUploadBatchFileOperator(task_id="task", path=str(source)))
        job = airflow.run(
            lambda: MistralCreateBatchJobOperator(
                task_id="task",
                model="m",
                input_files=upload.value,
                wait_for_completion=True,
                poll_interval=0.02,
            )
        )
        outcome = airflow.run(lambda: TASKS["download"](job.xcoms["batch_id"], folder))
    else:
        options |= {"deferrable": name != "inference", "poll_interval": 0.05, "poll_interval_min": 0.02}
        outcome = airflow.run(
            lambda: MistralBatchInferenceOperator(
                task_id="task", destination=str(folder), max_failed_ratio=0.1, row_retries=0, **options
            )
        )
        assert outcome.state == "retry"
        assert "Most frequent row errors" in outcome.message
    manifest = (folder / "manifest.json").read_text()
    assert len(json.loads(manifest)["errors"]) >= 2
    everything = [manifest, outcome.message, *logged(), str(outcome.xcoms), *map(repr, outcome.triggers)]
    for key in (control.api_key, quote(control.api_key, safe="")):
        assert [text for text in everything if key in text] == []
    assert not [text for text in (outcome.message, *logged()) if "\x1b" in text or "\nINFO" in text]
    # The rows themselves are as the API wrote them.
    assert "forged" in (folder / "errors.jsonl").read_text()


@pytest.mark.parametrize("name", TASKS)
def test_neither_dag_nor_rendered_fields_have_more_than_the_connections_id(
    name: str, hook: MistralBatchHook, control: Control, tmp_path: Path
) -> None:
    with DAG("dag", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)) as dag:
        task = TASKS[name]("job-1", tmp_path)
    # As far as it ever gets: with its client made.
    assert task.hook.get_conn().base_url == control.url
    rendered = {field: getattr(task, field) for field in task.template_fields}
    assert rendered["mistral_conn_id"] == "mistral_default"
    for text in (repr(task), str(vars(task)), str(rendered), json.dumps(DagSerialization.to_dict(dag))):
        assert control.api_key not in text


@pytest.mark.parametrize("name", TASKS_ON_JOBS)
def test_a_redirect_takes_no_key_elsewhere(
    name: str, airflow: Any, connect: Any, control: Control, elsewhere: ScriptedServer, tmp_path: Path
) -> None:
    connect(retries=1)
    elsewhere_url = elsewhere.url.replace("127.0.0.1", "localhost")
    control.fault("redirect", "GET", location=elsewhere_url, times=None)
    airflow.run(lambda: TASKS[name]("job-1", tmp_path))
    assert elsewhere.requests
    assert [request for request in elsewhere.requests if "authorization" in request.headers] == []
    assert [request for request in elsewhere.requests if control.api_key in str(request)] == []


@pytest.mark.parametrize("name", TASKS_ON_JOBS)
@pytest.mark.parametrize(
    "batch_id", ["a/../../files", "../files/x", "x?inline=true", "x#y", "%2e%2e/x", "a/b"]
)
def test_an_id_from_another_task_stays_in_its_segment(
    name: str, batch_id: str, airflow: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with ScriptedServer(as_json({"message": "No such job"}, 404)) as server:
        connection = {"conn_type": "mistral", "host": server.url, "password": "some-key"}
        monkeypatch.setenv("AIRFLOW_CONN_MISTRAL_DEFAULT", json.dumps(connection))
        outcome = airflow.run(lambda: TASKS[name](batch_id, tmp_path))
        assert outcome.state == "failed"
        assert {request.path for request in server.requests} <= {f"/v1/batch/jobs/{quote(batch_id, safe='')}"}
        # Either the server was asked for exactly that, or nothing was.
        assert server.requests or "batch_id=" in outcome.message


def test_the_emulator_listens_on_loopback_alone(emulator: Emulator) -> None:
    server = psutil.Process(emulator.pid)
    listening = [
        connection.laddr.ip
        for process in (server, *server.children(recursive=True))
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening == ["127.0.0.1"]
