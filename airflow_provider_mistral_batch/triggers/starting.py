"""Begins a wait in the triggerer, without starting a worker first: when that can work, and how the job is found."""

from __future__ import annotations

import re
from typing import Any, TypeGuard

from packaging.version import Version

from airflow_provider_mistral_batch.compat import (
    AIRFLOW,
    BaseOperator,
    DagParam,
    Param,
    PlainXComArg,
    XComArg,
)
from airflow_provider_mistral_batch.triggers.threads import in_thread

#: Templates about the Dag run alone, which the triggerer renders like a worker.
_OF_THE_RUN = re.compile(
    r"""\{\{\s*(?:
        params\.(?P<param>[A-Za-z_]\w*)
        | params\[\s*(?P<q>['"])(?P<quoted_param>[\w\x20.-]+)(?P=q)\s*\]
        | dag_run\.conf\.[A-Za-z_]\w*
        | dag_run\.conf\[\s*(?P<r>['"])[\w\x20.-]+(?P=r)\s*\]
    )\s*\}\}""",
    re.ASCII | re.VERBOSE,
)

#: The first Airflow whose triggerer gives a trigger that no worker has started a context of its own.
_FIRST_AIRFLOW = Version("3.3")


def obstacle_to_start(task: Any) -> str:
    """
    Find out, while a Dag is parsed, why a task's wait cannot begin in the triggerer.

    :param task: The task, with its ``batch_id`` and ``mistral_conn_id`` as they were passed.
    :return: The reason, to come after a colon; empty when the wait can begin there.
    """
    dag_params: Any = getattr(task.get_dag(), "params", {})
    if AIRFLOW < _FIRST_AIRFLOW:
        return f"start_from_trigger needs Airflow {_FIRST_AIRFLOW} or newer, and this is {AIRFLOW}"
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
        ("batch_id", task.batch_id, "pass the other task's output, or a template like {{ params.batch_id }}"),
        ("mistral_conn_id", task.mistral_conn_id, "pass the connection's id itself"),
        ("max_failed_ratio", task.max_failed_ratio, "pass the number itself"),
    ):
        if hasattr(value, "resolve") and not isinstance(value, (XComArg, DagParam)):
            return f"{name} is a {type(value).__name__}, which only a worker can resolve; {remedy}"
        if is_template(value):
            # The triggerer does render templates, but waits for ever for `ti.xcom_pull` without `map_indexes` (3.3.2).
            of_the_run = None if name == "max_failed_ratio" else _OF_THE_RUN.fullmatch(value)
            if of_the_run is None:
                return f"{name}={value!r} is a template, which a worker has to render; {remedy}"
            param = of_the_run["param"] or of_the_run["quoted_param"]
            if param is not None and param not in task.params and param not in dag_params:
                return f"{name}={value!r} is a template of a param that the Dag does not have; declare it"
    for params in (dag_params, task.params):
        for name in params:
            # Such a param ends the whole triggerer, again after each restart (3.3.2).
            if params.get_param(name).value is Param().value:
                return (
                    f"the param {name!r} has no default, which Airflow's triggerer does not survive; give it one, "
                    'such as Param("", type="string")'
                )
    return ""


def reference(batch_id: Any) -> Any:
    """
    Write a job's id down as a trigger's argument, which must be plain data.

    :param batch_id: The id, a template for it, an argument of the Dag, or the output of the task that knows it.
    :return: The id, or a template, which Airflow renders; or where to find the id, for :func:`resolve`. (Airflow does
        not resolve a task's output for a trigger.)
    """
    if isinstance(batch_id, PlainXComArg):
        return {"task_id": batch_id.operator.task_id, "key": batch_id.key}
    if isinstance(batch_id, DagParam):
        return f"{{{{ params[{batch_id._name!r}] }}}}"
    return batch_id


def is_template(value: Any) -> TypeGuard[str]:
    """
    Tell whether an argument is a Jinja template.

    :param value: The argument.
    """
    return isinstance(value, str) and ("{{" in value or "{%" in value)


async def resolve(batch_id: Any, task_instance: Any) -> Any:
    """
    Find in the triggerer the job's id that :func:`reference` wrote down.

    :param batch_id: The id, or where to find it.
    :param task_instance: The trigger's task instance; the other task is in the same Dag run.
    :return: The id, unchecked: whatever the other task has left in its XCom.
    """
    if not isinstance(batch_id, dict):
        return batch_id
    from airflow.sdk.execution_time.xcom import XCom

    return await in_thread(
        XCom.get_one,
        key=batch_id["key"],
        task_id=batch_id["task_id"],
        dag_id=task_instance.dag_id,
        run_id=task_instance.run_id,
    )
