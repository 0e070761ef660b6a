"""Many mapped batch jobs that wait in the triggerer, and one task that lands all of their results."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_mistral_batch.hooks import MistralBatchHook
from airflow_provider_mistral_batch.operators import MistralCreateBatchJobOperator

JOBS = int(os.environ.get("MISTRAL_BATCH_TEST_JOBS", "20"))


def requests_of(number: int) -> list[dict[str, Any]]:
    """The only request of a job."""
    body = {"messages": [{"role": "user", "content": f"Name the number {number}."}], "max_tokens": 20}
    return [{"custom_id": f"row-{number}", "body": body}]


@task
def land(batch_ids: list[str], connection: str, folder: str) -> dict[str, Any]:
    """Land the results of all jobs in two files."""
    from airflow_provider_mistral_batch.jsonl.results.split import split_results

    hook = MistralBatchHook(connection)
    streams = ([row + b"\n" for row in hook.inline_rows(batch_id)] for batch_id in batch_ids)
    return split_results(streams, f"{folder}/results.jsonl", f"{folder}/errors.jsonl").as_dict()


def many_jobs(dag_id: str, jobs: int) -> None:
    """
    Make a Dag.

    :param jobs: How many jobs.
    """
    with DAG(
        dag_id,
        schedule=None,
        params={"case": "", "connection": "", "folder": ""},
        default_args={"retries": 9, "retry_delay": timedelta(seconds=1)},
    ):
        submit = MistralCreateBatchJobOperator.partial(
            task_id="submit",
            model="mistral-small-latest",
            metadata={"case": "{{ params.case }}"},
            wait_for_completion=True,
            deferrable=True,
            poll_interval=2.0,
            mistral_conn_id="{{ params.connection }}",
        ).expand(requests=[requests_of(number) for number in range(jobs)])
        land(submit.output, "{{ params.connection }}", "{{ params.folder }}")


many_jobs("chaos_many_jobs", JOBS)
many_jobs("chaos_three_jobs", 3)
