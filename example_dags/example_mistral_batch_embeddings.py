"""
Embeddings of a data set: a folder of Parquet files in, vectors in Parquet out.

Shows a source of files and an endpoint other than chat. ``results.parquet`` has the key of each text and its vector, as
a list of fixed size, which vector databases and data frames read as it is. ``find_neighbours`` finds the nearest
neighbour of each text.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import ObjectStoragePath, Param, dag, task

from airflow_provider_mistral_batch.operators import MistralBatchInferenceOperator
from airflow_provider_mistral_batch.tables import FileRows

HOME = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
FOLDER = os.environ.get("MISTRAL_BATCH_EXAMPLES_FOLDER", f"file://{HOME}/mistral_batch")

TEXTS = {
    "kitchen": {
        "bread": "Mix flour, water, salt and yeast, and wait.",
        "pizza": "A flat bread with tomatoes and cheese, baked in a very hot oven.",
    },
    "office": {
        "tax": "Income is taxed in the year in which it is received.",
        "invoice": "Payment is due within thirty days of the date of the invoice.",
    },
    "sky": {"comet": "A body of ice that grows a tail when it comes near the sun."},
}


@dag(
    dag_id="mistral_batch_embeddings",
    schedule=None,
    params={"folder": Param(FOLDER, type="string", description="Folder for texts and results")},
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["example", "mistral"],
    doc_md=__doc__,
)
def embeddings() -> None:
    folder = "{{ params.folder }}/{{ dag.dag_id }}/{{ run_id }}"

    @task
    def write_texts(folder: str) -> None:
        """Write a small data set, one file for each subject."""
        import pyarrow
        from pyarrow import parquet

        texts = ObjectStoragePath(folder)
        texts.mkdir(parents=True, exist_ok=True)
        for subject, names in TEXTS.items():
            rows = pyarrow.table({"name": list(names), "text": list(names.values())})
            with (texts / f"{subject}.parquet").open("wb") as file:
                parquet.write_table(rows, file)

    embed = MistralBatchInferenceOperator(
        task_id="embed",
        source=FileRows(f"{folder}/texts"),
        key="name",
        prompt="{text}",
        endpoint="/v1/embeddings",
        model="mistral-embed",
        destination=f"{folder}/vectors",
        deferrable=True,
    )

    @task
    def find_neighbours(manifest: dict[str, Any]) -> dict[str, str]:
        """Return the nearest neighbour of each text."""
        from airflow_provider_mistral_batch.results import read_table

        table = read_table(manifest).read_all()
        names: list[str] = table.column("name").to_pylist()
        vectors: dict[str, list[float]] = dict(zip(names, table.column("embedding").to_pylist(), strict=True))

        def likeness(one: str, other: str) -> float:
            # The vectors have length one, so their product is the cosine of the angle between them.
            return sum(a * b for a, b in zip(vectors[one], vectors[other], strict=True))

        return {
            name: max((other for other in names if other != name), key=lambda other: likeness(name, other))
            for name in names
        }

    write_texts(f"{folder}/texts") >> embed
    find_neighbours(embed.output)


embeddings()
