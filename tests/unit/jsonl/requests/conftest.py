"""Prepares requests in a folder of the test's own."""

from __future__ import annotations

import pytest

from airflow_provider_mistral_batch.jsonl.requests.prepare import prepare_requests

from .request_rows import CHAT


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def prepare(out):
    def prepare(source, **options):
        return prepare_requests(source, directory=out, **{"endpoint": CHAT, **options})

    return prepare
