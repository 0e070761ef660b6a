"""
A gate: one Dag submits a batch, and another one starts its work when that batch is done.

Shows how to hand a batch over. ``mistral_batch_submit`` ends within seconds and triggers ``mistral_batch_gate``,
with the job's id as a parameter. There the sensor waits in the triggerer. Downstream tasks run only if the job
ended well: if more than one request in ten failed, the gate stays shut.

The id is an explicit parameter, so each run of the gate belongs to one job. You can start a run by hand for any
job, and a cleared run waits for the same job again. Without the parameter, the sensor could not know which job is
meant. An XCom of the other Dag's "last" run would be the wrong one as soon as two runs overlap.

The id is also the run id of the gate. If ``open_gate`` is retried or cleared, the run already exists, and the task
is skipped instead of starting another run.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Param, dag, task

from airflow_provider_mistral_batch.operators import (
    MistralCreateBatchJobOperator,
    MistralUploadBatchFileOperator,
)
from airflow_provider_mistral_batch.sensors import MistralBatchJobSensor

CITIES = ("Paris", "Lagos", "Quito", "Hanoi", "Oslo", "Perth")


@dag(
    dag_id="mistral_batch_submit",
    schedule=None,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["example", "mistral"],
    doc_md=__doc__,
)
def submit_batch() -> None:
    upload = MistralUploadBatchFileOperator(
        task_id="upload",
        requests=[
            {
                "custom_id": city.lower(),
                "body": {
                    "messages": [
                        {"role": "user", "content": f"What should nobody miss in {city}? One sentence."}
                    ],
                    "max_tokens": 60,
                },
            }
            for city in CITIES
        ],
    )
    submit = MistralCreateBatchJobOperator(
        task_id="submit", input_files=upload.output, model="mistral-small-latest"
    )
    TriggerDagRunOperator(
        task_id="open_gate",
        trigger_dag_id="mistral_batch_gate",
        trigger_run_id=submit.output,
        skip_when_already_exists=True,
        conf={"batch_id": submit.output},
    )


@dag(
    dag_id="mistral_batch_gate",
    schedule=None,
    params={"batch_id": Param(type="string", minLength=1, description="Id of the batch job to wait for")},
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["example", "mistral"],
    doc_md=__doc__,
)
def gate() -> None:
    wait = MistralBatchJobSensor(
        task_id="wait",
        batch_id="{{ params.batch_id }}",
        timeout=timedelta(hours=25).total_seconds(),
        max_failed_ratio=0.1,
        deferrable=True,
    )

    @task
    def publish(output_file_id: str, request_counts: dict[str, int]) -> dict[str, Any]:
        """Stand for any work that must not begin before the answers are there."""
        return {"output_file_id": output_file_id, "answers": request_counts["completed"]}

    publish(wait.output, wait.output["request_counts"])


submit_batch()
gate()
