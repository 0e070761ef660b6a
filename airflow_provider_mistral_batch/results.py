"""Reads landed results in downstream tasks: one typed row at a time, from any storage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from airflow_provider_mistral_batch.jsonl.results import reader
from airflow_provider_mistral_batch.jsonl.results.rows import ResultRow
from airflow_provider_mistral_batch.storage.paths import storage_path
from airflow_provider_mistral_batch.tables.reading import read_models, read_table

__all__ = ["ResultRow", "read_models", "read_results", "read_table"]


def read_results(results: Any, *, failed: bool = False) -> Iterator[ResultRow]:
    """
    Read results lazily; ``pd.DataFrame(row.as_dict() for row in read_results(manifest))`` makes a data frame.

    :param results: A manifest, as returned by a task that lands results, or the path of one file: local, or a URL such
        as ``s3://conn@bucket/key``.
    :param failed: With a manifest, also give the failed rows, after the others.
    :return: The rows, one at a time.
    """
    if not isinstance(results, Mapping):
        return reader.read_rows(storage_path(results, field="results"))
    results_path, errors_path = (
        storage_path(results[name], field=name) for name in ("results_path", "errors_path")
    )
    rows = reader.read_rows(results_path)
    return chain(rows, reader.read_failed_rows(errors_path)) if failed else rows
