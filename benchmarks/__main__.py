"""``python -m benchmarks``: runs the benchmarks one by one, and saves their results and the machine's facts."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

#: Every benchmark, with arguments that make it so small that it only shows that it works.
QUICK: Mapping[str, tuple[str, ...]] = {
    "waiting": ("--waiting", "20", "--seconds", "2", "--poll-interval", "1"),
    "detection": ("--jobs", "5", "--ages", "10", "--compress", "0.5"),
    "jsonl_prepare": ("--rows", "1000", "--turns", "1"),
    "jsonl_split": ("--rows", "1000", "--turns", "1"),
    "jsonl_transfer": ("--rows", "1000", "--turns", "1"),
    "jsonl_parquet": ("--rows", "1000", "--turns", "1"),
    "table": ("--rows", "1000", "--turns", "1"),
    "stores": ("--rows", "200", "--turns", "1"),
    "airflow_gate": (
        *("--jobs", "2", "--job-seconds", "1", "--poll-interval", "1", "--rest-seconds", "1"),
        *("--variants", "ours_deferrable_sensor"),
    ),
}

_PACKAGES = (
    "airflow-provider-mistral-batch",
    "apache-airflow",
    "apache-airflow-providers-anthropic",
    "apache-airflow-providers-common-ai",
    "apache-airflow-providers-openai",
    "msgspec",
    "pyarrow",
    "mistralai",
)


def main() -> int:
    """Run the chosen benchmarks; fail if any of them fails."""
    options = _options()
    found: dict[str, Any] = {}
    failed = []
    begun = datetime.now(timezone.utc)
    facts = _machine()
    print(f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gb']} GB; Python {facts['python']}")
    print(f"Load averages before: {facts['load_before']}")
    for name in options.names or QUICK:
        print(f"\n== {name}", flush=True)
        arguments = QUICK[name] if options.quick else ()
        started = time.monotonic()
        code, results = _run(name, arguments)
        found[name] = {"seconds": round(time.monotonic() - started, 1), "results": results}
        if code != 0:
            failed.append(name)
    facts["load_after"] = _load()
    path = Path(options.results) / f"{begun:%Y-%m-%dT%H-%M-%S}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps({"begun": begun.isoformat(), "machine": facts, "benchmarks": found}, indent=2) + "\n"
    )
    print(f"\nWritten: {path}")
    if failed:
        print(f"Failed: {', '.join(failed)}")
    return 1 if failed else 0


def _run(name: str, arguments: tuple[str, ...]) -> tuple[int, dict[str, Any]]:
    """Run one benchmark: pass on its tables, and collect its lines of JSON."""
    results: dict[str, Any] = {}
    # In its own process, so that benchmarks do not affect each other.
    with subprocess.Popen(
        [sys.executable, "-u", str(HERE / f"{name}.py"), *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                results.update(json.loads(line))
            else:
                print(line, end="", flush=True)
    return process.returncode, results


def _machine() -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "load_before": _load(),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _load() -> str:
    """Return the load averages of 1, 5 and 15 minutes: above 1, other work was running and times are unreliable."""
    return ", ".join(f"{load:.2f}" for load in os.getloadavg())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(QUICK)}; default: all")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes: show that the benchmarks work, but measure nothing"
    )
    parser.add_argument("--results", default=str(HERE / "results"), help="directory (default: %(default)s)")
    options = parser.parse_args()
    if unknown := set(options.names) - set(QUICK):
        parser.error(f"unknown benchmark {', '.join(sorted(unknown))}: use any of {', '.join(QUICK)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
