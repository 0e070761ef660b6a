"""A plan survives a deferral, and its hashes tell two batches apart."""

from __future__ import annotations

import json
from pathlib import Path

from airflow_provider_mistral_batch.inference.plan import BatchPlan, PlannedJob, content_hash, jobs_of
from airflow_provider_mistral_batch.jsonl.requests.shards import Shard


def shard(number: int, job: int = 0) -> Shard:
    return Shard(Path(f"{number}.jsonl"), 10, 100, f"{number:064x}", job)


def test_it_comes_back_as_it_was() -> None:
    job = PlannedJob(input_files=["f1", "f2"], content="c", request_count=20, batch_id="b", found_over=True)
    plan = BatchPlan(key="k" * 64, model="m", rounds=[[job], []], room_deadline=1.5, given_up_at=2.5)
    carried = json.loads(json.dumps(plan.as_builtins()))
    assert BatchPlan.from_builtins(carried) == plan


def test_parts_name_batch_round_and_job() -> None:
    plan = BatchPlan(key="0123456789abcdef" * 4, rounds=[[], []])
    assert plan.part(3) == "0123456789abcdef/1/3"
    assert plan.part(3).startswith(plan.parts_prefix)


def test_files_are_grouped_by_job() -> None:
    shards = [shard(0, 0), shard(1, 0), shard(2, 1)]
    assert jobs_of(shards) == [shards[:2], shards[2:]]
    assert jobs_of(shards, files_per_job=1) == [[one] for one in shards]


def test_the_hash_is_of_content_and_order_alone() -> None:
    assert content_hash([shard(1), shard(2)]) == content_hash([shard(1, 7), shard(2, 7)])
    assert content_hash([shard(1), shard(2)]) != content_hash([shard(2), shard(1)])
    assert content_hash([shard(1)]) != content_hash([shard(1), shard(2)])
