"""What jobs cost and will cost is looked up once for all viewers, a part at a time, and in right shares."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from airflow_provider_mistral_batch.overview import known_costs
from airflow_provider_mistral_batch.overview.expected_costs import earlier_jobs, with_expected_costs
from airflow_provider_mistral_batch.overview.jobs import JobView, TaskKey
from airflow_provider_mistral_batch.overview.known_costs import KnownCosts
from airflow_provider_mistral_batch.overview.queries import Query, select

NOW = 1_000_000.0


def job(number: int, run: int, completed: int = 1, **fields: Any) -> JobView:
    known = {
        "connections": ("a",),
        "status": "completed",
        "raw_status": "SUCCESS",
        "endpoint": "",
        "is_over": True,
    }
    known |= {"created_at": 1, "dag_id": "dag", "run_id": f"run-{run}", "task_id": "task"}
    return JobView(id=f"job-{number}", **{**known, "completed": completed, **fields})


class Database:
    """What tasks returned: run 0 has landed two jobs, and each other run but the last one job."""

    def __init__(self) -> None:
        self.asked: list[TaskKey] = []

    def __call__(self, tasks: Iterable[TaskKey]) -> dict[TaskKey, dict[str, Any]]:
        asked = list(tasks)
        self.asked += asked
        return {task: self.manifest(int(task.run_id[4:])) for task in asked if task.run_id != "run-99"}

    @staticmethod
    def manifest(run: int) -> dict[str, Any]:
        ids = ["job-0", "job-1"] if run == 0 else [f"job-{run + 1}"]
        return {"batch_ids": ids, "usage": {"prompt_tokens": 8 * run}, "estimated_cost_usd": 4.0 + run}


def test_costs_order_all_jobs() -> None:
    database = Database()
    costs = KnownCosts(database)
    jobs = [job(0, 0, 3), job(1, 0, 1), job(2, 1), job(3, 2), job(9, 99), job(8, 5, dag_id=None)]
    costed, is_all = costs.costed(jobs, jobs, now=NOW)
    assert is_all
    assert [one.cost_usd for one in costed] == [3.0, 1.0, 5.0, 6.0, None, None]
    # $15 for 6 requests.
    assert [one.expected_cost_usd for one in costed] == [None, None, None, None, 2.5, None]
    assert costed[3].tokens == 16
    ordered = select(costed, Query(sort="cost_usd")).jobs
    assert [one.id for one in ordered] == ["job-3", "job-2", "job-0", "job-9", "job-1", "job-8"]
    # Those without a result are not asked for again at once, either.
    costs.costed(jobs, jobs, now=NOW)
    assert len(database.asked) == 4


def test_many_are_read_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_costs, "_AT_ONCE", 2)
    costs = KnownCosts(Database())
    jobs = [job(run + 1, run) for run in range(1, 9)]
    looks = [costs.costed(jobs, jobs, now=NOW, seconds=0.0) for _ in range(3)]
    assert [is_all for _, is_all in looks] == [False, False, True]
    assert looks[-1][0][-1].cost_usd == 12.0


@pytest.mark.parametrize(("ended_ago", "asked"), [(10.0, 2), (100_000.0, 1)])
def test_what_ended_lately_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, ended_ago: float, asked: int
) -> None:
    monkeypatch.setattr(known_costs, "_LATELY_KNOWN", 0.0)
    database = Database()
    costs = KnownCosts(database)
    jobs = [job(9, 99, 0, ended_at=int(NOW - ended_ago)), job(8, 98, is_over=False)]
    for _ in range(2):
        costs.costed(jobs, jobs, now=NOW)
    assert len(database.asked) == asked


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"is_over": False, "total": 10}, 20.0),
        # Those that failed are not answered, and cost nothing.
        ({"is_over": False, "total": 10, "failed": 4}, 12.0),
        ({"is_over": False, "total": 0}, 0.0),
        # Over, and not landed: what is done is paid for.
        ({"total": 10, "completed": 3}, 6.0),
        ({"is_over": False, "total": 10, "task_id": "another"}, None),
        ({"is_over": False, "total": 10, "model": "another"}, None),
        ({"is_over": False, "total": 10, "endpoint": "/v1/ocr"}, None),
        ({"is_over": False, "total": 10, "task_id": None}, None),
        ({"total": 10, "cost_usd": 7.0}, None),
    ],
)
def test_earlier_jobs_tell_the_cost_of_later_ones(fields: dict[str, Any], expected: float | None) -> None:
    earlier = [job(1, 1, 4, cost_usd=8.0), job(2, 2, 0), job(3, 3, 5)]
    one = job(9, 9, **{"completed": 0, **fields})
    (found,) = with_expected_costs([one], earlier_jobs([one], [one, *earlier]))
    assert found.expected_cost_usd == expected


def test_the_latest_jobs_tell() -> None:
    earlier = [job(run, run, 1, cost_usd=1.0 if run < 5 else 100.0) for run in range(10)]
    one = job(9, 9, 0, is_over=False, total=2)
    (found,) = with_expected_costs([one], earlier_jobs([one], earlier))
    assert found.expected_cost_usd == 2.0
