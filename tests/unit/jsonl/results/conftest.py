"""Splits results in a folder of the test's own."""

from __future__ import annotations

import pytest

from airflow_provider_mistral_batch.jsonl.results.split import split_results

from .result_rows import lines


class Split:
    """Splits streams of result rows into the two files of a folder."""

    def __init__(self, tmp_path):
        self.requests = tmp_path / "requests.jsonl"
        self.folder = tmp_path / "out"
        self.results = self.folder / "results.jsonl"
        self.errors = self.folder / "errors.jsonl"

    def __call__(self, *streams, asked=None, **options):
        requests = None
        if asked is not None:
            requests = [self.requests]
            self.requests.write_bytes(lines(*({"custom_id": id_, "body": {}} for id_ in asked)))
        summary = split_results(
            [[stream] if isinstance(stream, bytes) else stream for stream in streams],
            self.results,
            self.errors,
            requests=requests,
            **options,
        )
        assert sorted(path.name for path in self.folder.iterdir()) == ["errors.jsonl", "results.jsonl"]
        return summary


@pytest.fixture
def split(tmp_path):
    return Split(tmp_path)
