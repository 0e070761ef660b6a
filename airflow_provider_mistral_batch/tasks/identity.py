"""Which task instance is running, which of its runs this is, and since when it can have submitted anything."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_mistral_batch.policies.ownership import TaskIdentity

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook


def run_token(context: Context) -> str:
    """
    Name what began when the running task was last cleared, or first started: its retries are part of it.

    :param context: The task's context.
    """
    # Clearing a task that does not run on a worker just then adds to this, and nothing else does (Airflow 3.3.2).
    return f"up to try {context['ti'].max_tries + 1}"


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


def begun_at(run: Any) -> datetime:
    """A time before which no job of a Dag run was submitted (our own clock)."""
    # A backfill's `run_after` may be years ago, with all of the workspace's jobs since. But `start_date` moves when a
    # run is cleared, and `run_after` does not.
    was_cleared = getattr(run, "clear_number", None) != 0
    started: datetime | None = run.start_date
    if started is not None and not was_cleared:
        return started
    times: list[datetime] = [time for time in (run.run_after, started) if time is not None]
    return min(times)
