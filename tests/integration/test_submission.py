"""One job per task instance, whatever is lost on the way: look-up, re-attachment, duplicates, lost answers."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mistral_batch.api.models import BatchJobIn
from airflow_provider_mistral_batch.compat import AirflowException
from airflow_provider_mistral_batch.emulator.client import Control
from airflow_provider_mistral_batch.observability import metrics
from airflow_provider_mistral_batch.operators.inference import MistralBatchInferenceOperator
from airflow_provider_mistral_batch.operators.mistral_batch import MistralCreateBatchJobOperator
from airflow_provider_mistral_batch.submission import jobs as submission

CREATE, LIST, CANCEL = "POST /v1/batch/jobs", "GET /v1/batch/jobs", "POST /v1/batch/jobs/{id}/cancel"

#: Keeps a job in the status in which it is meant to be found.
LONG: dict[str, Any] = {"job_seconds": 1000}


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "_RECHECKS", (0.02, 0.05, 0.1, 0.3))


def requests(content: str = "Hi") -> list[dict[str, Any]]:
    return [{"custom_id": "a", "body": {"messages": [{"role": "user", "content": content}]}}]


@pytest.fixture
def submit(airflow: Any) -> Callable[..., Any]:
    def submit(ti: Any, *, content: str = "Hi", **arguments: Any) -> Any:
        arguments = {"requests": requests(content), "model": "mistral-small-latest", **arguments}
        return airflow.run(lambda: MistralCreateBatchJobOperator(task_id="task", **arguments), ti)

    return submit


def test_a_first_try_looks_once(submit: Any, new_ti: Any, control: Control, jobs: Any, logged: Any) -> None:
    control.make_jobs(250)
    outcome = submit(new_ti())
    assert control.requests() == {LIST: 1, CREATE: 1}
    assert f"info: Created batch job {outcome.value}: this task instance has no job yet." in logged()


@pytest.mark.parametrize(
    ("plan", "status"),
    [(LONG, "in_progress"), ({}, "completed"), ({"validation_seconds": 1000}, "validating")],
)
@pytest.mark.parametrize("first_try_again", [False, True])
def test_a_job_that_runs_or_is_done_is_ours(
    plan: dict[str, Any],
    status: str,
    first_try_again: bool,
    submit: Any,
    new_ti: Any,
    control: Control,
    settled: Any,
    logged: Any,
) -> None:
    control.plan_jobs(**plan)
    first = submit(new_ti())
    settled({"in_progress": "RUNNING", "completed": "SUCCESS", "validating": "QUEUED"}[status])
    # A task instance whose first try is made again: after a worker's crash before Airflow counted the try.
    again = submit(new_ti() if first_try_again else new_ti().next_try())
    assert (again.state, again.value) == ("success", first.value)
    assert again.xcoms["batch_id"] == first.value
    assert control.requests()[CREATE] == 1
    assert (
        f"info: Attached to batch job {first.value}: it does the same work for this task instance and is {status}."
        in logged()
    )


def test_results_of_a_cleared_task_cost_nothing(
    submit: Any, new_ti: Any, control: Control, settled: Any
) -> None:
    ti = new_ti()
    first = submit(ti, wait_for_completion=True, poll_interval=0.05)
    control.reset()
    again = submit(ti.next_try(), wait_for_completion=True)
    assert (again.value, again.xcoms) == (first.value, first.xcoms)
    # One look-up, and one for what another try may have left.
    assert control.requests() == {LIST: 2}


@pytest.mark.parametrize(
    ("end", "status"),
    [("FAILED", "failed"), ("TIMEOUT_EXCEEDED", "expired"), ("CANCELLED", "cancelled")],
)
def test_a_job_that_ended_badly_is_followed_by_a_new_one(
    end: str, status: str, submit: Any, new_ti: Any, control: Control, settled: Any, logged: Any
) -> None:
    control.plan_jobs(end=end)
    first = submit(new_ti())
    settled(end)
    again = submit(new_ti().next_try())
    assert again.value != first.value
    settled(end, "SUCCESS")
    assert f"info: Created batch job {again.value}: the previous job {first.value} is {status}." in logged()


def test_a_job_that_is_being_cancelled_is_followed_by_a_new_one(
    submit: Any, new_ti: Any, hook: Any, control: Control, settled: Any
) -> None:
    control.settings(cancel_seconds=1000)
    control.plan_jobs(**LONG)
    first = submit(new_ti())
    settled("RUNNING")
    hook.cancel(first.value)
    assert submit(new_ti().next_try()).value != first.value


#: What vendors say while a file that was just uploaded is not there yet.
REFUSALS = [
    (400, "cannot find file"),
    (404, "No such File object"),
    (422, "input_files: still being processed"),
]

CHANGES: dict[str, dict[str, Any]] = {
    "requests": {"content": "Ho"},
    "model": {"model": "mistral-large-latest"},
    "window": {"completion_window": "48h"},
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_input_is_a_new_job_and_the_old_one_is_cancelled(
    change: str, submit: Any, new_ti: Any, control: Control, settled: Any, logged: Any
) -> None:
    control.plan_jobs(**LONG)
    first = submit(new_ti())
    settled("RUNNING")
    again = submit(new_ti().next_try(), **CHANGES[change])
    assert again.value != first.value
    settled("CANCELLED", "SUCCESS")
    lines = logged()
    assert f"info: Cancelling batch job {first.value}: this task instance no longer needs it." in lines
    assert (
        f"info: Created batch job {again.value}: the requests or their parameters have changed since batch job "
        f"{first.value}." in lines
    )


def test_the_same_input_said_otherwise_is_no_change(submit: Any, new_ti: Any, control: Control) -> None:
    first = submit(new_ti())
    row = requests()[0]
    said_otherwise = {
        "requests": [
            {"body": row["body"], "custom_id": "a", "method": "POST", "url": "/v1/chat/completions"}
        ],
        "timeout_hours": 24,
        # What a job is labelled with is not what is asked: a label that changes must not cost a second job.
        "metadata": {"try": "2"},
    }
    assert submit(new_ti().next_try(), **said_otherwise).value == first.value


def test_an_old_job_that_is_listed_late_is_cancelled_all_the_same(
    submit: Any, new_ti: Any, control: Control, jobs: Any, settled: Any
) -> None:
    control.plan_jobs(times=None, **LONG)
    submit(new_ti())
    for change in ({"content": "Ho"}, {"force_new": True}):
        control.settings(listing_lag=time.time() - jobs()[-1]["created"] + 0.2)
        submit(new_ti().next_try(), **change)
        control.settings(listing_lag=0)
    settled("CANCELLED", "CANCELLED", "RUNNING")


def test_force_new(submit: Any, new_ti: Any, control: Control, settled: Any, logged: Any) -> None:
    control.plan_jobs(**LONG)
    first = submit(new_ti())
    settled("RUNNING")
    ti = new_ti().cleared()
    again = submit(ti, force_new=True)
    assert again.value != first.value
    settled("CANCELLED", "SUCCESS")
    assert f"info: Created batch job {again.value}: no earlier job may count." in logged()
    # A retry is no clear.
    assert submit(ti.next_try(), force_new=True).value == again.value
    assert submit(ti.cleared(), force_new=True).value != again.value


@pytest.mark.parametrize(
    "other", [{"map_index": 1}, {"task_id": "other"}, {"run_id": "other"}, {"dag_id": "other"}]
)
def test_jobs_of_other_task_instances_are_none_of_ours(
    other: dict[str, Any], submit: Any, new_ti: Any, control: Control, settled: Any
) -> None:
    control.plan_jobs(times=None, **LONG)
    theirs = new_ti(**{name: value for name, value in other.items() if name in ("map_index", "task_id")})
    for name, value in other.items():
        setattr(theirs, name, value)
    first = submit(theirs)
    settled("RUNNING")
    mine = submit(new_ti())
    # Not taken for ours, and not cancelled as ours either: not even by a retry that asks for something else.
    changed = submit(new_ti().next_try(), content="Ho")
    assert len({first.value, mine.value, changed.value}) == 3
    settled("RUNNING", "CANCELLED", "RUNNING")


def duplicates(submit: Any, new_ti: Any, control: Control, *plans: dict[str, Any]) -> list[str]:
    """Two jobs with the same key, as two workers at once or a server behind its listing would leave them."""
    ids = []
    for age, plan in zip((60, 0), plans, strict=True):
        control.plan_jobs(**plan)
        control.settings(listing_lag=1000, clock_skew=-age)
        ids.append(submit(new_ti()).value)
    control.settings(listing_lag=0)
    assert len(set(ids)) == len(ids)
    return ids


@pytest.mark.parametrize(
    ("plans", "before", "after", "taken"),
    [
        ((LONG, LONG), ("RUNNING", "RUNNING"), ("RUNNING", "CANCELLED"), 0),
        (({}, LONG), ("SUCCESS", "RUNNING"), ("SUCCESS", "CANCELLED"), 0),
        (({}, {}), ("SUCCESS", "SUCCESS"), ("SUCCESS", "SUCCESS"), 0),
        (({"end": "FAILED"}, LONG), ("FAILED", "RUNNING"), ("FAILED", "RUNNING"), 1),
    ],
    ids=["both run", "one is done", "both are done", "one failed"],
)
def test_duplicate_jobs(
    plans: Any,
    before: Any,
    after: Any,
    taken: int,
    submit: Any,
    new_ti: Any,
    control: Control,
    settled: Any,
    logged: Any,
) -> None:
    ids = duplicates(submit, new_ti, control, *plans)
    settled(*before)
    assert submit(new_ti().next_try()).value == ids[taken]
    settled(*after)
    warnings = [line for line in logged() if line.startswith("warning: Several batch jobs")]
    if "FAILED" in before:
        assert warnings == []
    else:
        assert len(warnings) == 1
        assert all(batch_id in warnings[0] for batch_id in ids)


#: Answers of the create call that leave open whether there is a job, and whether there is one.
LOST: dict[str, tuple[dict[str, Any], bool]] = {
    "dropped after the work": ({"kind": "drop", "when": "after"}, True),
    "dropped before the work": ({"kind": "drop", "when": "before"}, False),
    "a 500 before the work": ({"kind": "status", "status": 500}, False),
    "a 504 before the work": ({"kind": "status", "status": 504}, False),
    "a proxy's page": ({"kind": "html"}, False),
    "half an answer": ({"kind": "truncate"}, True),
}


@pytest.mark.parametrize("lost", LOST)
@pytest.mark.parametrize("lag", [0.0, 0.2])
def test_a_lost_answer_leaves_one_job(
    lost: str,
    lag: float,
    submit: Any,
    new_ti: Any,
    control: Control,
    jobs: Any,
    logged: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted: list[str] = []
    monkeypatch.setattr(metrics, "_count", lambda name, *_, **__: counted.append(name))
    fault, exists = LOST[lost]
    control.settings(listing_lag=lag)
    control.fault(method="POST", path="/v1/batch/jobs", **fault)
    outcome = submit(new_ti())
    assert outcome.state == "success"
    assert [job["id"] for job in jobs()] == [outcome.value]
    assert control.requests()[CREATE] == (1 if exists else 2)
    said = "Attached to" if exists else "The batch job does not exist: sending it again."
    assert [line for line in logged() if said in line]
    # It is this try's, whichever call made it.
    assert [name for name in counted if name.startswith("mistral_batch.jobs.")] == [metrics.SUBMITTED]


def test_a_lost_answer_whose_look_fails_leaves_nothing_running(
    submit: Any, new_ti: Any, connect: Any, control: Control, settled: Any
) -> None:
    connect(retries=1)
    control.plan_jobs(**LONG)
    control.fault("drop", "POST", "/v1/batch/jobs", when="after")
    # The look before the call works.
    control.fault("status", "GET", "/v1/batch/jobs", status=429, skip=1)
    ti = new_ti()
    ti.max_tries = 0
    assert submit(ti).state == "retry"
    settled("CANCELLED")


@pytest.mark.parametrize("retry_after", [0, None])
@pytest.mark.parametrize("status", [429, 503])
def test_a_refusal_for_now_is_repeated_at_once(
    status: int, retry_after: int | None, submit: Any, new_ti: Any, control: Control, jobs: Any
) -> None:
    control.fault("status", "POST", "/v1/batch/jobs", status=status, retry_after=retry_after)
    outcome = submit(new_ti())
    assert [job["id"] for job in jobs()] == [outcome.value]
    looked_between = status == 503 and retry_after is None
    assert control.requests()[CREATE] == 2
    assert (control.requests()[LIST] > 1) == looked_between


def test_a_call_that_was_carried_out_late_leaves_one_running(
    submit: Any, new_ti: Any, connect: Any, control: Control, jobs: Any
) -> None:
    # The first call is held beyond our patience and all looks, and carried out while the second is under way.
    connect(timeout=2)
    control.plan_jobs(times=None, **LONG)
    first = control.fault("hold", "POST", "/v1/batch/jobs")
    second = control.fault("hold", "POST", "/v1/batch/jobs")

    def carry_out_both() -> None:
        control.wait_for_fault(second)
        control.release(first)
        while not jobs():
            time.sleep(0.01)
        control.release(second)

    with ThreadPoolExecutor(1) as beside:
        late = beside.submit(carry_out_both)
        outcome = submit(new_ti())
        late.result()
    statuses = {job["id"]: job["status"] for job in jobs()}
    assert len(statuses) == 2
    while "CANCELLATION_REQUESTED" in statuses.values():
        time.sleep(0.01)
        statuses = {job["id"]: job["status"] for job in jobs()}
    assert statuses.pop(outcome.value) in ("QUEUED", "RUNNING")
    assert list(statuses.values()) == ["CANCELLED"]
    assert control.requests()[CREATE] == 2


def test_a_call_of_the_try_before_that_is_carried_out_late_leaves_one_running(
    submit: Any, new_ti: Any, control: Control, jobs: Any, settled: Any
) -> None:
    # The first try is dead; its call is carried out while the second try, which found nothing, makes its own.
    control.plan_jobs(times=None, **LONG)
    calls = [control.fault("hold", "POST", "/v1/batch/jobs") for _ in range(2)]
    with ThreadPoolExecutor(2) as beside:
        beside.submit(submit, new_ti())
        control.wait_for_fault(calls[0])
        second = beside.submit(submit, new_ti().next_try())
        control.wait_for_fault(calls[1])
        control.release(calls[0])
        while not jobs():
            time.sleep(0.01)
        # The API tells whole seconds, and the first is to be the older one.
        time.sleep(1.0)
        control.release(calls[1])
        outcome = second.result()
    settled("RUNNING", "CANCELLED")
    assert outcome.value == jobs()[0]["id"]


def test_two_lost_answers_leave_one_job(submit: Any, new_ti: Any, control: Control, jobs: Any) -> None:
    control.plan_jobs(**LONG)
    control.fault("drop", "POST", "/v1/batch/jobs", when="before")
    control.fault("drop", "POST", "/v1/batch/jobs", when="after")
    outcome = submit(new_ti())
    assert (outcome.state, [job["id"] for job in jobs()]) == ("success", [outcome.value])
    assert control.requests()[CREATE] == 2


def test_a_job_that_cannot_be_had_fails_the_try(
    submit: Any, new_ti: Any, control: Control, jobs: Any
) -> None:
    control.fault("drop", "POST", "/v1/batch/jobs", when="before", times=None)
    assert submit(new_ti()).state == "retry"
    assert control.requests()[CREATE] == 2
    assert jobs() == []


@pytest.mark.parametrize(
    ("method", "when", "expected"),
    [("GET", "before", []), ("POST", "before", ["CANCELLED"]), ("POST", "after", ["CANCELLED"])],
    ids=["during the look-up", "during the call", "when the job is made"],
)
def test_a_kill_during_the_submission(
    method: str,
    when: str,
    expected: list[str],
    airflow: Any,
    new_ti: Any,
    control: Control,
    jobs: Any,
    settled: Any,
) -> None:
    control.plan_jobs(**LONG)
    held = control.fault("hold", method, "/v1/batch/jobs", when=when)
    task = MistralCreateBatchJobOperator(
        task_id="task", requests=requests(), model="m", wait_for_completion=True
    )
    with ThreadPoolExecutor(1) as beside:
        run = beside.submit(airflow.run, lambda: task, new_ti())
        control.wait_for_fault(held)
        # Airflow calls this from a signal handler, after which the task goes on for some seconds (seen in 3.3.2).
        task.on_kill()
        control.release(held)
        outcome = run.result()
    assert outcome.state == "retry"
    assert "the task was killed" in outcome.message
    settled(*expected)


def test_a_kill_whose_task_is_tried_again_goes_on(
    airflow: Any, supervisor: Any, new_ti: Any, control: Control, settled: Any
) -> None:
    supervisor.state = "up_for_retry"
    control.plan_jobs(**LONG)
    held = control.fault("hold", "POST", "/v1/batch/jobs", when="after")
    task = MistralCreateBatchJobOperator(task_id="task", requests=requests(), model="m")
    with ThreadPoolExecutor(1) as beside:
        run = beside.submit(airflow.run, lambda: task, new_ti())
        control.wait_for_fault(held)
        task.on_kill()
        control.release(held)
        assert run.result().state == "success"
    settled("RUNNING")


def test_an_airflow_without_a_name_is_another_one(
    submit: Any, new_ti: Any, connect: Any, control: Control, settled: Any
) -> None:
    control.plan_jobs(times=None, **LONG)
    connect(deployment="staging")
    staging = submit(new_ti())
    connect()
    assert submit(new_ti().next_try(), content="Ho").value != staging.value
    settled("RUNNING", "RUNNING")


def test_a_try_that_died_in_its_call_is_found_by_the_next(
    submit: Any, new_ti: Any, control: Control, jobs: Any
) -> None:
    # Nobody saw the answer, and the listing shows the job only a moment later.
    control.plan_jobs(**LONG)
    first = submit(new_ti())
    control.settings(listing_lag=(time.time() - jobs()[0]["created"]) + 0.2)
    again = submit(new_ti().next_try())
    assert again.value == first.value
    assert control.requests()[CREATE] == 1


def test_a_listing_of_many_pages_is_read_to_the_runs_beginning(
    submit: Any, new_ti: Any, control: Control
) -> None:
    first = submit(new_ti())
    control.make_jobs(250)
    again = submit(new_ti().next_try())
    assert again.value == first.value
    control.reset()
    # Older than the run, so of no interest.
    control.make_jobs(500, age_seconds=7200)
    submit(new_ti().next_try())
    assert control.requests()[LIST] == 3


def test_a_backfill_looks_no_further_back_than_its_run(submit: Any, new_ti: Any, control: Control) -> None:
    # Its runs are due at times long past, with all of the workspace's jobs since.
    control.make_jobs(500, age_seconds=7200)
    ti = new_ti()
    ti.run_after = datetime.now(timezone.utc) - timedelta(days=365)
    first = submit(ti)
    control.reset()
    assert submit(ti.next_try()).value == first.value
    assert control.requests()[LIST] == 1
    # When a run is cleared, its start moves, and the jobs of before are found all the same.
    ti.clear_number, ti.run_started = 1, datetime.now(timezone.utc) + timedelta(hours=1)
    assert submit(ti.next_try()).value == first.value


@pytest.mark.parametrize("skew", [-300, 300])
def test_a_servers_clock_that_is_off(skew: int, submit: Any, new_ti: Any, control: Control) -> None:
    control.settings(clock_skew=skew)
    first = submit(new_ti())
    assert submit(new_ti().next_try()).value == first.value


def test_a_look_that_fails_sends_nothing(
    submit: Any, new_ti: Any, connect: Any, control: Control, jobs: Any
) -> None:
    connect(retries=1)
    control.fault("status", "GET", "/v1/batch/jobs", status=500)
    assert submit(new_ti()).state == "retry"
    assert jobs() == []


def test_metadata_of_ours_cannot_be_given(submit: Any, new_ti: Any, control: Control) -> None:
    outcome = submit(new_ti(), metadata={"airflow_run_id": "x", "team": "search"})
    assert outcome.state == "failed"
    assert "airflow_run_id" in outcome.message
    assert "team" not in outcome.message
    assert control.requests() == {}


def test_a_call_that_is_carried_out_after_the_next_try_made_its_own_is_cancelled_at_the_end(
    submit: Any, new_ti: Any, control: Control, jobs: Any, settled: Any
) -> None:
    control.plan_jobs(times=None, **LONG)
    first = control.fault("hold", "POST", "/v1/batch/jobs")
    with ThreadPoolExecutor(2) as beside:
        dead = beside.submit(submit, new_ti())
        control.wait_for_fault(first)
        second = beside.submit(
            submit, new_ti().next_try(), wait_for_completion=True, poll_interval=0.05, deferrable=True
        )
        # The first try looks once; the second looks for long, and once more after its own call.
        looks = 1 + len(submission._RECHECKS) + 2
        deadline = time.monotonic() + 60
        while control.requests().get(LIST, 0) < looks:
            assert time.monotonic() < deadline, "the second try does not look after its call"
            time.sleep(0.01)
        (made,) = jobs()
        control.release(first)
        dead.result()
        control.end_jobs([made["id"]])
        assert second.result().state == "success"
    settled("SUCCESS", "CANCELLED")


def test_a_server_that_keeps_no_metadata_is_warned_about(
    submit: Any, new_ti: Any, control: Control, logged: Any
) -> None:
    control.fault("alter", "POST", "/v1/batch/jobs", fields={"metadata": None})
    outcome = submit(new_ti())
    assert outcome.state == "success"
    assert any("did not return the metadata" in line for line in logged() if line.startswith("warning"))


def test_a_clock_far_behind_does_not_hide_a_job(
    submit: Any, new_ti: Any, control: Control, jobs: Any
) -> None:
    control.settings(clock_skew=-3600)
    control.plan_jobs(**LONG)
    first = submit(new_ti())
    assert submit(new_ti().next_try()).value == first.value
    assert len(jobs()) == 1


@pytest.fixture
def way(hook: Any, new_ti: Any, jobs: Any, control: Control) -> submission.Submission:
    """A task instance's way to its jobs, with two that run: one that it knows, and an older one."""
    control.plan_jobs(times=None, **LONG)
    older = submission.Submission.of_task(new_ti().context, hook)
    way = submission.Submission.of_task(new_ti().next_try().context, hook)
    for each, part in ((older, "1"), (way, "2")):
        each.submit(BatchJobIn(requests=requests(), model="m"), part=part)
    return way


def test_who_is_killed_cancels_first_what_it_knows(
    way: submission.Submission, control: Control, settled: Any, logged: Any
) -> None:
    # A listing can take longer than the few seconds that are left.
    control.fault("status", "GET", "/v1/batch/jobs", status=503, times=None)
    way.abandon()
    settled("RUNNING", "CANCELLED")
    assert any("may keep running" in line for line in logged())


@pytest.mark.parametrize("status", [404, 503])
def test_a_job_that_cannot_be_read_keeps_nothing_else_running(
    status: int, way: submission.Submission, control: Control, jobs: Any
) -> None:
    known = way.batch_ids[0]
    control.fault("status", "GET", f"/v1/batch/jobs/{known}", status=status, times=None)
    way.cancel_running()
    deadline = time.monotonic() + 30
    while jobs()[0]["status"] != "CANCELLED":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_job_that_is_over_is_not_cancelled(
    way: submission.Submission, control: Control, settled: Any, logged: Any
) -> None:
    control.end_jobs(way.batch_ids)
    settled("RUNNING", "SUCCESS")
    way.cancel_running()
    assert control.requests()[CANCEL] == 1
    assert not any(line.startswith("warning") for line in logged())


def test_who_is_killed_takes_no_last_look(hook: Any, new_ti: Any, jobs: Any, control: Control) -> None:
    control.plan_jobs(**LONG)
    way = submission.Submission.of_task(new_ti().context, hook)
    way.submit(BatchJobIn(requests=requests(), model="m"))
    way.abandon()
    way.take_last_look()
    with pytest.raises(AirflowException, match="the task was killed"):
        way.submit(BatchJobIn(requests=requests(), model="m"))


def test_a_retry_looks_for_long_once(hook: Any, new_ti: Any, control: Control) -> None:
    way = submission.Submission.of_task(new_ti().next_try().context, hook)
    looks = []
    for part in ("1", "2", "3"):
        before = control.requests().get(LIST, 0)
        way.submit(BatchJobIn(requests=requests(), model="m"), part=part)
        looks.append(control.requests()[LIST] - before)
    # The last look is that for a call that is carried out late.
    assert looks == [len(submission._RECHECKS) + 2, 2, 2]


def test_a_job_id_that_is_none_is_no_reason_to_keep_the_others_running(
    way: submission.Submission, settled: Any
) -> None:
    way.batch_ids.insert(0, "../files")
    way.cancel_running()
    settled("CANCELLED", "CANCELLED")


@pytest.mark.parametrize("dialect", ["mistral", "openai"])
@pytest.mark.parametrize(("status", "message"), REFUSALS)
@pytest.mark.parametrize("operator", ["create", "inference"])
def test_a_file_that_the_api_does_not_see_yet_costs_no_try(
    operator: str,
    status: int,
    message: str,
    dialect: str,
    airflow: Any,
    hook: Any,
    connect: Any,
    control: Control,
    jobs: Any,
    logged: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(submission, "_FILE_PAUSES", (0.01, 0.02, 0.03))
    connect(dialect=dialect)
    path = "/v1/batches" if dialect == "openai" else "/v1/batch/jobs"
    control.fault("status", "POST", path, status=status, message=message, times=2)
    body = {"model": "mistral-small-latest", "messages": [{"role": "user", "content": "Hi"}]}
    row: dict[str, Any] = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}

    def make() -> Any:
        if operator == "inference":
            return MistralBatchInferenceOperator(
                task_id="task", requests=[row], destination=str(tmp_path / "out"), poll_interval=0.05
            )
        uploaded = hook.upload_file(io.BytesIO(json.dumps(row).encode()), filename="a.jsonl")
        return MistralCreateBatchJobOperator(task_id="task", input_files=[uploaded.id])

    outcome = airflow.run(make)
    assert outcome.state == "success", outcome.message
    assert control.requests()[f"POST {path}"] == 3
    assert len(jobs()) == 1
    assert len([line for line in logged() if message in line and "calling again in" in line]) == 2


@pytest.mark.parametrize(
    ("status", "message", "calls"),
    [(404, "Input file not found", 3), (400, "Invalid model", 1), (403, "not your file", 1)],
)
def test_a_refusal_that_does_not_pass_is_raised_as_it_is(
    status: int,
    message: str,
    calls: int,
    submit: Any,
    new_ti: Any,
    control: Control,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(submission, "_FILE_PAUSES", (0.01, 0.02))
    control.fault("status", "POST", "/v1/batch/jobs", status=status, message=message, times=None)
    outcome = submit(new_ti(), requests=None, input_files=["0b5a4d0c-3f7a-4b2e-9d57-8c2f7d1e6a90"])
    assert outcome.state == "failed"
    assert message in outcome.message
    assert control.requests()[CREATE] == calls


def test_a_lost_answer_after_a_refusal_is_looked_for(
    submit: Any, new_ti: Any, hook: Any, control: Control, jobs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "_FILE_PAUSES", (0.01,))
    uploaded = hook.upload_file(io.BytesIO(json.dumps(requests()[0]).encode()), filename="a.jsonl")
    control.fault("status", "POST", "/v1/batch/jobs", status=404, message="Input file not found")
    control.fault("drop", "POST", "/v1/batch/jobs", when="after", skip=0)
    outcome = submit(new_ti(), requests=None, input_files=[uploaded.id])
    assert outcome.state == "success", outcome.message
    assert len(jobs()) == 1
