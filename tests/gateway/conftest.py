"""A real LiteLLM proxy in front of the emulator, started on a free port and ended by its process id."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_provider_mistral_batch.emulator import Emulator

from ..integration.conftest import airflow, hook, supervisor  # noqa: F401 - fixtures

#: ``make test-gateway`` installs it into an environment of its own: its pins and Airflow's do not fit together.
LITELLM = Path(sys.prefix) / "gateway" / "bin" / "litellm"

KEY = "sk-of-the-proxy"
MODEL = "mistral-small-latest"


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture(scope="session")
def proxy(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The proxy's URL."""
    folder = tmp_path_factory.mktemp("litellm")
    upstream = {"api_base": emulator.url, "api_key": emulator.api_key}
    config = {
        "model_list": [{"model_name": MODEL, "litellm_params": {"model": f"mistral/{MODEL}", **upstream}}],
        "files_settings": [{"custom_llm_provider": "mistral", **upstream}],
        "general_settings": {"master_key": KEY},
    }
    # JSON is YAML, too.
    (folder / "config.yaml").write_text(json.dumps(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")},
        "MISTRAL_API_BASE": emulator.url,
        "MISTRAL_API_KEY": emulator.api_key,
        # Its price list is on the internet.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "NO_PROXY": "127.0.0.1",
    }
    command: list[str] = [
        str(LITELLM),
        "--config",
        "config.yaml",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--telemetry",
        "False",
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_it_answers(url, process, folder / "log")
        yield url
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 90
    while not _answers(url):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/health/liveliness", timeout=5).ok
    except requests.RequestException:
        return False


@pytest.fixture
def connect(proxy: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes an Airflow connection to the proxy."""

    def connect(path: str = "", **extra: Any) -> None:
        connection = {
            "conn_type": "mistral",
            "host": proxy + path,
            "password": KEY,
            "extra": {"retries": 2, **extra},
        }
        monkeypatch.setenv("AIRFLOW_CONN_MISTRAL_DEFAULT", json.dumps(connection))

    return connect
