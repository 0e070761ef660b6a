"""A job's view: what people see of it, cut and clean."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_mistral_batch.api.models import BatchJobOut, BatchJobRequestCounts
from airflow_provider_mistral_batch.overview.jobs import JobView, job_view, seen_by

TASK = {"airflow_dag_id": "nightly", "airflow_run_id": "manual__1", "airflow_task_id": "classify"}


def view(**fields: Any) -> JobView:
    job = BatchJobOut(
        **{"id": "b", "status": "in_progress", "raw_status": "RUNNING", "created_at": 100, **fields}
    )
    return job_view(job, "mistral_default")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"expires_at": 500}, 500),
        ({"expires_at": 500, "completion_window": "24h"}, 500),
        ({"completion_window": "24h"}, 100 + 24 * 3600),
        ({"completion_window": "soon"}, None),
        # Mistral's API tells neither.
        ({"metadata": {"airflow_window_hours": "48"}}, 100 + 48 * 3600),
        ({"metadata": {"airflow_window_hours": "48"}, "completion_window": "24h"}, 100 + 24 * 3600),
        ({"metadata": {"airflow_window_hours": "48"}, "created_at": 0}, None),
        ({"metadata": {"airflow_window_hours": "0"}}, None),
        ({"metadata": {"airflow_window_hours": "soon"}}, None),
        ({}, None),
    ],
)
def test_when_it_expires(fields: dict[str, Any], expected: int | None) -> None:
    assert view(**fields).expires_at == expected


@pytest.mark.parametrize(
    ("counts", "progress", "failed_share"),
    [
        ((0, 0, 0), None, None),
        ((10, 4, 1), 0.5, 0.1),
        ((10, 20, 0), 1.0, 0.0),
        ((-5, -1, -1), None, None),
    ],
)
def test_progress(counts: tuple[int, int, int], progress: float | None, failed_share: float | None) -> None:
    total, completed, failed = counts
    seen = view(request_counts=BatchJobRequestCounts(total=total, completed=completed, failed=failed))

    assert (seen.progress, seen.failed_share) == (progress, failed_share)


@pytest.mark.parametrize(
    ("noted", "map_index"),
    [
        ({}, -1),
        ({"airflow_map_index": "7"}, 7),
        ({"airflow_map_index": "-1"}, -1),
        ({"airflow_map_index": "x"}, -1),
    ],
)
def test_its_task(noted: dict[str, str], map_index: int) -> None:
    task = view(metadata={**TASK, **noted}).task

    assert task is not None
    assert (task.dag_id, task.run_id, task.task_id, task.map_index) == (
        "nightly",
        "manual__1",
        "classify",
        map_index,
    )


def test_a_job_of_nobody_has_no_task() -> None:
    assert view(metadata={"airflow_dag_id": "nightly"}).task is None
    assert view(metadata=None).task is None


def test_no_text_is_long_or_steers_a_terminal() -> None:
    seen = view(model="m" * 10_000, metadata={"note": "\x1b[2J" + "x" * 1_000_000})

    assert len(seen.model or "") < 500
    assert "\x1b" not in seen.metadata["note"]
    assert len(seen.metadata["note"]) < 10_000


def test_what_is_over_tells_most() -> None:
    running = view()
    over = job_view(
        BatchJobOut(id="b", status="completed", raw_status="SUCCESS", created_at=100, completed_at=200),
        "other",
    )

    assert seen_by([running, over]).is_over
    assert seen_by([running, over]).connections == ("mistral_default", "other")
