"""One batch job from its request file to its results, in three tasks or in one: what the chaos suite breaks."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG

from airflow_provider_mistral_batch.operators import (
    MistralBatchInferenceOperator,
    MistralCreateBatchJobOperator,
    MistralDownloadBatchResultsOperator,
    MistralUploadBatchFileOperator,
)


def new_dag(dag_id: str, retries: int = 9) -> DAG:
    """
    Make an empty Dag whose runs say where their requests are and where the results go.

    :param retries: Retries of each task, one second after the try before.
    """
    return DAG(
        dag_id,
        schedule=None,
        params={"case": "", "connection": "", "requests": "", "folder": ""},
        default_args={
            "retries": retries,
            "retry_delay": timedelta(seconds=1),
            "mistral_conn_id": "{{ params.connection }}",
        },
    )


def one_job(dag_id: str, *, retries: int = 9, **waits: Any) -> None:
    """
    Make a Dag that uploads, submits and waits, and downloads.

    :param waits: How ``submit`` waits.
    """
    with new_dag(dag_id, retries):
        upload = MistralUploadBatchFileOperator(task_id="upload", path="{{ params.requests }}")
        submit = MistralCreateBatchJobOperator(
            task_id="submit",
            input_files=upload.output,
            model="mistral-small-latest",
            metadata={"case": "{{ params.case }}"},
            wait_for_completion=True,
            poll_interval=2.0,
            poll_interval_min=0.5,
            **waits,
        )
        MistralDownloadBatchResultsOperator(
            task_id="download", batch_id=submit.output, destination="{{ params.folder }}"
        )


one_job("chaos_deferred", deferrable=True)
one_job("chaos_on_worker", deferrable=False)
one_job("chaos_deadline", deferrable=True, timeout=40, retries=0)

with new_dag("chaos_one_task"):
    MistralBatchInferenceOperator(
        task_id="submit",
        path="{{ params.requests }}",
        destination="{{ params.folder }}",
        model="mistral-small-latest",
        metadata={"case": "{{ params.case }}"},
        deferrable=True,
        poll_interval=2.0,
        poll_interval_min=0.5,
    )
