"""``MistralCreateBatchJobOperator``: what it asks for, what it refuses to send, and how its own wait ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_mistral_batch.emulator.client import Control
from airflow_provider_mistral_batch.operators.mistral_batch import (
    MistralCreateBatchJobOperator,
    MistralUploadBatchFileOperator,
)
from airflow_provider_mistral_batch.overview.jobs import job_view

from ..airflow_versions import TaskDeferred

CREATE = "POST /v1/batch/jobs"


def row(custom_id: str = "a", **more: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "body": {"messages": [{"role": "user", "content": "Hi"}]}, **more}


ROW_WITH_MODEL = {**row(), "body": {**row()["body"], "model": "codestral-latest"}}
ROWS = [row("a"), row("b"), row("c"), row("d")]
WAYS = {"worker": {"deferrable": False}, "deferred": {"deferrable": True}}


@pytest.fixture
def create(airflow: Any, new_ti: Any) -> Callable[..., Any]:
    def create(ti: Any = None, **arguments: Any) -> Any:
        arguments = {"requests": ROWS, "model": "mistral-small-latest", **arguments}
        arguments = {"poll_interval": 0.05, "poll_interval_min": 0.05, **arguments}
        return airflow.run(lambda: MistralCreateBatchJobOperator(task_id="create", **arguments), ti)

    return create


@pytest.fixture
def file_ids(airflow: Any) -> list[str]:
    ids = airflow.run(lambda: MistralUploadBatchFileOperator(task_id="upload", requests=ROWS)).value
    assert ids
    return ids


def test_inline_requests(create: Any, hook: Any, jobs: Any) -> None:
    outcome = create(metadata={"team": "search"}, completion_window="2d")
    assert outcome.state == "success", outcome.message
    (job,) = jobs()
    assert outcome.value == job["id"]
    assert outcome.xcoms == {"batch_id": job["id"], "return_value": job["id"]}
    assert (job["model"], job["endpoint"]) == ("mistral-small-latest", "/v1/chat/completions")
    assert job["metadata"]["team"] == "search"
    assert {name for name in job["metadata"] if name.startswith("airflow_")} == {
        "airflow_dag_id",
        "airflow_task_id",
        "airflow_run_id",
        "airflow_map_index",
        "airflow_key",
        "airflow_submitted_at",
        "airflow_window_hours",
    }
    # Mistral's API does not tell when a job expires.
    assert job_view(hook.get(outcome.value)).expires_at == job["created_at"] + 48 * 3600


def test_requests_without_an_id_are_numbered_and_it_is_said(create: Any, hook: Any, logged: Any) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}]}
    outcome = create(
        requests=[{"body": body}, {"custom_id": "mine", "prompt": "Hi"}], wait_for_completion=True
    )
    rows = hook.get(outcome.value, inline=True).outputs
    assert sorted(row["custom_id"] for row in rows) == ["mine", "row-1"]
    assert "info: 1 of 2 requests had no custom_id and were numbered." in logged()


def test_input_files(create: Any, file_ids: list[str], jobs: Any) -> None:
    create(requests=None, input_files=file_ids)
    (job,) = jobs()
    assert job["input_files"] == file_ids


@pytest.mark.parametrize(
    ("arguments", "default", "model"),
    [
        ({"model": None}, "mistral-medium-latest", "mistral-medium-latest"),
        ({"model": "codestral-latest"}, "mistral-medium-latest", "codestral-latest"),
        ({"model": None, "agent_id": "ag-1"}, "mistral-medium-latest", None),
        ({"model": None, "requests": [ROW_WITH_MODEL]}, "mistral-medium-latest", "codestral-latest"),
        ({"model": None}, None, None),
    ],
)
def test_the_connections_model_is_the_default(
    arguments: dict[str, Any], default: str | None, model: str | None, create: Any, connect: Any, jobs: Any
) -> None:
    connect(default_model=default)
    assert create(**arguments).state == "success"
    (job,) = jobs()
    assert (job["model"], job["agent_id"]) == (model, arguments.get("agent_id"))


#: Arguments, and words that the error must have: the field, the value, the remedy.
BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "neither": ({"requests": None}, ["input_files and requests are both missing", "exactly one"]),
    "both": ({"input_files": ["f"]}, ["input_files and requests are both given"]),
    "no files": ({"requests": None, "input_files": []}, ["input_files is empty"]),
    "files as text": ({"requests": None, "input_files": "['f']"}, ["input_files=", "not a list"]),
    "an odd file id": ({"requests": None, "input_files": [".."]}, ["input_files='..'", "not an id"]),
    "no rows": ({"requests": []}, ["requests is empty"]),
    "rows as text": ({"requests": "[{}]"}, ["requests='[{}]'", "native_obj"]),
    "one row": ({"requests": row()}, ["requests=", "not a list"]),
    "too many rows": (
        {"requests": [row(str(n)) for n in range(10_001)]},
        ["10,001", "10,000", "input_files"],
    ),
    "an id twice": ({"requests": [row("x"), row("x")]}, ["custom_id", '"x"', "row 2"]),
    "no body": ({"requests": [{"custom_id": "x"}]}, ["row 1", "body"]),
    "another url": ({"requests": [row(url="/v1/ocr")]}, ["url", "/v1/ocr"]),
    "unknown endpoint": ({"endpoint": "/v1/x"}, ["endpoint", "'/v1/x'", "/v1/chat/completions"]),
    "another model": ({"requests": [ROW_WITH_MODEL]}, ["model=", "'codestral-latest'", "one model"]),
    "model and agent": ({"agent_id": "ag"}, ["model=", "agent_id='ag'", "one of them"]),
    "window of another form": ({"completion_window": "1w"}, ["completion_window='1w'", "24h"]),
    "an empty window": ({"completion_window": ""}, ["completion_window=''"]),
    "too long a window": ({"completion_window": "8d"}, ["completion_window='8d'", "168"]),
    "too long a time-out": ({"timeout_hours": 169}, ["timeout_hours=169", "168"]),
    "too short a time-out": ({"timeout_hours": 0}, ["timeout_hours=0", "between 1 and 168"]),
    "window and time-out": ({"timeout_hours": 1, "completion_window": "1h"}, ["both given", "one of them"]),
    "metadata key too long": ({"metadata": {"k" * 33: "v"}}, ["metadata key", "32"]),
    "metadata value too long": ({"metadata": {"k": "v" * 513}}, ["metadata['k']", "512"]),
    "metadata value no text": ({"metadata": {"k": 1}}, ["metadata['k']=1"]),
    "metadata of ours": ({"metadata": {"airflow_key": "x"}}, ["airflow_key", "rename"]),
    "metadata no mapping": ({"metadata": "k=v"}, ["metadata='k=v'"]),
    "ratio": ({"max_failed_ratio": 2}, ["max_failed_ratio=2", "0", "1"]),
    "interval": ({"poll_interval": 0}, ["poll_interval=0", "above 0"]),
    "endless interval": ({"poll_interval": float("inf")}, ["poll_interval=inf", "above 0"]),
    "timeout": ({"timeout": -1}, ["timeout=-1", "above 0"]),
    "endless timeout": ({"timeout": float("inf")}, ["timeout=inf", "above 0"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_names_itself_and_sends_nothing(case: str, create: Any, control: Control) -> None:
    arguments, words = BAD[case]
    outcome = create(**arguments)
    assert outcome.state == "failed", outcome
    assert [word for word in words if word not in outcome.message] == [], outcome.message
    assert control.requests() == {}
    assert outcome.xcoms == {}


@pytest.mark.parametrize(
    ("status", "state", "words"),
    [
        (401, "failed", ["the password of connection 'mistral_default'"]),
        (402, "failed", ["set up billing"]),
        (404, "failed", ["404"]),
        (422, "failed", ["422"]),
        (429, "retry", ["429"]),
    ],
)
def test_refusals_are_final_and_trouble_is_not(
    status: int, state: str, words: list[str], create: Any, control: Control
) -> None:
    control.fault("status", "POST", status=status, retry_after=0 if status == 429 else None, times=None)
    outcome = create()
    assert outcome.state == state
    assert [word for word in words if word not in outcome.message] == [], outcome.message
    assert control.api_key not in outcome.message


ENDS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "completed": ({}, {}, "success"),
    "a row failed": ({"failed_rows": 1}, {}, "success"),
    "too many rows failed": ({"failed_rows": 2}, {"max_failed_ratio": 0.25}, "failed"),
    # The very same requests in a job of their own may do better: a retry asks again.
    "all rows failed": ({"failed_rows": "all"}, {}, "failed"),
    "failed": ({"end": "FAILED", "errors": ["No GPU"]}, {}, "retry"),
    "expired": ({"end": "TIMEOUT_EXCEEDED", "end_after": 1.0}, {}, "retry"),
    "cancelled": ({"end": "CANCELLED", "end_after": 1.0}, {}, "retry"),
}


@pytest.mark.parametrize("end", ENDS)
def test_waiting_gives_the_same_on_a_worker_and_in_the_triggerer(
    end: str, create: Any, control: Control, new_ti: Any, jobs: Any
) -> None:
    plan, arguments, state = ENDS[end]
    outcomes = {}
    for map_index, (way, deferrable) in enumerate(WAYS.items()):
        control.plan_jobs(**plan)
        ti = new_ti(map_index=map_index)
        outcomes[way] = create(ti, wait_for_completion=True, **deferrable, **arguments)
    for (way, outcome), job in zip(outcomes.items(), jobs(), strict=True):
        assert (way, outcome.state) == (way, state)
        xcoms = {
            "batch_id": job["id"],
            "status": {"FAILED": "failed", "TIMEOUT_EXCEEDED": "expired", "CANCELLED": "cancelled"}.get(
                job["status"], "completed"
            ),
            "output_file_id": job["output_file"],
            "error_file_id": job["error_file"],
            "request_counts": {
                "total": 4,
                "completed": job["succeeded_requests"],
                "failed": job["failed_requests"],
            },
        }
        if state == "success":
            xcoms["return_value"] = outcome.value
            assert outcome.value == job["id"]
        else:
            assert job["id"] in outcome.message
        assert (way, outcome.xcoms) == (way, xcoms)
    assert outcomes["worker"].worker_starts == 1
    assert outcomes["deferred"].worker_starts == (1 if end == "completed" else 2)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("cancel_on_timeout", "state", "status"), [(True, "retry", "CANCELLED"), (False, "failed", "RUNNING")]
)
def test_the_deadline(
    way: str, cancel_on_timeout: bool, state: str, status: str, create: Any, control: Control, jobs: Any
) -> None:
    control.plan_jobs(job_seconds=1000)
    outcome = create(wait_for_completion=True, timeout=1.2, cancel_on_timeout=cancel_on_timeout, **WAYS[way])
    assert outcome.state == state
    assert outcome.value is None
    until(lambda: jobs()[0]["status"] == status)
    assert jobs()[0]["id"] in outcome.message
    assert ("its cancellation was requested" in outcome.message) == cancel_on_timeout
    assert ("was left running" in outcome.message) != cancel_on_timeout


@pytest.mark.parametrize("way", WAYS)
def test_a_cancellation_that_fails_is_not_said_to_be_one(
    way: str, create: Any, control: Control, jobs: Any
) -> None:
    control.plan_jobs(job_seconds=1000)
    control.fault("status", "POST", "*/cancel", status=403, times=None)
    outcome = create(wait_for_completion=True, timeout=1.2, **WAYS[way])
    assert outcome.state == "failed"
    assert "keeps running" in outcome.message


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("max_tries", "status"), [(3, "RUNNING"), (0, "CANCELLED")])
def test_a_cancellation_that_can_pass_is_left_to_the_next_try(
    max_tries: int, status: str, way: str, create: Any, control: Control, new_ti: Any, settled: Any
) -> None:
    control.plan_jobs(job_seconds=1000)
    # Both of the client's attempts; where no other try follows, there is one more call at the end.
    control.fault("status", "POST", "*/cancel", status=503, times=2)
    ti = new_ti()
    ti.max_tries = max_tries
    # The server tells the time in whole seconds: the deadline may be one second nearer.
    outcome = create(ti, wait_for_completion=True, timeout=3, **WAYS[way])
    assert outcome.state == "retry"
    assert len(outcome.triggers) == WAYS[way]["deferrable"]
    assert "may keep running, because cancelling it failed" in outcome.message
    settled(status)
    if max_tries:
        # The deadline is over for whoever comes now, wherever in a second it is.
        control.settings(clock_skew=3)
        again = create(ti.next_try(), wait_for_completion=True, timeout=3, **WAYS[way])
        assert again.worker_starts == 1
        assert "its cancellation was requested" in again.message
        settled("CANCELLED")


def test_a_cancellation_whose_answer_was_lost_is_one(create: Any, control: Control, jobs: Any) -> None:
    control.plan_jobs(job_seconds=1000)
    control.settings(cancel_seconds=1000)
    control.fault("drop", "POST", "*/cancel", when="after")
    control.fault("status", "POST", "*/cancel", status=400, times=None)
    outcome = create(wait_for_completion=True, timeout=0.5)
    assert (outcome.state, jobs()[0]["status"]) == ("retry", "CANCELLATION_REQUESTED")
    assert "its cancellation was requested" in outcome.message


def test_a_job_that_ended_while_there_was_no_triggerer(
    without_triggerer: Any, create: Any, control: Control, jobs: Any
) -> None:
    without_triggerer("SUCCESS", others=150)
    outcome = create(wait_for_completion=True, deferrable=True, timeout=60)
    assert (outcome.state, outcome.value) == ("success", jobs()[0]["id"])
    assert outcome.worker_starts == 2
    assert control.requests()["POST /v1/batch/jobs"] == 1


@pytest.mark.parametrize("end", ["FAILED", "CANCELLED", "TIMEOUT_EXCEEDED"])
def test_a_job_that_ended_badly_while_there_was_no_triggerer_is_for_the_next_try(
    end: str, without_triggerer: Any, create: Any, control: Control, jobs: Any
) -> None:
    without_triggerer(end, others=150)
    outcome = create(wait_for_completion=True, deferrable=True, timeout=60)
    assert (outcome.state, outcome.worker_starts) == ("retry", 2)
    assert f"the previous job {jobs()[0]['id']} is" in outcome.message
    assert control.requests()["POST /v1/batch/jobs"] == 1


@pytest.mark.parametrize(
    ("cancel_on_timeout", "state", "status"), [(True, "retry", "CANCELLED"), (False, "failed", "RUNNING")]
)
def test_the_deadline_passes_while_there_is_no_triggerer(
    cancel_on_timeout: bool,
    state: str,
    status: str,
    without_triggerer: Any,
    create: Any,
    control: Control,
    jobs: Any,
) -> None:
    without_triggerer(None, others=150)
    outcome = create(
        wait_for_completion=True, deferrable=True, timeout=60, cancel_on_timeout=cancel_on_timeout
    )
    assert outcome.state == state
    until(lambda: jobs()[0]["status"] == status)
    assert control.requests()["POST /v1/batch/jobs"] == 1


def test_a_retry_does_not_move_the_deadline(hook: Any, control: Control, new_ti: Any, jobs: Any) -> None:
    control.plan_jobs(job_seconds=1000)
    ti = new_ti()
    deadlines = []
    for pause in (0, 2):
        time.sleep(pause)
        task = MistralCreateBatchJobOperator(
            task_id="create", requests=ROWS, model="m", wait_for_completion=True, deferrable=True, timeout=60
        )
        with pytest.raises(TaskDeferred) as deferral:
            task.execute(ti.context)
        deadlines.append(deferral.value.trigger.deadline)
        ti = ti.next_try()
    assert len(jobs()) == 1
    # The server tells the time in whole seconds.
    assert abs(deadlines[1] - deadlines[0]) < 1.5


def test_the_deadline_is_told_by_the_servers_clock(create: Any, control: Control, jobs: Any) -> None:
    # A server whose clock is an hour behind must not make us give up at once.
    control.settings(clock_skew=-3600)
    before = time.time()
    outcome = create(wait_for_completion=True, deferrable=True, completion_window="3h")
    assert outcome.state == "success"
    # The window, and an hour for the server to end the job by itself.
    (trigger,) = outcome.triggers
    assert before + 4 * 3600 - 60 < trigger.deadline < time.time() + 4 * 3600 + 60


def test_a_job_that_ends_while_nobody_looks_is_not_given_up(
    airflow: Any, create: Any, control: Control, jobs: Any
) -> None:
    # The triggerer comes back long after the deadline, and the job has been done for as long.
    airflow.on_deferral = lambda: until(lambda: jobs()[0]["status"] == "SUCCESS") or time.sleep(2)
    outcome = create(wait_for_completion=True, deferrable=True, timeout=2)
    assert outcome.state == "success"
    assert not any("cancel" in operation for operation in control.requests())


@pytest.mark.parametrize(("cancel_on_kill", "status"), [(True, "CANCELLED"), (False, "RUNNING")])
def test_a_kill_while_it_waits_on_a_worker(
    cancel_on_kill: bool, status: str, hook: Any, control: Control, new_ti: Any, jobs: Any
) -> None:
    control.plan_jobs(job_seconds=1000)
    operator = MistralCreateBatchJobOperator(
        task_id="create", requests=ROWS, model="m", wait_for_completion=True, cancel_on_kill=cancel_on_kill
    )

    class Killed(BaseException):
        """What Airflow's signal handler raises where the task is."""

    ti = new_ti()

    def push_and_die(key: str, value: Any) -> None:
        until(lambda: jobs()[0]["status"] == "RUNNING")
        operator.on_kill()
        raise Killed

    ti.xcom_push = push_and_die
    with pytest.raises(Killed):
        operator.execute(ti.context)
    until(lambda: jobs()[0]["status"] != "CANCELLATION_REQUESTED")
    assert [job["status"] for job in jobs()] == [status]


def test_a_kill_before_there_is_a_job(hook: Any, control: Control) -> None:
    MistralCreateBatchJobOperator(task_id="create", requests=ROWS).on_kill()
    assert control.requests() == {}


@pytest.mark.parametrize(("argument", "travels"), [(True, True), (False, False)])
def test_the_trigger_knows_what_a_kill_means(argument: bool, travels: bool, create: Any) -> None:
    outcome = create(wait_for_completion=True, deferrable=True, cancel_on_kill=argument)
    assert outcome.triggers[0].cancel_on_kill is travels


@pytest.mark.parametrize(
    "arguments",
    [
        {"outlets": ["asset"]},
        {"on_success_callback": lambda context: None},
        {"do_xcom_push": False},
        {"post_execute": lambda context, result: None},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_what_needs_a_worker_ends_on_one(arguments: dict[str, Any], create: Any) -> None:
    if "outlets" in arguments:
        from airflow.sdk import Asset

        arguments = {"outlets": [Asset("answers")]}
    outcome = create(wait_for_completion=True, deferrable=True, **arguments)
    assert (outcome.state, outcome.worker_starts) == ("success", 2)
    assert ("return_value" in outcome.xcoms) == arguments.get("do_xcom_push", True)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
