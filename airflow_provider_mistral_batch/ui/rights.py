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
    :param connections: Ids of the connections with whose other jobs the user may do it.
    :param deployments: Name of this Airflow, by connection. A Dag of the same name in another Airflow is another Dag.
    """

    dags: frozenset[str]
    connections: frozenset[str]
    deployments: dict[str, str]

    def allow(self, job: JobView) -> bool:
        """
        Tell whether the user may do it with a job.

        A job belongs to a Dag only if this Airflow submitted it. All others belong to their connections.

        :param job: The job.
        """
        is_of_this_airflow = any(self.deployments.get(conn_id) == job.deployment for conn_id in job.connections)
        if job.dag_id is not None and is_of_this_airflow and job.dag_id in self.dags:
            return True
        if not self.connections.issuperset(job.connections[:1]):
            return False
        # Whoever reads connections reads the jobs of Dags that are gone, but not those of Dags that are forbidden.
        return job.dag_id is None or not is_of_this_airflow or not _exists(job.dag_id)


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

    manager = get_auth_manager()
    return Rights(
        dags=frozenset(manager.get_authorized_dag_ids(user=user, method=method)),
        connections=frozenset(
            conn_id
            for conn_id in conn_ids
            if manager.is_authorized_connection(
                method=method, user=user, details=ConnectionDetails(conn_id=conn_id)
            )
        ),
        deployments=deployments,
    )


def _exists(dag_id: str) -> bool:
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        return session.scalar(select(DagModel.dag_id).where(DagModel.dag_id == dag_id)) is not None
