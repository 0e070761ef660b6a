"""Which jobs a user may see, and which cancel: those of Dags and connections that Airflow's auth manager allows."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, islice
from typing import Any, Literal

import msgspec

from airflow_provider_mistral_batch.overview.jobs import JobView

#: Dags in one query.
_AT_ONCE = 500


class Rights(msgspec.Struct, frozen=True):
    """
    What a user may do, reading or editing.

    :param dags: Ids of the Dags with whose jobs the user may do it.
    :param existing_dags: Ids of the Dags that exist. Jobs of Dags that are gone belong to their connections.
    :param connections: Ids of the connections with whose other jobs the user may do it.
    :param deployments: Name of this Airflow, by connection. A Dag of the same name in another Airflow is another Dag.
    """

    dags: frozenset[str]
    existing_dags: frozenset[str]
    connections: frozenset[str]
    deployments: dict[str, str]

    def allow(self, job: JobView) -> bool:
        """
        Tell whether the user may do it with a job.

        :param job: The job. It belongs to a Dag only if this Airflow submitted it, and to its connections otherwise.
        """
        if self.is_of_dag(job):
            return job.dag_id in self.dags
        return not self.connections.isdisjoint(job.connections)

    def is_of_dag(self, job: JobView) -> bool:
        """
        Tell whether a job belongs to a Dag of this Airflow.

        :param job: The job.
        """
        is_ours = any(self.deployments.get(conn_id) == job.deployment for conn_id in job.connections)
        return is_ours and job.dag_id in self.existing_dags


def rights(
    user: Any,
    jobs: Iterable[JobView],
    conn_ids: Iterable[str],
    deployments: dict[str, str],
    method: Literal["GET", "PUT"],
) -> Rights:
    """
    Ask Airflow's auth manager what a user may do: with the Dags of some jobs, however many others there are.

    :param user: The user, as Airflow's dependency gives it.
    :param jobs: The jobs that matter.
    :param conn_ids: The connections that matter.
    :param deployments: Name of this Airflow, by connection.
    :param method: ``GET`` to read, ``PUT`` to edit.
    """
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import ConnectionDetails
    from airflow.utils.session import create_session

    manager = get_auth_manager()
    wanted = tuple(conn_ids)
    with create_session() as session:
        dags = _existing_dags(session, {job.dag_id for job in jobs if job.dag_id})
        teams = _teams_of_connections(session, wanted)
    return Rights(
        dags=frozenset(
            dag_id
            for team, dag_ids in dags.items()
            for dag_id in manager.filter_authorized_dag_ids(
                dag_ids=dag_ids, user=user, method=method, **_of_team(team)
            )
        ),
        existing_dags=frozenset(chain.from_iterable(dags.values())),
        connections=frozenset(
            conn_id
            for conn_id in wanted
            if manager.is_authorized_connection(
                method=method,
                user=user,
                details=ConnectionDetails(conn_id=conn_id, **_of_team(teams.get(conn_id))),
            )
        ),
        deployments=deployments,
    )


def may_read_xcoms(user: Any, dag_id: str) -> bool:
    """
    Tell whether a user may read what a Dag's tasks returned.

    :param user: The user, as Airflow's dependency gives it.
    :param dag_id: A Dag.
    """
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
    from airflow.utils.session import create_session

    with create_session() as session:
        teams = [team for team, dag_ids in _existing_dags(session, {dag_id}).items() if dag_ids]
    return bool(teams) and get_auth_manager().is_authorized_dag(
        method="GET",
        access_entity=DagAccessEntity.XCOM,
        details=DagDetails(id=dag_id, **_of_team(teams[0])),
        user=user,
    )


def _existing_dags(session: Any, dag_ids: Iterable[str]) -> dict[str | None, set[str]]:
    """Find the Dags among some ids, which anybody may have written into a job's metadata, by their team."""
    from airflow.models.dag import DagModel
    from sqlalchemy import select

    by_team: dict[str | None, set[str]] = {}
    left = iter(sorted(dag_ids))
    while some := list(islice(left, _AT_ONCE)):
        found = list(session.scalars(select(DagModel.dag_id).where(DagModel.dag_id.in_(some))))
        # Airflows before 3.2 have no teams.
        teams_of = getattr(DagModel, "get_dag_id_to_team_name_mapping", None)
        teams = {} if teams_of is None else teams_of(found, session=session)
        for dag_id in found:
            by_team.setdefault(teams.get(dag_id), set()).add(dag_id)
    return by_team


def _teams_of_connections(session: Any, conn_ids: Iterable[str]) -> dict[str, str | None]:
    from airflow.models.connection import Connection
    from sqlalchemy import select

    if not hasattr(Connection, "team_name"):
        return {}
    wanted = select(Connection.conn_id, Connection.team_name).where(Connection.conn_id.in_(list(conn_ids)))
    return {str(conn_id): team for conn_id, team in session.execute(wanted)}


def _of_team(team: str | None) -> dict[str, Any]:
    return {"team_name": team} if team else {}
