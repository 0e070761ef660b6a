"""All operators one after the other, in both dialects: nothing above the client knows which one is spoken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mistral_batch.operators.mistral_batch import (
    MistralCancelBatchJobOperator,
    MistralCreateBatchJobOperator,
    MistralDownloadBatchResultsOperator,
    MistralUploadBatchFileOperator,
)
from airflow_provider_mistral_batch.sensors.mistral_batch import MistralBatchJobSensor

ROWS = [
    {"custom_id": f"row-{n}", "body": {"model": "m", "messages": [{"role": "user", "content": f"Say {n}"}]}}
    for n in range(5)
]


@pytest.mark.parametrize("dialect", ["mistral", "openai"])
@pytest.mark.parametrize("deferrable", [False, True])
def test_from_rows_to_results(
    dialect: str,
    deferrable: bool,
    airflow: Any,
    new_ti: Any,
    connect: Callable[..., None],
    control: Any,
    jobs: Any,
    tmp_path: Path,
) -> None:
    connect(dialect=dialect, default_model="mistral-small-latest")
    control.plan_jobs(validation_seconds=0.2, failed_rows=1)
    upload = airflow.run(lambda: MistralUploadBatchFileOperator(task_id="upload", requests=ROWS))
    assert upload.state == "success", upload.message

    def create() -> MistralCreateBatchJobOperator:
        return MistralCreateBatchJobOperator(task_id="create", input_files=upload.value)

    submitted = airflow.run(create, new_ti(task_id="create"))
    assert submitted.state == "success", submitted.message
    batch_id = submitted.value
    waited = airflow.run(
        lambda: MistralBatchJobSensor(
            task_id="wait", batch_id=batch_id, deferrable=deferrable, poke_interval=0.05
        )
    )
    assert waited.state == "success", waited.message
    assert waited.xcoms["request_counts"] == {"total": 5, "completed": 4, "failed": 1}
    # A retry finds the job, and a cancellation finds it done.
    assert airflow.run(create, new_ti(task_id="create").next_try()).value == batch_id
    cancelled = airflow.run(lambda: MistralCancelBatchJobOperator(task_id="cancel", batch_id=batch_id))
    assert cancelled.xcoms["status"] == "completed"
    landed = airflow.run(
        lambda: MistralDownloadBatchResultsOperator(
            task_id="download", batch_id=batch_id, destination=str(tmp_path)
        )
    )
    assert landed.state == "success", landed.message
    rows = [json.loads(line) for line in Path(landed.value["results_path"]).read_text().splitlines()]
    assert sorted(row["custom_id"] for row in rows) == ["row-1", "row-2", "row-3", "row-4"]
    assert landed.value["counts"]["failed"] == 1
    assert len(jobs()) == 1
