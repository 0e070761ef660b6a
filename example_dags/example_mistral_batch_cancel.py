"""
A deadline: keep the answers that are ready by then, and cancel the rest.

Use this when late answers are worthless. The sensor ``wait`` gives up at the deadline and fails. That failure
triggers ``cancel``, which waits until the job has stopped. ``download`` runs after whichever of the two succeeded.
If the job ends in time, ``cancel`` is skipped.

A cancelled job keeps the answers that it already had, and you pay for them. If it had none, ``download`` fails,
because there is nothing to download.

The run is green in both cases, because its last tasks succeed. Only a run without any answer fails. The failed
``wait`` shows that the deadline was hit.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import Param, dag, task

from airflow_provider_mistral_batch.operators import (
    MistralCancelBatchJobOperator,
    MistralCreateBatchJobOperator,
    MistralDownloadBatchResultsOperator,
    MistralUploadBatchFileOperator,
)
from airflow_provider_mistral_batch.sensors import MistralBatchJobSensor

HOME = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
FOLDER = os.environ.get("MISTRAL_BATCH_EXAMPLES_FOLDER", f"file://{HOME}/mistral_batch")

#: Seconds that the answers may take.
DEADLINE = float(os.environ.get("MISTRAL_BATCH_EXAMPLES_DEADLINE", timedelta(hours=2).total_seconds()))


@dag(
    dag_id="mistral_batch_cancel",
    schedule=None,
    params={"folder": Param(FOLDER, type="string", description="Folder for the results")},
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["example", "mistral"],
    doc_md=__doc__,
)
def give_up_at_a_deadline() -> None:
    upload = MistralUploadBatchFileOperator(
        task_id="upload",
        requests=[
            {
                "custom_id": f"{year}",
                "body": {
                    "messages": [
                        {"role": "user", "content": f"What was the most important event of {year}?"}
                    ],
                    "max_tokens": 60,
                },
            }
            for year in range(1900, 2000)
        ],
    )
    submit = MistralCreateBatchJobOperator(
        task_id="submit", input_files=upload.output, model="mistral-small-latest"
    )
    wait = MistralBatchJobSensor(
        task_id="wait",
        batch_id=submit.output,
        timeout=DEADLINE,
        deferrable=True,
    )
    cancel = MistralCancelBatchJobOperator(
        task_id="cancel",
        batch_id=submit.output,
        wait_for_completion=True,
        trigger_rule="one_failed",
    )
    download = MistralDownloadBatchResultsOperator(
        task_id="download",
        # A template, not `submit.output`: the latter would make the success of `submit` enough to start this task.
        batch_id="{{ ti.xcom_pull(task_ids='submit') }}",
        destination="{{ params.folder }}/{{ dag.dag_id }}/{{ run_id }}",
        trigger_rule="one_success",
    )

    @task
    def report(manifest: dict[str, Any]) -> str:
        """Say how many answers came in time."""
        counts = manifest["counts"]
        return f"{counts['succeeded']} of {counts['total']} answers in time"

    wait >> cancel
    [wait, cancel] >> download
    report(download.output)


give_up_at_a_deadline()
