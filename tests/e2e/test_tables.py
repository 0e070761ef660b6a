"""A table in parts, whose target is down when the answers come: one row a key, and nothing paid twice."""

from __future__ import annotations

import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy.engine import URL, make_url

from airflow_provider_mistral_batch.emulator import Emulator
from local_airflow import LocalAirflow

DAG_ID = "letters"
#: As for the other tests that need a PostgreSQL.
SERVER = make_url(
    os.environ.get("MISTRAL_BATCH_TEST_DATABASE_URL", "postgresql://postgres@127.0.0.1:5432/postgres")
).set(drivername="postgresql+psycopg2")

#: Most seconds to wait for the tasks' next state.
PATIENCE = 180


def execute(url: URL, *statements: str) -> list[tuple]:
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.pool.NullPool)
    rows: list[tuple] = []
    with engine.connect() as connection:
        for statement in statements:
            result = connection.exec_driver_sql(statement)
            rows = [tuple(row) for row in result] if result.returns_rows else []
    return rows


@pytest.fixture
def post_office(airflow: LocalAirflow) -> Iterator[URL]:
    """A database with letters, and a connection to it in Airflow."""
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed")
    pytest.importorskip("airflow.providers.postgres", reason="the PostgreSQL provider is not installed")
    name = f"mistral_batch_test_{uuid.uuid4().hex[:12]}"
    try:
        execute(SERVER, f"CREATE DATABASE {name}")
    except sqlalchemy.exc.OperationalError as error:
        pytest.skip(f"no server answers at {SERVER.render_as_string(hide_password=True)}: {error.orig}")
    own = SERVER.set(database=name)
    try:
        execute(
            own,
            "create table letters (name text, body text)",
            "insert into letters values ('Zoë', 'Hello'), ('Ada', 'Are you there?')",
        )
        airflow.rest.save_connection(
            "post_office",
            conn_type="postgres",
            host=own.host,
            port=own.port or 5432,
            login=own.username,
            password=own.password or "any",
            schema=name,
        )
        yield own
    finally:
        execute(SERVER, f"DROP DATABASE {name} WITH (FORCE)")


def wait_until(
    airflow: LocalAirflow, run_id: str, condition: Callable[[dict[str, Any]], bool]
) -> list[dict[str, Any]]:
    """Wait until a condition holds for each part; those that were not skipped."""
    deadline = time.monotonic() + PATIENCE
    while True:
        parts = [ti for ti in airflow.rest.task_instances(DAG_ID, run_id) if ti["task_id"] == "answer"]
        asked = [ti for ti in parts if ti["state"] != "skipped"]
        if asked and all(ti["map_index"] >= 0 for ti in parts) and all(map(condition, asked)):
            return asked
        airflow.check()
        assert time.monotonic() < deadline, Counter(ti["state"] for ti in parts)
        time.sleep(0.3)


def finished_names(airflow: LocalAirflow, run_id: str) -> list[str]:
    assert airflow.wait_for_run(DAG_ID, run_id, timeout=PATIENCE) == "success"
    return sorted(airflow.rest.xcom(DAG_ID, run_id, "names"))


@pytest.mark.timeout(600)
def test_a_target_that_is_down_costs_a_try_and_no_answer(
    airflow: LocalAirflow, emulator: Emulator, post_office: URL
) -> None:
    def paid(run_id: str) -> int:
        """How many requests a run's jobs have had."""
        return sum(
            job["total_requests"]
            for job in emulator.control.jobs()
            if (job["metadata"] or {}).get("airflow_run_id") == run_id
        )

    run_id = "down"
    emulator.control.plan_jobs(times=None, metadata={"airflow_run_id": run_id}, job_seconds=3600)
    airflow.wait_for_dags(DAG_ID)
    airflow.rest.trigger(DAG_ID, run_id=run_id)
    waiting = wait_until(airflow, run_id, lambda part: part["state"] == "deferred")
    tries = {part["map_index"]: part["try_number"] for part in waiting}
    assert 1 <= len(tries) <= 2

    # The database is away when the answers come.
    execute(SERVER, f"ALTER DATABASE {post_office.database} ALLOW_CONNECTIONS false")
    emulator.control.end_jobs(metadata={"airflow_run_id": run_id})
    wait_until(
        airflow,
        run_id,
        lambda part: part["state"] == "up_for_retry" or part["try_number"] > tries[part["map_index"]],
    )
    execute(SERVER, f"ALTER DATABASE {post_office.database} ALLOW_CONNECTIONS true")

    assert finished_names(airflow, run_id) == ["Ada", "Zoë"]
    assert execute(post_office, "select name, status from answers order by name") == [
        ("Ada", "ok"),
        ("Zoë", "ok"),
    ]
    assert paid(run_id) == 2

    # A clear asks nothing again, and another run at the same time leaves one row a key.
    again = airflow.rest.trigger(DAG_ID)
    airflow.rest.call(
        "POST",
        *("dags", DAG_ID, "clearTaskInstances"),
        json={"dry_run": False, "dag_run_id": run_id, "only_failed": False, "reset_dag_runs": True},
    )
    for one in (run_id, again):
        assert finished_names(airflow, one) == ["Ada", "Zoë"]
        assert paid(one) == 2
    assert execute(post_office, "select name, status from answers order by name") == [
        ("Ada", "ok"),
        ("Zoë", "ok"),
    ]
