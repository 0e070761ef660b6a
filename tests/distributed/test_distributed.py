"""200 mapped jobs in flight survive the loss of a worker, a triggerer and every database connection."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

from sqlalchemy.engine import URL

from ..chaos.service_manager import ServiceManager
from ..chaos.trials import Trial
from .services import terminate_connections

#: Seconds between two looks at 200 task instances.
INTERVAL = 3.0


def test_200_jobs_outlive_a_worker_and_a_triggerer(
    service_manager: ServiceManager, database: URL, new_trial: Callable[..., Trial]
) -> None:
    airflow = service_manager.airflow
    jobs = int(airflow.env["MISTRAL_BATCH_TEST_JOBS"])
    nightly = airflow.rest.trigger("mistral_batch_nightly")
    trial = new_trial("many_jobs", "chaos_many_jobs", rows=jobs)
    trial.plan_job(job_seconds=3600)
    trial.start()

    def instances() -> list[dict[str, Any]]:
        found = trial.rest.task_instances(trial.dag_id, trial.run_id)
        return [ti for ti in found if ti["task_id"] == "submit"]

    def busy(worker: int) -> int:
        """How many tasks a worker has in hand."""
        pids = [ti["pid"] for ti in instances() if ti["state"] == "running" and ti["pid"]]
        return sum(session_of(pid) == worker for pid in pids)

    def waiting() -> Counter[int]:
        """Deferred tasks by the triggerer that has them."""
        return Counter(ti["triggerer_job"]["id"] for ti in instances() if ti["triggerer_job"])

    trial.wait_until(
        lambda: len(trial.jobs()) >= jobs // 3, "a third of the jobs is there", interval=INTERVAL
    )
    worker = airflow.processes["worker-1"].pid
    trial.wait_until(lambda: busy(worker) > 1, "the worker is busy")
    service_manager.lose("worker-1")
    trial.wait_until(lambda: len(waiting()) == 2, "both triggerers have work", interval=INTERVAL)
    shares = waiting()
    service_manager.lose("triggerer-1")
    connections = terminate_connections(database)

    def all_wait() -> bool:
        return Counter(ti["state"] for ti in instances()) == {"deferred": jobs}

    trial.wait_until(all_wait, "200 jobs are in flight", interval=INTERVAL)
    # The youngest may not have begun yet.
    trial.wait_until(
        lambda: Counter(job["status"] for job in trial.jobs()) == {"RUNNING": jobs},
        "200 jobs run",
        interval=INTERVAL,
    )
    trial.wait_until(lambda: len(waiting()) == 1, "one triggerer has all of them", interval=INTERVAL)
    lost = sum(share for triggerer, share in shares.items() if triggerer not in waiting())
    trial.control.end_jobs(metadata={"case": trial.name})
    expected = {**{f"submit[{index}]": "success" for index in range(jobs)}, "land": "success"}
    trial.finish(
        f"kill -9 of one of two Celery workers and of one of two triggerers ({lost} jobs waited in it), "
        f"{connections} database connections cut",
        expected,
    )
    assert airflow.rest.wait_for_run("mistral_batch_nightly", nightly) == "success"


def session_of(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0
