"""
Embeddings in a batch: texts in, vectors out.

Shows an endpoint other than chat. ``find_neighbours`` finds the nearest neighbour of each text. It reads the
vectors row by row from ``row.body``, which is the answer as the API returned it.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import Param, dag, task

from airflow_provider_mistral_batch.operators import MistralBatchInferenceOperator

HOME = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
FOLDER = os.environ.get("MISTRAL_BATCH_EXAMPLES_FOLDER", f"file://{HOME}/mistral_batch")

TEXTS = {
    "bread": "Mix flour, water, salt and yeast, and wait.",
    "pizza": "A flat bread with tomatoes and cheese, baked in a very hot oven.",
    "tax": "Income is taxed in the year in which it is received.",
    "invoice": "Payment is due within thirty days of the date of the invoice.",
    "comet": "A body of ice that grows a tail when it comes near the sun.",
}


@dag(
    dag_id="mistral_batch_embeddings",
    schedule=None,
    params={"folder": Param(FOLDER, type="string", description="Folder for results")},
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["example", "mistral"],
    doc_md=__doc__,
)
def embeddings() -> None:
    embed = MistralBatchInferenceOperator(
        task_id="embed",
        requests=[{"custom_id": name, "body": {"input": text}} for name, text in TEXTS.items()],
        endpoint="/v1/embeddings",
        model="mistral-embed",
        destination="{{ params.folder }}/{{ dag.dag_id }}/{{ run_id }}",
        deferrable=True,
    )

    @task
    def find_neighbours(manifest: dict[str, Any]) -> dict[str, str]:
        """Return the nearest neighbour of each text."""
        from airflow_provider_mistral_batch.results import read_results

        vectors: dict[str, list[float]] = {
            row.custom_id or "": row.body["data"][0]["embedding"] for row in read_results(manifest)
        }

        def likeness(one: str, other: str) -> float:
            # The vectors have length one, so their product is the cosine of the angle between them.
            return sum(a * b for a, b in zip(vectors[one], vectors[other], strict=True))

        return {
            name: max((other for other in vectors if other != name), key=lambda other: likeness(name, other))
            for name in vectors
        }

    find_neighbours(embed.output)


embeddings()
