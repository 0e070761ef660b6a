"""common-ai's interface of batch adapters, which is experimental there, is the one that ours implements."""

from __future__ import annotations

import dataclasses
import inspect
from importlib.metadata import entry_points, version
from typing import Any, get_args

import pytest

base = pytest.importorskip(
    "airflow.providers.common.ai.batch.base", reason="the extra common-ai needs Python 3.11"
)

from airflow.providers.common.ai.batch import dispatch  # noqa: E402
from airflow.providers.common.ai.operators.llm_batch import LLMBatchOperator  # noqa: E402

from airflow_provider_mistral_batch.common_ai import MistralBatchAdapter  # noqa: E402

#: The abstract methods that ours implements, with their parameters as common-ai 1.0 has them.
METHODS = {
    "validate_requests": "requests, *, model, output_spec, idempotency_key, **kwargs",
    "submit": "requests, *, model, idempotency_key, input_fingerprint, output_spec, **kwargs",
    "get_batch": "batch_id",
    "cancel_batch": "batch_id",
    "iter_results": "batch_id",
    "build_output_directive": "spec",
    "extract_output": "raw, spec",
    "find_orphaned_batch": "idempotency_key, input_fingerprint, not_before",
}

#: What ours makes, by field.
RECORDS = {
    "SubmitResult": ["batch_id", "provider_input_ref"],
    "BatchState": ["status", "counts", "error_message"],
    "RawResultItem": [
        "custom_id",
        "index",
        "provider_status",
        "model",
        "usage",
        "finish_reason",
        "error",
        "raw",
    ],
    "ExtractedOutput": ["kind", "text", "value"],
}

#: Attributes of the class that common-ai asks every adapter for.
ATTRIBUTES = {"name", "conn_types", "max_requests", "max_payload_bytes", "allows_per_request_model"}

CHANGED = (
    "common-ai {} changed {}: adapt common_ai.py, then this table and the extra's range in pyproject.toml"
)


def changed(what: str) -> str:
    return CHANGED.format(version("apache-airflow-providers-common-ai"), what)


def parameters(function: Any) -> str:
    """The parameters as in a definition, without ``self``, types and defaults."""
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty, default=inspect.Parameter.empty)
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name != "self"
    ]
    return str(inspect.Signature(bare))[1:-1]


def test_the_abstract_methods_are_those_that_we_have() -> None:
    theirs, ours = set(base.BatchAdapter.__abstractmethods__), set(METHODS)
    assert theirs == ours, changed(
        f"its abstract methods (new: {sorted(theirs - ours)}, gone: {sorted(ours - theirs)})"
    )
    assert not MistralBatchAdapter.__abstractmethods__


@pytest.mark.parametrize("name", METHODS)
def test_each_method_has_the_parameters_that_we_take(name: str) -> None:
    theirs = parameters(getattr(base.BatchAdapter, name))
    assert theirs == METHODS[name], changed(f"{name}({METHODS[name]}) to {name}({theirs})")
    function = inspect.signature(getattr(MistralBatchAdapter, name))
    for parameter in inspect.signature(getattr(base.BatchAdapter, name)).parameters.values():
        assert function.parameters[parameter.name].kind == parameter.kind


@pytest.mark.parametrize("name", RECORDS)
def test_each_record_has_the_fields_that_we_give(name: str) -> None:
    theirs = [field.name for field in dataclasses.fields(getattr(base, name))]
    assert theirs == RECORDS[name], changed(f"the fields of {name} to {theirs}")


def test_statuses_are_those_that_we_give() -> None:
    theirs = set(get_args(base.BatchStatus))
    assert theirs == {"in_progress", "completed", "failed", "expired", "cancelled"}, changed(
        f"BatchStatus to {sorted(theirs)}"
    )


def test_attributes_are_those_that_we_have() -> None:
    theirs = {name for name, kind in base.BatchAdapter.__annotations__.items() if "ClassVar" in str(kind)}
    assert theirs == ATTRIBUTES, changed(f"the attributes of an adapter to {sorted(theirs)}")
    assert all(hasattr(MistralBatchAdapter, name) for name in ATTRIBUTES)


def test_adapters_are_made_as_ours_is() -> None:
    theirs = parameters(base.BatchAdapter.__init__)
    assert theirs == "*, api_key, base_url, client", changed(f"how adapters are made to __init__({theirs})")


def test_the_connection_is_in_reach_where_adapters_are_made() -> None:
    from airflow.sdk import Connection

    connection = Connection(
        conn_id="c",
        conn_type="mistral",
        password="k3y",
        host="http://127.0.0.1:9",
        extra='{"deployment": "north"}',
    )
    adapter: Any = dispatch.build_adapter_from_connection("mistral", connection)
    assert adapter._hook.deployment == "north", changed(
        "how adapters are made: the connection's other fields do not count any more"
    )
    adapter.close()


def test_a_missing_job_is_told_by_its_status_code() -> None:
    from airflow_provider_mistral_batch.api.errors import NotFoundError

    assert LLMBatchOperator._is_not_found_error(NotFoundError("no such job", status_code=404)), changed(
        "how it tells that a job is gone"
    )


def test_the_entry_point_is_there() -> None:
    (found,) = entry_points(group=dispatch.ENTRY_POINT_GROUP, name="mistral")
    assert found.load() is MistralBatchAdapter
    for conn_type in ("mistral", "pydanticai"):
        assert dispatch.get_adapter_class(conn_type, "mistral:m") is MistralBatchAdapter
