"""Splits results in a folder of the test's own."""

from __future__ import annotations

import pytest

from airflow_provider_mistral_batch.jsonl.results.split import split_results

from .result_rows import lines


@pytest.fixture
def split(tmp_path):
    folder = tmp_path / "out"

    def split(*streams, asked=None, **options):
        requests = None
        if asked is not None:
            requests = [tmp_path / "requests.jsonl"]
            requests[0].write_bytes(lines(*({"custom_id": id_, "body": {}} for id_ in asked)))
        summary = split_results(
            [[stream] if isinstance(stream, bytes) else stream for stream in streams],
            folder / "results.jsonl",
            folder / "errors.jsonl",
            requests=requests,
            **options,
        )
        assert sorted(path.name for path in folder.iterdir()) == ["errors.jsonl", "results.jsonl"]
        return summary

    split.folder = folder
    split.results = folder / "results.jsonl"
    split.errors = folder / "errors.jsonl"
    return split
