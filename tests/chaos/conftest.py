"""One long-lived Airflow for all cases, and emulators: one that everybody uses, and one for each odd clock or habit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mistral_batch.emulator import Emulator
from local_airflow import LocalAirflow

from .evidence import pytest_terminal_summary  # noqa: F401 - a hook of pytest
from .service_manager import ServiceManager
from .trials import Trial

#: What Airflow does about the dead, in seconds instead of minutes.
IMPATIENT: dict[str, dict[str, object]] = {
    # A worker that was killed -9 is found by its silence (by default after 300 s), and its task tried again.
    "scheduler": {
        "task_instance_heartbeat_timeout": 15,
        "task_instance_heartbeat_timeout_detection_interval": 2,
        # What a scheduler that died had in hand is taken over (by default after 30 s, looked for every 300 s).
        "scheduler_health_check_threshold": 10,
        "orphaned_tasks_check_interval": 5,
    },
    # By default a worker ends its task after three heartbeats that got no answer.
    "workers": {"min_heartbeat_interval": 2, "max_failed_heartbeats": 30},
    # Triggers of a silent triggerer go to another one (by default after 30 s).
    "triggerer": {"triggerer_health_check_threshold": 8},
    "database": {"sql_alchemy_connect_args": "impatient_sqlite.CONNECT_ARGS"},
    # SQLite has one writer at a time, and each worker is one.
    "core": {"parallelism": 5, "max_active_tasks_per_dag": 40, "max_active_runs_per_dag": 40},
}

#: Settings by name of an emulator. Only what all jobs of an emulator suffer needs one of its own.
EMULATORS: dict[str, dict[str, Any]] = {
    "main": {},
    "mortal": {},
    "ahead": {"clock_skew": 300},
    "behind": {"clock_skew": -300},
    "lagging": {"listing_lag": 4},
}


@pytest.fixture(scope="session")
def emulators() -> Iterator[dict[str, Emulator]]:
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(Emulator(validation_seconds=0.5, job_seconds=3, **settings))
            for name, settings in EMULATORS.items()
        }


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAirflow]:
    home = tmp_path_factory.mktemp("airflow")
    here = Path(__file__).parent
    # What a worker that is killed -9 leaves behind stays in here.
    scratch = tmp_path_factory.mktemp("scratch")
    env = {"PYTHONPATH": str(here), "TMPDIR": str(scratch)}
    with LocalAirflow(home, here / "dags", settings=IMPATIENT, env=env) as airflow:
        airflow.wait_for_dags(
            *(f"chaos_{name}" for name in ("deferred", "on_worker", "deadline", "one_task")),
            *(f"chaos_{name}_jobs" for name in ("many", "three")),
        )
        yield airflow


@pytest.fixture(scope="session")
def service_manager(airflow: LocalAirflow) -> Iterator[ServiceManager]:
    with ServiceManager(airflow) as service_manager:
        yield service_manager
    service_manager.note_restarts()


@pytest.fixture(scope="session")
def trials() -> Iterator[list[Trial]]:
    """All trials that were made so far."""
    trials: list[Trial] = []
    yield trials
    for trial in trials:
        trial.close()


@pytest.fixture(scope="session")
def new_trial(
    trials: list[Trial],
    service_manager: ServiceManager,
    emulators: dict[str, Emulator],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Trial]:
    folder = tmp_path_factory.mktemp("trials")

    def new_trial(name: str, dag_id: str = "chaos_deferred", *, on: str = "main", rows: int = 20) -> Trial:
        trials.append(Trial(service_manager.airflow, emulators[on], folder, name, dag_id, rows=rows))
        return trials[-1]

    return new_trial
