"""What all tests share: markers by folder, an Airflow home that is nobody's, and an object store in memory."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent

#: Seconds that a test may take, for the kinds that wait for whole programs.
TIMEOUTS = {"e2e": 300, "chaos": 600, "distributed": 900}

# Airflow reads its settings as soon as it is imported, and test modules import it: a fixture would come too late.
for name in [name for name in os.environ if name.startswith("AIRFLOW")]:
    del os.environ[name]
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-home-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"


@pytest.fixture
def bucket() -> Iterator[Any]:
    """A folder in an object store in memory, as Airflow shows it to tasks; empty at the beginning."""
    # Imported late: Airflow reads its settings when it is imported.
    from airflow.sdk import ObjectStoragePath
    from airflow.sdk.io.store import attach
    from fsspec.implementations.memory import MemoryFileSystem

    store = MemoryFileSystem()
    store.store.clear()
    store.pseudo_dirs[:] = [""]
    attach("memory", fs=store)
    yield ObjectStoragePath("memory://bucket/folder")
    store.store.clear()


def pytest_unconfigure() -> None:
    """Remove the Airflow home of this run."""
    shutil.rmtree(os.environ["AIRFLOW_HOME"], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the name of its folder, and give slow kinds their time."""
    for item in items:
        kind = item.path.relative_to(TESTS).parts[0]
        item.add_marker(kind)
        if kind in TIMEOUTS and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUTS[kind]))
