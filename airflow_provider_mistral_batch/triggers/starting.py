"""Begins a wait where it will be spent: in the triggerer, without starting a worker first."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any

from airflow.providers.common.compat.sdk import BaseOperator, XComArg
from airflow.sdk.definitions.xcom_arg import PlainXComArg
from packaging.version import Version

from airflow_provider_mistral_batch.triggers.threads import in_thread

#: The first Airflow whose triggerer gives such a trigger a context of its own.
_FIRST_AIRFLOW = Version("3.3")


def obstacle_to_start(task: Any) -> str:
    """
    Find out while a Dag is parsed why a wait cannot begin in the triggerer.

    :param task: The task, with its ``batch_id`` and ``mistral_conn_id`` as it was given them.
    :return: The reason; empty when there is none.
    """
    if _airflow() < _FIRST_AIRFLOW:
        return f"that takes Airflow {_FIRST_AIRFLOW} or newer, and this is {_airflow()}"
    if isinstance(task.batch_id, XComArg):
        if not isinstance(task.batch_id, PlainXComArg):
            return "batch_id is made from another task's output by a function, which takes a worker"
        if task.get_closest_mapped_task_group() is not None:
            return "batch_id is another task's output in a mapped task group, and which one of many a worker tells"
    if isinstance(task.mistral_conn_id, XComArg):
        return "mistral_conn_id is another task's output, which a worker reads"
    if (
        task.on_execute_callback
        or task._pre_execute_hook
        or type(task).pre_execute is not BaseOperator.pre_execute
    ):
        return "on_execute_callback and pre_execute are called by a worker"
    for name, value in (("batch_id", task.batch_id), ("mistral_conn_id", task.mistral_conn_id)):
        # The triggerer renders templates, but for `ti.xcom_pull` without `map_indexes` it waits for ever (3.3.2).
        if isinstance(value, str) and ("{{" in value or "{%" in value):
            return f"{name}={value!r} is a template, which takes a worker; pass the task's output instead"
    return ""


def reference(batch_id: Any) -> Any:
    """
    Write down a job's id so that a trigger can be made from it.

    :param batch_id: The id, or the output of the task that knows it.
    :return: The id, or where to find it. (Airflow's own way of writing an output down reaches a trigger unresolved.)
    """
    if isinstance(batch_id, PlainXComArg):
        return {"task_id": batch_id.operator.task_id, "key": batch_id.key}
    return batch_id


async def resolve(batch_id: Any, task_instance: Any) -> Any:
    """
    Read in the triggerer what :func:`reference` wrote down.

    :param batch_id: The id, or where to find it.
    :param task_instance: The trigger's task instance, in whose Dag run the other task is.
    :return: The id; whatever the other task left there.
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
