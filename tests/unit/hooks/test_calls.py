"""The hook's calls have the signatures that were published."""

from __future__ import annotations

import inspect

import pytest

from airflow_provider_mistral_batch.api.models import BatchJobOut, BatchJobsOut
from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook


@pytest.mark.parametrize(
    ("name", "published", "returns"),
    [
        ("create", ["input_files", "endpoint", "completion_window", "metadata"], BatchJobOut),
        ("list", ["limit", "after"], BatchJobsOut),
        ("get", ["batch_id"], BatchJobOut),
        ("cancel", ["batch_id"], BatchJobOut),
    ],
)
def test_published_signatures(name, published, returns):
    signature = inspect.signature(getattr(MistralBatchHook, name))
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [parameter.name for parameter in signature.parameters.values() if parameter.kind in kinds]
    assert positional == ["self", *published]
    assert signature.return_annotation == returns.__name__
    optional = {"metadata", "limit", "after"} & set(published)
    assert all(signature.parameters[parameter].default is None for parameter in optional)
