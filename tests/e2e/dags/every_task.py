"""Every operator, sensor and decorator once, deferred where it can be; run as a script, it tests itself."""

from __future__ import annotations

import os
import sys
from typing import Any

from airflow.sdk import dag, task

from airflow_provider_mistral_batch.hooks import uploads
from airflow_provider_mistral_batch.operators import (
    MistralBatchInferenceOperator,
    MistralCancelBatchJobOperator,
    MistralCreateBatchJobOperator,
    MistralDownloadBatchResultsOperator,
    MistralUploadBatchFileOperator,
)
from airflow_provider_mistral_batch.sensors import MistralBatchJobSensor
from airflow_provider_mistral_batch.submission import jobs

# The emulator's listings do not lag. The commands that test Dags run their tasks in the process that reads this.
for module in (jobs, uploads):
    setattr(module, "_RECHECKS", (0.1,))  # noqa: B010 - a constant of another type

FOLDER = f"file://{os.environ['AIRFLOW_HOME']}/every_task/{{{{ run_id }}}}"
MODEL = "mistral-small-latest"
ROWS: list[dict[str, Any]] = [
    {"custom_id": name, "body": {"messages": [{"role": "user", "content": name}]}} for name in ("a", "b", "c")
]


@dag(schedule=None)
def every_task() -> None:
    MistralBatchInferenceOperator(
        task_id="inference",
        requests=ROWS,
        model=MODEL,
        destination=f"{FOLDER}/inference",
        poll_interval_min=0.1,
        deferrable=True,
    )

    @task.mistral_batch(
        model=MODEL, destination=f"{FOLDER}/decorated", poll_interval_min=0.1, max_tokens=5, deferrable=True
    )
    def decorated() -> list[str]:
        return ["What is new?", "What is old?"]

    decorated()

    files = MistralUploadBatchFileOperator(task_id="upload", requests=ROWS)
    job = MistralCreateBatchJobOperator(
        task_id="create",
        input_files=files.output,
        model=MODEL,
        wait_for_completion=True,
        poll_interval_min=0.1,
        deferrable=True,
    )
    over = MistralBatchJobSensor(
        task_id="sensor",
        batch_id=job.output,
        poke_interval=1,
        deferrable=True,
    )
    over >> MistralDownloadBatchResultsOperator(
        task_id="download",
        batch_id=job.output,
        destination=f"{FOLDER}/downloaded",
    )
    over >> MistralCancelBatchJobOperator(task_id="cancel", batch_id=job.output)


tested = every_task()

if __name__ == "__main__":
    sys.exit(0 if str(tested.test().state) == "success" else 1)
