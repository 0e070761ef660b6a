"""Workers die, answers are lost and the API misbehaves, all at once: each batch job is created once and lands once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from airflow_provider_mistral_batch.emulator import Emulator

from .trials import JOBS_PATH, Trial

NewTrial = Callable[..., Trial]
Emulators = dict[str, Emulator]

#: Cases that run side by side: most of their time they wait, but an Airflow on SQLite does not bear them all at once.
AT_ONCE = 6

ONE_TASK = {"submit": "success"}
GIVEN_UP = {"upload": "success", "submit": "failed", "download": "upstream_failed"}


def worker_killed_before_create(new_trial: NewTrial, emulators: Emulators) -> None:
    trial = new_trial("worker_killed_before_create")
    look_up = trial.fault("hold", "GET", JOBS_PATH)
    trial.start()
    trial.wait_for_fault(look_up)
    trial.kill_worker("submit")
    trial.control.release(look_up)
    trial.finish("kill -9 of the worker in its look-up before the create call")
    assert trial.task_instance("submit")["try_number"] > 1


def worker_killed_during_create(new_trial: NewTrial, emulators: Emulators) -> None:
    trial = new_trial("worker_killed_during_create")
    create = trial.fault("hold", "POST", JOBS_PATH, when="before")
    trial.start()
    trial.wait_for_fault(create)
    trial.kill_worker("submit")
    # The server has the request, and nobody is left to hear its answer.
    trial.control.release(create)
    trial.finish("kill -9 of the worker with its create call under way; the job was made after its death")
    assert trial.task_instance("submit")["try_number"] > 1


def worker_killed_after_create(new_trial: NewTrial, emulators: Emulators) -> None:
    trial = new_trial("worker_killed_after_create", "chaos_on_worker")
    create = trial.fault("hold", "POST", JOBS_PATH, when="after")
    trial.start()
    trial.wait_for_fault(create)
    trial.kill_worker("submit")
    trial.control.release(create)
    trial.finish("kill -9 of the worker when the job was made and the answer not there")
    assert trial.task_instance("submit")["try_number"] > 1


def task_killed_after_create(new_trial: NewTrial, emulators: Emulators) -> None:
    trial = new_trial("task_killed_after_create")
    create = trial.fault("hold", "POST", JOBS_PATH, when="after")
    trial.start()
    trial.wait_for_fault(create)
    trial.kill_worker("submit", only_task=True)
    trial.control.release(create)
    trial.finish("kill -9 of the task's process alone, as by the OOM killer, when the job was made")


def worker_killed_while_uploading(new_trial: NewTrial, emulators: Emulators) -> None:
    trial = new_trial("worker_killed_while_uploading")
    upload = trial.fault("hold", "POST", "/v1/files", when="after")
    trial.start()
    trial.wait_for_fault(upload)
    trial.kill_worker("upload")
    trial.control.release(upload)
    trial.finish("kill -9 of the worker when the file was stored and the answer not there")


def worker_killed_while_polling(new_trial: NewTrial, emulators: Emulators) -> None:
    trial = new_trial("worker_killed_while_polling", "chaos_on_worker")
    trial.plan_job(job_seconds=40)
    trial.start()
    trial.wait_until_looked_at()
    trial.kill_worker("submit")
    trial.finish("kill -9 of the worker that waited for a running job")
    assert trial.task_instance("submit")["try_number"] > 1


def one_task_killed_during_create(new_trial: NewTrial, emulators: Emulators) -> None:
    trial = new_trial("one_task_killed_during_create", "chaos_one_task")
    create = trial.fault("hold", "POST", JOBS_PATH, when="before")
    trial.start()
    trial.wait_for_fault(create)
    trial.kill_worker("submit")
    trial.control.release(create)
    trial.finish("kill -9 of the worker of a batch in one task, with its create call under way", ONE_TASK)


def one_task_killed_while_landing(new_trial: NewTrial, emulators: Emulators) -> None:
    trial = new_trial("one_task_killed_while_landing", "chaos_one_task")
    download = trial.fault("hold", "GET", "/v1/files/*/content", when="after")
    trial.start()
    trial.wait_for_fault(download)
    trial.kill_worker("submit")
    trial.control.release(download)
    trial.finish("kill -9 of the worker of a batch in one task, in its call for the results", ONE_TASK)


def one_task_suspended_while_landing(new_trial: NewTrial, emulators: Emulators) -> None:
    trial = new_trial("one_task_suspended_while_landing", "chaos_one_task")
    download = trial.fault("hold", "GET", "/v1/files/*/content", when="after")
    trial.start()
    trial.wait_for_fault(download)
    go_on = trial.suspend_worker("submit")
    trial.control.release(download)
    try:
        # Airflow takes it for dead.
        trial.wait_until(lambda: trial.task_instance("submit")["try_number"] > 1, "another try begins")
    finally:
        go_on()
    trial.finish(
        "the worker of a batch in one task suspended until another try had begun, then awake again", ONE_TASK
    )


def storm_of_429(new_trial: NewTrial, emulators: Emulators) -> None:
    trial = new_trial("storm_of_429")
    trial.plan_job(job_seconds=15)
    storm = trial.fault("status", status=429, retry_after=1, probability=0.5, times=None)
    trial.start()
    trial.finish("every second call answered with 429 and Retry-After")
    assert trial.control.fault_state(storm)["hits"] > 2


def storm_of_5xx(new_trial: NewTrial, emulators: Emulators) -> None:
    trial = new_trial("storm_of_5xx")
    trial.plan_job(job_seconds=15)
    for method, path in (("POST", "*"), ("GET", "/v1/files*"), ("GET", JOBS_PATH)):
        for status in (500, 502, 503):
            trial.fault("status", method, path, status=status, probability=0.2, times=None)
    # A look that fails doubles the pause to the next: of these, chance would let some runs wait for minutes.
    looks = [trial.fault("status", "GET", f"{JOBS_PATH}/*", status=status) for status in (500, 502, 503)]
    # The first of them certainly: chance alone might spare all.
    drop = trial.fault("drop", "POST", "/v1/*", when="after")
    trial.fault("drop", "POST", "/v1/*", when="after", probability=0.3, times=None)
    trial.start()
    trial.finish(
        "half of all calls and the first three looks answered with 500, 502 or 503, and 30 % of the other POSTs done "
        "but not answered"
    )
    assert [trial.control.fault_state(look)["hits"] for look in looks] == [1, 1, 1]
    assert trial.control.fault_state(drop)["hits"] == 1


def answers_cut_in_the_middle(new_trial: NewTrial, emulators: Emulators) -> None:
    trial = new_trial("answers_cut_in_the_middle")
    trial.plan_job(job_seconds=15)
    cuts = [
        trial.fault("cut", "POST", "/v1/files", bytes=40),
        trial.fault("truncate", "POST", JOBS_PATH),
        trial.fault("cut", "GET", f"{JOBS_PATH}*", bytes=40, probability=0.4, times=None),
    ]
    trial.start()
    trial.finish("the answers to upload and create cut in the middle, and 40 % of the looks at jobs")
    assert all(trial.control.fault_state(cut)["hits"] for cut in cuts)


def download_cut_three_times(new_trial: NewTrial, emulators: Emulators) -> None:
    trial = new_trial("download_cut_three_times", rows=300)
    cut = trial.fault("cut", "GET", "/v1/files/*/content", bytes=20_000, times=3)
    trial.start()
    trial.finish("the download cut three times, each time after 20,000 bytes")
    assert trial.control.fault_state(cut)["hits"] == 3
    assert trial.tries_that_failed("download") == 0


def listing_lags(new_trial: NewTrial, emulators: Emulators) -> None:
    trial = new_trial("listing_lags", on="lagging")
    create = trial.fault("drop", "POST", JOBS_PATH, when="after")
    trial.start()
    trial.finish("the create call's answer lost, and the job in no listing for 4 s")
    assert trial.control.fault_state(create)["hits"] == 1


def clock_behind(new_trial: NewTrial, emulators: Emulators) -> None:
    trial = new_trial("clock_behind", "chaos_deadline", on="behind")
    trial.fault("drop", "POST", JOBS_PATH, when="after")
    trial.start()
    # Told by the API's clock alone, the deadline of 40 s would be over before it begins.
    trial.finish("the API's clock 5 min behind, and the create call's answer lost")


def clock_ahead(new_trial: NewTrial, emulators: Emulators) -> None:
    trial = new_trial("clock_ahead", "chaos_deadline", on="ahead")
    trial.fault("drop", "POST", JOBS_PATH, when="after")
    trial.plan_job(job_seconds=3600)
    trial.start()
    # Told by the API's clock alone, the deadline of 40 s would come 5 minutes late.
    trial.finish(
        "the API's clock 5 min ahead, the create call's answer lost, and a job that never ends", GIVEN_UP
    )


def user_ends_a_wait_on_a_worker(new_trial: NewTrial, emulators: Emulators) -> None:
    for again in range(3):
        trial = new_trial(f"user_ends_a_wait_on_a_worker{'_again' * again}", "chaos_on_worker")
        trial.plan_job(job_seconds=3600)
        trial.start()
        trial.wait_until_looked_at()
        waiting = trial.task_instance("submit")["try_number"]
        trial.end_task("submit")
        if trial.task_instance("submit")["try_number"] == waiting:
            break
        # A busy machine's Airflow missed heartbeats. What ended is a further try, none of whose code had run.
    trial.wait_until(lambda: [job["status"] for job in trial.jobs()] == ["CANCELLED"], "the job is cancelled")
    trial.finish("a user marked the task failed that waited on a worker", GIVEN_UP)


def user_ends_one_of_three(new_trial: NewTrial, emulators: Emulators) -> None:
    trial = new_trial("user_ends_one_of_three", "chaos_three_jobs")
    trial.plan_job(job_seconds=3600)
    trial.start()
    trial.wait_until(lambda: len(trial.jobs()) == 3, "three jobs are there")
    trial.wait_until_looked_at(listed=True)
    trial.end_task("submit", 1)

    def statuses() -> dict[str, str]:
        return {job["metadata"]["airflow_map_index"]: job["status"] for job in trial.jobs()}

    trial.wait_until(lambda: statuses()["1"] == "CANCELLED", "its job is cancelled")
    assert statuses() == {"0": "RUNNING", "1": "CANCELLED", "2": "RUNNING"}
    trial.control.end_jobs(metadata={"case": trial.name})
    expected = {
        "submit[0]": "success",
        "submit[1]": "failed",
        "submit[2]": "success",
        "land": "upstream_failed",
    }
    trial.finish("a user marked one of three mapped tasks failed that waited in the triggerer", expected)


def api_killed(new_trial: NewTrial, emulators: Emulators) -> None:
    trials = [
        new_trial("api_killed_under_a_trigger", on="mortal"),
        new_trial("api_killed_under_a_worker", "chaos_on_worker", on="mortal"),
    ]
    for trial in trials:
        trial.plan_job(job_seconds=20)
        trial.start()
    for trial in trials:
        trial.wait_until_looked_at()
    emulators["mortal"].kill()
    time.sleep(6)
    emulators["mortal"].restart()
    for trial in trials:
        trial.finish("kill -9 of the API with its jobs running, back after 6 s")


#: Every case by its name.
CASES: dict[str, Callable[..., None]] = {
    case.__name__: case
    for case in (
        worker_killed_before_create,
        worker_killed_during_create,
        worker_killed_after_create,
        task_killed_after_create,
        worker_killed_while_uploading,
        worker_killed_while_polling,
        one_task_killed_during_create,
        one_task_killed_while_landing,
        one_task_suspended_while_landing,
        storm_of_429,
        storm_of_5xx,
        answers_cut_in_the_middle,
        download_cut_three_times,
        listing_lags,
        clock_behind,
        clock_ahead,
        user_ends_a_wait_on_a_worker,
        user_ends_one_of_three,
        api_killed,
    )
}


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, new_trial: NewTrial, emulators: Emulators
) -> Iterator[dict[str, Future[None]]]:
    """The cases that were selected, running side by side: none disturbs another."""
    selected = {
        item.callspec.params.get("case") for item in request.session.items if hasattr(item, "callspec")
    }
    with ThreadPoolExecutor(max_workers=AT_ONCE) as threads:
        yield {name: threads.submit(CASES[name], new_trial, emulators) for name in CASES if name in selected}


@pytest.mark.parametrize("case", CASES)
def test_fault(case: str, results: dict[str, Future[None]]) -> None:
    results[case].result()
