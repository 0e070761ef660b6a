"""Which task instance is running, which clear of it this is, and the earliest time of its first job."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_mistral_batch.policies.ownership import TaskIdentity

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook


def identity_of(context: Context, hook: MistralBatchHook) -> TaskIdentity:
    """
    Tell which task instance is running.

    :param context: The task's context.
    :param hook: The task's hook, which knows the deployment.
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
    Give a text that stays the same for all tries of the running task until the task is cleared.

    :param context: The task's context.
    """
    # `max_tries` grows when the task is cleared while no worker runs it, and at no other time (seen in 3.3.2).
    return f"up to try {context['ti'].max_tries + 1}"


def begun_at(dag_run: Any) -> datetime:
    """
    Give a time, by our own clock, before which no job of a Dag run was submitted.

    :param dag_run: The Dag run of the task's context.
    """
    # A backfill's `run_after` may be years ago, and a search would read all jobs since. `start_date` is newer, but it
    # moves when the run is cleared, while `run_after` does not.
    was_cleared = getattr(dag_run, "clear_number", None) != 0
    started: datetime | None = dag_run.start_date
    if started is not None and not was_cleared:
        return started
    times: list[datetime] = [time for time in (dag_run.run_after, started) if time is not None]
    return min(times)
