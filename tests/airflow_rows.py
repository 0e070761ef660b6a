"""Rows of Airflow's database, in the tables that its versions have."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any
from uuid import UUID

from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import insert
from sqlalchemy.orm import Session

from airflow_provider_mistral_batch.overview.jobs import TaskKey


def add_task(
    session: Session,
    key: TaskKey,
    xcoms: Mapping[str, Any],
    *,
    number: int = 1,
    state: str = "success",
    run_state: str = "success",
) -> None:
    """
    Add a Dag run with one task instance that has pushed XComs.

    :param session: A session of a database without other rows of the run.
    :param key: The task instance.
    :param xcoms: Values by key.
    :param number: Makes the ids.
    """
    run = {"dag_id": key.dag_id, "run_id": key.run_id, "state": run_state, "run_type": "manual"}
    now = datetime.now(timezone.utc)
    session.execute(insert(DagRun.__table__).values(id=number, run_after=now, log_template_id=1, **run))
    columns = TaskInstance.__table__.c
    # Older versions have texts as ids; newer ones another name for the index.
    given = UUID(int=number) if "uuid" in repr(columns.id.type).lower() else str(UUID(int=number))
    index = "map_index" if "map_index" in columns else "region_index"
    task = {"dag_id": key.dag_id, "run_id": key.run_id, "task_id": key.task_id, index: key.map_index}
    rest = {"pool": "default_pool", "pool_slots": 1, "state": state, "try_number": 1}
    session.execute(insert(TaskInstance.__table__).values(id=given, **task, **rest))
    for name, value in xcoms.items():
        push(session, key, name, value)


def push(session: Session, key: TaskKey, name: str, value: Any) -> None:
    """Push an XCom, or replace it."""
    XComModel.set(
        name,
        value,
        dag_id=key.dag_id,
        run_id=key.run_id,
        task_id=key.task_id,
        map_index=key.map_index,
        session=session,
    )
