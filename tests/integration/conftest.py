"""One emulator for all integration tests, a workspace for each, and a stand-in for Airflow's side of a task."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import importlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import tenacity
from airflow.models.trigger import Trigger, TriggerFailureReason
from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import ErrorResponse, TaskStatesResult
from airflow.sdk.execution_time.context import OutletEventAccessors
from airflow.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent
from packaging.version import Version

from airflow_provider_mistral_batch.api.retries import RetryPolicy
from airflow_provider_mistral_batch.compat import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
)
from airflow_provider_mistral_batch.emulator import Emulator
from airflow_provider_mistral_batch.emulator.client import Control
from airflow_provider_mistral_batch.hooks import uploads
from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
from airflow_provider_mistral_batch.policies import setbacks, timetable
from airflow_provider_mistral_batch.submission import jobs as jobs_of_tasks
from airflow_provider_mistral_batch.tasks import result_files, worker_wait

from ..airflow_versions import AIRFLOW, AirflowRescheduleException, TaskDeferred


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def connect(control: Control, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes an Airflow connection to the emulator, or changes it."""

    def connect(conn_id: str = "mistral_default", *, key: str | None = None, **extra: Any) -> None:
        fields = {
            "conn_type": "mistral",
            "host": control.url,
            "password": control.api_key if key is None else key,
            "extra": {"retries": 2, **extra},
        }
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))

    return connect


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried or looked for again here is so at once; how long the pauses are is for tests/unit."""
    retrying = RetryPolicy.retrying

    def soon(policy: RetryPolicy, *, repeatable: bool) -> tenacity.Retrying:
        return retrying(
            msgspec.structs.replace(policy, first_wait=min(policy.first_wait, 0.02)), repeatable=repeatable
        )

    pause = RetryPolicy.pause

    def short(policy: RetryPolicy, number: int) -> float:
        return pause(msgspec.structs.replace(policy, first_wait=min(policy.first_wait, 0.02)), number)

    monkeypatch.setattr(RetryPolicy, "retrying", soon)
    monkeypatch.setattr(RetryPolicy, "pause", short)
    for module in (uploads, jobs_of_tasks):
        monkeypatch.setattr(module, "_RECHECKS", (0.02, 0.05, 0.1))
    monkeypatch.setattr(jobs_of_tasks, "_FILE_PAUSES", (0.02, 0.05))
    monkeypatch.setattr(result_files, "_PAUSES", (0.02, 0.05))
    monkeypatch.setattr(worker_wait, "_SIGHT_PAUSES", (0.02, 0.05))


@pytest.fixture
def hook(connect: Callable[..., None]) -> Iterator[MistralBatchHook]:
    """The hook of the default connection, which all operators use."""
    connect()
    hook = MistralBatchHook()
    yield hook
    hook.close()


class TaskState:
    """Stands for Airflow's store of what a task instance keeps over its tries."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def get(self, key: str, default: Any = None) -> Any:
        return self.kept.get(key, default)

    def set(self, key: str, value: Any) -> None:
        self.kept[key] = json.loads(json.dumps(value))


class TaskInstance:
    """Stands for Airflow's task instance, in a worker and in the triggerer: remembers its XComs."""

    dag_id = "dag"

    def __init__(self, *, task_id: str = "task", map_index: int | None = -1, try_number: int = 1) -> None:
        self.task_id = task_id
        self.run_id = "run"
        self.map_index = map_index
        self.try_number = try_number
        self.max_tries = 3
        self.task: Any = None
        self.xcoms: dict[str, Any] = {}
        self.first_reschedule: datetime | None = None
        self.run_after = datetime.now(timezone.utc)
        self.run_started: datetime | None = datetime.now(timezone.utc)
        self.clear_number = 0
        self.outlet_events = OutletEventAccessors()
        self.task_state = TaskState()

    def xcom_push(self, key: str, value: Any) -> None:
        # As it is stored: what is not JSON fails here, too.
        self.xcoms[key] = json.loads(json.dumps(value))

    def get_first_reschedule_date(self, context: Any) -> datetime | None:
        return self.first_reschedule

    @property
    def context(self) -> dict[str, Any]:
        started = self.run_started or datetime.now(timezone.utc)
        run = SimpleNamespace(run_after=self.run_after, start_date=started, clear_number=self.clear_number)
        # New for each start of a worker, as in Airflow: what was said before a deferral is lost.
        self.outlet_events = OutletEventAccessors()
        return {
            "ti": self,
            "task_instance": self,
            "task": self.task,
            "dag_run": run,
            "outlet_events": self.outlet_events,
            "task_state_store": self.task_state,
        }

    def next_try(self) -> TaskInstance:
        """The same task instance, tried again: Airflow removes its XComs first."""
        again = copy.copy(self)
        again.try_number += 1
        again.xcoms = {}
        return again

    def cleared(self) -> TaskInstance:
        """The same task instance after a user has cleared it."""
        again = self.next_try()
        again.max_tries = self.try_number + 3
        return again


@dataclass
class Outcome:
    """How a task ended: ``success``, ``failed`` (no retry), ``skipped``, ``timeout``, or ``retry``."""

    state: str
    value: Any = None
    message: str = ""
    xcoms: dict[str, Any] = field(default_factory=dict)
    worker_starts: int = 0
    triggers: list[BaseTrigger] = field(default_factory=list)


class Airflow:
    """Stands for Airflow's processes: starts tasks, carries deferrals to a real event loop and back, as JSON."""

    def __init__(self) -> None:
        self.on_deferral: Callable[[], None] = lambda: None
        #: There is no triggerer, and Airflow ends deferrals for their time.
        self.without_triggerer = False

    def run(self, make: Callable[[], Any], ti: TaskInstance | None = None) -> Outcome:
        """
        Run a task to its end.

        :param make: Makes the task; called for every start of a worker.
        """
        ti = ti or TaskInstance()
        outcome = Outcome("success")

        def resuming(method: str, kwargs: dict[str, Any]) -> Callable[[Any], Any]:
            return lambda task: task.resume_execution(method, kwargs, ti.context)

        call: Callable[[Any], Any] = lambda task: task.execute(ti.context)  # noqa: E731
        while True:
            outcome.worker_starts += 1
            assert outcome.worker_starts < 100, "the task never comes to an end"
            ti.task = task = make()
            try:
                outcome.value = call(task)
            except TaskDeferred as deferral:
                outcome.triggers.append(deferral.trigger)
                self.on_deferral()
                if self.without_triggerer:
                    call = resuming("__fail__", {"error": TriggerFailureReason.TRIGGER_TIMEOUT})
                    continue
                event = run_trigger(deferral.trigger, ti)
                if isinstance(event, TaskSuccessEvent):
                    outcome.value = ti.xcoms.get("return_value")
                    break
                call = resuming(deferral.method_name, {**(deferral.kwargs or {}), "event": event.payload})
                continue
            except AirflowRescheduleException as wish:
                ti.first_reschedule = ti.first_reschedule or datetime.now(timezone.utc)
                time.sleep(max(0.0, (wish.reschedule_date - datetime.now(timezone.utc)).total_seconds()))
                continue
            except Exception as error:
                outcome.state, outcome.message = _state(error), str(error)
            else:
                if task.do_xcom_push and outcome.value is not None:
                    ti.xcom_push("return_value", outcome.value)
            break
        outcome.xcoms = _as_read(ti.xcoms)
        return outcome


def _as_read(xcoms: dict[str, Any]) -> dict[str, Any]:
    """XComs as other tasks read them. Before Airflow 3.3, ``None`` is not stored, and what is not there is ``None``."""
    if Version("3.3") <= AIRFLOW or "status" not in xcoms:
        return xcoms
    return {"output_file_id": None, "error_file_id": None, **xcoms}


def _state(error: Exception) -> str:
    if isinstance(error, AirflowSkipException):
        return "skipped"
    if isinstance(error, AirflowSensorTimeout):
        return "timeout"
    return "failed" if isinstance(error, AirflowFailException) else "retry"


def through_database(trigger: BaseTrigger) -> BaseTrigger:
    """The trigger as a triggerer makes it from the database, by Airflow's own serialization."""
    row = Trigger.from_object(trigger)
    module, _, name = row.classpath.rpartition(".")
    made: BaseTrigger = getattr(importlib.import_module(module), name)(**row.kwargs)
    return made


def run_trigger(trigger: BaseTrigger, ti: TaskInstance | None = None) -> TriggerEvent:
    """Run a trigger on an event loop of its own until its event, which comes back as Airflow stores it."""

    async def first_event() -> TriggerEvent:
        made = through_database(trigger)
        made.task_instance = ti  # type: ignore[assignment]
        events = made.run()
        try:
            return await events.__anext__()
        finally:
            await events.aclose()  # type: ignore[attr-defined]

    event = asyncio.run(first_event())
    event.payload = json.loads(json.dumps(event.payload))
    return event


class Supervisor:
    """Stands for the process that workers and triggerers ask: stores XComs, and knows what became of a task."""

    def __init__(self) -> None:
        self.ti: TaskInstance | None = None
        self.broken = False
        #: State of the task that is asked about: as when a user has ended it.
        self.state = "failed"

    def send(self, message: Any) -> Any:
        if type(message).__name__ == "MaskSecret":
            # Before Airflow 3.3, what is masked in a task is masked in its supervisor, too.
            return None
        if type(message).__name__ == "GetConnection":
            # All connections are in the environment.
            return ErrorResponse(error=ErrorType.CONNECTION_NOT_FOUND)
        if self.broken:
            raise RuntimeError("the API server does not answer")
        if type(message).__name__ == "GetTaskStates":
            (run_id,), (task_id,) = message.run_ids, message.task_ids
            return TaskStatesResult(task_states={run_id: {task_id: self.state}})
        assert type(message).__name__ == "SetXCom"
        assert self.ti is not None
        key = (message.dag_id, message.task_id, message.run_id, message.map_index)
        assert key == (self.ti.dag_id, self.ti.task_id, self.ti.run_id, self.ti.map_index)
        self.ti.xcom_push(message.key, message.value)
        return None


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    supervisor = Supervisor()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    return supervisor


@pytest.fixture
def airflow(hook: MistralBatchHook, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> Airflow:
    # Here nobody comes that a newcomer would have to wait for.
    monkeypatch.setattr(timetable, "GATHER_SECONDS", 0.01)

    class AirflowWithSupervisor(Airflow):
        def run(self, make: Callable[[], Any], ti: TaskInstance | None = None) -> Outcome:
            supervisor.ti = ti = ti or TaskInstance()
            return super().run(make, ti)

    return AirflowWithSupervisor()


@pytest.fixture
def new_ti() -> type[TaskInstance]:
    return TaskInstance


@pytest.fixture
def other_run(new_ti: Callable[..., TaskInstance]) -> TaskInstance:
    """The same task in another run."""
    ti = new_ti()
    ti.run_id = "another run"
    return ti


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that failed are made again soon."""
    monkeypatch.setattr(setbacks.Backoff, "FIRST", 0.05)
    monkeypatch.setattr(setbacks.Backoff, "LONGEST", 0.5)


@pytest.fixture
def trigger_tools() -> SimpleNamespace:
    return SimpleNamespace(run=run_trigger, through_database=through_database)


@pytest.fixture
def jobs(control: Control) -> Callable[[], list[dict[str, Any]]]:
    """The emulator's record of this test's jobs, as the server knows them, oldest first."""
    workspace = hashlib.sha256(control.api_key.encode()).hexdigest()
    return lambda: [job for job in control.record(phantoms=True)["jobs"] if job["workspace"] == workspace]


@pytest.fixture
def make_job(hook: MistralBatchHook, control: Control) -> Callable[..., str]:
    """Makes a batch job and waits until it is over."""

    def make_job(rows: int = 4, *, wait: bool = True, inline: bool = True, **plan: Any) -> str:
        if plan:
            control.plan_jobs(**plan)
        requests = [
            {"custom_id": f"row-{n}", "body": {"messages": [{"role": "user", "content": f"Say {n}"}]}}
            for n in range(rows)
        ]
        job = hook.create(requests=requests, model="mistral-small-latest")
        deadline = time.monotonic() + 30
        while wait and not hook.get(job.id).is_terminal:
            assert time.monotonic() < deadline, "the job does not end"
            time.sleep(0.01)
        return job.id

    return make_job


@pytest.fixture
def settled(jobs: Any) -> Callable[..., None]:
    """Waits until jobs, oldest first, have these statuses."""

    def settled(*statuses: str) -> None:
        deadline = time.monotonic() + 30
        while (now := [job["status"] for job in jobs()]) != list(statuses):
            assert time.monotonic() < deadline, f"{now} instead of {statuses}"
            time.sleep(0.01)

    return settled


@pytest.fixture
def without_triggerer(airflow: Any, control: Control, jobs: Any) -> Callable[..., None]:
    """Lets Airflow end deferrals; meanwhile the job ends, if a status is given, or else its deadline passes."""

    def without_triggerer(end: str | None, *, others: int = 0) -> None:
        def meanwhile() -> None:
            if others:
                # More than a page of the listing, all of them newer.
                control.make_jobs(others)
            if end is None:
                # Deadlines are told by the server's clock.
                control.settings(clock_skew=120)
                return
            control.end_jobs([jobs()[0]["id"]], status=end)
            deadline = time.monotonic() + 30
            while jobs()[0]["status"] != end:
                assert time.monotonic() < deadline, f"the job does not end as {end}"
                time.sleep(0.01)

        control.settings(job_seconds=3600)
        airflow.without_triggerer, airflow.on_deferral = True, meanwhile

    return without_triggerer
