"""Ends a task in the triggerer, where its wait has ended, so that no worker starts just for that."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
from airflow_provider_mistral_batch.links.mistral_batch import MistralBatchJobLink, console_url
from airflow_provider_mistral_batch.observability import metrics
from airflow_provider_mistral_batch.observability.lineage.reporting import is_listening
from airflow_provider_mistral_batch.policies.verdict import judge
from airflow_provider_mistral_batch.tasks.xcoms import RETURN_VALUE, job_xcoms, set_xcom
from airflow_provider_mistral_batch.triggers.threads import in_thread

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.triggers.base import TaskSuccessEvent

    from airflow_provider_mistral_batch.api.models import BatchJobOut

log = logging.getLogger(__name__)


def may_finish_in_triggerer(task: BaseOperator) -> bool:
    """
    Whether a task that ends well needs nothing that only a worker does.

    Only a worker registers outlets, calls callbacks and ``post_execute``, and leaves out the XCom of the return value
    for a task with ``do_xcom_push=False``. Only from a worker does OpenLineage get the event that the task is complete;
    the task's ``finish_in_triggerer`` can do without that event, or want a worker in any case.

    :param task: The task that is about to be deferred.
    """
    wanted: bool | None = getattr(task, "finish_in_triggerer", None)
    if wanted is False or (wanted is None and is_listening()):
        return False
    from airflow_provider_mistral_batch.compat import BaseOperator as Base

    return not (
        task.outlets
        or not task.do_xcom_push
        or task.on_success_callback
        or getattr(task, "_post_execute_hook", None)
        or getattr(type(task), "post_execute", None) is not getattr(Base, "post_execute", None)
    )


async def finish(
    job: BatchJobOut,
    task_instance: Any,
    *,
    return_key: str,
    max_failed_ratio: float,
    link_conn_id: str | None,
) -> TaskSuccessEvent | None:
    """
    End a task whose job is over, and set the XComs that a worker would push, if that needs no worker.

    :param job: The job.
    :param task_instance: The trigger's task instance.
    :param return_key: Which of the job's XComs the task returns.
    :param max_failed_ratio: Share of requests that may fail, 0 to 1.
    :param link_conn_id: The id of the connection if the XCom of the link to the job in Mistral's console is to be set,
        too; ``None`` if a worker has done so.
    :return: The event that ends the task; ``None`` when a worker has to end it.
    """
    # Imported late: operators ask this module a question while a Dag is parsed.
    from airflow.triggers.base import TaskSuccessEvent

    verdict = judge(job, max_failed_ratio=max_failed_ratio)
    # A worker downloads the error file, to warn of the failed rows with their most frequent errors.
    if not verdict.acceptable or verdict.rows_failed:
        return None
    log.info("%s", verdict.message)
    xcoms = job_xcoms(job)
    # As on a worker, there is no XCom for a task that returns nothing.
    if (return_value := xcoms[return_key]) is not None:
        xcoms[RETURN_VALUE] = return_value
    if link_conn_id is not None and (url := await in_thread(_job_url, job.id, link_conn_id)):
        xcoms[MistralBatchJobLink().xcom_key] = url
    try:
        # All at once: the triggerer's supervisor answers between other things, so each call is mostly waiting. The
        # event could carry the XComs, but then Airflow stores each value JSON-encoded twice (seen in 3.3.2).
        await asyncio.gather(
            *(in_thread(set_xcom, task_instance, key, value) for key, value in xcoms.items())
        )
    except Exception as error:
        log.warning("The task cannot be ended here, so a worker ends it: %s", error)
        return None
    metrics.job_ended(job)
    return TaskSuccessEvent()


def _job_url(batch_id: str, mistral_conn_id: str) -> str:
    hook = MistralBatchHook(mistral_conn_id)
    try:
        return console_url(batch_id, hook.get_conn().base_url)
    except Exception as error:
        log.warning("There will be no link to the job, because the connection cannot be read: %s", error)
        return ""
    finally:
        hook.close()
