"""Cancels, when a trigger is killed, the jobs that nobody waits for any more."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from airflow_provider_mistral_batch.api.texts import sentence
from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
from airflow_provider_mistral_batch.tasks.endings import abandoned
from airflow_provider_mistral_batch.triggers.starting import resolve
from airflow_provider_mistral_batch.triggers.threads import in_thread

log = logging.getLogger(__name__)


async def cancel_if_abandoned(
    batch_ids: Iterable[str | dict[str, str]], mistral_conn_id: str, task_instance: Any
) -> None:
    """
    Cancel the jobs of a task that was killed, unless the task goes on elsewhere. A failure is logged, not raised.

    :param batch_ids: The jobs' ids, or where to find them
        (see :func:`~airflow_provider_mistral_batch.triggers.starting.reference`).
    :param mistral_conn_id: The connection's id.
    :param task_instance: The trigger's task instance.
    """
    if not await in_thread(abandoned, task_instance):
        log.info("The task goes on elsewhere, so none of its batch jobs is cancelled.")
        return
    hook = MistralBatchHook(mistral_conn_id)
    try:
        for batch_id in batch_ids:
            found: Any = batch_id
            try:
                found = await resolve(batch_id, task_instance)
                log.info("The task was ended: cancelling batch job %s.", found)
                await in_thread(hook.cancel, found)
            except Exception as error:
                log.warning("%s Batch job %s may keep running.", sentence(error), found)
    finally:
        hook.close()
