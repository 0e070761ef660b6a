"""An Airflow of many processes: PostgreSQL, CeleryExecutor with Redis, two Celery workers and two triggerers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from airflow_provider_mistral_batch.emulator import Emulator
from local_airflow import LocalAirflow

from ..chaos.evidence import pytest_terminal_summary  # noqa: F401 - a hook of pytest
from ..chaos.service_manager import ServiceManager
from ..chaos.trials import Trial
from .services import MissingServiceError, postgresql, redis_prefix

DATABASE_URL = os.environ.get(
    "MISTRAL_BATCH_TEST_DATABASE_URL", "postgresql+psycopg2://postgres@127.0.0.1:5432/postgres"
)
BROKER_URL = os.environ.get("MISTRAL_BATCH_TEST_BROKER_URL", "redis://127.0.0.1:6379/0")

TESTS = Path(__file__).parents[1]
DAGS = (*TESTS.glob("chaos/dags/*.py"), *TESTS.parent.glob("example_dags/*.py"))

#: Mapped tasks of the Dag with many jobs.
JOBS = 200

WORKER = (
    "celery",
    "worker",
    "--skip-serve-logs",
    "--without-gossip",
    "--without-mingle",
    "--concurrency",
    "3",
)

COMPONENTS = {
    "api-server": ["api-server"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer-1": ["triggerer", "--skip-serve-logs"],
    "triggerer-2": ["triggerer", "--skip-serve-logs"],
    "worker-1": [*WORKER, "--celery-hostname", "worker-1@%h"],
    "worker-2": [*WORKER, "--celery-hostname", "worker-2@%h"],
}


@pytest.fixture(scope="session")
def database() -> Iterator[URL]:
    try:
        with postgresql(DATABASE_URL) as database:
            yield database
    except MissingServiceError as error:
        pytest.exit(str(error), returncode=3)


@pytest.fixture(scope="session")
def broker() -> Iterator[tuple[str, str]]:
    try:
        with redis_prefix(BROKER_URL) as broker:
            yield broker
    except MissingServiceError as error:
        pytest.exit(str(error), returncode=3)


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    with Emulator(validation_seconds=0.5, job_seconds=3) as emulator:
        yield emulator


@pytest.fixture(scope="session")
def airflow(
    database: URL,
    broker: tuple[str, str],
    emulator: Emulator,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[LocalAirflow]:
    home = tmp_path_factory.mktemp("airflow")
    dags = home / "dags"
    dags.mkdir()
    for dag in DAGS:
        (dags / dag.name).symlink_to(dag)
    database_url = database.render_as_string(hide_password=False)
    broker_url, prefix = broker
    settings: dict[str, dict[str, object]] = {
        "core": {
            "executor": "CeleryExecutor",
            "parallelism": 16,
            "max_active_tasks_per_dag": JOBS + 10,
        },
        "database": {
            "sql_alchemy_conn": database_url,
            "sql_alchemy_connect_args": "postgresql_options.CONNECT_ARGS",
        },
        "celery": {"broker_url": broker_url, "result_backend": f"db+{database_url}"},
        "celery_broker_transport_options": {"global_keyprefix": prefix, "visibility_timeout": 3600},
        # What Airflow does about the dead, in seconds instead of minutes: see tests/chaos/conftest.py.
        "scheduler": {
            "task_instance_heartbeat_timeout": 20,
            "task_instance_heartbeat_timeout_detection_interval": 2,
            # A task that a worker had taken and not begun when it was killed (by default 600 s).
            "task_queued_timeout": 40,
            "task_queued_timeout_check_interval": 5,
            "scheduler_health_check_threshold": 10,
            "orphaned_tasks_check_interval": 5,
        },
        "workers": {"min_heartbeat_interval": 2, "max_failed_heartbeats": 30},
        "triggerer": {"triggerer_health_check_threshold": 8},
    }
    connection = {"conn_type": "mistral", "host": emulator.url, "password": "the-key-of-the-examples"}
    with LocalAirflow(
        home,
        dags,
        connections={"mistral_default": connection},
        env={
            "MISTRAL_BATCH_TEST_JOBS": str(JOBS),
            "PYTHONPATH": str(Path(__file__).parent),
            "TMPDIR": str(tmp_path_factory.mktemp("scratch")),
        },
        settings=settings,
        components=COMPONENTS,
    ) as airflow:
        airflow.wait_for_dags("chaos_many_jobs", "mistral_batch_nightly")
        yield airflow


@pytest.fixture(scope="session")
def service_manager(airflow: LocalAirflow) -> Iterator[ServiceManager]:
    with ServiceManager(airflow) as service_manager:
        yield service_manager
    service_manager.note_restarts()


@pytest.fixture
def new_trial(
    airflow: LocalAirflow, emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Trial]]:
    trials: list[Trial] = []

    def new_trial(name: str, dag_id: str, *, rows: int) -> Trial:
        trials.append(Trial(airflow, emulator, tmp_path_factory.mktemp("trials"), name, dag_id, rows=rows))
        return trials[-1]

    yield new_trial
    for trial in trials:
        trial.close()
