"""Rows without custom_id are numbered, and no id is given twice."""

from __future__ import annotations

import hashlib

import pytest

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.jsonl.custom_ids import CustomIds
from airflow_provider_mistral_batch.jsonl.requests import prepare as prepare_module
from airflow_provider_mistral_batch.jsonl.requests.numbering import PREFIXES

from .request_rows import problems_of, row, rows_of


def test_rows_without_id_are_numbered_around_the_ids_that_were_given(prepare):
    given_rows = [row(), row("row-3"), row(), row(None), row("row_3"), row("x", body={"a": 1})]
    prepared = prepare(given_rows)
    assert [found["custom_id"] for found in rows_of(prepared)] == [
        "row-1",
        "row-3",
        "row.3",
        "row-4",
        "row_3",
        "x",
    ]
    assert prepared.numbered == 3
    (shard,) = prepared.shards
    assert shard.sha256 == hashlib.sha256(shard.path.read_bytes()).hexdigest()
    assert shard.size == shard.path.stat().st_size


def test_numbering_that_collides_in_another_shard(prepare):
    prepared = prepare([row("row-4"), row("b"), row("c"), row(), row()], max_job_requests=2)
    assert [found["custom_id"] for found in rows_of(prepared)] == ["row-4", "b", "c", "row_4", "row-5"]
    for shard in prepared.shards:
        assert shard.sha256 == hashlib.sha256(shard.path.read_bytes()).hexdigest()


def test_every_id_that_is_used_is_passed_over(prepare):
    given_rows = [row(), row(), *(row(f"{prefix}1") for prefix in PREFIXES[:-1]), row("row-2"), row("row_2")]
    assert [found["custom_id"] for found in rows_of(prepare(given_rows))][:2] == ["ROW-1", "row.2"]
    with pytest.raises(InvalidInputError, match="row 1 has none, and other rows have every id"):
        prepare([*given_rows, row("ROW-1")])


@pytest.mark.parametrize("max_job_requests", [7, 1000])
def test_many_ids_that_are_used(prepare, monkeypatch, max_job_requests):
    passes = []
    windows = CustomIds._windows
    monkeypatch.setattr(CustomIds, "_windows", lambda ids: (passes.append(ids), windows(ids))[1])
    monkeypatch.setattr(prepare_module, "_MAX_SUSPECTS", 3)
    taken = [f"row-{number}" for number in range(1, 301)]
    prepared = prepare([*[row()] * 300, *map(row, taken)], max_job_requests=max_job_requests)
    assert [found["custom_id"] for found in rows_of(prepared)] == [
        *(f"row_{number}" for number in range(1, 301)),
        *taken,
    ]
    assert len(passes) < 20
    for shard in prepared.shards:
        assert shard.sha256 == hashlib.sha256(shard.path.read_bytes()).hexdigest()


def test_duplicates_are_counted_beside_ids_that_are_used(prepare, monkeypatch):
    monkeypatch.setattr(prepare_module, "_MAX_SUSPECTS", 3)
    taken = [f"row-{number}" for number in range(1, 11)]
    error = problems_of(lambda: prepare([*[row()] * 10, *map(row, taken), *map(row, taken)]))
    assert error.total == 10
    assert error.problems[0].line == 21
