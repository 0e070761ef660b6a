"""Every benchmark at a tiny size, so that none of them rots. What they measure here means nothing."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("mistralai", reason="benchmarks compare with the official SDK, which is not installed")

CHECKOUT = Path(__file__).parents[2]


def _benchmarks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmarks_main", CHECKOUT / "benchmarks" / "__main__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


NAMES = tuple(_benchmarks().QUICK)


def _run(results: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", "--results", str(results), *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )


# One of them starts a whole Airflow.
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", NAMES)
def test_benchmark(name: str, tmp_path: Path) -> None:
    done = _run(tmp_path, name, "--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = tmp_path.glob("*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    assert found["machine"]["cores"] >= 1
    assert list(found["benchmarks"]) == [name]
    results = found["benchmarks"][name]["results"]
    assert results
    assert all(results.values())


def test_every_claim_has_its_benchmark() -> None:
    claims = {
        path.stem
        for path in (CHECKOUT / "benchmarks").glob("*.py")
        if path.read_text().startswith('"""Claim: ')
    }
    assert claims == set(NAMES)


def test_an_unknown_benchmark(tmp_path: Path) -> None:
    done = _run(tmp_path, "speed")
    assert done.returncode == 2
    assert "unknown benchmark speed: use any of waiting, " in done.stderr
