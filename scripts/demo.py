"""``make demo``: runs the nightly example Dag in a real Airflow, against the emulator on this machine."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow_provider_mistral_batch.api.client import MistralBatchClient
from airflow_provider_mistral_batch.emulator import Emulator
from local_airflow import LocalAirflow
from processes import exit_on_sigterm

CHECKOUT = Path(__file__).resolve().parents[1]
HOME = CHECKOUT / ".airflow" / "demo"
DAG_ID = "mistral_batch_nightly"

#: Seconds that the emulator takes for the job: enough to see progress.
JOB_SECONDS = 6.0
#: Most rows in the table at the end.
SHOWN = 10


class Screen:
    """Prints lines, each with the seconds since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def say(self, text: str) -> None:
        """Print one line."""
        print(f"{time.monotonic() - self._start:6.1f} s  {text}", flush=True)


class Progress:
    """Prints what changed since the last look, in a Dag run and in the batch job that it waits for."""

    def __init__(
        self, screen: Screen, airflow: LocalAirflow, run_id: str, client: MistralBatchClient
    ) -> None:
        self._screen = screen
        self._airflow = airflow
        self._run_id = run_id
        self._client = client
        self._states: dict[str, str | None] = {}
        self._batch_id: str | None = None
        self._job = self._job_status = ""
        self._job_said_at = 0.0

    def look(self) -> None:
        """Look once, and print what is new."""
        for task_id, state in self._airflow.rest.task_states(DAG_ID, self._run_id).items():
            if state != self._states.get(task_id):
                remark = " (in the triggerer: no worker waits)" if state == "deferred" else ""
                self._screen.say(f"task {task_id}: {state}{remark}")
            self._states[task_id] = state
        if self._states.get("submit") == "success":
            self._look_at_job()

    def _look_at_job(self) -> None:
        if self._batch_id is None:
            self._batch_id = str(self._airflow.rest.xcom(DAG_ID, self._run_id, "submit"))
        job = self._client.get(self._batch_id)
        counts = job.request_counts
        line = (
            f"job {job.id}: {job.status}, {counts.completed} of {counts.total} done, {counts.failed} failed"
        )
        # Counts change all the time, so one line a second is enough; but every status gets a line.
        due = job.status != self._job_status or time.monotonic() >= self._job_said_at + 1
        if line != self._job and due:
            self._screen.say(line)
            self._job, self._job_status, self._job_said_at = line, job.status, time.monotonic()


def main() -> int:
    """Run the demo; return 0 only if every request has its answer."""
    exit_on_sigterm()
    screen = Screen()
    shutil.rmtree(HOME, ignore_errors=True)
    with Emulator(job_seconds=JOB_SECONDS) as emulator:
        screen.say(f"The emulator of Mistral's Batch API listens on {emulator.url}")
        screen.say(
            f"Airflow starts in {HOME.relative_to(CHECKOUT)}: API server, scheduler, Dag processor, triggerer"
        )
        airflow = LocalAirflow(HOME, CHECKOUT / "example_dags")
        with airflow, MistralBatchClient(emulator.api_key, emulator.url) as client:
            airflow.rest.save_connection(
                "mistral_default", conn_type="mistral", host=emulator.url, password=emulator.api_key
            )
            airflow.wait_for_dags(DAG_ID)
            screen.say(f"Airflow is healthy: {airflow.url}")
            run_id = airflow.rest.trigger(DAG_ID)
            screen.say(f"Dag {DAG_ID} runs: {run_id}")
            progress = Progress(screen, airflow, run_id, client)
            state = airflow.wait_for_run(DAG_ID, run_id, watch=progress.look)
            progress.look()
            screen.say(f"Dag {DAG_ID} ended: {state}")
            if state != "success":
                print_failed_tasks(airflow, run_id)
                return 1
            requests_path = airflow.rest.xcom(DAG_ID, run_id, "write_requests")
            manifest = airflow.rest.xcom(DAG_ID, run_id, "download")
    return print_results(local_path(requests_path), manifest)


def print_failed_tasks(airflow: LocalAirflow, run_id: str) -> None:
    """Print the logs of the tasks that failed."""
    for task_instance in airflow.rest.task_instances(DAG_ID, run_id):
        if task_instance["state"] == "failed":
            task_id, tries = task_instance["task_id"], task_instance["try_number"]
            print(
                f"\nLog of task {task_id}, try {tries}:\n{airflow.rest.log(DAG_ID, run_id, task_id, tries)}"
            )


def print_results(requests_path: Path, manifest: dict[str, Any]) -> int:
    """Print a table of the first answers and the totals; return 0 only if every request has its answer."""
    asked = {row["custom_id"] for row in rows_of(requests_path)}
    results_path = local_path(manifest["results_path"])
    answers = {row["custom_id"]: row["response"]["body"] for row in rows_of(results_path)}
    width = max(map(len, list(answers)[:SHOWN]), default=0)
    print(f"\n{'custom_id':<{width}}  {'answer':<64}  tokens")
    for custom_id, body in list(answers.items())[:SHOWN]:
        words = " ".join(body["choices"][0]["message"]["content"].split())
        excerpt = words if len(words) <= 64 else f"{words[:63]}…"
        print(f"{custom_id:<{width}}  {excerpt:<64}  {body['usage']['total_tokens']:>6}")
    if len(answers) > SHOWN:
        print(f"… and {len(answers) - SHOWN} more")
    counts, usage = manifest["counts"], manifest["usage"]
    print(f"\n{len(asked)} requests: {counts['succeeded']} succeeded, {counts['failed']} failed")
    print(
        f"{usage['total_tokens']} tokens: {usage['prompt_tokens']} in prompts, {usage['completion_tokens']} in answers"
    )
    print(f"Results: {results_path}")
    missing = sorted(asked - answers.keys())
    if missing:
        print(f"{len(missing)} requests have no answer, among them: {', '.join(missing[:5])}")
    return 1 if missing or not asked else 0


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """Read a JSONL file row by row."""
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def local_path(path: str) -> Path:
    """Return the path of a local file, given as a path or as a ``file://`` URL."""
    return Path(path.removeprefix("file://"))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("Interrupted. All processes that the demo started have ended.")
