"""Which task instance is running, which clearing of it this is, and when it can have submitted its first job."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_mistral_batch.policies.ownership import TaskIdentity

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook


def identity_of(context: Context, hook: MistralBatchHook) -> TaskIdentity:
    """
    Tell which task instance is running.

    :param context: The task's context.
    :param hook: Its hook, which knows the deployment.
    """
    ti = context["ti"]
    return TaskIdentity(
        dag_id=ti.dag_id,
        task_id=ti.task_id,
        run_id=ti.run_id,
        map_index=-1 if ti.map_index is None else ti.map_index,
        deployment=hook.deployment,
    )


def run_token(context: Context) -> str:
    """
    Give a text that is the same for all tries of the running task until somebody clears it.

    :param context: The task's context.
    """
    # Clearing a task that does not run on a worker just then adds to this, and nothing else does (Airflow 3.3.2).
    return f"up to try {context['ti'].max_tries + 1}"


def begun_at(dag_run: Any) -> datetime:
    """
    Give a time before which no job of a Dag run was submitted, by our own clock.

    :param dag_run: The Dag run of the task's context.
    """
    # A backfill's `run_after` may be years ago, with all of the workspace's jobs since. But `start_date` moves when a
    # run is cleared, and `run_after` does not.
    was_cleared = getattr(dag_run, "clear_number", None) != 0
    started: datetime | None = dag_run.start_date
    if started is not None and not was_cleared:
        return started
    times: list[datetime] = [time for time in (dag_run.run_after, started) if time is not None]
    return min(times)
