"""Jobs of every kind in the emulator, so that the page of batches has something to show."""

from __future__ import annotations

from typing import Any

from airflow_provider_mistral_batch.api.client import MistralBatchClient
from airflow_provider_mistral_batch.api.models import BatchJobIn
from airflow_provider_mistral_batch.emulator import Emulator

HOUR = 3600.0
#: Texts that a page must show, and never run.
HOSTILE = "<script>document.title = 'run'</script><img src=x onerror=\"document.title='run'\">"


def of_task(dag_id: str, task_id: str = "answer", run: int = 1) -> dict[str, str]:
    """Give the metadata of a job that a task instance submitted; no such run exists."""
    return {
        "airflow_dag_id": dag_id,
        "airflow_task_id": task_id,
        "airflow_run_id": f"scheduled__2026-11-{run:02}T07:00:00+00:00",
        "airflow_map_index": "-1",
    }


def make_lively_jobs(emulator: Emulator) -> None:
    """
    Make running, completed, failed, expired, cancelled and foreign jobs, one of them with rows to look at.

    :param emulator: The emulator; jobs are in the workspace of its key.
    """
    make = emulator.control.make_jobs
    table = of_task("mistral_batch_table", "describe", 2)
    make(
        1, status="QUEUED", total_requests=500, age_seconds=HOUR, metadata=table, model="mistral-large-latest"
    )
    for day in range(1, 15):
        make(
            2,
            status="SUCCESS",
            total_requests=2_000 + 700 * day % 3_100,
            age_seconds=day * 24 * HOUR,
            metadata=of_task("mistral_batch_nightly", run=28 - day),
        )
    make(
        1, status="FAILED", age_seconds=5 * HOUR, metadata=table, plan={"end": "FAILED", "errors": [HOSTILE]}
    )
    make(1, status="TIMEOUT_EXCEEDED", total_requests=9_000, age_seconds=30 * HOUR, metadata=table)
    make(
        1,
        status="CANCELLED",
        total_requests=100,
        age_seconds=9 * HOUR,
        metadata=of_task("mistral_batch_cancel"),
    )
    with MistralBatchClient(emulator.api_key, emulator.url) as client:
        metadata = {**of_task("mistral_batch_inference", "ask"), "note": HOSTILE}
        emulator.control.plan_jobs(
            metadata=metadata, failed_rows=3, failed_statuses=[422, 500], job_seconds=0.1
        )
        client.create(BatchJobIn(requests=_requests(12), model="mistral-small-latest", metadata=metadata))
        # These have rows, because only so their progress moves.
        for number, minutes in enumerate((6, 20, 60)):
            _run(emulator, client, 2_000, minutes, of_task("mistral_batch_nightly", run=28 + number), 150)
        for minutes in (15, 45):
            _run(emulator, client, 40, minutes, {"team": HOSTILE}, 0)


def _run(
    emulator: Emulator,
    client: MistralBatchClient,
    count: int,
    minutes: float,
    metadata: dict[str, str],
    failed_rows: int,
) -> None:
    emulator.control.plan_jobs(metadata=metadata, job_seconds=60 * minutes, failed_rows=failed_rows)
    client.create(BatchJobIn(requests=_requests(count), model="mistral-small-latest", metadata=metadata))


def _requests(count: int) -> list[dict[str, Any]]:
    return [
        {
            "custom_id": f"row-{number}",
            "body": {"messages": [{"role": "user", "content": f"{HOSTILE} {number}"}]},
        }
        for number in range(count)
    ]
