"""A manifest is read back, and nothing else is taken for one."""

from __future__ import annotations

import pytest

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.jsonl.results.manifest import read_manifest


@pytest.mark.parametrize("content", ["{", "[]", "{}", "\udcff"])
def test_what_is_no_manifest(tmp_path, content):
    path = tmp_path / "manifest.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InvalidInputError, match=r"manifest\.json is not a manifest"):
        read_manifest(path)
