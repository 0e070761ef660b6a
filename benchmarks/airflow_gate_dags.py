"""Dags that submit jobs and gate a downstream task on them, one Dag for each variant."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from airflow_provider_mistral_batch.operators import MistralCreateBatchJobOperator
from airflow_provider_mistral_batch.sensors import MistralBatchJobSensor

try:
    from airflow.providers.anthropic.operators.batch import AnthropicBatchOperator
    from airflow.providers.anthropic.sensors.batch import AnthropicBatchSensor
except ImportError:
    AnthropicBatchOperator = AnthropicBatchSensor = None

JOBS = int(os.environ["GATE_JOBS"])

#: Seconds between two looks at a job, in all variants.
POLL = float(os.environ["GATE_POLL_INTERVAL"])

#: The scheduler considers some tasks dead that defer and soon come back to a worker, with every provider.
_PATIENCE = {"retries": 3, "retry_delay": timedelta(seconds=1)}

_MESSAGES = [{"role": "user", "content": "Hello"}]
_OURS: dict[str, Any] = {"model": "mistral-small-latest"}
_OUR_REQUESTS = [[{"custom_id": f"row-{n}", "body": {"messages": _MESSAGES}}] for n in range(JOBS)]
_THEIR_REQUESTS = [
    [{"custom_id": f"row-{n}", "params": {"model": "m", "max_tokens": 9, "messages": _MESSAGES}}]
    for n in range(JOBS)
]


def _our_sensor(**options: Any) -> Any:
    created = MistralCreateBatchJobOperator.partial(task_id="submit", **_OURS).expand(requests=_OUR_REQUESTS)
    return MistralBatchJobSensor.partial(task_id="wait", poke_interval=POLL, **options).expand(
        batch_id=created.output
    )


def _started_from_trigger() -> Any:
    # Airflow does not start mapped tasks in the triggerer, so these are separate tasks.
    waits = []
    for n in range(JOBS):
        created = MistralCreateBatchJobOperator(task_id=f"submit_{n}", requests=_OUR_REQUESTS[n], **_OURS)
        waits.append(
            MistralBatchJobSensor(
                task_id=f"wait_{n}", poke_interval=POLL, start_from_trigger=True, batch_id=created.output
            )
        )
    return waits


def _create_and_wait() -> Any:
    return MistralCreateBatchJobOperator.partial(
        task_id="submit_and_wait", wait_for_completion=True, deferrable=True, poll_interval=POLL, **_OURS
    ).expand(requests=_OUR_REQUESTS)


def _their_sensor(**options: Any) -> Any:
    created = AnthropicBatchOperator.partial(task_id="submit", wait_for_completion=False).expand(
        requests=_THEIR_REQUESTS
    )
    return AnthropicBatchSensor.partial(task_id="wait", poke_interval=POLL, **options).expand(
        batch_id=created.output
    )


def _their_operator() -> Any:
    return AnthropicBatchOperator.partial(
        task_id="submit_and_wait", deferrable=True, poll_interval=POLL
    ).expand(requests=_THEIR_REQUESTS)


VARIANTS: dict[str, Callable[[], Any]] = {
    "ours_deferrable_sensor": lambda: _our_sensor(deferrable=True),
    "ours_sensor_started_from_trigger": _started_from_trigger,
    "ours_reschedule_sensor": lambda: _our_sensor(mode="reschedule"),
    "ours_create_and_wait": _create_and_wait,
}
if AnthropicBatchOperator is not None:
    VARIANTS |= {
        "anthropic_deferrable_sensor": lambda: _their_sensor(deferrable=True),
        "anthropic_reschedule_sensor": lambda: _their_sensor(mode="reschedule"),
        "anthropic_create_and_wait": _their_operator,
    }

for _name, _tasks in VARIANTS.items():
    with DAG(_name, schedule=None, max_active_tasks=JOBS, default_args=_PATIENCE) as _dag:
        _tasks() >> EmptyOperator(task_id="gate")
    globals()[_name] = _dag
