"""Claim: one poll loop waits for thousands of jobs with 1/20 of the CPU time of other providers' triggers."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reporting import check, report
from servers import LATENCY, Peers, RequestRounds

from airflow_provider_mistral_batch.emulator import Emulator
from airflow_provider_mistral_batch.emulator.client import Control

#: Targets by number of waiting triggers.
TARGETS = {
    1_000: {"requests_a_round": 12, "peak_mb": 30, "stall_ms": 50},
    10_000: {"requests_a_round": 110, "peak_mb": 150, "stall_ms": 50},
}

#: Most CPU time, as a share of the best other provider's.
CPU_SHARE = 1 / 20

PEERS = {
    "anthropic": "airflow.providers.anthropic.triggers.batch",
    "common-ai": "airflow.providers.common.ai.triggers.llm_batch",
    "openai": "airflow.providers.openai.triggers.openai",
}

COLUMNS = {
    "triggers": "waiting",
    "first_round": "first round",
    "requests_a_round": "requests a round",
    "rounds": "rounds",
    "cpu_seconds": "CPU seconds",
    "peak_mb": "peak MB",
    "stall_ms": "longest stall ms",
    "stall_cpu_ms": "CPU ms in it",
    "collection_ms": "longest GC ms",
    "stall_without_ms": "stall without GC ms",
}

_PROCESS = Path(__file__).with_name("waiting_process.py")

#: Like the metadata of a job that the provider submits.
_METADATA = {
    "airflow_dag_id": "nightly_summaries",
    "airflow_task_id": "summaries.create",
    "airflow_run_id": "scheduled__2026-01-01T00:00:00+00:00",
    "airflow_map_index": "17",
    "airflow_submitted_at": "1790000000",
    "airflow_requests": "1000",
    "airflow_key": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
}


def main() -> None:
    """Measure our triggers at all sizes and other providers' at the smallest, each in its own process."""
    options = _options()
    rows: dict[str, dict[str, Any]] = {}
    ours = options.provider == [] or "mistral" in options.provider
    for waiting in options.waiting if ours else []:
        rows[f"mistral {waiting:,}"] = _ours(waiting, options)
    smallest = min(options.waiting)
    for name, module in PEERS.items():
        if options.provider and name not in options.provider:
            continue
        if not _is_installed(module):
            print(f"{name} is skipped, because its provider is not installed: make bench installs it")
            continue
        rows[f"{name} {smallest:,}"] = _peer(name, smallest, options)
    title = f"Waiting, {options.seconds:g} s, poll interval {options.poll_interval:g} s"
    report(title, COLUMNS, rows, targets=check(_claims(rows, smallest)))


def _ours(waiting: int, options: argparse.Namespace) -> dict[str, Any]:
    with Emulator(latency=LATENCY) as emulator:
        control = emulator.control
        over = control.make_jobs(1, status="SUCCESS", total_requests=1000, metadata=_METADATA)[0]
        # Old enough for the longest poll interval.
        batch_ids = control.make_jobs(
            waiting, age_seconds=3600, total_requests=1000, timeout_hours=168, metadata=_METADATA
        )
        connection = {"conn_type": "mistral", "host": emulator.url, "password": emulator.api_key}
        with _growing_counts(emulator):
            return _measured(
                "mistral", connection, batch_ids, over, options, lambda: sum(control.requests().values())
            )


def _peer(name: str, waiting: int, options: argparse.Namespace) -> dict[str, Any]:
    with Peers() as server:
        host = server.url if name == "anthropic" else f"{server.url}/v1"
        kind = "pydanticai" if name == "common-ai" else name
        connection = {"conn_type": kind, "host": host, "password": "key"}
        batch_ids = [f"batch_{number:06d}" for number in range(waiting)]
        return _measured(name, connection, batch_ids, "over", options, server.requests)


def _measured(
    provider: str,
    connection: dict[str, Any],
    batch_ids: Sequence[str],
    over: str,
    options: argparse.Namespace,
    count: Callable[[], int],
) -> dict[str, Any]:
    order = {
        "provider": provider,
        "batch_ids": list(batch_ids),
        "over": over,
        "poll_interval": options.poll_interval,
        "seconds": options.seconds,
    }
    with tempfile.TemporaryDirectory(prefix="mistral-batch-bench-") as home:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        environment |= {"AIRFLOW_HOME": home, "AIRFLOW_CONN_MEASURED": json.dumps(connection)}
        with RequestRounds(count) as rounds:
            done = subprocess.run(
                [sys.executable, str(_PROCESS)],
                input=json.dumps(order),
                stdout=subprocess.PIPE,
                check=True,
                text=True,
                env=environment,
            )
    measured: dict[str, Any] = json.loads(done.stdout)
    if measured.pop("ended"):
        raise RuntimeError(f"{provider}: triggers ended although their jobs are running: {done.stdout}")
    # The first request belongs to the wait that warms up the process, perhaps long before the others.
    rounds[0] -= 1
    rounds = [requests for requests in rounds if requests]
    return {
        **measured,
        "first_round": rounds[0],
        "requests_a_round": max(rounds[1:] or rounds),
        "rounds": len(rounds),
        "requests": rounds,
    }


@contextmanager
def _growing_counts(emulator: Emulator) -> Iterator[None]:
    """Make every job progress all the time, as real jobs do, so that each look shows something new."""
    control = Control(emulator.url, emulator.api_key)
    done = threading.Event()

    def grow() -> None:
        completed = 0
        shown: str | None = None
        while True:
            completed += 3
            counts = {"completed_requests": completed, "succeeded_requests": completed}
            # Of several matching rules the oldest applies, so the old one is removed first.
            if shown is not None:
                control.remove_fault(shown)
            shown = control.fault("alter", "GET", "/v1/batch/jobs", fields=counts, times=None)
            if done.wait(5):
                return

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        control.close()


def _claims(rows: dict[str, dict[str, Any]], smallest: int) -> list[tuple[str, float, str, float]]:
    claims: list[tuple[str, float, str, float]] = []
    for waiting, targets in TARGETS.items():
        row = rows.get(f"mistral {waiting:,}", {})
        for field, target in targets.items() if row else ():
            comparison = "under" if field == "stall_ms" else "at most"
            claims.append((f"{waiting:,} waiting, {COLUMNS[field]}", row[field], comparison, target))
    ours = rows.get(f"mistral {smallest:,}")
    # A provider that blocks the event loop so long that some triggers never start does not count.
    peers = [
        row["cpu_seconds"]
        for name, row in rows.items()
        if not name.startswith("mistral") and row["triggers"] == smallest
    ]
    if ours and peers and smallest in TARGETS:
        share = round(ours["cpu_seconds"] / min(peers), 4)
        claims.append(
            (f"{smallest:,} waiting, share of the best peer's CPU time", share, "at most", CPU_SHARE)
        )
    return claims


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--waiting",
        type=int,
        nargs="+",
        default=list(TARGETS),
        help="numbers of triggers (default: %(default)s)",
    )
    parser.add_argument("--seconds", type=float, default=95, help="how long they wait (default: %(default)s)")
    parser.add_argument("--poll-interval", type=float, default=30, help="in seconds (default: %(default)s)")
    parser.add_argument(
        "--provider",
        choices=["mistral", *PEERS],
        action="append",
        default=[],
        help="measure only this provider; may be repeated",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
