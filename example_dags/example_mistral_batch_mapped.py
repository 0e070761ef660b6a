"""
One batch for each partition: as many tasks, jobs and folders as there are files, known only when the Dag runs.

Shows dynamic task mapping. ``write_partitions`` writes one request file for each day and returns the paths.
``translate`` is expanded over them. Each mapped task has its own job, its own folder and its own retries, and all
of them wait in the triggerer. ``collect`` gets all manifests.

A destination belongs to one task instance, so its path contains ``ti.map_index``. If tasks share a destination, at
most one continues, and the others fail before they pay.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import ObjectStoragePath, Param, dag, task

from airflow_provider_mistral_batch.operators import MistralBatchInferenceOperator

HOME = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
FOLDER = os.environ.get("MISTRAL_BATCH_EXAMPLES_FOLDER", f"file://{HOME}/mistral_batch")

DAYS = {
    "monday": ["Good morning", "Where is the station?", "One ticket, please"],
    "tuesday": ["The train is late", "Is this seat taken?"],
    "wednesday": ["Thank you", "See you tomorrow", "It was a pleasure", "Good night"],
}


@dag(
    dag_id="mistral_batch_mapped",
    schedule=None,
    params={"folder": Param(FOLDER, type="string", description="Folder for requests and results")},
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["example", "mistral"],
    doc_md=__doc__,
)
def mapped() -> None:
    folder = "{{ params.folder }}/{{ dag.dag_id }}/{{ run_id }}"

    @task
    def write_partitions(folder: str) -> list[str]:
        """Write one request file for each day; return their paths."""
        paths = []
        for day, sentences in DAYS.items():
            path = ObjectStoragePath(f"{folder}/requests-{day}.jsonl")
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", encoding="utf-8") as file:
                for number, sentence in enumerate(sentences):
                    question = f"Translate into French, and say nothing else: {sentence}"
                    body = {"messages": [{"role": "user", "content": question}]}
                    file.write(json.dumps({"custom_id": f"{day}-{number}", "body": body}) + "\n")
            paths.append(str(path))
        return paths

    translate = MistralBatchInferenceOperator.partial(
        task_id="translate",
        model="mistral-small-latest",
        max_tokens=60,
        destination=f"{folder}/answers-{{{{ ti.map_index }}}}",
        deferrable=True,
    ).expand(path=write_partitions(folder))

    @task
    def collect(manifests: list[dict[str, Any]]) -> dict[str, Any]:
        """Add up the results of all partitions."""
        return {
            "partitions": len(manifests),
            "answers": sum(manifest["counts"]["succeeded"] for manifest in manifests),
            "total_tokens": sum(manifest["usage"]["total_tokens"] for manifest in manifests),
        }

    collect(translate.output)


mapped()
