"""Begins a wait in the triggerer, without starting a worker first: when that can work, and how the job is found."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any

from airflow.providers.common.compat.sdk import BaseOperator, XComArg
from airflow.sdk.definitions.xcom_arg import PlainXComArg
from packaging.version import Version

from airflow_provider_mistral_batch.triggers.threads import in_thread

#: The first Airflow whose triggerer gives a trigger that no worker has started a context of its own.
_FIRST_AIRFLOW = Version("3.3")


def obstacle_to_start(task: Any) -> str:
    """
    Find out, while a Dag is parsed, why a task's wait cannot begin in the triggerer.

    :param task: The task, with its ``batch_id`` and ``mistral_conn_id`` as they were passed.
    :return: The reason, to come after a colon; empty when the wait can begin there.
    """
    if _airflow() < _FIRST_AIRFLOW:
        return f"start_from_trigger needs Airflow {_FIRST_AIRFLOW} or newer, and this is {_airflow()}"
    if isinstance(task.batch_id, XComArg):
        if not isinstance(task.batch_id, PlainXComArg):
            return (
                "batch_id is made from another task's output by a function, which only a worker can call; "
                "pass the output itself"
            )
        if task.get_closest_mapped_task_group() is not None:
            return "it is in a mapped task group, where only a worker can tell whose output batch_id is"
    if isinstance(task.mistral_conn_id, XComArg):
        return "mistral_conn_id is another task's output, which only a worker can read"
    if (
        task.on_execute_callback
        or task._pre_execute_hook
        or type(task).pre_execute is not BaseOperator.pre_execute
    ):
        return "it has on_execute_callback or pre_execute, which only a worker can call"
    for name, value, remedy in (
        ("batch_id", task.batch_id, "pass the other task's output itself"),
        ("mistral_conn_id", task.mistral_conn_id, "pass the connection's id itself"),
    ):
        # The triggerer does render templates, but waits for ever for `ti.xcom_pull` without `map_indexes` (3.3.2).
        if isinstance(value, str) and ("{{" in value or "{%" in value):
            return f"{name}={value!r} is a template, which a worker has to render; {remedy}"
    return ""


def reference(batch_id: Any) -> Any:
    """
    Write a job's id down as a trigger's argument, which must be plain data.

    :param batch_id: The id, or the output of the task that knows it.
    :return: The id, or where to find it, for :func:`resolve`. (Airflow does not resolve a task's output for a trigger.)
    """
    if isinstance(batch_id, PlainXComArg):
        return {"task_id": batch_id.operator.task_id, "key": batch_id.key}
    return batch_id


async def resolve(batch_id: Any, task_instance: Any) -> Any:
    """
    Find in the triggerer the job's id that :func:`reference` wrote down.

    :param batch_id: The id, or where to find it.
    :param task_instance: The trigger's task instance; the other task is in the same Dag run.
    :return: The id, unchecked: whatever the other task has left in its XCom.
    """
    if not isinstance(batch_id, dict):
        return batch_id
    from airflow.providers.common.compat.sdk import XCom

    return await in_thread(
        XCom.get_one,
        key=batch_id["key"],
        task_id=batch_id["task_id"],
        dag_id=task_instance.dag_id,
        run_id=task_instance.run_id,
    )


@cache
def _airflow() -> Version:
    return Version(Version(version("apache-airflow-core")).base_version)
