"""Triggerers end, or are too slow, while jobs wait in them: the waits go on, and no job is cancelled."""

from __future__ import annotations

from collections.abc import Callable

from .service_manager import ServiceManager
from .trials import Trial

JOBS = 20


def test_triggerer_killed_while_20_jobs_wait(
    service_manager: ServiceManager, new_trial: Callable[..., Trial]
) -> None:
    trial = new_trial("triggerer_killed", "chaos_many_jobs", rows=JOBS)
    trial.plan_job(job_seconds=3600)
    trial.start()
    waiting = {**{f"submit[{index}]": "deferred" for index in range(JOBS)}, "land": None}
    states = trial.rest.task_states

    def all_wait() -> bool:
        return states(trial.dag_id, trial.run_id) == waiting

    trial.wait_until(all_wait, "all tasks are deferred")
    trial.wait_until_looked_at(listed=True)

    service_manager.stop("triggerer")
    trial.wait_until_looked_at(listed=True)
    service_manager.kill("triggerer")
    trial.wait_until_looked_at(listed=True)

    assert all_wait()
    assert {job["status"] for job in trial.jobs()} == {"RUNNING"}
    trial.control.end_jobs(metadata={"case": trial.name})
    expected = {**{f"submit[{index}]": "success" for index in range(JOBS)}, "land": "success"}
    trial.finish("the triggerer of 20 waiting jobs stopped and started, then killed -9 and started", expected)
    assert {trial.task_instance("submit", index)["try_number"] for index in range(JOBS)} == {1}


def test_triggerer_too_slow_to_keep_its_triggers(
    service_manager: ServiceManager, new_trial: Callable[..., Trial]
) -> None:
    airflow = service_manager.airflow
    trial = new_trial("triggerer_slow", "chaos_three_jobs", rows=3)
    trial.plan_job(job_seconds=3600)
    trial.start()

    def triggerers() -> set[int]:
        instances = [trial.task_instance("submit", index) for index in range(3)]
        return {ti["triggerer_job"]["id"] for ti in instances if ti["triggerer_job"]}

    trial.wait_until_looked_at(listed=True)
    slow = triggerers()
    airflow.start("triggerer-2", "triggerer", "--skip-serve-logs")
    try:
        sleeping = airflow.processes["triggerer"].processes
        for process in sleeping:
            process.suspend()
        trial.wait_until(lambda: not triggerers() & slow, "another triggerer has the triggers")
        for process in sleeping:
            process.resume()
        # Airflow 3.3 tells the slow one that a user ended these tasks.
        trial.wait_until(
            lambda: "goes on elsewhere" in trial.rest.log(trial.dag_id, trial.run_id, "submit", 1, 0),
            "the slow triggerer lets go",
            interval=2,
        )
        assert {job["status"] for job in trial.jobs()} == {"RUNNING"}
        trial.control.end_jobs(metadata={"case": trial.name})
        expected = {**{f"submit[{index}]": "success" for index in range(3)}, "land": "success"}
        trial.finish("a triggerer suspended until another one had its triggers, then awake again", expected)
        assert {trial.task_instance("submit", index)["try_number"] for index in range(3)} == {1}
    finally:
        service_manager.lose("triggerer-2")
