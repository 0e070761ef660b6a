"""The names that files, folders and globs have in OpenLineage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import ObjectStoragePath

from airflow_provider_mistral_batch.observability.lineage.datasets import (
    MOST,
    DatasetName,
    datasets_of,
    file_name,
)
from airflow_provider_mistral_batch.tables import Documents, FileRows


@pytest.mark.parametrize(
    ("path", "namespace", "name"),
    [
        ("/data/rows.jsonl", "file", "/data/rows.jsonl"),
        (Path("/data/rows.jsonl"), "file", "/data/rows.jsonl"),
        ("file:///data/rows.jsonl", "file", "/data/rows.jsonl"),
        ("s3://bucket/a/rows.jsonl", "s3://bucket", "a/rows.jsonl"),
        # Who reads it is not a part of its name.
        ("s3://my_conn@bucket/a/rows.jsonl", "s3://bucket", "a/rows.jsonl"),
        ("s3a://bucket/a/", "s3://bucket", "a"),
        ("gcs://conn@bucket/a", "gs://bucket", "a"),
        ("s3://bucket", "s3://bucket", "/"),
        # An @ in a key is no connection.
        ("s3://bucket/a@b/c", "s3://bucket", "a@b/c"),
        ("/data/day=*/rows-??.parquet", "file", "/data"),
        ("s3://bucket/a/*.jsonl", "s3://bucket", "a"),
        ("s3://bucket/*.jsonl", "s3://bucket", "/"),
        (ObjectStoragePath("file:///data/rows.jsonl"), "file", "/data/rows.jsonl"),
    ],
)
def test_a_path_has_one_name(path: Any, namespace: str, name: str) -> None:
    assert file_name(path) == DatasetName(namespace, name)


@pytest.mark.parametrize("path", ["rows.jsonl", "", "*.jsonl"])
def test_what_others_cannot_find_has_no_name(path: str) -> None:
    assert file_name(path) is None


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (None, []),
        ([{"prompt": "/not/a/path"}], []),
        (FileRows("/data/*.csv"), ["/data"]),
        (Documents(["/data/a.pdf", Path("/data/b.pdf"), "/data/a.pdf"]), ["/data/a.pdf", "/data/b.pdf"]),
        ([["file", "/ready"]], ["/ready"]),
        ([f"/data/{number}.jsonl" for number in range(MOST + 1)], ["/data"]),
        ([f"/{number}/x.jsonl" for number in range(2 * MOST)], [f"/{number}" for number in range(MOST)]),
    ],
)
def test_what_a_task_reads_has_names_and_not_too_many(value: Any, names: list[str]) -> None:
    assert datasets_of(value) == [DatasetName("file", name) for name in names]
