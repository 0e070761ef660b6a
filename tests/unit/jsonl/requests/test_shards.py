"""Request files keep the order of the rows, and the limits."""

from __future__ import annotations

import hashlib
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_mistral_batch.jsonl.requests.prepare import prepare_requests

from .request_rows import CHAT, row, rows_of


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=40),
    max_shard_bytes=st.integers(100, 400),
    max_job_requests=st.integers(1, 50),
)
def test_shards_keep_order_and_limits(tmp_path_factory, sizes, max_shard_bytes, max_job_requests):
    given_rows = [row(f"{number}", {"x": "x" * size}) for number, size in enumerate(sizes)]
    prepared = prepare_requests(
        given_rows,
        endpoint=CHAT,
        directory=tmp_path_factory.mktemp("out"),
        max_shard_bytes=max_shard_bytes,
        max_job_requests=max_job_requests,
    )
    assert rows_of(prepared) == given_rows
    requests_by_job: Counter[int] = Counter()
    for shard in prepared.shards:
        requests_by_job[shard.job] += shard.request_count
    assert max(requests_by_job.values()) <= max_job_requests
    for shard in prepared.shards:
        content = shard.path.read_bytes()
        assert shard.size == len(content) <= max_shard_bytes
        assert shard.request_count == content.count(b"\n") > 0
        assert shard.sha256 == hashlib.sha256(content).hexdigest()
    assert list(requests_by_job) == list(range(-(-len(sizes) // max_job_requests)))
