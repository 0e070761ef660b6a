"""What all tests share: markers by folder, an Airflow home that is nobody's, a workspace in the emulator, a bucket."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from requests_toolbelt.sessions import BaseUrlSession

from airflow_provider_mistral_batch.emulator import Emulator
from airflow_provider_mistral_batch.emulator.client import Control

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

    from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook

TESTS = Path(__file__).parent

#: Seconds that a test may take, for the kinds that wait for whole programs.
TIMEOUTS = {"e2e": 300, "chaos": 600, "distributed": 900}

# Airflow reads its settings as soon as it is imported, and test modules import it: a fixture would come too late.
for name in [name for name in os.environ if name.startswith(("AIRFLOW", "MISTRAL"))]:
    # These say where the databases of the tests are.
    if not name.startswith("MISTRAL_BATCH_TEST_"):
        del os.environ[name]
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-home-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"

# How long an example takes tells of the machine, not of the code.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


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


#: Settings that an emulator was started with, by its URL: each folder has an emulator of its own.
_FIRST_SETTINGS: dict[str, dict[str, Any]] = {}


@pytest.fixture
def control(emulator: Emulator) -> Iterator[Control]:
    """The emulator as it was started, seen by a key that nobody used before, so in a workspace of its own."""
    control = Control(emulator.url, f"key-{uuid.uuid4().hex}")
    control.clear_faults()
    control.settings(**_FIRST_SETTINGS.setdefault(emulator.url, emulator.control.settings()))
    control.reset()
    yield control
    control.clear_faults()
    control.close()


@pytest.fixture
def api(control: Control) -> Iterator[BaseUrlSession]:
    """Plain HTTP with the control's key."""
    with BaseUrlSession(control.url) as session:
        session.headers["Authorization"] = f"Bearer {control.api_key}"
        yield session


@pytest.fixture
def bucket() -> Iterator[ObjectStoragePath]:
    """A folder in an object store in memory, as Airflow shows it to tasks; empty at the beginning."""
    # Imported late: it takes Airflow.
    from airflow.sdk import ObjectStoragePath
    from airflow.sdk.io.store import attach
    from fsspec.implementations.memory import MemoryFileSystem

    store = MemoryFileSystem()
    store.store.clear()
    store.pseudo_dirs[:] = [""]
    attach("memory", fs=store)
    yield ObjectStoragePath("memory://bucket/folder")
    store.store.clear()


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than the temporary one: nothing can be renamed from one to the other."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other file system at /dev/shm")
    with tempfile.TemporaryDirectory(dir=memory) as name:
        yield Path(name)


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was logged since the last call: by tasks and triggers through structlog, by modules through logging."""
    # Imported late: it takes Airflow.
    from airflow_provider_mistral_batch.hooks.connection import say_warning

    caplog.set_level("INFO")
    # Other tests have caused the same ones.
    say_warning.cache_clear()

    def logged() -> list[str]:
        entries = re.finditer(r"^\S+ \[(\w+) *\] (.*?) +\[[\w.]+\]", capsys.readouterr().out, re.M | re.S)
        lines = [f"{entry[1]}: {entry[2].strip()}" for entry in entries]
        lines += [f"{record.levelname.lower()}: {record.getMessage()}" for record in caplog.records]
        caplog.clear()
        return lines

    return logged


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Callable[..., MistralBatchHook]:
    """Makes the connection ``mistral_default``, and gives its hook."""
    # Imported late: it takes Airflow.
    from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook

    def connection(text: str | None = None, **fields: Any) -> MistralBatchHook:
        fields = {"conn_type": "mistral", "password": "k3y-of-nobody", **fields}
        monkeypatch.setenv("AIRFLOW_CONN_MISTRAL_DEFAULT", json.dumps(fields) if text is None else text)
        return MistralBatchHook()

    return connection
