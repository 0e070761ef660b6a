"""Waits in all their variants, to count how often each starts a worker."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Asset, dag, task

from airflow_provider_mistral_batch.operators import MistralCreateBatchJobOperator
from airflow_provider_mistral_batch.sensors import MistralBatchJobSensor

JOB: dict[str, Any] = {
    "requests": [{"body": {"messages": [{"role": "user", "content": "Hello"}]}}],
    "model": "mistral-small-latest",
}


@dag(schedule=None)
def worker_starts() -> None:
    job = MistralCreateBatchJobOperator(task_id="job", **JOB)
    jobs = MistralCreateBatchJobOperator.partial(task_id="jobs", **JOB).expand(
        metadata=[{"n": "1"}, {"n": "2"}]
    )

    started = MistralBatchJobSensor(
        task_id="started_in_triggerer", batch_id=job.output, start_from_trigger=True
    )
    MistralBatchJobSensor(task_id="deferred", batch_id=job.output, deferrable=True)
    MistralBatchJobSensor(
        task_id="template", batch_id="{{ ti.xcom_pull(task_ids='job') }}", start_from_trigger=True
    ).set_upstream(job)
    MistralBatchJobSensor(
        task_id="outlets", batch_id=job.output, start_from_trigger=True, outlets=[Asset("answers")]
    )
    MistralBatchJobSensor.partial(task_id="mapped", start_from_trigger=True).expand(batch_id=jobs.output)
    MistralCreateBatchJobOperator(
        task_id="create_and_wait", wait_for_completion=True, deferrable=True, metadata={"n": "3"}, **JOB
    )

    @task
    def read(output_file_id: str | None, counts: dict[str, int]) -> dict[str, Any]:
        return {"output_file_id": output_file_id, "counts": counts}

    read(started.output, started.output["request_counts"])


worker_starts()
