"""A table in parts: mapped tasks that read PostgreSQL, and write one row a key back into it."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from airflow_provider_mistral_batch.operators import MistralBatchInferenceOperator
from airflow_provider_mistral_batch.tables import SqlRows, SqlTable

FOLDER = f"file://{os.environ['AIRFLOW_HOME']}/letters/{{{{ run_id }}}}"

#: More than the table has keys, so that a part without rows is among them.
PARTS = 4


@dag(schedule=None)
def letters() -> None:
    answers = MistralBatchInferenceOperator.partial(
        task_id="answer",
        key="name",
        prompt="Answer this letter: {body}",
        model="mistral-small-latest",
        max_tokens=20,
        target=SqlTable("answers", conn_id="post_office", create=True),
        destination=f"{FOLDER}/{{{{ ti.map_index }}}}",
        deferrable=True,
        poll_interval=1,
        poll_interval_min=0.5,
        retries=20,
        retry_delay=timedelta(seconds=3),
    ).expand(source=SqlRows(table="letters", conn_id="post_office", partition_key="name").partitions(PARTS))

    @task(trigger_rule="none_failed")
    def names(manifests: list[dict[str, Any]]) -> list[str]:
        from airflow_provider_mistral_batch.results import read_table

        return [row["name"] for batch in read_table(manifests) for row in batch.to_pylist()]

    names(answers.output)


letters()
