"""Tasks that tell OpenLineage what they read and write; they end on a worker, so that it hears of their end."""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk import Asset, dag, task

from airflow_provider_mistral_batch.operators import (
    MistralBatchInferenceOperator,
    MistralCreateBatchJobOperator,
)
from airflow_provider_mistral_batch.sensors import MistralBatchJobSensor
from airflow_provider_mistral_batch.tables import FileRows, SqlTable

FOLDER = os.environ["LINEAGE_FOLDER"]


@dag(schedule=None)
def observed() -> None:
    MistralBatchInferenceOperator(
        task_id="batch",
        source=FileRows(f"file://{FOLDER}/rows/*.csv"),
        key="id",
        prompt="{text}",
        model="mistral-small-latest",
        destination=f"file://{FOLDER}/answers",
        target=SqlTable("answers", conn_id="warehouse", create=True),
        deferrable=True,
        outlets=[Asset("file:///of/the/user")],
    )

    @task.mistral_batch(
        key="id",
        prompt="{text}",
        model="mistral-small-latest",
        destination=f"{FOLDER}/from_function",
        deferrable=True,
    )
    def from_function() -> Any:
        return FileRows(f"file://{FOLDER}/others/b.csv")

    from_function()

    job = MistralCreateBatchJobOperator(
        task_id="job",
        requests=[{"body": {"messages": [{"role": "user", "content": "Hello"}]}}],
        model="mistral-small-latest",
    )
    MistralBatchJobSensor(task_id="sensor", batch_id=job.output, deferrable=True)  # type: ignore[arg-type]


observed()
