"""What the tests of whole batches share: small batches in a hurry, and a look at what they left."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mistral_batch.emulator.client import Control
from airflow_provider_mistral_batch.hooks import uploads
from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
from airflow_provider_mistral_batch.operators.inference import MistralBatchInferenceOperator
from airflow_provider_mistral_batch.submission import jobs


@pytest.fixture(params=[False, True], ids=["worker", "deferred"])
def way(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Options for each way of waiting."""
    return {"deferrable": request.param}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The batch's destination."""
    return tmp_path / "out"


@pytest.fixture
def batch(hook: MistralBatchHook, out: Path) -> Callable[..., Callable[[], MistralBatchInferenceOperator]]:
    """Describes a task, by default one that asks five prompts; what it gives makes the task for each worker start."""

    def batch(count: int = 5, **options: Any) -> Callable[[], MistralBatchInferenceOperator]:
        if not {"requests", "path"} & set(options):
            options["requests"] = [f"Say {number}" for number in range(1, count + 1)]
        options = {
            "destination": str(out),
            "model": "mistral-small-latest",
            "poll_interval_min": 0.02,
            "poll_interval": 0.05,
            "max_tokens": 20,
            **options,
        }
        return lambda: MistralBatchInferenceOperator(task_id="task", **options)

    return batch


@pytest.fixture
def at_deferral(
    control: Control, airflow: Any, jobs: Callable[[], list[dict[str, Any]]]
) -> Callable[[Callable[[], Any]], None]:
    """Lets jobs run until the task is deferred, however slow the machine is; something may happen just then."""

    def at_deferral(action: Callable[[], Any]) -> None:
        control.settings(job_seconds=3600)

        def on_deferral() -> None:
            action()
            running = [job["id"] for job in jobs() if job["status"] in ("QUEUED", "RUNNING")]
            if running:
                control.end_jobs(running)

        airflow.on_deferral = on_deferral

    return at_deferral


@pytest.fixture
def rows_of() -> Callable[[str | Path], dict[str, Any]]:
    """Reads rows by id; fails if an id comes twice."""

    def rows_of(path: str | Path) -> dict[str, Any]:
        rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
        by_id = {row["custom_id"]: row for row in rows}
        assert len(by_id) == len(rows)
        return by_id

    return rows_of


@pytest.fixture
def sent(control: Control) -> Callable[[], int]:
    """Counts what was asked of the server that creates something."""
    return lambda: sum(n for operation, n in control.requests().items() if operation.startswith("POST"))


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look again at once for what may have come into being: the emulator's listings do not lag here."""
    monkeypatch.setattr(jobs, "_RECHECKS", (0.01,))
    monkeypatch.setattr(uploads, "_RECHECKS", (0.01,))
