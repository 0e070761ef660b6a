"""Runs the data path's steps with 100,000 and 1,000,000 rows, and prints them beside a step that limits them."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from reporting import check

SMALL = 100_000
LARGE = 1_000_000

#: Claims for all steps: most MB of memory, and least speed relative to the SDK.
MOST_MB = 150
TIMES_SDK = 30

_STEPS = Path(__file__).with_name("jsonl_steps.py")


def compare(
    title: str,
    steps: list[str],
    *,
    limit: str,
    sdk: str | None = None,
    targets: Mapping[str, float | None],
    prepare: Callable[[Path], None] | None = None,
    script: Path = _STEPS,
    most_mb: float = MOST_MB,
) -> None:
    """
    Measure steps and print a table and a line of JSON.

    The steps run in turns, three times each, so that a busy moment of the machine affects all of them. The best run
    counts.

    :param title: What is measured.
    :param steps: Names in ``jsonl_steps.STEPS``.
    :param limit: The step whose speed counts as 100 %.
    :param sdk: The official SDK's step, measured only at the smaller size.
    :param targets: Claims by step. Each step stays below 150 MB at any number of rows. If a share of the limit is
        given, the step also reaches that share and is 30 times as fast as the SDK.
    :param prepare: Called with the files' directory after the files are made.
    :param script: The program that runs the steps.
    :param most_mb: Most MB of memory of each step that has a target.
    """
    arguments = _arguments(title)
    found: dict[str, Any] = {}
    sdk_rate: float | None = None
    with tempfile.TemporaryDirectory(prefix="mistral-batch-bench-", dir=arguments.directory) as name:
        for rows in sorted({min(SMALL, arguments.rows), arguments.rows}):
            directory = Path(name) / str(rows)
            _run(script, "make files", directory, rows)
            if prepare is not None:
                prepare(directory)
            runs: dict[str, list[dict[str, Any]]] = {step: [] for step in steps}
            for _ in range(arguments.turns):
                for step in steps:
                    runs[step].append(_run(script, step, directory, rows))
            if sdk and sdk_rate is None:
                runs[sdk] = [_run(script, sdk, directory, rows)]
                sdk_rate = rows / runs[sdk][0]["seconds"]
            found[str(rows)] = {step: _figures(took, runs[limit], sdk_rate) for step, took in runs.items()}
            _print(title, rows, limit, found[str(rows)])
    claims: list[tuple[str, float, str, float]] = []
    for step, share in targets.items():
        for rows, steps_found in found.items():
            size = f"{step}, {int(rows):,} rows"
            claims.append((f"{size}, peak MB", steps_found[step]["peak_mb"], "under", most_mb))
        if share is not None:
            claims.append((f"{size}, share of {limit}", steps_found[step]["of_limit"], "at least", share))
        if share is not None and sdk:
            claims.append((f"{size}, times the SDK", steps_found[step]["times_sdk"], "at least", TIMES_SDK))
    print(json.dumps({title: {"sizes": found, "targets": check(claims)}}))


def _figures(
    took: list[dict[str, Any]], limit: list[dict[str, Any]], sdk_rate: float | None
) -> dict[str, Any]:
    def best(runs: list[dict[str, Any]], clock: str) -> float:
        return min(float(run[clock]) for run in runs)

    rate = took[0]["rows"] / best(took, "seconds")
    figures: dict[str, Any] = {
        "rows_per_second": round(rate),
        "mb_per_second": round(took[0]["mb"] / best(took, "seconds")),
        "peak_mb": round(max(run["peak_mb"] for run in took)),
        "of_limit": round(best(limit, "seconds") / best(took, "seconds"), 3),
        "of_limit_cpu": round(best(limit, "cpu_seconds") / best(took, "cpu_seconds"), 3),
    }
    if sdk_rate is not None:
        figures["times_sdk"] = round(rate / sdk_rate, 1)
    return figures


def _run(script: Path, step: str, directory: Path, rows: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(script), step, str(directory), str(rows)], check=True, stdout=subprocess.PIPE
    )
    return json.loads(done.stdout) if done.stdout else {}


def _print(title: str, rows: int, limit: str, found: dict[str, Any]) -> None:
    print(f"\n{title}, {rows:,} rows")
    print(
        f"  100 % = {limit}; CPU % compares processor time, which other work on the machine does not change"
    )
    print(f"  {'step':26}{'rows/s':>12}{'MB/s':>8}{'peak MB':>9}{'%':>8}{'CPU %':>8}{'times SDK':>11}")
    for step, run in found.items():
        times = f"{run['times_sdk']:.0f} x" if "times_sdk" in run else ""
        print(
            f"  {step:26}{run['rows_per_second']:12,}{run['mb_per_second']:8,}{run['peak_mb']:9,}{run['of_limit']:8.0%}"
            f"{run['of_limit_cpu']:8.0%}{times:>11}"
        )


def _arguments(title: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--rows", type=int, default=LARGE, help="the larger size (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="runs of each step (default: %(default)s)")
    parser.add_argument(
        "--directory", help="where the files are made (default: the system's temporary directory)"
    )
    return parser.parse_args()
