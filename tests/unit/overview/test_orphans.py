"""Which jobs are orphans, and what Airflow's database says of their tasks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from airflow.models import import_all_models
from airflow.models.base import Base
from airflow.models.connection import Connection
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

from ...airflow_rows import add_task, push

NOW = 1_000_000.0


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


def fill(session: Session, count: int = 1) -> list[TaskKey]:
    keys = [TaskKey("dag", f"run-{number}", "task", -1) for number in range(count)]
    for number, key in enumerate(keys):
        xcoms = {
            "return_value": {"results_path": "s3://b/r", "batch_ids": [f"job-{number}"]},
            "other": {"results_path": "s3://b/r", "batch_ids": ["wrong"]},
        }
        add_task(session, key, xcoms, number=number + 1, state="deferred", run_state="running")
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
    push(session, key, "return_value", ["results_path", "batch_ids"])
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
