"""
A batch as a decorated function: the function yields the requests, and the task returns the manifest of the answers.

Shows ``@task.mistral_batch``. The function is a generator, so it can turn a million rows of a warehouse into
requests one by one. It runs once, on the worker, before the task is deferred. A retry calls it again, and finds the
job of the previous try by the requests. So the requests should depend only on the function's arguments.

``task`` is imported from the provider. It is Airflow's own ``task``, with types that let editors complete
``mistral_batch`` and its options.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import Param, dag

from airflow_provider_mistral_batch.decorators import task

HOME = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
FOLDER = os.environ.get("MISTRAL_BATCH_EXAMPLES_FOLDER", f"file://{HOME}/mistral_batch")


@dag(
    dag_id="mistral_batch_decorator",
    schedule=None,
    params={"folder": Param(FOLDER, type="string", description="Folder for results")},
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["example", "mistral"],
    doc_md=__doc__,
)
def decorator() -> None:
    @task
    def choose_topics(letter: str) -> list[str]:
        """Choose some topics of the Python help."""
        from pydoc_data.topics import topics

        return [topic for topic in topics if topic.startswith(letter)]

    @task.mistral_batch(
        model="mistral-small-latest",
        system="Answer in one sentence.",
        max_tokens=80,
        destination="{{ params.folder }}/{{ dag.dag_id }}/{{ run_id }}",
        deferrable=True,
    )
    def explain(topics: list[str]) -> Iterator[dict[str, Any]]:
        for topic in topics:
            yield {"custom_id": topic, "prompt": f"What is {topic!r} in Python?"}

    @task
    def count_words(manifest: dict[str, Any]) -> dict[str, int]:
        """Count the words of each answer."""
        from airflow_provider_mistral_batch.results import read_results

        return {row.custom_id or "": len((row.content or "").split()) for row in read_results(manifest)}

    count_words(explain(choose_topics("s")))


decorator()
