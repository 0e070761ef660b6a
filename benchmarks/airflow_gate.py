"""Claim: in a real Airflow, gating on batch jobs takes fewer worker starts and less CPU time than another provider."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from reporting import report
from servers import LATENCY, Peers

from airflow_provider_mistral_batch.emulator import Emulator

_HERE = Path(__file__).parent
sys.path.insert(0, str(_HERE.parent / "scripts"))

from local_airflow import LocalAirflow  # noqa: E402
from processes import exit_on_sigterm  # noqa: E402

OURS = (
    "ours_deferrable_sensor",
    "ours_sensor_started_from_trigger",
    "ours_reschedule_sensor",
    "ours_create_and_wait",
)
THEIRS = ("anthropic_deferrable_sensor", "anthropic_reschedule_sensor", "anthropic_create_and_wait")

COLUMNS = {
    "jobs": "jobs",
    "wall_seconds": "wall seconds",
    "cpu_seconds": "CPU seconds",
    "cpu_at_work": "CPU above idle",
    "worker_starts": "worker starts",
    "requests": "requests",
}


def main() -> None:
    """Run each variant once, one after the other, in the same Airflow."""
    options = _options()
    exit_on_sigterm()
    with (
        tempfile.TemporaryDirectory(prefix="mistral-batch-bench-") as folder,
        Emulator(latency=LATENCY, validation_seconds=0, job_seconds=options.job_seconds) as emulator,
        Peers(job_seconds=options.job_seconds) as peers,
        _airflow(Path(folder), emulator, peers, options) as airflow,
    ):
        airflow.wait_for_dags(*options.variants, timeout=300)
        rest = _cpu_at_rest(airflow, options.rest_seconds)
        print(f"The idle Airflow takes {rest:.2f} CPU seconds per second", flush=True)
        rows = {}
        for name in options.variants:
            count = peers.requests if name in THEIRS else lambda: sum(emulator.control.requests().values())
            rows[name] = _run(airflow, name, count, rest) | {"jobs": options.jobs}
            print(f"{name}: {rows[name]}", flush=True)
    title = f"From submit to gate in a real Airflow, jobs of {options.job_seconds:g} s"
    report(title, COLUMNS, rows, cpu_at_rest=rest, poll_interval=options.poll_interval)


@contextlib.contextmanager
def _airflow(
    folder: Path, emulator: Emulator, peers: Peers, options: argparse.Namespace
) -> Iterator[LocalAirflow]:
    dags = folder / "dags"
    dags.mkdir()
    shutil.copy(_HERE / "airflow_gate_dags.py", dags)
    connections = {
        "mistral_default": {"conn_type": "mistral", "host": emulator.url, "password": emulator.api_key},
        "anthropic_default": {"conn_type": "anthropic", "host": peers.url, "password": "key"},
    }
    with LocalAirflow(
        folder / "airflow",
        dags,
        connections=connections,
        env={"GATE_JOBS": str(options.jobs), "GATE_POLL_INTERVAL": str(options.poll_interval)},
    ) as airflow:
        yield airflow


def _run(airflow: LocalAirflow, dag_id: str, count: Any, rest: float) -> dict[str, Any]:
    requests, cpu, started = count(), _cpu(airflow), time.monotonic()
    run_id = airflow.rest.trigger(dag_id)
    state = airflow.wait_for_run(dag_id, run_id, timeout=1800, interval=0.5)
    wall, cpu = time.monotonic() - started, _cpu(airflow) - cpu
    if state != "success":
        raise RuntimeError(f"{dag_id} ended as {state}:\n{_reason(airflow, dag_id, run_id)}")
    tasks = airflow.rest.task_instances(dag_id, run_id)
    return {
        "wall_seconds": round(wall, 1),
        "cpu_seconds": round(cpu, 1),
        "cpu_at_work": round(cpu - rest * wall, 1),
        "worker_starts": sum(
            airflow.rest.worker_starts(dag_id, run_id, task["task_id"], task["map_index"]) for task in tasks
        ),
        "requests": count() - requests,
    }


def _reason(airflow: LocalAirflow, dag_id: str, run_id: str) -> str:
    """Return the states of all tasks, and the log of a failed one."""
    states = str(airflow.rest.task_states(dag_id, run_id))
    for task in airflow.rest.task_instances(dag_id, run_id):
        if task["state"] == "failed":
            log = airflow.rest.log(dag_id, run_id, task["task_id"], map_index=task["map_index"])
            return f"{states}\n{log[-3000:]}"
    return states


def _cpu_at_rest(airflow: LocalAirflow, seconds: float) -> float:
    """Measure the CPU seconds per second while Airflow is idle."""
    cpu, started = _cpu(airflow), time.monotonic()
    time.sleep(seconds)
    return round((_cpu(airflow) - cpu) / (time.monotonic() - started), 3)


def _cpu(airflow: LocalAirflow) -> float:
    """Return the CPU seconds of all processes of an Airflow so far; parents count those of ended children."""
    total = 0.0
    for program in airflow.processes.values():
        for process in program.processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
    return total


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    variants = OURS + (THEIRS if importlib.util.find_spec("anthropic") else ())
    parser.add_argument("--jobs", type=int, default=50, help="jobs per variant (default: %(default)s)")
    parser.add_argument(
        "--job-seconds", type=float, default=30, help="how long each job lasts (default: %(default)s)"
    )
    parser.add_argument("--poll-interval", type=float, default=5, help="in seconds (default: %(default)s)")
    parser.add_argument(
        "--rest-seconds",
        type=float,
        default=10,
        help="how long the idle Airflow is measured (default: %(default)s)",
    )
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=variants,
        default=list(variants),
        help="variants to run (default: all)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
