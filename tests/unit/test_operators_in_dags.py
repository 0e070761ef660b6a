"""What Airflow asks of an operator before it runs: templates, rendering, mapping, serialization, links."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from airflow.sdk import DAG, task
from airflow.serialization.serialized_objects import DagSerialization

from airflow_provider_mistral_batch.operators.mistral_batch import (
    MistralCancelBatchJobOperator,
    MistralCreateBatchJobOperator,
    MistralDownloadBatchResultsOperator,
    MistralUploadBatchFileOperator,
)
from airflow_provider_mistral_batch.sensors.mistral_batch import MistralBatchJobSensor

ROWS = [{"custom_id": "a", "body": {}}]

#: Each operator, its usual arguments, and one that is mapped over.
OPERATORS: dict[str, tuple[type, dict[str, Any], dict[str, Any]]] = {
    "upload": (MistralUploadBatchFileOperator, {"requests": ROWS}, {"requests": [ROWS, ROWS]}),
    "upload paths": (MistralUploadBatchFileOperator, {"path": "a.jsonl"}, {"path": ["a.jsonl", "b.jsonl"]}),
    "create": (MistralCreateBatchJobOperator, {"input_files": ["f"]}, {"input_files": [["f"], ["g"]]}),
    "create inline": (MistralCreateBatchJobOperator, {"requests": ROWS}, {"requests": [ROWS, ROWS]}),
    "create deferred": (
        MistralCreateBatchJobOperator,
        {"requests": ROWS, "wait_for_completion": True, "deferrable": True},
        {"model": ["small", "large"]},
    ),
    "cancel": (MistralCancelBatchJobOperator, {"batch_id": "b"}, {"batch_id": ["b", "c"]}),
    "download": (
        MistralDownloadBatchResultsOperator,
        {"batch_id": "b", "destination": "out"},
        {"batch_id": ["b", "c"]},
    ),
    "sensor": (MistralBatchJobSensor, {"batch_id": "b"}, {"batch_id": ["b", "c"]}),
    "sensor deferred": (
        MistralBatchJobSensor,
        {"batch_id": "b", "deferrable": True},
        {"batch_id": ["b", "c"]},
    ),
}


@pytest.fixture
def dag() -> Any:
    with DAG("dag", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)) as dag:
        yield dag


@pytest.mark.parametrize("name", OPERATORS)
def test_template_fields_are_attributes(name: str, dag: Any) -> None:
    operator, arguments, _ = OPERATORS[name]
    made = operator(task_id="t", **arguments)
    assert all(hasattr(made, field) for field in made.template_fields)
    assert "mistral_conn_id" in made.template_fields
    assert set(made.template_fields_renderers) <= set(made.template_fields)
    assert set(made.template_fields_renderers.values()) <= {"json"}


@pytest.mark.parametrize("name", OPERATORS)
def test_templates_are_rendered(name: str, dag: Any) -> None:
    operator, arguments, _ = OPERATORS[name]
    made = operator(task_id="t", **{**arguments, "mistral_conn_id": "mistral_{{ day }}"})
    made.render_template_fields({"day": "monday"})
    assert made.mistral_conn_id == "mistral_monday"


@pytest.mark.parametrize("name", OPERATORS)
def test_expand(name: str, dag: Any) -> None:
    operator, arguments, mapped = OPERATORS[name]
    rest = {key: value for key, value in arguments.items() if key not in mapped}
    operator.partial(task_id="literal", **rest).expand(**mapped)

    @task
    def values() -> list[Any]:
        return next(iter(mapped.values()))

    operator.partial(task_id="xcom", **rest).expand(**{next(iter(mapped)): values()})
    operator.partial(task_id="kwargs", **rest).expand_kwargs(
        [{key: value[0]} for key, value in mapped.items()]
    )
    operator(task_id="plain", **arguments)

    serialized = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    kinds = {one.task_id: one.is_mapped for one in serialized.tasks}
    assert kinds == {"literal": True, "values": False, "xcom": True, "kwargs": True, "plain": False}


def test_outputs_make_dependencies(dag: Any) -> None:
    upload = MistralUploadBatchFileOperator(task_id="upload", requests=ROWS)
    create = MistralCreateBatchJobOperator(task_id="create", input_files=upload.output)
    wait = MistralBatchJobSensor(task_id="wait", batch_id=create.output)
    download = MistralDownloadBatchResultsOperator(
        task_id="download", batch_id=wait.output["batch_id"], destination="x"
    )
    cancel = MistralCancelBatchJobOperator(task_id="cancel", batch_id=create.output)
    assert create.upstream_task_ids == {"upload"}
    assert wait.upstream_task_ids == cancel.upstream_task_ids == {"create"}
    assert download.upstream_task_ids == {"wait"}


@pytest.mark.parametrize("name", OPERATORS)
def test_no_connection_is_needed_to_parse(name: str, dag: Any) -> None:
    operator, arguments, _ = OPERATORS[name]
    operator(task_id="t", mistral_conn_id="nobodys", **arguments)
