"""An object store in memory, as Airflow shows it to tasks."""

from __future__ import annotations

import pytest
from airflow.sdk import ObjectStoragePath
from airflow.sdk.io.store import attach
from fsspec.implementations.memory import MemoryFileSystem


@pytest.fixture
def bucket():
    """A folder in an object store; empty at the beginning."""
    store = MemoryFileSystem()
    store.store.clear()
    store.pseudo_dirs[:] = [""]
    attach("memory", fs=store)
    yield ObjectStoragePath("memory://bucket/folder")
    store.store.clear()
