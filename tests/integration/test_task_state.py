"""What each task on a worker keeps for the Storage tab of Airflow's UI, over its tries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mistral_batch.emulator.client import Control
from airflow_provider_mistral_batch.operators import (
    MistralBatchInferenceOperator,
    MistralCreateBatchJobOperator,
    MistralDownloadBatchResultsOperator,
)
from airflow_provider_mistral_batch.sensors import MistralBatchJobSensor

ROWS = [{"body": {"messages": [{"role": "user", "content": text}]}} for text in ("a", "b")]
SOON: dict[str, Any] = {"poll_interval": 0.05, "poll_interval_min": 0.05}


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_batch_keeps_the_jobs_of_all_tries(
    deferrable: bool, airflow: Any, new_ti: Any, control: Control, jobs: Any, tmp_path: Path
) -> None:
    control.plan_jobs(end="FAILED")

    def make() -> MistralBatchInferenceOperator:
        return MistralBatchInferenceOperator(
            task_id="task",
            requests=ROWS,
            model="mistral-small-latest",
            destination=str(tmp_path / "out"),
            deferrable=deferrable,
            **SOON,
        )

    ti = new_ti()
    assert airflow.run(make, ti).state == "retry"
    first = [job["id"] for job in jobs()]
    assert ti.task_state.kept == {"batch_ids": first}

    manifest = airflow.run(make, ti.next_try()).value
    assert ti.task_state.kept == {"batch_ids": [*first, *manifest["batch_ids"]], "counts": manifest["counts"]}
    assert len(ti.task_state.kept["batch_ids"]) == 2


def test_tasks_about_one_job_keep_it(
    airflow: Any, make_job: Callable[..., str], new_ti: Any, tmp_path: Path
) -> None:
    batch_id = make_job(rows=2)

    def kept_by(make: Callable[[], Any]) -> tuple[Any, dict[str, Any]]:
        ti = new_ti()
        outcome = airflow.run(make, ti)
        assert outcome.state == "success", outcome.message
        return outcome.value, ti.task_state.kept

    ended = {"total": 2, "completed": 2, "failed": 0}
    create: dict[str, Any] = {"task_id": "task", "requests": ROWS, "model": "mistral-small-latest"}
    job_id, kept = kept_by(lambda: MistralCreateBatchJobOperator(**create))
    assert kept == {"batch_ids": [job_id]}
    job_id, kept = kept_by(lambda: MistralCreateBatchJobOperator(**create, **SOON, wait_for_completion=True))
    assert kept == {"batch_ids": [job_id], "counts": ended}
    _, kept = kept_by(lambda: MistralBatchJobSensor(task_id="task", batch_id=batch_id))
    assert kept == {"batch_ids": [batch_id], "counts": ended}
    manifest, kept = kept_by(
        lambda: MistralDownloadBatchResultsOperator(
            task_id="task", batch_id=batch_id, destination=str(tmp_path)
        )
    )
    assert kept == {"batch_ids": [batch_id], "counts": manifest["counts"]}
