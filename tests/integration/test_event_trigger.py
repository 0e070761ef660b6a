"""The event trigger: which ends it tells of, once each, whatever goes wrong meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.emulator.client import Control
from airflow_provider_mistral_batch.triggers import ends, event, sharing
from airflow_provider_mistral_batch.triggers.event import MistralBatchEventTrigger

from ..scripted_server import ScriptedServer, as_json


class Store:
    """An asset's state, as Airflow 3.3 gives it to a trigger."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.written = asyncio.Event()

    async def aget(self, key: str) -> Any:
        return self.values.get(key)

    async def aset(self, key: str, value: Any) -> None:
        self.values[key] = value
        self.written.set()


class Stores:
    def __init__(self, *stores: Store) -> None:
        self._by_name = {str(number): store for number, store in enumerate(stores)}
        self._by_uri: dict[str, Store] = {}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event, "_DELIVERY_SECONDS", 0.0)


def trigger_with(store: Store | None = None, **options: Any) -> MistralBatchEventTrigger:
    trigger = MistralBatchEventTrigger(poll_interval=0.05, **options)
    if store is not None:
        trigger.asset_state_store = Stores(store)  # type: ignore[assignment]
    return trigger


class Run:
    """A trigger in a task of its own; keeps the jobs of its events."""

    def __init__(self, trigger: MistralBatchEventTrigger) -> None:
        self.events: list[list[str]] = []
        self.task = asyncio.create_task(self._run(trigger))

    async def _run(self, trigger: MistralBatchEventTrigger) -> None:
        async for fired in trigger.run():
            self.events.append([job["batch_id"] for job in fired.payload["jobs"]])

    @property
    def ids(self) -> list[str]:
        return [batch_id for ids in self.events for batch_id in ids]

    async def until(self, condition: Callable[[], bool]) -> None:
        async def wait() -> None:
            while not condition():
                assert not self.task.done(), self.task
                await asyncio.sleep(0.02)

        await asyncio.wait_for(wait(), 20)

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


def test_all_that_ended_between_two_looks_is_one_event(hook: Any, control: Control) -> None:
    async def main() -> None:
        store = Store()
        running = control.make_jobs(3, metadata={"team": "a"})
        other = control.make_jobs(1, metadata={"team": "b"})
        run = Run(trigger_with(store, metadata={"team": "a"}))
        await asyncio.wait_for(store.written.wait(), 20)
        control.end_jobs([*running, *other])
        await run.until(lambda: len(run.ids) >= 3)
        store.written.clear()
        await asyncio.wait_for(store.written.wait(), 20)
        await run.end()
        assert sorted(run.ids) == sorted(running)
        assert len(run.events) == 1

    asyncio.run(main())


def test_a_restart_misses_nothing_and_repeats_nothing(hook: Any, control: Control) -> None:
    async def main() -> None:
        store = Store()
        first, second = control.make_jobs(1, metadata={"n": "1"}), control.make_jobs(1, metadata={"n": "2"})
        run = Run(trigger_with(store))
        await asyncio.wait_for(store.written.wait(), 20)
        control.end_jobs(metadata={"n": "1"})
        await run.until(lambda: bool(run.ids))
        for _ in range(2):
            store.written.clear()
            await asyncio.wait_for(store.written.wait(), 20)
        await run.end()
        assert run.ids == first

        control.end_jobs(metadata={"n": "2"})
        third = control.make_jobs(1)
        control.end_jobs(third)
        again = Run(trigger_with(store))
        await again.until(lambda: len(again.ids) >= 2)
        store.written.clear()
        await asyncio.wait_for(store.written.wait(), 20)
        await again.end()
        assert sorted(again.ids) == sorted(second + third)
        assert len(again.events) == 1

    asyncio.run(main())


async def settled(store: Store, looks: int = 2) -> None:
    """Wait for the end of further looks."""
    for _ in range(looks):
        store.written.clear()
        await asyncio.wait_for(store.written.wait(), 20)


@pytest.mark.parametrize("dialect", ["mistral", "openai"])
def test_a_long_job_among_thousands_costs_few_calls(
    dialect: str, connect: Callable[..., None], control: Control
) -> None:
    """Its end is news although it was created long before most others, and no look reads all of them."""
    connect(dialect=dialect)
    listing = "GET /v1/batch/jobs" if dialect == "mistral" else "GET /v1/batches"
    (old,) = control.make_jobs(1, age_seconds=6 * 86_400, status="RUNNING", timeout_hours=168)
    control.make_jobs(3_000, age_seconds=2 * 86_400, status="SUCCESS")

    async def main() -> None:
        store = Store()
        run = Run(trigger_with(store))
        await settled(store, 1)
        before = control.requests()
        await settled(store, 10)
        calls = {name: count - before.get(name, 0) for name, count in control.requests().items()}
        # One listing for new jobs, and one for the active ones, or a single read of the one that is remembered.
        assert 10 <= calls[listing] <= 24
        assert sum(calls.values()) <= 26

        control.end_jobs([old])
        await run.until(lambda: run.ids == [old])
        await settled(store)
        after = {name: count - before.get(name, 0) for name, count in control.requests().items()}
        # 31 pages would have shown it, too.
        assert after[listing] - calls[listing] <= 20
        await run.end()
        assert run.ids == [old]

        # Nor does the first look of another triggerer, which knows the old jobs by their ids.
        (other,) = control.make_jobs(1, age_seconds=5 * 86_400, status="RUNNING", timeout_hours=168)
        run = Run(trigger_with(store))
        await settled(store)
        await run.end()
        control.end_jobs([other])
        control.reset()
        run = Run(trigger_with(store))
        await run.until(lambda: run.ids == [other])
        await run.end()
        if dialect == "mistral":
            assert sum(control.requests().values()) <= 8

    asyncio.run(main())


def test_many_ends_at_once_come_in_several_events_and_once(hook: Any, control: Control) -> None:
    async def main() -> None:
        store = Store()
        running = control.make_jobs(1_200, age_seconds=3_600)
        run = Run(trigger_with(store))
        await settled(store, 1)
        control.end_jobs(running)
        await run.until(lambda: len(run.ids) >= 1_200)
        await settled(store)
        await run.end()
        assert sorted(run.ids) == sorted(running)
        assert max(map(len, run.events)) <= 500

    asyncio.run(main())


@pytest.mark.parametrize("status", [500, 404])
def test_a_job_that_cannot_be_read_for_a_while_holds_up_no_other(
    status: int, connect: Callable[..., None], control: Control
) -> None:
    # Where the server cannot choose them, the jobs of the last look are read one by one.
    connect(dialect="openai")
    first, second = control.make_jobs(2, age_seconds=3_600)
    rule = control.fault("status", "GET", f"/v1/batches/{first}", status=status, times=None)

    async def main() -> None:
        store = Store()
        run = Run(trigger_with(store))
        await settled(store, 1)
        control.end_jobs([second])
        await run.until(lambda: second in run.ids)
        control.remove_fault(rule)
        control.end_jobs([first])
        await run.until(lambda: first in run.ids)
        await settled(store)
        await run.end()
        assert sorted(run.ids) == sorted([first, second])

    asyncio.run(main())


@pytest.mark.parametrize("batch_id", ["..", "a\u200b"])
def test_a_job_with_an_id_that_no_url_can_have_silences_no_trigger(batch_id: str, connection: Any) -> None:
    job = {"id": batch_id, "status": "in_progress", "created_at": int(time.time()), "endpoint": "/v1/ocr"}
    nothing = as_json({"data": [], "has_more": False})
    odd = as_json({"data": [job], "has_more": False})

    async def main() -> None:
        # Listed as active at the first look, and never again.
        with ScriptedServer(odd, odd, nothing) as server:
            connection(host=server.url, extra={"dialect": "openai"})
            store = Store()
            run = Run(trigger_with(store))
            await settled(store, 4)
            await run.end()

    asyncio.run(main())


def test_jobs_that_a_server_can_only_list_cost_no_call_each(
    connect: Callable[..., None], control: Control
) -> None:
    connect(dialect="openai")
    running = control.make_jobs(20, age_seconds=3_600)

    async def main() -> None:
        store = Store()
        run = Run(trigger_with(store))
        await settled(store, 1)
        control.reset()
        await settled(store, 3)
        assert not [name for name in control.requests() if name.startswith("GET /v1/batches/")]
        control.end_jobs(running[:1])
        await run.until(lambda: run.ids == running[:1])
        await run.end()

    asyncio.run(main())


def test_of_two_assets_the_newer_bookmark_counts(hook: Any, control: Control) -> None:
    async def main() -> None:
        stores = [Store(), Store()]
        trigger = trigger_with()
        trigger.asset_state_store = Stores(*stores)  # type: ignore[assignment]
        (batch_id,) = control.make_jobs(1)
        run = Run(trigger)
        await asyncio.wait_for(stores[1].written.wait(), 20)
        # From here on, the first store misses what the trigger writes.
        missed = dict(stores[0].values)
        control.end_jobs([batch_id])
        await run.until(lambda: run.ids == [batch_id])
        await settled(stores[1])
        await run.end()
        stores[0].values = missed
        again = trigger_with()
        again.asset_state_store = Stores(*stores)  # type: ignore[assignment]
        run = Run(again)
        await settled(stores[1])
        await run.end()
        assert run.ids == []

    asyncio.run(main())


def test_among_thousands_of_old_jobs_a_look_costs_two_calls_and_finds_the_end_of_an_old_one(
    hook: Any, control: Control
) -> None:
    listing = "GET /v1/batch/jobs"

    async def main() -> None:
        control.make_jobs(5_000, status="SUCCESS", age_seconds=86_400)
        old = control.make_jobs(1, status="RUNNING", age_seconds=7_200)
        store = Store()
        run = Run(trigger_with(store))
        await asyncio.wait_for(store.written.wait(), 20)
        control.reset()
        looks = 0
        for _ in range(5):
            store.written.clear()
            await asyncio.wait_for(store.written.wait(), 20)
            looks += 1
        # A look may be under way.
        assert control.requests()[listing] <= 2 * (looks + 2)
        control.end_jobs(old)
        await run.until(lambda: bool(run.ids))
        await run.end()
        assert run.ids == old

    asyncio.run(main())


def test_triggers_of_a_connection_share_a_loop(hook: Any, control: Control) -> None:
    async def main() -> None:
        (batch_id,) = control.make_jobs(1)
        stores = [Store(), Store()]
        runs = [Run(trigger_with(stores[0])), Run(trigger_with(stores[1], status="completed"))]
        for store in stores:
            await asyncio.wait_for(store.written.wait(), 20)
        assert len(sharing._pollers[asyncio.get_running_loop()]) == 1
        control.end_jobs([batch_id])
        for run in runs:
            await run.until(lambda run=run: run.ids == [batch_id])  # type: ignore[misc]
            await run.end()

    asyncio.run(main())


@pytest.mark.parametrize("wrong", ["host", "key", "missing", "no JSON"])
def test_a_wrong_connection_backs_off_says_so_once_and_recovers(
    wrong: str,
    connection: Any,
    control: Control,
    logged: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("airflow_provider_mistral_batch.policies.setbacks.Backoff.FIRST", 0.05)
    monkeypatch.setattr("airflow_provider_mistral_batch.policies.setbacks.Backoff.LONGEST", 0.05)
    if wrong == "host":
        connection(host="http://127.0.0.1:1")
    elif wrong == "key":
        control.revoke_key("revoked")
        connection(host=control.url, password="revoked")
    elif wrong == "no JSON":
        connection("{")
    failures = 0
    slow_down = ends.EndsPoller._slow_down

    async def counted(poller: ends.EndsPoller, error: Exception) -> None:
        nonlocal failures
        failures += 1
        await slow_down(poller, error)

    monkeypatch.setattr(ends.EndsPoller, "_slow_down", counted)

    async def main() -> None:
        store = Store()
        run = Run(trigger_with(store))
        await run.until(lambda: failures >= 4)
        connection(host=control.url, password=control.api_key)
        await asyncio.wait_for(store.written.wait(), 20)
        (batch_id,) = control.make_jobs(1)
        control.end_jobs([batch_id])
        await run.until(lambda: run.ids == [batch_id])
        await run.end()

    asyncio.run(main())
    lines = logged()
    assert len([line for line in lines if "No end of a job is noticed" in line]) == 1
    assert len([line for line in lines if "API answers again" in line]) == 1


def test_a_state_store_that_fails_is_tried_again_and_named_once(
    hook: Any, control: Control, logged: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_mistral_batch.policies.setbacks.Backoff.FIRST", 0.01)
    calls: list[str] = []

    class Failing(Store):
        async def aget(self, key: str) -> Any:
            calls.append("get")
            if len(calls) < 4:
                raise OSError("no database")
            return await super().aget(key)

        async def aset(self, key: str, value: Any) -> None:
            calls.append("set")
            if len(calls) < 8:
                raise OSError("no database")
            await super().aset(key, value)

    async def main() -> None:
        store = Failing()
        run = Run(trigger_with(store))
        await asyncio.wait_for(store.written.wait(), 20)
        (batch_id,) = control.make_jobs(1)
        control.end_jobs([batch_id])
        await run.until(lambda: run.ids == [batch_id])
        await run.end()

    asyncio.run(main())
    assert calls[:8] == ["get"] * 4 + ["set"] * 4
    assert len([line for line in logged() if "state of the event trigger cannot be" in line]) == 1


def test_without_a_state_store_one_warning_says_what_is_missed(
    hook: Any, control: Control, logged: Callable[[], list[str]]
) -> None:
    async def main() -> None:
        before = control.requests().get("GET /v1/batch/jobs", 0)
        trigger = trigger_with()
        trigger.__dict__.pop("asset_state_store", None)  # As before Airflow 3.3.
        run = Run(trigger)
        await run.until(lambda: control.requests().get("GET /v1/batch/jobs", 0) >= before + 4)
        (batch_id,) = control.make_jobs(1)
        control.end_jobs([batch_id])
        await run.until(lambda: run.ids == [batch_id])
        await run.end()

    asyncio.run(main())
    assert len([line for line in logged() if "Airflow 3.3" in line]) == 1


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"status": "done"}, "status"),
        ({"status": "in_progress"}, "is not a status in which jobs end"),
        ({"status": ["completed", "cancelling"]}, "is not a status in which jobs end"),
        ({"status": []}, "status"),
        ({"status": 3}, "status"),
        ({"status": [3]}, "status"),
        ({"model": ""}, "model"),
        ({"model": " "}, "model"),
        ({"model": 3}, "model"),
        ({"dag_id": ""}, "dag_id"),
        ({"dag_id": "{{ dag.dag_id }}"}, "dag_id.*template"),
        ({"metadata": {"a": "{{ ds }}"}}, "metadata.*template"),
        ({"poll_interval": timedelta(seconds=-1)}, "poll_interval"),
        ({"dag_id": "a", "metadata": {"airflow_dag_id": "b"}}, "contradicts"),
        ({"endpoint": "/v1/nothing"}, "endpoint"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": "a"}, "metadata"),
        ({"metadata": [["a"]]}, "metadata"),
        ({"metadata": {"k" * 33: "a"}}, "metadata"),
        ({"poll_interval": -1}, "poll_interval"),
        ({"poll_interval": 0}, "poll_interval"),
        ({"poll_interval": "60"}, "poll_interval"),
        ({"mistral_conn_id": ""}, "mistral_conn_id"),
        ({"mistral_conn_id": None}, "mistral_conn_id"),
    ],
)
def test_a_filter_that_can_never_match_is_refused(options: dict[str, Any], names: str) -> None:
    with pytest.raises(InvalidInputError, match=names) as caught:
        MistralBatchEventTrigger(**options)
    # Any other error would end a triggerer that makes the trigger from its database, with all other triggers.
    assert isinstance(caught.value, TypeError)


def test_equal_filters_are_one_trigger_and_survive_the_database(trigger_tools: Any) -> None:
    one = MistralBatchEventTrigger(
        status=["failed", "completed"], metadata={"b": "1", "a": "2"}, poll_interval=60
    )
    two = MistralBatchEventTrigger(
        status=("completed", "failed"), metadata={"a": "2", "b": "1"}, poll_interval=timedelta(minutes=1)
    )
    hashes = {trigger.hash(*trigger.serialize()) for trigger in (one, two)}
    assert len(hashes) == 1
    assert trigger_tools.through_database(one).serialize() == one.serialize()
    assert trigger_tools.through_database(one).metadata == {"a": "2", "b": "1"}
    # Airflow 3.2.0 hands dictionaries over still encoded, and its triggerer ends when a trigger refuses them.
    assert not any(isinstance(value, dict) for value in one.serialize()[1].values())
