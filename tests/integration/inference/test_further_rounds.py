"""Whatever befalls a further round: what earlier rounds have landed is published, and nothing is paid twice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FIRST, AGAIN = {"row-3", "row-4", "row-5"}, {"row-1", "row-2"}


@pytest.fixture
def has_landed(out: Path, rows_of: Any) -> Callable[[Any], None]:
    """Checks that the first round is published, and that a failed task has said so."""

    def has_landed(outcome: Any) -> None:
        assert set(rows_of(out / "results.jsonl")) == FIRST
        assert set(rows_of(out / "errors.jsonl")) == AGAIN
        manifest = outcome.xcoms["return_value"]
        assert (manifest["counts"]["total"], manifest["counts"]["succeeded"]) == (5, 3)
        assert manifest["acceptable"] is (outcome.state == "success")
        assert not ((out / ".rounds").exists() and manifest["acceptable"])

    return has_landed


@pytest.mark.parametrize("end", ["before", "after"])
def test_a_last_look_lands_the_further_round_that_was_waited_for(
    end: str, airflow: Any, batch: Any, jobs: Any, control: Any, rows_of: Any
) -> None:
    control.plan_jobs(failed_rows=2)
    control.settings(job_seconds=3600)

    def lose_the_triggerer() -> None:
        newest = jobs()[-1]["id"]
        airflow.without_triggerer = len(jobs()) == 2
        if end == "after" and airflow.without_triggerer:
            threading.Timer(0.5, control.end_jobs, [[newest]]).start()
        else:
            control.end_jobs([newest])

    airflow.on_deferral = lose_the_triggerer
    outcome = airflow.run(batch(deferrable=True))
    assert outcome.state == "success", outcome.message
    assert len(outcome.triggers) == 2
    assert [job["status"] for job in jobs()] == ["SUCCESS", "SUCCESS"]
    assert (outcome.value["rounds"], outcome.value["counts"]["succeeded"]) == (2, 5)
    assert set(rows_of(outcome.value["results_path"])) == FIRST | AGAIN


@pytest.mark.parametrize("end", ["FAILED", None], ids=["without results", "never submitted"])
def test_a_last_look_submits_no_further_round(
    end: str | None, airflow: Any, batch: Any, jobs: Any, control: Any, settled: Any, has_landed: Any
) -> None:
    control.plan_jobs(failed_rows=2)
    control.settings(job_seconds=3600)
    rounds = 1 if end is None else 2

    def lose_the_triggerer() -> None:
        airflow.without_triggerer = len(jobs()) == rounds
        status = end if airflow.without_triggerer and end else "SUCCESS"
        control.end_jobs([jobs()[-1]["id"]], status=status)
        settled(*["SUCCESS", status][-len(jobs()) :])

    airflow.on_deferral = lose_the_triggerer
    outcome = airflow.run(batch(deferrable=True))
    assert outcome.state == "success", outcome.message
    assert len(jobs()) == rounds
    has_landed(outcome)
