"""The XComs that tell how a job ended."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time.xcom import XCom
from packaging.version import Version

from airflow_provider_mistral_batch.api.models import BatchJobOut, BatchJobRequestCounts
from airflow_provider_mistral_batch.tasks import xcoms
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


@pytest.mark.parametrize(
    ("airflow", "without_value"), [("3.3.0", {"output_file_id": None}), ("3.2.2", {}), ("3.0.6", {})]
)
def test_none_is_left_out_where_airflow_refuses_it(
    airflow: str, without_value: dict[str, None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xcoms, "AIRFLOW", Version(airflow))
    pushed, made = {}, {}

    class TaskInstance:
        def xcom_push(self, key: str, value: object) -> None:
            pushed[key] = value

    monkeypatch.setattr(XCom, "set", lambda *, key, value, **rest: made.update({key: value}))
    values = {"batch_id": "b", "output_file_id": None}
    push_xcoms(TaskInstance(), values)
    for key, value in values.items():
        set_xcom(SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1), key, value)
    assert pushed == made == {"batch_id": "b", **without_value}


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
