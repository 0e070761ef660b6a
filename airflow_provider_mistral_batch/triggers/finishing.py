"""Ends a task where its wait ends: in the triggerer, without starting a worker once more."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_mistral_batch.triggers.threads import in_thread

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator
    from airflow.triggers.base import TaskSuccessEvent


def may_finish_in_triggerer(task: BaseOperator) -> bool:
    """
    Whether nothing of a task that ends well needs a worker.

    Outlets are registered, and callbacks and ``post_execute`` called, by the worker that ends a task; and it is the
    worker that leaves the XCom of the return value out when the task says so.

    :param task: The task that is about to be deferred.
    """
    from airflow.providers.common.compat.sdk import BaseOperator as Base

    return not (
        task.outlets
        or not task.do_xcom_push
        or task.on_success_callback
        or getattr(task, "_post_execute_hook", None)
        or getattr(type(task), "post_execute", None) is not getattr(Base, "post_execute", None)
    )


async def finish(task_instance: Any, xcoms: Mapping[str, Any], *, return_value: Any) -> TaskSuccessEvent:
    """
    Leave the XComs that a worker would leave, and make the event that ends the task well.

    The event could carry them itself, but then Airflow stores each value JSON-encoded twice (seen in 3.3.2).

    :param task_instance: The trigger's task instance.
    :param xcoms: Values by key.
    :param return_value: What the task returns; ``None`` leaves no XCom, as on a worker.
    """
    # Imported late: operators ask this module a question while a Dag is parsed.
    from airflow.providers.common.compat.sdk import XCOM_RETURN_KEY
    from airflow.triggers.base import TaskSuccessEvent

    values = {**xcoms, **({XCOM_RETURN_KEY: return_value} if return_value is not None else {})}
    # Side by side: the triggerer's supervisor answers between other things, so each call is mostly waiting.
    await asyncio.gather(*(in_thread(_leave, task_instance, key, value) for key, value in values.items()))
    return TaskSuccessEvent()


def _leave(task_instance: Any, key: str, value: Any) -> None:
    from airflow.providers.common.compat.sdk import XCom

    try:
        XCom.set(
            key=key,
            value=value,
            dag_id=task_instance.dag_id,
            task_id=task_instance.task_id,
            run_id=task_instance.run_id,
            map_index=-1 if task_instance.map_index is None else task_instance.map_index,
        )
    except Exception:
        # Before Airflow 3.3 the API server refuses an XCom that is None; then there is none, as from a worker.
        if value is not None:
            raise
