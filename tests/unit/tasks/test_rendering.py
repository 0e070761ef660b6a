"""What is rendered, what is not, and what an argument becomes: data stays as it came, and text stays text."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import jinja2
import pytest
from airflow.sdk import DAG, ObjectStoragePath, task, task_group

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.operators.mistral_batch import (
    MistralBatchInferenceOperator,
    MistralCancelBatchJobOperator,
    MistralCreateBatchJobOperator,
    MistralDownloadBatchResultsOperator,
    MistralUploadBatchFileOperator,
)
from airflow_provider_mistral_batch.sensors.mistral_batch import MistralBatchJobSensor
from airflow_provider_mistral_batch.tables import Documents, FileRows, SqlRows, SqlTable
from airflow_provider_mistral_batch.tasks.rendering import read_arguments

SECRET = "{{ conn.mistral_default.password }}"
CONTEXT = {
    "conn": "a key",
    "run_id": "R",
    "params": {"n": 5, "t": "['a']", "none": None, "l": ["a", 5]},
    "one": 1,
}


class TaskInstance:
    """Stands for Airflow's task instance: another task's output is all that it knows."""

    map_index = 0
    task = None

    def __init__(self, output: Any) -> None:
        self.output = output

    def xcom_pull(self, **_: Any) -> Any:
        return self.output


def rendered(dag: DAG, task_id: str, output: Any = None) -> Any:
    """Render a task as Airflow does, mapped or not."""
    ti = TaskInstance(output)
    context: Any = {**CONTEXT, "ti": ti, "dag": dag, "dag_run": SimpleNamespace(conf={})}
    operator = dag.get_task(task_id)
    operator.render_template_fields(context)
    return context.get("task", operator)


@task
def _prepare() -> None: ...


def prepare() -> Any:
    """Another task's output."""
    return _prepare()


BRACES = {"prompt": SECRET, "nested": [{"content": f"Say {SECRET}"}]}
ROWS = [{"body": BRACES}]

#: Each operator, what its author writes, and what another task brings.
MAPPED: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "upload": (MistralUploadBatchFileOperator, {}, {"requests": ROWS}),
    "upload of a file": (MistralUploadBatchFileOperator, {}, {"path": f"/in/{SECRET}"}),
    "create": (
        MistralCreateBatchJobOperator,
        {"model": "m-{{ run_id }}"},
        {"requests": ROWS, "metadata": {"a": SECRET}},
    ),
    "create of files": (MistralCreateBatchJobOperator, {}, {"input_files": [SECRET], "model": SECRET}),
    "cancel": (MistralCancelBatchJobOperator, {}, {"batch_id": SECRET, "mistral_conn_id": SECRET}),
    "download": (MistralDownloadBatchResultsOperator, {}, {"batch_id": SECRET, "destination": f"/{SECRET}"}),
    "sensor": (MistralBatchJobSensor, {"mistral_conn_id": "c_{{ run_id }}"}, {"batch_id": SECRET}),
    "inference": (
        MistralBatchInferenceOperator,
        {"model": "m-{{ run_id }}", "metadata": {"run": "{{ run_id }}"}},
        {
            "requests": [SECRET],
            "destination": f"/out/{SECRET}",
            "system": SECRET,
            "parameters": {"stop": SECRET},
            "response_format": {"type": SECRET},
            "max_tokens": SECRET,
        },
    ),
}


@pytest.mark.parametrize("native", [False, True], ids=["text", "native"])
@pytest.mark.parametrize("name", MAPPED)
def test_what_expand_kwargs_brings_is_not_rendered(name: str, native: bool) -> None:
    operator, written, brought = MAPPED[name]
    with DAG("dag", schedule=None, render_template_as_native_obj=native) as dag:
        operator.partial(task_id="kwargs", **written).expand_kwargs(prepare())
        operator.partial(task_id="mapped", **written).expand_kwargs(prepare().map(lambda x: x))
        operator.partial(task_id="literal", **written).expand_kwargs([brought])
    for task_id in ("kwargs", "mapped"):
        made = rendered(dag, task_id, [brought])
        for field, value in brought.items():
            assert getattr(made, field) == value
        for field, value in written.items():
            assert getattr(made, field) == eval(repr(value).replace("{{ run_id }}", "R"))
    # A dict that is written into the Dag is its author's.
    with pytest.raises(jinja2.UndefinedError):
        rendered(dag, "literal")


def test_default_args_are_the_authors_and_an_overridden_argument_is_data() -> None:
    with DAG("dag", schedule=None, default_args={"mistral_conn_id": "c_{{ run_id }}"}) as dag:
        MistralCancelBatchJobOperator.partial(task_id="t", batch_id="b_{{ run_id }}").expand_kwargs(
            prepare(), strict=False
        )
    assert rendered(dag, "t", [{}]).mistral_conn_id == "c_R"
    assert rendered(dag, "t", [{}]).batch_id == "b_R"
    assert rendered(dag, "t", [{"batch_id": SECRET}]).batch_id == SECRET


def test_other_ways_of_data_are_not_rendered_either() -> None:
    with DAG("dag", schedule=None) as dag:
        MistralUploadBatchFileOperator(task_id="output", requests=prepare())
        MistralUploadBatchFileOperator(task_id="within", requests=[prepare(), {"a": "{{ run_id }}"}])
        MistralUploadBatchFileOperator.partial(task_id="expand").expand(requests=prepare())

        @task.mistral_batch(destination="/out/{{ run_id }}")
        def ask(prompt: str, end: str = "") -> list[str]:
            return [prompt]

        ask.override(task_id="argument")(prepare())
        ask.partial(end="{{ run_id }}").expand_kwargs(prepare())

        @task_group
        def group(prompt: Any) -> None:
            MistralUploadBatchFileOperator(task_id="grouped", requests=[prompt])

        group.expand(prompt=prepare())
    assert rendered(dag, "output", ROWS).requests == ROWS
    assert rendered(dag, "within", BRACES).requests == [BRACES, {"a": "R"}]
    assert rendered(dag, "argument", SECRET).op_args == (SECRET,)
    made = rendered(dag, "ask", [{"prompt": SECRET}])
    assert (made.op_kwargs, made.destination) == ({"prompt": SECRET, "end": "R"}, "/out/R")


FIELDS: dict[str, tuple[dict[str, Any], bool, Any]] = {
    "text that looks like a number": ({"requests": [{"custom_id": "1"}]}, True, [{"custom_id": "1"}]),
    "text that looks like a list": ({"system": "['a']"}, True, "['a']"),
    "a template for text": ({"system": "{{ params.t }}"}, True, "['a']"),
    "a number for text": ({"system": "{{ one }}"}, True, "1"),
    "nothing for text": ({"system": "{{ params.none }}"}, True, None),
    "text around": ({"requests": ["[{{ one }}]"]}, True, ["[1]"]),
    "text of templates": ({"requests": ["{{ params.t }}"]}, True, ["['a']"]),
    "a value of a body": ({"parameters": {"random_seed": "{{ params.n }}"}}, True, {"random_seed": 5}),
    "all of a dict": ({"parameters": "{{ params }}"}, True, CONTEXT["params"]),
    "a list as text": ({"requests": "[{{ one }}, 2]"}, True, [1, 2]),
    "a line break at the end": ({"requests": ["def {{ run_id }}(n):\n"]}, False, ["def R(n):\n"]),
    "two line breaks": ({"requests": ["{{ run_id }}\n\n"]}, True, ["R\n\n"]),
    "a line break without a template": ({"system": "a\r\n"}, False, "a\r\n"),
    "a comment of CSS": ({"system": "{#id} .x"}, False, "{#id} .x"),
    "raw": ({"system": "{% raw %}{{ x }}{% endraw %}"}, False, "{{ x }}"),
    "a number in metadata": (
        {"metadata": {"n": "{{ params.n }}", "a": "b"}},
        True,
        {"n": "5", "a": "b"},
    ),
    "a number for metadata that is none": ({"metadata": {"n": 5}}, True, {"n": 5}),
    "a number for a path": ({"path": "{{ params.n }}"}, True, "5"),
    "a number for a prompt's path": ({"prompt_file": "{{ params.n }}"}, True, "5"),
    "a number of requests": ({"max_job_requests": "{{ params.n }}"}, False, 5),
    "a mapping of another kind": ({"metadata": MappingProxyType({"a": "{{ run_id }}"})}, False, {"a": "R"}),
    "an object path": (
        {"path": ObjectStoragePath("s3://a/{{ run_id }}")},
        False,
        ObjectStoragePath("s3://a/R"),
    ),
}


@pytest.mark.parametrize(("arguments", "native", "expected"), FIELDS.values(), ids=FIELDS)
def test_text_stays_text(arguments: dict[str, Any], native: bool, expected: Any) -> None:
    with DAG("dag", schedule=None, render_template_as_native_obj=native) as dag:
        MistralBatchInferenceOperator(task_id="t", destination="/out", **arguments)
    (name,) = arguments
    assert getattr(rendered(dag, "t"), name) == expected


N, TEXT, NONE, LIST = "{{ params.n }}", "{{ params.t }}", "{{ params.none }}", "{{ params.l }}"

#: A source or target, one of its fields, and what that becomes in a Dag with native rendering; or the error's words.
WITHIN: dict[str, tuple[Any, str, Any]] = {
    "query": (SqlRows("select {{ params.n }}\n", conn_id="c"), "sql", "select 5\n"),
    "query that is a number": (SqlRows(N, conn_id="c"), "sql", "5"),
    "query that looks like a list": (SqlRows(TEXT, conn_id="c"), "sql", "['a']"),
    "query without a value": (SqlRows(NONE, conn_id="c"), "sql", "sql and table are both missing"),
    "query that is a list": (
        SqlRows(LIST, conn_id="c"),
        "sql",
        r"sql=\['a', '5'\] is not a string, or is empty",
    ),
    "table": (SqlRows(table=N, conn_id="c"), "table", "5"),
    "parameters keep their types": (
        SqlRows("select ?", conn_id="c", parameters=[N, TEXT, NONE, LIST, "{{ run_id }}"]),
        "parameters",
        [5, "['a']", None, ["a", 5], "R"],
    ),
    "parameters by name": (SqlRows("s", conn_id="c", parameters={"n": N}), "parameters", {"n": 5}),
    "connection": (SqlRows("s", conn_id=N), "conn_id", "5"),
    "connection without a value": (
        SqlRows("s", conn_id=NONE),
        "conn_id",
        "conn_id=None is not a string, or is empty",
    ),
    "key of parts": (SqlRows("s", conn_id="c", partition_key=N), "partition_key", "5"),
    "path": (FileRows(N), "path", "5"),
    "path that looks like a list": (FileRows(TEXT), "path", "['a']"),
    "paths": (FileRows(LIST), "path", ["a", "5"]),
    "paths of templates": (FileRows([N, "a"]), "path", ["5", "a"]),
    "path of an object": (
        FileRows(ObjectStoragePath("s3://a/{{ run_id }}")),
        "path",
        ObjectStoragePath("s3://a/R"),
    ),
    "documents": (Documents(LIST), "path", ["a", "5"]),
    "document": (Documents(N), "path", "5"),
    "target": (SqlTable(N, conn_id="c"), "name", "5"),
    "target's connection": (SqlTable("t", conn_id=N), "conn_id", "5"),
    "target without a name": (SqlTable(NONE, conn_id="c"), "name", "name=None is not a string, or is empty"),
    "target with several": (
        SqlTable(LIST, conn_id="c"),
        "name",
        r"name=\['a', '5'\] is not a string, or is empty",
    ),
}


@pytest.mark.parametrize(("made", "field", "expected"), WITHIN.values(), ids=WITHIN)
def test_text_within_sources_and_targets_stays_text(made: Any, field: str, expected: Any) -> None:
    name = "target" if isinstance(made, SqlTable) else "source"
    with DAG("dag", schedule=None, render_template_as_native_obj=True) as dag:
        MistralBatchInferenceOperator(task_id="t", destination="/out", **{name: made})
    operator = rendered(dag, "t")
    found = getattr(getattr(operator, name), field)
    if isinstance(expected, str) and not isinstance(found, str):
        with pytest.raises(InvalidInputError, match=expected):
            read_arguments(operator)
        return
    read_arguments(operator)
    assert (found, type(found)) == (expected, type(expected))


def test_another_tasks_list_is_a_list_of_paths() -> None:
    with DAG("dag", schedule=None) as dag:
        MistralBatchInferenceOperator(task_id="t", source=FileRows(prepare()), destination="/out")
    assert rendered(dag, "t", ("a", "b")).source.path == ["a", "b"]


def test_a_name_without_a_value_is_an_error_with_native_rendering_too() -> None:
    for native in (False, True):
        with DAG("dag", schedule=None, render_template_as_native_obj=native) as dag:
            MistralBatchInferenceOperator(task_id="t", destination="/{{ nothing }}")
        with pytest.raises(jinja2.UndefinedError, match="nothing"):
            rendered(dag, "t")


READ: dict[str, tuple[str, Any, Any]] = {
    "a whole number": ("max_tokens", "100", 100),
    "a negative one": ("max_tokens", " -5 ", -5),
    "no value": ("max_tokens", "None", None),
    "an empty text": ("timeout", "", None),
    "a part": ("max_failed_ratio", "0.05", 0.05),
    "with an exponent": ("temperature", "1e-1", 0.1),
    "hours": ("timeout_hours", "24", 24),
    "a timedelta": ("timeout", timedelta(hours=1), 3600.0),
    "a short one": ("poll_interval", timedelta(milliseconds=50), 0.05),
    "the shortest": ("poll_interval_min", "0.5", 0.5),
    "a switch": ("force_new", "True", True),
    "a switch of JSON": ("reask_invalid", "false", False),
    "a dict": ("metadata", '{"a": "1"}', {"a": "1"}),
    "numbers in a dict": ("parameters", {"top_p": "0.9", "stop": "1"}, {"top_p": 0.9, "stop": "1"}),
    "a switch in JSON": ("parameters", '{"safe_prompt": "True"}', {"safe_prompt": True}),
    "no number": ("max_tokens", "many", "many"),
    "infinity": ("timeout", "inf", "inf"),
    "digits of another script": ("row_retries", "١", "١"),
    "a very long number": ("row_retries", "1" * 5000, "1" * 5000),
    "no JSON": ("parameters", "{'a': 1}", "{'a': 1}"),
}


@pytest.mark.parametrize(("name", "value", "read"), READ.values(), ids=READ)
def test_arguments_get_their_types(name: str, value: Any, read: Any) -> None:
    made: Any = SimpleNamespace(template_fields=[name], **{name: value})
    read_arguments(made)
    assert getattr(made, name) == read
    assert type(getattr(made, name)) is type(read)


#: Operators that cannot run, and what the error says.
WRONG: dict[str, tuple[Callable[..., Any], dict[str, Any], str]] = {
    "a path object": (
        MistralBatchInferenceOperator,
        {"destination": Path("/{{ ds }}")},
        "destination='/{{ ds }}'",
    ),
    "data": (
        MistralDownloadBatchResultsOperator,
        {"batch_id": "b", "destination": "/{% x %}"},
        "destination=",
    ),
    "a path object to read": (
        MistralUploadBatchFileOperator,
        {"path": [Path("/{{ ds }}")]},
        "path='/{{ ds }}'",
    ),
    "a model": (MistralCreateBatchJobOperator, {"requests": ROWS, "model": "{{ m }}"}, "model='{{ m }}'"),
    "a job": (MistralCancelBatchJobOperator, {"batch_id": "{{ b }}"}, "batch_id='{{ b }}'"),
    "a switch": (
        MistralCreateBatchJobOperator,
        {"requests": ROWS, "force_new": "maybe"},
        "force_new='maybe'",
    ),
    "a switch of a sensor": (MistralBatchJobSensor, {"batch_id": "b", "deferrable": "no"}, "deferrable='no'"),
}


@pytest.mark.parametrize(("operator", "arguments", "words"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_meant_is_refused(
    operator: Callable[..., Any], arguments: dict[str, Any], words: str
) -> None:
    made = operator(task_id="t", **arguments)
    with pytest.raises(InvalidInputError) as caught:
        read_arguments(made)
    assert str(caught.value).startswith(words)
    assert "; pass" in str(caught.value) or ": pass" in str(caught.value)


def test_a_file_name_with_braces_may_come_from_another_task() -> None:
    read_arguments(MistralUploadBatchFileOperator(task_id="t", path="/in/{{cookiecutter}}.jsonl"))
