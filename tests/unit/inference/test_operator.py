"""The operator as a Dag sees it: light to import, mapped and serialized like any other, and known to editors."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

from airflow.sdk import DAG
from pydantic import BaseModel

import airflow_provider_mistral_batch
from airflow_provider_mistral_batch.decorators.mistral_batch import MistralBatchDecoratedOperator
from airflow_provider_mistral_batch.operators.inference import MistralBatchInferenceOperator

from ...airflow_versions import DagSerialization

STUB = Path(airflow_provider_mistral_batch.__file__).parent / "decorators" / "__init__.pyi"

#: What a Dag's parsing has no use for.
HEAVY = ("requests", "pyarrow", "mistral_common", "genai_prices", "jsonschema", "zstandard", "fsspec")


class Form(BaseModel):
    name: str


def test_importing_brings_nothing_heavy() -> None:
    modules = [
        f"airflow_provider_mistral_batch.{name}"
        for name in ("operators.inference", "decorators.mistral_batch", "triggers.inference")
    ]
    code = (
        "import sys; import airflow.sdk, airflow.triggers.base; before = set(sys.modules); "
        f"import {', '.join(modules)}; print(*sorted(set(sys.modules) - before))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = run.stdout.split()
    assert set(modules) <= set(loaded)
    assert [name for name in loaded if name.split(".")[0] in HEAVY] == []
    assert [name for name in loaded if name.startswith("airflow_provider_mistral_batch.jsonl.")] == []


def test_a_mapped_operator_survives_serialization() -> None:
    with DAG("dag", schedule=None) as dag:
        MistralBatchInferenceOperator.partial(
            task_id="ask", requests=["a"], response_model=Form, destination="/tmp"
        ).expand(system=["x", "y"])
        MistralBatchInferenceOperator(task_id="one", path="in.jsonl", destination="/tmp", response_model=Form)
    again = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    assert set(again.task_ids) == {"ask", "one"}


def test_the_decorated_operator_renders_all_fields_but_the_requests() -> None:
    rendered = set(MistralBatchDecoratedOperator.template_fields)
    assert {"op_args", "op_kwargs", "destination", "model", "system", "mistral_conn_id"} <= rendered
    assert not {"requests", "path"} & rendered


def test_the_stub_says_what_the_operator_takes() -> None:
    (method,) = (
        node
        for node in ast.walk(ast.parse(STUB.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name == "mistral_batch"
    )
    stub: dict[str, Any] = {
        argument.arg: None if default is None else ast.literal_eval(default)
        for argument, default in zip(method.args.kwonlyargs, method.args.kw_defaults, strict=True)
    }
    parameters = inspect.signature(MistralBatchInferenceOperator.__init__).parameters
    operator = {
        name: None if parameter.default is inspect.Parameter.empty else parameter.default
        for name, parameter in parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name not in ("requests", "path", "source")
    }
    assert stub.pop("multiple_outputs", 0) is None
    # Its default is the configuration's.
    assert stub.pop("deferrable") is ...
    assert isinstance(operator.pop("deferrable"), bool)
    assert stub == operator
