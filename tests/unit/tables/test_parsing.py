"""A Dag over tables is parsed without pyarrow, without a driver, and to the same Dag each time."""

from __future__ import annotations

import subprocess
import sys

PARSE = """
import json, sys
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG
before = set(sys.modules)
from airflow_provider_mistral_batch.operators import MistralBatchInferenceOperator, MistralUploadBatchFileOperator
from airflow_provider_mistral_batch.tables import AnswerColumns, FileRows, SqlRows, SqlTable

def parse():
    with DAG("dag", schedule=None) as dag:
        common = {"key": "id", "prompt": "Say {body}", "columns": AnswerColumns(raw=True)}
        target = SqlTable("answers", conn_id="warehouse")
        query = SqlRows("select '{{ ds }}'", conn_id="warehouse", parameters={"x": "SECRET"}, partition_key="id")
        MistralBatchInferenceOperator(task_id="one", source=query, target=target, destination="/out", **common)
        for name, parts in (("sql", query.partitions(3)), ("files", FileRows("s3://b/{{ ds }}/*.csv").partitions(3))):
            MistralBatchInferenceOperator.partial(
                task_id=name, destination="/out/{{ ti.map_index }}", target=target, **common
            ).expand(source=parts)
        paths = PythonOperator(task_id="paths", python_callable=list).output
        MistralBatchInferenceOperator.partial(task_id="mapped", destination="/out/{{ ti.map_index }}", **common).expand(
            source=paths.map(FileRows)
        )
        MistralUploadBatchFileOperator(task_id="upload", source=query, key="id", prompt="Say {body}")
    return dag

dags = [parse(), parse()]
loaded = [name for name in ("pyarrow", "psycopg", "psycopg2", "MySQLdb", "duckdb") if name in sys.modules]
assert set(loaded) <= before, loaded
# Before Airflow 3.2 it had another name.
from airflow.serialization import serialized_objects
serializer = getattr(serialized_objects, "DagSerialization", None) or serialized_objects.SerializedDAG
one, two = (json.dumps(serializer.to_dict(dag), sort_keys=True) for dag in dags)
assert one == two, (one, two)
assert "SECRET" not in one
assert " at 0x" not in one
assert "partition 2 of 3" in one, one
"""


def test_parsing_is_light_and_always_the_same():
    subprocess.run([sys.executable, "-c", PARSE], check=True, timeout=120)
