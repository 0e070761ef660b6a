"""What Airflow's database says: states of task instances, manifests of landed batches, connections to Mistral."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from types import SimpleNamespace
from typing import Any, TypeVar

import msgspec

from airflow_provider_mistral_batch.api.errors import MistralBatchError
from airflow_provider_mistral_batch.api.texts import excerpt
from airflow_provider_mistral_batch.overview.jobs import TaskKey
from airflow_provider_mistral_batch.overview.orphans import TaskState

T = TypeVar("T")

#: Task instances in one query.
_AT_ONCE = 200

_CONNECTION_VARIABLE = "AIRFLOW_CONN_"


class DatabaseUnreachableError(MistralBatchError):
    """Airflow's database cannot be asked from here."""


def task_states(keys: Iterable[TaskKey], session: Any = None) -> dict[TaskKey, TaskState]:
    """
    Look up the states of task instances.

    :param keys: The task instances.
    :param session: A session of Airflow's database, as code in the API server has one; by default a new one.
    :return: What the database says, without those that do not exist.
    :raises DatabaseUnreachableError: When there is no database here.
    """

    def look_up(session: Any) -> dict[TaskKey, TaskState]:
        from airflow.models.dagrun import DagRun
        from airflow.models.taskinstance import TaskInstance
        from sqlalchemy import and_, select, tuple_

        found = {}
        key = (TaskInstance.dag_id, TaskInstance.run_id, TaskInstance.task_id, TaskInstance.map_index)
        same_run = and_(DagRun.dag_id == TaskInstance.dag_id, DagRun.run_id == TaskInstance.run_id)
        for some in _in_parts(keys):
            rows = select(*key, TaskInstance.state, DagRun.state).outerjoin(DagRun, same_run)
            for *of_task, state, run_state in session.execute(rows.where(tuple_(*key).in_(some))):
                found[TaskKey(*of_task)] = TaskState(_text(state), _text(run_state))
        return found

    return _asking(look_up, session)


def landed_manifests(keys: Iterable[TaskKey], session: Any = None) -> dict[TaskKey, dict[str, Any]]:
    """
    Look up the manifests that task instances returned when their results had landed.

    :param keys: The task instances.
    :param session: A session of Airflow's database; by default a new one.
    :raises DatabaseUnreachableError: When there is no database here.
    """

    def look_up(session: Any) -> dict[TaskKey, dict[str, Any]]:
        from airflow.models.xcom import XComModel
        from sqlalchemy import select, tuple_

        found = {}
        key = (XComModel.dag_id, XComModel.run_id, XComModel.task_id, XComModel.map_index)
        for some in _in_parts(keys):
            values = select(*key, XComModel.value).where(
                tuple_(*key).in_(some), XComModel.key == "return_value"
            )
            for *of_task, value in session.execute(values):
                manifest = _manifest(value)
                if manifest is not None:
                    found[TaskKey(*of_task)] = manifest
        return found

    return _asking(look_up, session)


def mistral_connections(session: Any = None) -> list[str]:
    """
    Find the connections of type ``mistral`` in Airflow's database and in the environment.

    Connections in a secrets backend cannot be listed.

    :param session: A session of Airflow's database; by default a new one.
    :raises DatabaseUnreachableError: When there is no database here.
    """

    def look_up(session: Any) -> list[str]:
        from airflow.models.connection import Connection
        from sqlalchemy import select

        wanted = select(Connection.conn_id).where(Connection.conn_type == "mistral")
        return [str(conn_id) for conn_id in session.execute(wanted).scalars()]

    return sorted({*_asking(look_up, session), *connections_in_environment()})


def connections_in_environment() -> list[str]:
    """Find the connections of type ``mistral`` among the environment's variables."""
    return sorted(
        name[len(_CONNECTION_VARIABLE) :].lower()
        for name, value in os.environ.items()
        if name.startswith(_CONNECTION_VARIABLE) and _is_mistral(value)
    )


def _is_mistral(value: str) -> bool:
    if not value.lstrip().startswith("{"):
        return value.startswith("mistral:")
    try:
        fields = msgspec.json.decode(value)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        # Whatever it is, it is not ours. It may hold a secret, so that nothing is said of it.
        return False
    return isinstance(fields, dict) and fields.get("conn_type") == "mistral"


def _manifest(value: Any) -> dict[str, Any] | None:
    from airflow.models.xcom import XComModel

    try:
        manifest = XComModel.deserialize_value(SimpleNamespace(value=value))
    except Exception:
        # Of a custom XCom backend, or of another task.
        return None
    is_ours = isinstance(manifest, dict) and "results_path" in manifest and "batch_ids" in manifest
    return manifest if is_ours else None


def _in_parts(keys: Iterable[TaskKey]) -> Iterator[list[tuple[str, str, str, int]]]:
    left = iter(dict.fromkeys(keys))
    while some := list(islice(left, _AT_ONCE)):
        yield [(key.dag_id, key.run_id, key.task_id, key.map_index) for key in some]


def _asking(look_up: Callable[[Any], T], session: Any) -> T:
    if session is not None:
        return look_up(session)
    try:
        from airflow.utils.session import create_session

        with create_session() as own:
            return look_up(own)
    except Exception as error:
        raise DatabaseUnreachableError(
            f"Airflow's database cannot be asked from here ({type(error).__name__}: {excerpt(str(error), 200)}): run "
            "this where the scheduler or the API server runs"
        ) from error


def _text(state: Any) -> str | None:
    return None if state is None else str(getattr(state, "value", state))
