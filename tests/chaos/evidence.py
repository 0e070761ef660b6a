"""What is found after a fault: the emulator's record, Airflow's states and the results on disk must agree."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

#: Statuses of a job that still costs money.
ACTIVE = frozenset({"QUEUED", "RUNNING"})

_lines: list[str] = []


def note(case: str, injected: str, found: str) -> None:
    """Keep a line about a case, to be printed when all tests are over."""
    _lines.append(f"{case}: {injected} -> {found}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was injected and what was found; both suites' conftest bring this hook in."""
    if _lines:
        terminalreporter.section("injected -> found")
        for line in _lines:
            terminalreporter.write_line(line)
        _lines.clear()


def jobs_by_task_instance(jobs: Iterable[Mapping[str, Any]]) -> Counter[tuple[str, int]]:
    """Number of jobs by task id and map index, as their own metadata has it."""
    return Counter(
        (job["metadata"]["airflow_task_id"], int(job["metadata"]["airflow_map_index"])) for job in jobs
    )


def running_jobs(jobs: Iterable[Mapping[str, Any]]) -> list[str]:
    """Ids of jobs that go on and cost money."""
    return [job["id"] for job in jobs if job["status"] in ACTIVE]


def landed_rows(folder: Path) -> Counter[str]:
    """
    Count the custom ids in a folder of results; each row must be in exactly one file.

    :raises AssertionError: When there is anything else than the results, such as half a download.
    """
    files = {path.name for path in folder.iterdir()}
    assert files - {"manifest.json"} == {"errors.jsonl", "results.jsonl"}, f"files in {folder}: {files}"
    return Counter(
        json.loads(line)["custom_id"]
        for path in folder.glob("*.jsonl")
        for line in path.read_text("utf-8").splitlines()
    )
