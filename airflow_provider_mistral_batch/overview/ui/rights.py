"""Which jobs a user may see, and which cancel: those of Dags and connections that Airflow's auth manager allows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from airflow_provider_mistral_batch.overview.jobs import JobView


class Rights(msgspec.Struct, frozen=True):
    """
    What a user may do, reading or editing.

    :param dags: Ids of the Dags with whose jobs the user may do it.
    :param existing_dags: Ids of all Dags. Jobs of Dags that are gone belong to their connections.
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
        is_ours = any(self.deployments.get(conn_id) == job.deployment for conn_id in job.connections)
        if is_ours and job.dag_id in self.existing_dags:
            return job.dag_id in self.dags
        return not self.connections.isdisjoint(job.connections)


def rights(
    user: Any, conn_ids: Iterable[str], deployments: dict[str, str], method: Literal["GET", "PUT"]
) -> Rights:
    """
    Ask Airflow's auth manager what a user may do.

    :param user: The user, as Airflow's dependency gives it.
    :param conn_ids: The connections that matter.
    :param deployments: Name of this Airflow, by connection.
    :param method: ``GET`` to read, ``PUT`` to edit.
    """
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import ConnectionDetails
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    manager = get_auth_manager()
    with create_session() as session:
        existing = frozenset(session.scalars(select(DagModel.dag_id)))
    return Rights(
        dags=frozenset(manager.get_authorized_dag_ids(user=user, method=method)),
        existing_dags=existing,
        connections=frozenset(
            conn_id
            for conn_id in conn_ids
            if manager.is_authorized_connection(
                method=method, user=user, details=ConnectionDetails(conn_id=conn_id)
            )
        ),
        deployments=deployments,
    )
