"""The trigger: what travels to the triggerer and back, its deadline, its progress lines, and what ends with it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from airflow.models.trigger import Trigger
from airflow.triggers.base import TaskSuccessEvent

from airflow_provider_mistral_batch.emulator.client import Control
from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
from airflow_provider_mistral_batch.policies import resumption
from airflow_provider_mistral_batch.policies.progress import QUIET_SECONDS
from airflow_provider_mistral_batch.tasks.job_event import JobEvent
from airflow_provider_mistral_batch.triggers import waiting
from airflow_provider_mistral_batch.triggers.inference import MistralBatchJobsTrigger, MistralBatchRoomTrigger
from airflow_provider_mistral_batch.triggers.mistral_batch import MistralBatchJobTrigger
from airflow_provider_mistral_batch.triggers.resuming import ResumingTrigger

ARGUMENTS: dict[str, Any] = {
    "batch_id": "job-1",
    "mistral_conn_id": "mistral_other",
    "deadline": 1_900_000_000.25,
    "poll_interval": 30.0,
    "poll_interval_min": 1.5,
    "cancel_on_kill": True,
    "finish_with": "output_file_id",
    "max_failed_ratio": 0.25,
    "leave_link": True,
    "deferred_at": 1_899_000_000.5,
}


def test_every_argument_survives_the_database(trigger_tools: Any) -> None:
    trigger = MistralBatchJobTrigger(**ARGUMENTS)
    again = trigger_tools.through_database(trigger_tools.through_database(trigger))
    assert type(again) is MistralBatchJobTrigger
    assert again.serialize() == trigger.serialize()
    path, kwargs = again.serialize()
    assert path == "airflow_provider_mistral_batch.triggers.mistral_batch.MistralBatchJobTrigger"
    assert kwargs == ARGUMENTS


def test_only_the_connections_id_travels(hook: MistralBatchHook, control: Control) -> None:
    trigger = MistralBatchJobTrigger("job-1", deadline=1.0)
    stored = Trigger.from_object(trigger)
    for text in (repr(trigger), str(vars(trigger)), json.dumps(trigger.serialize()), str(stored.kwargs)):
        assert control.api_key not in text
        assert control.url not in text


@pytest.mark.parametrize("seconds_ago", [0.0, 86_400.0])
def test_a_deadline_in_the_past(seconds_ago: float, hook: Any, control: Control, trigger_tools: Any) -> None:
    (batch_id,) = control.make_jobs(1)
    event = trigger_tools.run(MistralBatchJobTrigger(batch_id, deadline=time.time() - seconds_ago))
    told = JobEvent.from_payload(event.payload)
    assert (told.batch_id, told.timed_out, told.error) == (batch_id, True, None)


def test_the_deadline_stays_when_the_triggerer_starts_anew(
    hook: Any, control: Control, trigger_tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (batch_id,) = control.make_jobs(1)
    deadline = time.time() + 1000.0
    trigger = MistralBatchJobTrigger(batch_id, deadline=deadline)
    monkeypatch.setattr(waiting, "_CLOCK_CHECK_SECONDS", 0.05)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(asyncio.wait_for(trigger_tools.through_database(trigger).run().__anext__(), 0.5))
    second = trigger_tools.through_database(trigger)
    assert second.deadline == deadline
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + 1000.0)
    event = asyncio.run(second.run().__anext__())
    assert JobEvent.from_payload(event.payload).timed_out


def test_an_unknown_status_is_no_end(hook: Any, control: Control, trigger_tools: Any, make_job: Any) -> None:
    batch_id = make_job()
    path = f"/v1/batch/jobs/{batch_id}"
    control.fault("alter", "GET", path, fields={"status": "RESTING", "mood": "fine"}, times=2)
    event = trigger_tools.run(MistralBatchJobTrigger(batch_id, poll_interval=0.02))
    job = JobEvent.from_payload(event.payload).job
    assert job is not None
    assert job.status == "completed"
    assert control.requests()["GET /v1/batch/jobs/{id}"] >= 3


@pytest.mark.parametrize(("cancel_on_kill", "status"), [(True, "CANCELLED"), (False, "RUNNING")])
def test_a_kill_cancels_if_asked(
    cancel_on_kill: bool, status: str, hook: Any, control: Control, make_job: Any, jobs: Any
) -> None:
    batch_id = make_job(wait=False, job_seconds=1000)
    wait_until_running(hook, batch_id)
    asyncio.run(MistralBatchJobTrigger(batch_id, cancel_on_kill=cancel_on_kill).on_kill())
    settle(hook, batch_id)
    assert [job["status"] for job in jobs()] == [status]


def test_a_kill_without_an_api_is_logged(
    hook: Any, control: Control, logged: Any, connect: Callable[..., None]
) -> None:
    connect(retries=1)
    control.fault("drop", "POST", times=None)
    asyncio.run(MistralBatchJobTrigger("job-1", cancel_on_kill=True).on_kill())
    assert [
        line
        for line in logged()
        if line.startswith("warning: ") and "job-1" in line and "may keep running" in line
    ]


def test_a_restart_cancels_nothing(hook: Any, control: Control, make_job: Any, jobs: Any) -> None:
    batch_id = make_job(wait=False, job_seconds=1000)
    wait_until_running(hook, batch_id)

    async def start_and_stop() -> None:
        trigger = MistralBatchJobTrigger(batch_id, cancel_on_kill=True, poll_interval=0.02)
        task = asyncio.ensure_future(trigger.run().__anext__())
        await asyncio.sleep(0.4)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await trigger.cleanup()

    asyncio.run(start_and_stop())
    settle(hook, batch_id)
    assert [job["status"] for job in jobs()] == ["RUNNING"]
    assert not any("cancel" in operation for operation in control.requests())


def test_ending_in_the_triggerer_leaves_what_a_worker_leaves(
    supervisor: Any, hook: Any, new_ti: Any, trigger_tools: Any, make_job: Any
) -> None:
    batch_id = make_job()
    supervisor.ti = new_ti(map_index=3)
    event = trigger_tools.run(MistralBatchJobTrigger(batch_id, finish_with="batch_id"), supervisor.ti)
    assert isinstance(event, TaskSuccessEvent)
    assert event.xcoms is None
    assert supervisor.ti.xcoms["return_value"] == supervisor.ti.xcoms["batch_id"] == batch_id
    assert supervisor.ti.xcoms["request_counts"] == {"total": 4, "completed": 4, "failed": 0}


@pytest.mark.parametrize(
    ("plan", "arguments"),
    [
        ({"end": "FAILED"}, {}),
        ({"failed_rows": 1}, {}),
        ({"failed_rows": 2}, {"max_failed_ratio": 0.2}),
        ({}, {"finish_with": None}),
    ],
    ids=["failed", "a row failed", "too many rows failed", "not asked to"],
)
def test_what_a_worker_has_to_end(
    plan: dict[str, Any],
    arguments: dict[str, Any],
    supervisor: Any,
    hook: Any,
    new_ti: Any,
    trigger_tools: Any,
    make_job: Any,
) -> None:
    batch_id = make_job(**plan)
    supervisor.ti = new_ti()
    trigger = MistralBatchJobTrigger(batch_id, **{"finish_with": "output_file_id", **arguments})
    told = JobEvent.from_payload(trigger_tools.run(trigger, supervisor.ti).payload)
    assert told.job is not None
    assert told.job.is_terminal
    assert supervisor.ti.xcoms == {}


def test_a_triggerer_that_cannot_set_xcoms_leaves_the_end_to_a_worker(
    supervisor: Any, hook: Any, new_ti: Any, trigger_tools: Any, make_job: Any, logged: Any
) -> None:
    batch_id = make_job()
    supervisor.ti, supervisor.broken = new_ti(), True
    event = trigger_tools.run(MistralBatchJobTrigger(batch_id, finish_with="output_file_id"), supervisor.ti)
    job = JobEvent.from_payload(event.payload).job
    assert job is not None
    assert job.status == "completed"
    (warning,) = [line for line in logged() if line.startswith("warning: ")]
    assert warning.endswith("so a worker ends it: the API server does not answer")


#: Every event that resumes a worker: the trigger that yields it, for a job that is over.
RESUMING: dict[str, Callable[[str], ResumingTrigger]] = {
    "a job that is over": lambda batch_id: MistralBatchJobTrigger(batch_id),
    "no such job": lambda _: MistralBatchJobTrigger("no-such-job"),
    "a deadline": lambda _: MistralBatchJobTrigger("job-1", deadline=time.time() - 1),
    "all jobs are over": lambda batch_id: MistralBatchJobsTrigger([batch_id, batch_id]),
    "none of several jobs": lambda _: MistralBatchJobsTrigger(["no-such-job"]),
    "the deadline of several jobs": lambda _: MistralBatchJobsTrigger(["job-1"], deadline=time.time() - 1),
    "room": lambda _: MistralBatchRoomTrigger(1, 1000, deadline=time.time() + 1000, poll_interval=0.01),
    "no room in time": lambda _: MistralBatchRoomTrigger(1, 1000, deadline=time.time() - 1),
    "no connection": lambda _: MistralBatchRoomTrigger(
        1, 1000, "nobodys", deadline=time.time() + 1000, poll_interval=0.01
    ),
}


async def _event_in_a_triggerer(trigger: Any) -> Any:
    trigger.trigger_id = 1
    return await trigger.run().__anext__()


@pytest.mark.parametrize("name", RESUMING)
def test_no_event_resumes_a_task_that_was_just_deferred(
    name: str, hook: Any, make_job: Any, trigger_tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = make_job()
    monkeypatch.setattr(resumption, "RESUMPTION_SECONDS", 0.7)
    deferred_at = time.time()
    trigger = trigger_tools.through_database(RESUMING[name](batch_id))
    keys = asyncio.run(_event_in_a_triggerer(trigger)).payload.keys()
    assert time.time() - deferred_at >= 0.7
    # A restart of the triggerer begins no new pause, and without a triggerer there is none.
    monkeypatch.setattr(resumption, "RESUMPTION_SECONDS", 10_000.0)
    old = RESUMING[name](batch_id)
    old.deferred_at = time.time() - 20_000
    assert asyncio.run(_event_in_a_triggerer(trigger_tools.through_database(old))).payload.keys() == keys
    assert trigger_tools.run(RESUMING[name](batch_id)).payload.keys() == keys


def test_what_ends_in_the_triggerer_or_began_there_has_no_pause(
    supervisor: Any,
    hook: Any,
    new_ti: Any,
    make_job: Any,
    trigger_tools: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resumption, "RESUMPTION_SECONDS", 10_000.0)
    supervisor.ti = new_ti()
    ending = trigger_tools.through_database(MistralBatchJobTrigger(make_job(), finish_with="batch_id"))
    ending.task_instance = supervisor.ti
    assert isinstance(asyncio.run(_event_in_a_triggerer(ending)), TaskSuccessEvent)
    # Made from `start_trigger_args`, which name no deferral.
    event = asyncio.run(_event_in_a_triggerer(MistralBatchJobTrigger(make_job(end="FAILED"))))
    assert event.payload["job"]["status"] == "failed"


def test_progress_lines(hook: Any, control: Control, trigger_tools: Any, make_job: Any, logged: Any) -> None:
    assert QUIET_SECONDS == 60
    batch_id = make_job(rows=40, wait=False, validation_seconds=0.3, job_seconds=1)
    trigger_tools.run(MistralBatchJobTrigger(batch_id, poll_interval=0.05))
    start = f"info: Batch job {batch_id}: "
    lines = [line.removeprefix(start) for line in logged() if line.startswith(start)]
    # Its counts changed dozens of times; one line for each status is all that a minute has room for.
    assert [line.split()[0] for line in lines] == ["validating", "in_progress", "completed"]
    assert lines[-1] == "completed 40/40 completed, 0 failed"


def wait_until_running(hook: MistralBatchHook, batch_id: str) -> None:
    while hook.get(batch_id).status != "in_progress":
        time.sleep(0.01)


def settle(hook: MistralBatchHook, batch_id: str) -> None:
    """Wait until a cancellation, if there is one, is done."""
    while hook.get(batch_id).status == "cancelling":
        time.sleep(0.01)
