"""What Airflow asks of an operator before it runs: templates, rendering, mapping, serialization, links."""

from __future__ import annotations

import warnings
from datetime import datetime, timezone
from typing import Any

import pytest
from airflow.sdk import DAG, Param, XComArg, task, task_group
from packaging.version import Version

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.operators.mistral_batch import (
    MistralBatchInferenceOperator,
    MistralCancelBatchJobOperator,
    MistralCreateBatchJobOperator,
    MistralDownloadBatchResultsOperator,
    MistralUploadBatchFileOperator,
)
from airflow_provider_mistral_batch.sensors.mistral_batch import MistralBatchJobSensor

from ..airflow_versions import AIRFLOW, START_FROM_TRIGGER, DagSerialization

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
ROWS = [{"custom_id": "a", "body": {}}]

#: Each operator, its usual arguments, and one that is mapped over.
OPERATORS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
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
    with DAG("dag", schedule=None, start_date=START) as dag:
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
def test_expand(name: str) -> None:
    operator, arguments, mapped = OPERATORS[name]
    rest = {key: value for key, value in arguments.items() if key not in mapped}
    with DAG("dag", schedule=None, start_date=START) as dag:
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


OBSTACLES: dict[str, tuple[dict[str, Any], str]] = {
    "a template": ({"batch_id": "{{ ti.xcom_pull(task_ids='made') }}"}, "is a template"),
    "a template of more": ({"batch_id": "{{ params.known | trim }}"}, "is a template"),
    "a param that is not there": ({"batch_id": "{{ params.b }}"}, "is a template of a param"),
    "a template for a number": (
        {"batch_id": "b", "max_failed_ratio": "{{ params.known }}"},
        "max_failed_ratio=",
    ),
    "a param without a default": (
        {"batch_id": "b", "params": {"x": Param(type="string")}},
        "'x' has no default",
    ),
    "an output of a function": ({"batch_id": "MAPPED"}, "by a function"),
    "a connection from another task": ({"batch_id": "b", "mistral_conn_id": "OUTPUT"}, "mistral_conn_id"),
    "a callback": ({"batch_id": "b", "on_execute_callback": print}, "on_execute_callback"),
    "a hook before": ({"batch_id": "b", "pre_execute": print}, "pre_execute"),
}


@pytest.mark.skipif(Version("3.3") <= AIRFLOW, reason="this Airflow starts waits in the triggerer")
def test_an_airflow_that_cannot_start_in_the_triggerer_is_named_while_the_dag_is_parsed() -> None:
    with (
        DAG("d", schedule=None, start_date=START),
        pytest.warns(UserWarning, match=f"needs Airflow 3.3 or newer, and this is {AIRFLOW}$"),
    ):
        sensor = MistralBatchJobSensor(task_id="wait", start_from_trigger=True, batch_id="b")
    assert (sensor.start_from_trigger, sensor.deferrable) == (False, True)


@START_FROM_TRIGGER
@pytest.mark.parametrize(("options", "reason"), OBSTACLES.values(), ids=OBSTACLES)
def test_what_cannot_start_in_the_triggerer_is_said_while_the_dag_is_parsed(
    options: dict[str, Any], reason: str
) -> None:
    with DAG("d", schedule=None, start_date=START, params={"known": ""}):
        made = MistralCreateBatchJobOperator(task_id="made", input_files=["f"])
        given = {"OUTPUT": made.output, "MAPPED": made.output.map(str)}
        options = {
            name: given.get(value, value) if isinstance(value, str) else value
            for name, value in options.items()
        }
        with pytest.warns(UserWarning, match=f"cannot start in the triggerer.*{reason}"):
            sensor = MistralBatchJobSensor(task_id="wait", start_from_trigger=True, **options)
    assert (sensor.start_from_trigger, sensor.deferrable) == (False, True)


@START_FROM_TRIGGER
@pytest.mark.parametrize(
    ("batch_id", "in_trigger"),
    [
        ("b", "b"),
        ("{{ params.b }}", "{{ params.b }}"),
        ("{{params[ 'b' ]}}", "{{params[ 'b' ]}}"),
        ("{{ dag_run.conf.anything }}", "{{ dag_run.conf.anything }}"),
        ('{{ dag_run.conf["any thing"] }}', '{{ dag_run.conf["any thing"] }}'),
        ("ARGUMENT", "{{ params['b'] }}"),
    ],
)
def test_what_the_run_says_starts_in_the_triggerer(batch_id: str, in_trigger: str) -> None:
    with DAG("d", schedule=None, params={"b": Param("", type="string")}) as dag:
        argument = dag.param("b", "")
        sensor = MistralBatchJobSensor(
            task_id="wait", batch_id=argument if batch_id == "ARGUMENT" else batch_id, start_from_trigger=True
        )
    assert sensor.start_from_trigger is True
    assert sensor.start_trigger_args is not None
    assert (sensor.start_trigger_args.trigger_kwargs or {})["batch_id"] == in_trigger


@START_FROM_TRIGGER
def test_a_param_without_a_default_keeps_the_whole_dag_off_the_triggerer() -> None:
    with (
        DAG("d", schedule=None, params={"x": Param(type="string"), "b": ""}),
        pytest.warns(UserWarning, match="'x' has no default"),
    ):
        sensor = MistralBatchJobSensor(task_id="wait", batch_id="{{ params.b }}", start_from_trigger=True)
    assert (sensor.start_from_trigger, sensor.deferrable) == (False, True)


def test_a_task_that_runs_is_not_told_of_other_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    # As Airflow sets it while a worker parses the file.
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_TASK_ID", "another")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sensor = MistralBatchJobSensor(task_id="w", batch_id="{{ ds }}", start_from_trigger=True)
    assert (sensor.start_from_trigger, sensor.deferrable) == (False, True)


@START_FROM_TRIGGER
def test_a_wait_in_a_mapped_task_group_begins_on_a_worker() -> None:
    @task_group
    def group(model: str) -> None:
        made = MistralCreateBatchJobOperator(task_id="made", input_files=["f"], model=model)
        with pytest.warns(UserWarning, match="mapped task group"):
            MistralBatchJobSensor(task_id="wait", batch_id=made.output, start_from_trigger=True)

    with DAG("d", schedule=None, start_date=START) as dag:
        group.expand(model=["a", "b"])
    assert dag.get_task("group.wait").start_from_trigger is False


def test_a_wait_that_starts_in_the_triggerer_checks_its_arguments() -> None:
    with pytest.raises(InvalidInputError, match=r"max_failed_ratio='0\.5'"):
        MistralBatchJobSensor(task_id="w", batch_id="b", start_from_trigger=True, max_failed_ratio="0.5")


def test_partial_expand_and_override() -> None:
    with DAG("dag", schedule=None) as dag:

        @task.mistral_batch(destination="/tmp/{{ ti.map_index }}", max_tokens=5)
        def ask(part: int, size: int) -> list[str]:
            return ["a"]

        mapped = ask.partial(size=3).expand(part=[1, 2])
        ask.override(task_id="other", model="mistral-large-latest")(1, 2)
    assert isinstance(mapped, XComArg)
    assert set(dag.task_ids) == {"ask", "other"}
    assert dag.get_task("ask").is_mapped
    other = dag.get_task("other")
    assert isinstance(other, MistralBatchInferenceOperator)
    assert (other.model, other.max_tokens) == ("mistral-large-latest", 5)


@pytest.mark.parametrize(
    ("requests", "words"),
    [
        ({"a", "b"}, ["set", "no order", "sorted"]),
        (frozenset({"a"}), ["frozenset", "no order"]),
        ({"a": 1}.keys(), ["no order"]),
        ({"a": "b"}.values(), ["new version", "@task.mistral_batch"]),
        ((text for text in "ab"), ["generator", "@task.mistral_batch"]),
        (map(str, [1]), ["map", "@task.mistral_batch"]),
    ],
    ids=["set", "frozenset", "keys", "values", "generator", "map"],
)
@pytest.mark.parametrize("name", ["upload", "create inline", "inference"])
def test_requests_that_change_are_refused_while_the_dag_is_parsed(
    name: str, requests: Any, words: list[str], dag: Any
) -> None:
    operator: Any = MistralBatchInferenceOperator if name == "inference" else OPERATORS[name][0]
    more = {"destination": "out"} if name == "inference" else {}
    with pytest.raises(InvalidInputError) as refused:
        operator(task_id="t", requests=requests, **more)
    assert [word for word in words if word not in str(refused.value)] == []
