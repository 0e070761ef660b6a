"""
Dags that start by themselves: one when results have landed, one when any batch job has ended.

Shows asset events. ``mistral_batch_land`` lands a batch and has the asset ``mistral_batch_answers`` as its outlet. The
asset's event has the paths and counts of the results, so ``mistral_batch_read`` needs nothing else to read them.
``mistral_batch_on_end`` watches the workspace: it starts when jobs with the metadata ``team: search`` complete, also
when somebody submitted them outside Airflow.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import Asset, AssetWatcher, Param, dag, task

from airflow_provider_mistral_batch.operators import MistralBatchInferenceOperator
from airflow_provider_mistral_batch.triggers.event import MistralBatchEventTrigger

HOME = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
FOLDER = os.environ.get("MISTRAL_BATCH_EXAMPLES_FOLDER", f"file://{HOME}/mistral_batch")

ANSWERS = Asset("mistral_batch_answers")

ENDS = Asset(
    "mistral_batch_ends",
    watchers=[
        AssetWatcher(
            name="team_search",
            trigger=MistralBatchEventTrigger(
                status="completed", metadata={"team": "search"}, poll_interval=5
            ),
        )
    ],
)


@dag(
    dag_id="mistral_batch_land",
    schedule=None,
    params={"folder": Param(FOLDER, type="string", description="Folder for results")},
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["example", "mistral"],
    doc_md=__doc__,
)
def land() -> None:
    MistralBatchInferenceOperator(
        task_id="ask",
        requests=[{"custom_id": word, "prompt": f"What is a {word}?"} for word in ("comet", "tax", "pizza")],
        model="mistral-small-latest",
        max_tokens=60,
        metadata={"team": "search"},
        destination="{{ params.folder }}/{{ dag.dag_id }}/{{ run_id }}",
        deferrable=True,
        outlets=[ANSWERS],
    )


@dag(dag_id="mistral_batch_read", schedule=[ANSWERS], tags=["example", "mistral"], doc_md=__doc__)
def read() -> None:
    @task
    def count_words(triggering_asset_events: Any = None) -> dict[str, int]:
        """Count the words of each answer of the batches that started this run."""
        from airflow_provider_mistral_batch.results import read_results

        return {
            row.custom_id or "": len((row.content or "").split())
            for event in triggering_asset_events[ANSWERS]
            for row in read_results(event.extra)
        }

    count_words()


@dag(dag_id="mistral_batch_on_end", schedule=[ENDS], tags=["example", "mistral"], doc_md=__doc__)
def on_end() -> None:
    @task
    def list_jobs(triggering_asset_events: Any = None) -> list[str]:
        """Name the jobs that started this run."""
        return [
            job["batch_id"]
            for event in triggering_asset_events[ENDS]
            for job in event.extra["payload"]["jobs"]
        ]

    list_jobs()


land()
read()
on_end()
