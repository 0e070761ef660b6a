"""What has just come to be may not be seen everywhere at once: a 404 of it is looked at again, a few times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mistral_batch.emulator.client import Control
from airflow_provider_mistral_batch.operators import (
    MistralBatchInferenceOperator,
    MistralCreateBatchJobOperator,
    MistralDownloadBatchResultsOperator,
    MistralUploadBatchFileOperator,
)
from airflow_provider_mistral_batch.sensors import MistralBatchJobSensor
from airflow_provider_mistral_batch.triggers.mistral_batch import MistralBatchJobTrigger

pytestmark = pytest.mark.usefixtures("short_pauses")

ROWS = [
    {"custom_id": f"row-{number}", "body": {"messages": [{"role": "user", "content": "Hello"}]}}
    for number in range(3)
]


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
@pytest.mark.parametrize("what", ["GET /v1/batch/jobs/*", "GET /v1/files/*/content"])
def test_a_batch_waits_for_what_is_not_there_yet(
    what: str, deferrable: bool, airflow: Any, control: Control, tmp_path: Path
) -> None:
    method, path = what.split()
    fault = control.fault("status", method, path, status=404, times=2, message="File not found")
    outcome = airflow.run(
        lambda: MistralBatchInferenceOperator(
            task_id="task",
            requests=ROWS,
            model="mistral-small-latest",
            destination=str(tmp_path / "out"),
            poll_interval=0.05,
            poll_interval_min=0.02,
            deferrable=deferrable,
        )
    )
    assert outcome.state == "success", outcome.message
    assert outcome.value["counts"]["succeeded"] == len(ROWS)
    assert control.fault_state(fault)["hits"] == 2


def test_a_download_waits_for_a_file_that_is_not_there_yet(
    airflow: Any, control: Control, hook: Any, tmp_path: Path
) -> None:
    created = airflow.run(
        lambda: MistralCreateBatchJobOperator(
            task_id="create",
            requests=ROWS,
            model="mistral-small-latest",
            wait_for_completion=True,
            poll_interval=0.02,
        )
    )
    control.fault("status", "GET", "/v1/files/*/content", status=404, times=2)
    outcome = airflow.run(
        lambda: MistralDownloadBatchResultsOperator(
            task_id="load", batch_id=created.xcoms["batch_id"], destination=str(tmp_path / "out")
        )
    )
    assert outcome.state == "success", outcome.message


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
@pytest.mark.parametrize(("misses", "state"), [(2, "success"), (None, "failed")])
def test_a_sensor_looks_again(
    misses: int | None, state: str, mode: str, airflow: Any, control: Control, make_job: Callable[..., str]
) -> None:
    batch_id = make_job()
    control.reset()
    control.fault("status", "GET", "/v1/batch/jobs/*", status=404, times=misses)
    outcome = airflow.run(
        lambda: MistralBatchJobSensor(
            task_id="wait", batch_id=batch_id, mode=mode, poke_interval=0.02, timeout=30
        )
    )
    assert outcome.state == state, outcome.message
    assert sum(control.requests().values()) <= 4, "a job that is not there makes nobody wait for long"


@pytest.mark.parametrize(("status", "misses", "found"), [(404, 2, True), (404, None, False), (410, 1, False)])
def test_a_trigger_looks_again(
    status: int,
    misses: int | None,
    found: bool,
    trigger_tools: Any,
    control: Control,
    make_job: Callable[..., str],
) -> None:
    batch_id = make_job()
    control.fault("status", "GET", "/v1/batch/jobs", status=404, times=None)
    control.fault("status", "GET", "/v1/batch/jobs/*", status=status, times=misses)
    event = trigger_tools.run(MistralBatchJobTrigger(batch_id=batch_id, poll_interval=0.05))
    assert (event.payload.get("error") is None) is found, event.payload


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
def test_answers_that_the_api_counts_and_does_not_offer_are_not_paid_again(
    deferrable: bool, airflow: Any, control: Control, jobs: Any, tmp_path: Path
) -> None:
    control.plan_jobs(fields={"output_file": None, "completed_at": "2026-01-31T07:00:00Z"})
    outcome = airflow.run(
        lambda: MistralBatchInferenceOperator(
            task_id="task",
            requests=ROWS,
            model="mistral-small-latest",
            destination=str(tmp_path / "out"),
            poll_interval=0.05,
            poll_interval_min=0.02,
            deferrable=deferrable,
            row_retries=3,
        )
    )
    assert outcome.state == "failed"
    assert "names no output file" in outcome.message
    assert "force_new=True" in outcome.message
    assert len(jobs()) == 1
    loaded = airflow.run(
        lambda: MistralDownloadBatchResultsOperator(
            task_id="load", batch_id=jobs()[0]["id"], destination=str(tmp_path / "other")
        )
    )
    assert (loaded.state, "names no output file" in loaded.message) == ("failed", True), loaded.message
    assert not list(tmp_path.rglob("results.jsonl"))


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
def test_who_waits_for_answers_that_are_counted_and_not_offered_is_told(
    deferrable: bool, airflow: Any, control: Control, jobs: Any, tmp_path: Path
) -> None:
    # A job that has just ended, too: what follows would read nothing.
    control.plan_jobs(fields={"output_file": None})
    created = airflow.run(
        lambda: MistralCreateBatchJobOperator(
            task_id="create",
            input_files=airflow.run(
                lambda: MistralUploadBatchFileOperator(task_id="upload", requests=ROWS)
            ).value,
            model="mistral-small-latest",
            wait_for_completion=True,
            poll_interval=0.05,
            deferrable=deferrable,
        )
    )
    (job,) = jobs()
    waited = airflow.run(
        lambda: MistralBatchJobSensor(
            task_id="wait", batch_id=job["id"], poke_interval=0.05, timeout=30, deferrable=deferrable
        )
    )
    loaded = airflow.run(
        lambda: MistralDownloadBatchResultsOperator(
            task_id="load", batch_id=job["id"], destination=str(tmp_path / "out")
        )
    )
    for outcome in (created, waited, loaded):
        assert outcome.state == "failed"
        assert f"the results of batch job {job['id']} are no longer in the account" in outcome.message
        assert "names no output file" in outcome.message
        assert outcome.message.endswith("set force_new=True on the task that created the job, and clear it")
        assert outcome.xcoms["batch_id"] == job["id"]
        assert outcome.xcoms["request_counts"] == {"total": 3, "completed": 3, "failed": 0}
    assert len(jobs()) == 1
    assert not list(tmp_path.rglob("results.jsonl"))
