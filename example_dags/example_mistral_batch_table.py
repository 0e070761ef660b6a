"""
From a table to a table: rows of a database in, typed columns of answers in another table out.

``read_reviews`` asks about each row of ``example_reviews``. Each answer must match the model ``Review``, and each field
of the model becomes a column. The answers are in ``results.parquet``, beside the key and the columns to keep, and in
the table ``example_moods``, one row a key. Run the Dag again: its rows are updated, and none is there twice.

``make_reviews`` stands for whatever fills your table. Both tables are in the database of the connection ``warehouse``.
``make ui`` makes it, an SQLite file; elsewhere:
``airflow connections add warehouse --conn-type sqlite --conn-host /tmp/warehouse.db``.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from airflow.sdk import Param, dag, task
from pydantic import BaseModel

from airflow_provider_mistral_batch.operators import MistralBatchInferenceOperator
from airflow_provider_mistral_batch.tables import SqlRows, SqlTable

HOME = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
FOLDER = os.environ.get("MISTRAL_BATCH_EXAMPLES_FOLDER", f"file://{HOME}/mistral_batch")

REVIEWS = [
    (1, "bag", "Arrived two days early, and the fabric is even softer than I had hoped."),
    (2, "bag", "The zip broke on the first evening. I want my money back."),
    (3, "bag", "It is a bag. It holds things."),
    (4, "belt", "Great colour, but it is far too short for me."),
    (5, "belt", "Third one I have bought, the first two were stolen. I take it as a compliment."),
    (6, "belt", None),
]


class Review(BaseModel):
    """What is worth knowing about a review."""

    mood: Literal["happy", "neutral", "angry"]
    subjects: list[str]
    wants_answer: bool


@dag(
    dag_id="mistral_batch_table",
    schedule=None,
    params={"folder": Param(FOLDER, type="string", description="Folder for results")},
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["example", "mistral"],
    doc_md=__doc__,
)
def table() -> None:
    @task
    def make_reviews() -> None:
        """Make a small table, as a shop would have it."""
        from airflow.providers.sqlite.hooks.sqlite import SqliteHook

        warehouse = SqliteHook("warehouse")
        warehouse.run(
            "create table if not exists example_reviews (id integer primary key, product text, body text)"
        )
        warehouse.insert_rows("example_reviews", REVIEWS, ["id", "product", "body"], replace=True)

    read_reviews = MistralBatchInferenceOperator(
        task_id="read_reviews",
        source=SqlRows("select id, product, body from example_reviews", conn_id="warehouse"),
        key="id",
        prompt="Product: {product}\n\nReview: {body}",
        on_null="skip",
        keep=["product"],
        system="Say what this review is about.",
        model="mistral-small-latest",
        max_tokens=200,
        response_model=Review,
        reask_invalid=True,
        max_failed_ratio=0.1,
        target=SqlTable("example_moods", conn_id="warehouse", create=True),
        destination="{{ params.folder }}/{{ dag.dag_id }}/{{ run_id }}",
        deferrable=True,
    )

    @task
    def report(manifest: dict[str, Any]) -> dict[str, int]:
        """Count the moods, where an analyst would: in the database."""
        from airflow.providers.sqlite.hooks.sqlite import SqliteHook

        moods = "select mood, count(*) from example_moods group by mood"
        return dict(SqliteHook("warehouse").get_records(moods))

    make_reviews() >> read_reviews
    report(read_reviews.output)


table()
