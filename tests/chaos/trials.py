"""A trial: one Dag run in a workspace of the emulator that is its own, and everything that can befall it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from airflow_provider_mistral_batch.emulator import Emulator
from airflow_provider_mistral_batch.emulator.client import Control
from airflow_rest import AirflowRest
from local_airflow import LocalAirflow

from .evidence import jobs_by_task_instance, landed_rows, note, running_jobs

#: Tasks of the Dags with one job, all of them well.
ALL_WELL = {"upload": "success", "submit": "success", "download": "success"}

#: Seconds until something that must happen is given up.
PATIENCE = 240.0

JOBS_PATH = "/v1/batch/jobs"


class Trial:
    """
    A Dag run with a connection, an API key and a folder that no other has, so that its faults hit nothing else.

    :param airflow: Where it runs.
    :param emulator: Where its jobs run.
    :param folder: For its requests and results.
    :param name: The case that it belongs to.
    :param dag_id: The Dag.
    :param rows: Requests of its job.
    """

    def __init__(
        self,
        airflow: LocalAirflow,
        emulator: Emulator,
        folder: Path,
        name: str,
        dag_id: str = "chaos_deferred",
        *,
        rows: int = 20,
    ) -> None:
        self.airflow = airflow
        self.name = name
        self.dag_id = dag_id
        self.key = f"the-key-of-{name}"
        self.folder = folder / name
        self.results = self.folder / "results"
        # Clients of its own: trials run in threads.
        self.rest = AirflowRest(airflow.url)
        self.control = Control(emulator.url, self.key)
        self.custom_ids = [f"row-{number}" for number in range(rows)]
        self.run_id = ""
        self._started = time.monotonic()

    def start(self) -> None:
        """Write the requests, make the connection and start the Dag run."""
        self.folder.mkdir(parents=True)
        requests = self.folder / "requests.jsonl"
        with requests.open("w") as file:
            for custom_id in self.custom_ids:
                message = {"role": "user", "content": f"What is special about {custom_id} of {self.name}?"}
                body = {"messages": [message], "max_tokens": 50}
                file.write(json.dumps({"custom_id": custom_id, "body": body}) + "\n")
        conf = {
            "case": self.name,
            "connection": self.name,
            "requests": str(requests),
            "folder": str(self.results),
        }
        self.rest.save_connection(self.name, conn_type="mistral", host=self.control.url, password=self.key)
        self.run_id = self.name
        self.rest.trigger(self.dag_id, conf, run_id=self.run_id)

    def fault(self, kind: str, method: str | None = None, path: str = "*", **rule: Any) -> str:
        """Switch on a fault of the emulator that hits this trial alone, and return its id."""
        return self.control.fault(kind, method, path, key=self.key, **rule)

    def plan_job(self, **plan: Any) -> None:
        """Plan something for this trial's jobs."""
        self.control.plan_jobs(metadata={"case": self.name}, times=None, **plan)

    def wait_for_fault(self, fault_id: str, hits: int = 1) -> None:
        """Wait until a fault strikes."""
        self.control.wait_for_fault(fault_id, hits, timeout=PATIENCE)

    def wait_until(self, condition: Callable[[], object], what: str, *, interval: float = 0.5) -> None:
        """
        Wait until something is so.

        :param condition: Tells whether it is.
        :param what: How the error calls it.
        :param interval: Seconds between two looks.
        :raises TimeoutError: When it does not come.
        """
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name}: not so after {PATIENCE:.0f} s: {what}")
            time.sleep(interval)

    def wait_until_looked_at(self, *, listed: bool = False) -> None:
        """
        Wait until the job is waited for: looked at twice.

        :param listed: Whether that is done through the listing of active jobs, as for several at once.
        """
        which = {"path": JOBS_PATH, "contains": "status="} if listed else {"path": f"{JOBS_PATH}/*"}
        probe = self.fault("slow", "GET", **which, seconds=0, times=2)
        self.wait_for_fault(probe, 2)

    def task_instance(self, task_id: str, map_index: int = -1) -> dict[str, Any]:
        """A task instance, as the REST API has it."""
        return next(
            ti
            for ti in self.rest.task_instances(self.dag_id, self.run_id)
            if (ti["task_id"], ti["map_index"]) == (task_id, map_index)
        )

    def kill_worker(self, task_id: str, *, only_task: bool = False) -> None:
        """
        Kill -9 the worker that runs a task.

        :param only_task: Kill the task's own process and not the one that supervises it, as the OOM killer does.
        """
        *worker, process = self._worker(task_id)
        for victim in [process] if only_task else [*worker, process]:
            victim.kill()

    def suspend_worker(self, task_id: str) -> Callable[[], None]:
        """
        Stop the worker that runs a task, as a machine that has no time for it does.

        :return: Lets it go on.
        """
        worker = self._worker(task_id)
        for process in worker:
            process.suspend()

        def go_on() -> None:
            for process in worker:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

        return go_on

    def _worker(self, task_id: str) -> list[psutil.Process]:
        """The processes of the worker that runs a task, the task's own last."""
        process = psutil.Process(self.task_instance(task_id)["pid"])
        # The scheduler is the parent of LocalExecutor's workers: what is between it and the task is the worker.
        scheduler = self.airflow.processes["scheduler"].pid
        parents = process.parents()
        above = [parent.pid for parent in parents].index(scheduler)
        return [*reversed(parents[:above]), process]

    def end_task(self, task_id: str, map_index: int = -1) -> None:
        """End a task as a user does who marks it failed in the UI."""
        path = ["dags", self.dag_id, "dagRuns", self.run_id, "taskInstances", task_id]
        if map_index >= 0:
            path.append(str(map_index))
        self.rest.write("PATCH", *path, json={"new_state": "failed"})

    def jobs(self) -> list[dict[str, Any]]:
        """Every job of this trial's workspace, ever."""
        return [job for job in self.control.jobs() if job["workspace"] == self._workspace]

    def finish(self, injected: str, expected: Mapping[str, str] = ALL_WELL) -> None:
        """
        Wait for the run's end and look for what must not be; keep a line about it for the summary.

        :param injected: What was done to it.
        :param expected: State by task.
        :raises AssertionError: When something is lost, double, or running for nobody.
        """
        wanted = "success" if set(expected.values()) == {"success"} else "failed"
        state = self.rest.wait_for_run(self.dag_id, self.run_id, timeout=PATIENCE, interval=3)
        seconds = time.monotonic() - self._started
        assert self.rest.task_states(self.dag_id, self.run_id) == expected, self._failed_logs()
        assert state == wanted

        jobs = self.jobs()
        mapped = [name.partition("[")[2].rstrip("]") for name in expected if name.startswith("submit")]
        owners = {("submit", int(index or -1)) for index in mapped}
        assert jobs_by_task_instance(jobs) == Counter(owners), f"{self.name}: {self._described(jobs)}"
        assert {job["metadata"]["airflow_run_id"] for job in jobs} == {self.run_id}
        assert not running_jobs(jobs), f"{self.name}: nobody waits for {running_jobs(jobs)}"
        uploads = self._uploads()
        assert len(uploads) <= 1, f"{self.name}: uploaded {uploads}"

        found = [f"{len(jobs)} job{'s' * (len(jobs) > 1)} for {len(owners)}", *self._retries()]
        if wanted == "success":
            assert landed_rows(self.results) == Counter(self.custom_ids)
            found.append(f"{len(self.custom_ids)} rows landed once")
        else:
            assert not self.results.exists()
            found.append("/".join(sorted({job["status"] for job in jobs})))
        note(self.name, injected, f"run {state} in {seconds:.0f} s, {', '.join(found)}, none runs on")

    def close(self) -> None:
        """Close this trial's own connections."""
        self.control.close()

    @property
    def _workspace(self) -> str:
        # A key that nobody registered has a workspace of its own, named after its digest.
        return hashlib.sha256(self.key.encode()).hexdigest()

    def _uploads(self) -> list[str]:
        files = self.control.record()["files"]
        return [
            file["id"]
            for file in files
            if file["workspace"] == self._workspace and file["source"] == "upload"
        ]

    def tries_that_failed(self, task_id: str) -> int:
        """
        How many tries of a task ended by an error of their own.

        Others end since somebody kills them: a trial, or Airflow, which on a busy machine misses their heartbeats.
        """
        return sum(
            "Task failed with exception"
            in self.rest.log(self.dag_id, self.run_id, task_id, number, ti["map_index"])
            for ti in self.rest.task_instances(self.dag_id, self.run_id)
            if ti["task_id"] == task_id and ti["start_date"]
            for number in range(1, ti["try_number"] + 1)
        )

    def _retries(self) -> list[str]:
        retries: Counter[str] = Counter()
        for ti in self.rest.task_instances(self.dag_id, self.run_id):
            retries[ti["task_id"]] += max(0, ti["try_number"] - 1)
        return [
            f"{task_id} retried {times}x ({self.tries_that_failed(task_id)} after an error)"
            for task_id, times in retries.items()
            if times
        ]

    def _described(self, jobs: list[dict[str, Any]]) -> str:
        return (
            "; ".join(f"{job['id']} {job['status']} {job['metadata']}" for job in jobs) + self._failed_logs()
        )

    def _failed_logs(self) -> str:
        """The logs of all tries of the tasks that did not simply succeed: what somebody wants to read."""
        return "".join(
            f"\n\n{self.name} {ti['task_id']}[{ti['map_index']}] {ti['state']}, try {number}:\n"
            + self.rest.log(self.dag_id, self.run_id, ti["task_id"], number, ti["map_index"])
            for ti in self.rest.task_instances(self.dag_id, self.run_id)
            for number in range(1, ti["try_number"] + 1)
            if (ti["state"] != "success" or ti["try_number"] > 1) and ti["start_date"]
        )
