"""Which jobs are orphans, and what Airflow's database says of their tasks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any
from uuid import UUID

import pytest
from airflow.models import import_all_models
from airflow.models.base import Base
from airflow.models.connection import Connection
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import create_engine, insert
from sqlalchemy.orm import Session

from airflow_provider_mistral_batch.overview.airflow_database import (
    DatabaseUnreachableError,
    landed_manifests,
    mistral_connections,
    task_states,
)
from airflow_provider_mistral_batch.overview.jobs import JobView, TaskKey
from airflow_provider_mistral_batch.overview.orphans import TaskState, find_orphans, orphan_reason

NOW = 1_000_000.0

#: Airflow 3.4 has another name for it.
INDEX_COLUMN = "map_index" if "map_index" in TaskInstance.__table__.c else "region_index"


def job(status: str = "in_progress", **fields) -> JobView:
    known = {"id": "job-1", "connections": ("mistral_default",), "created_at": int(NOW) - 3600}
    known |= {"dag_id": "dag", "run_id": "run", "task_id": "task", "raw_status": status, "endpoint": ""}
    return JobView(status=status, is_over=status == "completed", **{**known, **fields})


@pytest.mark.parametrize(
    ("instance", "reason"),
    [
        (None, "its task instance no longer exists here"),
        (TaskState("deferred", "running"), None),
        (TaskState("running", "running"), None),
        (TaskState("up_for_retry", "running"), None),
        # Cleared: its next try finds the job.
        (TaskState(None, "queued"), None),
        # A sensor may wait.
        (TaskState("success", "running"), None),
        (TaskState("success", "success"), "its Dag run is over (success)"),
        (TaskState("failed", "running"), "its task is failed"),
        (TaskState("removed", "success"), "its task is removed"),
    ],
)
def test_who_waits_for_a_job(instance: TaskState | None, reason: str | None) -> None:
    found = orphan_reason(job(), instance, now=NOW)
    assert found == reason or (found is not None and reason is not None and found.startswith(reason))


@pytest.mark.parametrize(
    "harmless",
    [
        job("completed"),
        job("cancelling"),
        # Its task may not have told Airflow yet.
        job(created_at=int(NOW) - 10),
        # The API's clock is ahead.
        job(created_at=int(NOW) + 10_000),
    ],
)
def test_a_job_that_needs_nobody(harmless: JobView) -> None:
    assert orphan_reason(harmless, None, now=NOW) is None


def test_jobs_of_others_are_no_orphans() -> None:
    jobs = [
        job(id="ours"),
        job(id="another Airflow's", deployment="staging"),
        job(id="nobody's", dag_id=None),
        job(id="unread connection's", connections=("other",)),
    ]
    found = find_orphans(jobs, {}, deployments={"mistral_default": ""}, now=NOW)
    assert [one.job.id for one in found] == ["ours"]


@pytest.fixture
def session() -> Iterator[Session]:
    # Tables refer to others, and XComs are in several.
    import_all_models()
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        yield session
    engine.dispose()


def id_of(number: int) -> Any:
    """Make the id of a task instance: a UUID, and a text in older versions of Airflow."""
    given = UUID(int=number + 1)
    return given if "uuid" in repr(TaskInstance.__table__.c.id.type).lower() else str(given)


def fill(session: Session, count: int = 1) -> list[TaskKey]:
    now = datetime.now(timezone.utc)
    keys = [TaskKey("dag", f"run-{number}", "task", -1) for number in range(count)]
    for number, key in enumerate(keys):
        run = {"dag_id": key.dag_id, "run_id": key.run_id, "state": "running", "run_type": "manual"}
        session.execute(
            insert(DagRun.__table__).values(id=number + 1, run_after=now, log_template_id=1, **run)
        )
        task: dict[str, Any] = {
            "dag_id": key.dag_id,
            "run_id": key.run_id,
            "task_id": key.task_id,
            "map_index": key.map_index,
        }
        stored = {INDEX_COLUMN if name == "map_index" else name: value for name, value in task.items()}
        rest = {"pool": "default_pool", "pool_slots": 1, "state": "deferred", "try_number": 1}
        session.execute(insert(TaskInstance.__table__).values(id=id_of(number), **stored, **rest))
        for name, value in (
            ("return_value", {"results_path": "s3://b/r", "batch_ids": [f"job-{number}"]}),
            ("other", {"results_path": "s3://b/r", "batch_ids": ["wrong"]}),
        ):
            XComModel.set(name, value, **task, session=session)
    return keys


def test_states_are_looked_up_in_parts(session: Session) -> None:
    keys = fill(session, 450)
    gone = TaskKey("dag", "run-1", "task", 7)
    found = task_states([*keys, gone], session)
    assert found == dict.fromkeys(keys, TaskState("deferred", "running"))


def test_manifests_are_looked_up(session: Session) -> None:
    (key,) = fill(session)
    assert landed_manifests([key], session) == {key: {"results_path": "s3://b/r", "batch_ids": ["job-0"]}}


def test_what_is_no_manifest_is_left_out(session: Session) -> None:
    (key,) = fill(session)
    task: dict[str, Any] = {
        "dag_id": key.dag_id,
        "run_id": key.run_id,
        "task_id": key.task_id,
        "map_index": key.map_index,
    }
    XComModel.set("return_value", ["results_path", "batch_ids"], **task, session=session)
    assert landed_manifests([key], session) == {}


def test_connections_of_our_type_are_found(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    session.execute(insert(Connection.__table__).values(conn_id="of_database", conn_type="mistral"))
    session.execute(insert(Connection.__table__).values(conn_id="another", conn_type="http"))
    monkeypatch.setenv("AIRFLOW_CONN_OF_JSON", '{"conn_type": "mistral", "password": "x"}')
    monkeypatch.setenv("AIRFLOW_CONN_OF_URI", "mistral://:x@host")
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", "http://host")
    monkeypatch.setenv("AIRFLOW_CONN_BROKEN", "{")
    assert mistral_connections(session) == ["of_database", "of_json", "of_uri"]


def test_without_a_database_it_says_where_to_ask() -> None:
    with pytest.raises(DatabaseUnreachableError, match="run this where the scheduler or the API server runs"):
        task_states([TaskKey("dag", "run", "task")])
