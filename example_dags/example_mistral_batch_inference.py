"""
A whole batch in one task: requests in, checked answers in a folder, failed requests asked again.

Shows what ``MistralBatchInferenceOperator`` does by itself: it checks the requests, uploads them, creates the job,
waits deferred, and writes the results to files. Each answer must match the model ``Review``, and the API is told
so. If an answer does not match, the task asks again and says what is wrong. It also asks again for requests that
failed for a temporary reason, such as a busy server. Requests that still fail are in ``errors.jsonl``. If more than
one in ten fails, the task fails.

A retry of the task continues where the previous try ended, and pays for nothing twice.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from airflow.sdk import Param, dag, task
from pydantic import BaseModel

from airflow_provider_mistral_batch.operators import MistralBatchInferenceOperator

HOME = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
FOLDER = os.environ.get("MISTRAL_BATCH_EXAMPLES_FOLDER", f"file://{HOME}/mistral_batch")

REVIEWS = {
    "review-1": "Arrived two days early, and the fabric is even softer than I had hoped.",
    "review-2": "The zip broke on the first evening. I want my money back.",
    "review-3": "It is a bag. It holds things.",
    "review-4": "Great colour, but the strap is far too short for me.",
    "review-5": "Third one I have bought, the first two were stolen. I take it as a compliment.",
}


class Review(BaseModel):
    """What is worth knowing about a review."""

    mood: Literal["happy", "neutral", "angry"]
    subject: str
    wants_answer: bool


@dag(
    dag_id="mistral_batch_inference",
    schedule=None,
    params={"folder": Param(FOLDER, type="string", description="Folder for results")},
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["example", "mistral"],
    doc_md=__doc__,
)
def inference() -> None:
    read_reviews = MistralBatchInferenceOperator(
        task_id="read_reviews",
        requests=[{"custom_id": name, "prompt": text} for name, text in REVIEWS.items()],
        system="Say what this review is about.",
        model="mistral-small-latest",
        max_tokens=200,
        response_model=Review,
        reask_invalid=True,
        max_failed_ratio=0.1,
        destination="{{ params.folder }}/{{ dag.dag_id }}/{{ run_id }}",
        deferrable=True,
    )

    @task
    def report(manifest: dict[str, Any]) -> dict[str, Any]:
        """Read the answers one by one, as `Review` objects."""
        from airflow_provider_mistral_batch.results import read_results

        moods = {row.custom_id: row.parsed.mood for row in read_results(manifest, response_model=Review)}
        return {"moods": moods, "total_tokens": manifest["usage"]["total_tokens"]}

    report(read_reviews.output)


inference()
