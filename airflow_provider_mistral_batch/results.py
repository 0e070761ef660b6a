"""Reads landed results in downstream tasks: one typed row at a time, from any storage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.jsonl.results import reader
from airflow_provider_mistral_batch.jsonl.results.rows import ResultRow, row_with_model
from airflow_provider_mistral_batch.observability.lineage.reads import note_read
from airflow_provider_mistral_batch.storage.paths import storage_path
from airflow_provider_mistral_batch.tables.reading import read_models, read_table

__all__ = ["ResultRow", "read_models", "read_results", "read_table"]


def read_results(
    results: Any, *, failed: bool = False, response_model: type | None = None
) -> Iterator[ResultRow]:
    """
    Read results lazily; ``pd.DataFrame(row.as_dict() for row in read_results(manifest))`` makes a data frame.

    :param results: A manifest, as returned by a task that lands results, or the path of one file: local, or a URL such
        as ``s3://conn@bucket/key``.
    :param failed: With a manifest, also give the failed rows, after the others.
    :param response_model: The pydantic model class of the task: ``row.parsed`` is then an instance of it.
    :return: The rows, one at a time.
    :raises InvalidInputError: When ``results`` is no manifest, or ``response_model`` no pydantic model class.
    """
    if response_model is None:
        return _rows(results, failed=failed)
    if not isinstance(response_model, type) or not hasattr(response_model, "model_validate_json"):
        raise InvalidInputError(
            f"response_model={response_model!r:.80} is not a pydantic model class: pass one, or leave it "
            "out, and row.parsed has the answer's JSON"
        )
    return (row_with_model(row, response_model) for row in _rows(results, failed=failed))


def _rows(results: Any, *, failed: bool) -> Iterator[ResultRow]:
    if not isinstance(results, Mapping):
        path = storage_path(results, field="results")
        note_read(path)
        return reader.read_rows(path)
    if "results_path" not in results:
        raise InvalidInputError(f"results={results!r:.80} is not a manifest: pass what the task returned")
    results_path, errors_path = (
        storage_path(results[name], field=name) for name in ("results_path", "errors_path")
    )
    note_read(results_path)
    rows = reader.read_rows(results_path)
    if not failed:
        return rows
    note_read(errors_path)
    return chain(rows, reader.read_failed_rows(errors_path))
