"""Claim: a job's end is noticed within 5 % of its age or 2 s, whichever is more.

To save time, the jobs are old from the start: the server says that they were created an hour ago. Delays are measured
in real time.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reporting import check, report
from servers import LATENCY

from airflow_provider_mistral_batch.emulator import Emulator
from airflow_provider_mistral_batch.emulator.client import Control

#: About the age in seconds at which jobs end.
AGES = (10, 120, 3600)

COLUMNS = {
    "jobs": "jobs",
    "median": "median s",
    "p99": "p99 s",
    "longest": "longest s",
    "allowed": "allowed s",
}

_PROCESS = Path(__file__).with_name("detection_process.py")


def main() -> None:
    """Measure one age after the other, each in its own process and workspace."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000, help="jobs per age (default: %(default)s)")
    parser.add_argument(
        "--ages", type=float, nargs="+", default=list(AGES), help="in seconds (default: %(default)s)"
    )
    parser.add_argument(
        "--compress",
        type=float,
        default=1.0,
        help="end the jobs within this fraction of the usual time, for a quick run (default: %(default)s)",
    )
    options = parser.parse_args()
    rows = {}
    with Emulator(latency=LATENCY) as emulator:
        for age in options.ages:
            with _Wait(emulator, age) as wait:
                wait.begin(options.jobs, options.compress)
                rows[_name(age)] = wait.delays()
    claims = [
        (f"{name}, {figure} delay in s", row[figure], "at most", row["allowed"])
        for name, row in rows.items()
        for figure in ("median", "p99")
    ]
    report("Seconds from a job's end to its trigger's event", COLUMNS, rows, targets=check(claims))


class _Wait:
    """
    A process with triggers whose jobs end at about the same age.

    :param age: Age of the jobs in seconds when they end.
    """

    def __init__(self, emulator: Emulator, age: float) -> None:
        self.age = age
        self.allowed = max(2.0, age * 0.05)
        self._control = Control(emulator.url, f"key-{age:g}")
        self._home = tempfile.TemporaryDirectory(prefix="mistral-batch-bench-")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        connection = {"conn_type": "mistral", "host": emulator.url, "password": self._control.api_key}
        self._process = subprocess.Popen(
            [sys.executable, str(_PROCESS), *self._control.make_jobs(1, status="SUCCESS")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **environment,
                "AIRFLOW_HOME": self._home.name,
                "AIRFLOW_CONN_MEASURED": json.dumps(connection),
            },
        )

    def __enter__(self) -> _Wait:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.kill()
        with self._process:
            # Leaving the block waits for the process and closes the pipes.
            pass
        self._home.cleanup()
        self._control.close()

    def begin(self, jobs: int, compress: float) -> None:
        """
        Make the jobs, and start a trigger for each.

        :param jobs: How many jobs.
        :param compress: Fraction of the usual time within which they end.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # Only now, so that the jobs do not age while the process starts.
        assert self._process.stdout.readline() == "ready\n"
        look = min(self.allowed, 60.0) * compress
        # The ends are spread over three intervals between looks, after the first one.
        chance = random.Random(1)
        ends_after = [look + chance.uniform(0.0, 3 * look) for _ in range(jobs)]
        age = max(0.0, self.age - statistics.mean(ends_after))
        batch_ids = self._control.make_jobs(jobs, age_seconds=age, ends_after=ends_after)
        json.dump(batch_ids, self._process.stdin)
        self._process.stdin.close()

    def delays(self) -> Mapping[str, Any]:
        """Wait until all jobs have ended, and compare when each ended with when its trigger reported it."""
        assert self._process.stdout is not None
        said: dict[str, float] = json.load(self._process.stdout)
        record = self._control.record(phantoms=True)["jobs"]
        ended = {job["id"]: job["ended"] for job in record if job["id"] in said}
        # Jobs that had ended before the first look do not count.
        begun = said.pop("begun")
        delays = sorted(said[batch_id] - at for batch_id, at in ended.items() if at > begun + 1.0)
        return {
            "jobs": len(delays),
            "median": round(statistics.median(delays), 2),
            "p99": round(delays[int(len(delays) * 0.99)], 2),
            "longest": round(delays[-1], 2),
            "allowed": self.allowed,
        }


def _name(age: float) -> str:
    if age < 60:
        return f"{age:g} s old"
    return f"{age / 60:g} min old" if age < 3600 else f"{age / 3600:g} h old"


if __name__ == "__main__":
    main()
