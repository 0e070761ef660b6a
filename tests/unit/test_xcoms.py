"""The XComs that tell how a job ended."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time.xcom import XCom

from airflow_provider_mistral_batch.api.models import BatchJobOut, BatchJobRequestCounts
from airflow_provider_mistral_batch.tasks.xcoms import job_xcoms, push_xcoms, set_xcom


def test_they_are_plain_json() -> None:
    job = BatchJobOut(
        id="job-1",
        status="expired",
        raw_status="TIMEOUT_EXCEEDED",
        created_at=1,
        error_file_id="file-2",
        request_counts=BatchJobRequestCounts(total=3, completed=1, failed=2),
        metadata={"not": "here"},
        outputs=[{"custom_id": "nor this"}],
    )
    values = job_xcoms(job)
    assert values == {
        "batch_id": "job-1",
        "status": "expired",
        "output_file_id": None,
        "error_file_id": "file-2",
        "request_counts": {"total": 3, "completed": 1, "failed": 2},
    }
    assert json.loads(json.dumps(values)) == values


def test_all_are_pushed() -> None:
    pushed = {}

    class TaskInstance:
        def xcom_push(self, key: str, value: object) -> None:
            pushed[key] = value

    push_xcoms(TaskInstance(), {"batch_id": "b", "output_file_id": None})
    assert pushed == {"batch_id": "b", "output_file_id": None}


def test_none_is_left_out_where_airflow_refuses_it() -> None:
    pushed = {}

    class TaskInstance:
        def xcom_push(self, key: str, value: object) -> None:
            if value in (None, "bad"):
                raise RuntimeError("422: Field required")
            pushed[key] = value

    push_xcoms(TaskInstance(), {"batch_id": "b", "output_file_id": None, "status": "completed"})
    assert pushed == {"batch_id": "b", "status": "completed"}
    with pytest.raises(RuntimeError, match="422"):
        push_xcoms(TaskInstance(), {"batch_id": "bad"})


@pytest.mark.parametrize(("map_index", "expected"), [(None, -1), (-1, -1), (3, 3)])
def test_a_trigger_sets_them_for_its_task_instance(
    map_index: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(XCom, "set", lambda **kwargs: calls.append(kwargs))
    ti = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=map_index)
    set_xcom(ti, "batch_id", "b")
    assert calls == [
        {
            "key": "batch_id",
            "value": "b",
            "dag_id": "d",
            "task_id": "t",
            "run_id": "r",
            "map_index": expected,
        }
    ]


def test_a_trigger_leaves_none_out_where_airflow_refuses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**kwargs: Any) -> None:
        raise RuntimeError("422: Field required")

    monkeypatch.setattr(XCom, "set", refuse)
    ti = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1)
    set_xcom(ti, "error_file_id", None)
    with pytest.raises(RuntimeError, match="422"):
        set_xcom(ti, "batch_id", "b")
