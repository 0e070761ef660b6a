"""
A nightly batch: requests from a data set, answers in a folder, and no worker held while Mistral works.

Shows the whole way through the Batch API, one task per step:

- ``write_requests`` makes one request for each topic of the Python help and writes the requests as JSONL.
- ``upload`` sends the file. ``submit`` creates the batch job and returns at once.
- ``wait`` is deferred: the triggerer watches the job, and no worker slot is taken.
- ``download`` writes the answers to one file, and any failed rows to another.
- ``process`` reads the answers row by row.

Results travel through files, never through XCom: the tasks pass on only ids, paths and counts. The folder is a
parameter of the run. It may be any object storage path, such as ``s3://aws_default@bucket/batches``.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import ObjectStoragePath, Param, dag, task

from airflow_provider_mistral_batch.operators import (
    MistralCreateBatchJobOperator,
    MistralDownloadBatchResultsOperator,
    MistralUploadBatchFileOperator,
)
from airflow_provider_mistral_batch.sensors import MistralBatchJobSensor

HOME = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
FOLDER = os.environ.get("MISTRAL_BATCH_EXAMPLES_FOLDER", f"file://{HOME}/mistral_batch")


@dag(
    dag_id="mistral_batch_nightly",
    schedule="@daily",
    catchup=False,
    params={"folder": Param(FOLDER, type="string", description="Folder for requests and results")},
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["example", "mistral"],
    doc_md=__doc__,
)
def nightly() -> None:
    # One folder per run: a cleared task overwrites its files instead of writing new ones next to them.
    folder = "{{ params.folder }}/{{ dag.dag_id }}/{{ run_id }}"

    @task
    def write_requests(path: str) -> str:
        """Write one request for each topic, and return the file's path."""
        # Imported here, because Dag files are parsed again and again, and only the task needs this.
        from pydoc_data.topics import topics

        target = ObjectStoragePath(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("w", encoding="utf-8") as file:
            for topic, text in topics.items():
                question = f"Summarise this chapter of the Python reference in two sentences:\n\n{text}"
                body = {"messages": [{"role": "user", "content": question}], "max_tokens": 120}
                file.write(json.dumps({"custom_id": topic, "body": body}) + "\n")
        return path

    @task
    def process(manifest: dict[str, Any], output_file_id: str) -> dict[str, Any]:
        """Read the answers one by one, and return a summary."""
        # Imported by the task alone: parsing the Dag needs none of it.
        from airflow_provider_mistral_batch.results import read_results

        words, longest = 0, ("", 0)
        for row in read_results(manifest):
            length = len((row.content or "").split())
            words += length
            longest = max(longest, (row.custom_id or "", length), key=lambda item: item[1])
        return {
            "answers": manifest["counts"]["succeeded"],
            "words": words,
            "longest": longest[0],
            "total_tokens": manifest["usage"]["total_tokens"],
            "output_file_id": output_file_id,
        }

    upload = MistralUploadBatchFileOperator(
        task_id="upload",
        path=write_requests(f"{folder}/requests.jsonl"),
    )
    submit = MistralCreateBatchJobOperator(
        task_id="submit",
        input_files=upload.output,
        model="mistral-small-latest",
        completion_window="24h",
        metadata={"description": "Summaries of the Python help"},
        wait_for_completion=False,
    )
    wait = MistralBatchJobSensor(
        task_id="wait",
        batch_id=submit.output,
        timeout=timedelta(hours=25).total_seconds(),
        deferrable=True,
    )
    download = MistralDownloadBatchResultsOperator(
        task_id="download",
        batch_id=wait.output["batch_id"],
        destination=folder,
    )
    process(download.output, wait.output)


nightly()
