"""Airflow's database cannot be written for seconds, while one job waits in the triggerer and one on a worker."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator

from local_airflow import LocalAirflow

from .trials import Trial

#: Longer than Airflow's processes wait for it, and shorter than the silence by which a worker counts as dead.
SECONDS = 12.0


@contextlib.contextmanager
def locked(airflow: LocalAirflow) -> Iterator[None]:
    """Keep everybody else from writing into Airflow's database."""
    database = sqlite3.connect(airflow.home / "airflow.db", timeout=60, isolation_level=None)
    try:
        database.execute("BEGIN EXCLUSIVE")
        yield
        database.execute("ROLLBACK")
    finally:
        database.close()


def test_database_lost_for_seconds(airflow: LocalAirflow, new_trial: Callable[..., Trial]) -> None:
    trials = [
        new_trial("database_lost_under_a_trigger"),
        new_trial("database_lost_under_a_worker", "chaos_on_worker"),
        new_trial("database_lost_at_the_end"),
    ]
    for trial in trials:
        trial.plan_job(job_seconds=3600)
        trial.start()
    for trial in trials:
        trial.wait_until_looked_at()
    with locked(airflow):
        # One job ends while nobody can write down that it did.
        trials[2].control.end_jobs(metadata={"case": trials[2].name})
        time.sleep(SECONDS)
    for trial in trials[:2]:
        trial.control.end_jobs(metadata={"case": trial.name})
    for trial in trials:
        trial.finish(f"no write to Airflow's database for {SECONDS:.0f} s")
