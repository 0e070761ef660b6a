"""One poll loop per connection: what it costs, whom it serves, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import random
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from airflow_provider_mistral_batch.api.client import MistralBatchClient
from airflow_provider_mistral_batch.api.errors import MistralResponseError, NotFoundError
from airflow_provider_mistral_batch.api.models import BatchJobOut
from airflow_provider_mistral_batch.emulator import Emulator
from airflow_provider_mistral_batch.emulator.client import Control
from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
from airflow_provider_mistral_batch.policies import setbacks
from airflow_provider_mistral_batch.policies.cadence import Cadence
from airflow_provider_mistral_batch.tasks.job_event import JobEvent
from airflow_provider_mistral_batch.triggers import sharing, waiting
from airflow_provider_mistral_batch.triggers.inference import MistralBatchJobsTrigger
from airflow_provider_mistral_batch.triggers.mistral_batch import MistralBatchJobTrigger
from airflow_provider_mistral_batch.triggers.poller import ConnectionPoller

from ..scripted_server import Answer, Received, ScriptedServer, as_json

CONNECTION = "mistral_default"
LISTING = "GET /v1/batch/jobs"
SINGLE = "GET /v1/batch/jobs/{id}"

#: Looks again and again; and looks once and then not for long.
EAGER = Cadence(shortest=0.05, longest=0.05)
PATIENT = Cadence(shortest=1000, longest=1000)

pytestmark = pytest.mark.usefixtures("hook", "short_pauses")


class Watcher:
    """Watches one job in a task of its own until it is over; keeps what it saw."""

    def __init__(self, batch_id: str, cadence: Cadence = EAGER, conn_id: str = CONNECTION) -> None:
        self.batch_id = batch_id
        self.seen: list[BatchJobOut] = []
        self.error: Exception | None = None
        self.news = asyncio.Event()
        self.task = asyncio.create_task(self._watch(conn_id, cadence))

    @property
    def status(self) -> str | None:
        return self.seen[-1].status if self.seen else None

    async def _watch(self, conn_id: str, cadence: Cadence) -> None:
        loop = sharing.shared_poller(conn_id)
        watch = loop.join(self.batch_id, cadence)
        try:
            while not (self.seen and self.seen[-1].is_terminal):
                job = await watch.changed(timeout=60)
                if job is not None:
                    self.seen.append(job)
        except Exception as error:
            self.error = error
        finally:
            loop.leave(watch)


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        await asyncio.sleep(0.01)


async def all_seen(watchers: list[Watcher]) -> None:
    await until(
        lambda: all(watcher.seen or watcher.error for watcher in watchers), "a first look at all jobs"
    )


async def all_over(watchers: list[Watcher]) -> None:
    await asyncio.wait_for(asyncio.gather(*(watcher.task for watcher in watchers)), 30)


async def dismiss(watchers: list[Watcher]) -> None:
    for watcher in watchers:
        watcher.task.cancel()
    await asyncio.gather(*(watcher.task for watcher in watchers), return_exceptions=True)


def loops() -> dict[str, ConnectionPoller]:
    running = sharing._pollers.get(asyncio.get_running_loop(), {})
    return {
        conn_id: poller for (_, conn_id), poller in running.items() if isinstance(poller, ConnectionPoller)
    }


async def nothing_left() -> None:
    """No loop, no task, and no connection to the emulator."""
    await until(lambda: not loops(), "the loop's end")
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()}, "the end of all tasks")


def sockets_to(control: Control) -> set[int]:
    """Our ports of the connections to the emulator. It closes idle ones of earlier tests when it likes."""
    port = int(control.url.rsplit(":", 1)[1])
    mine = psutil.Process().net_connections("tcp")
    return {
        one.laddr.port for one in mine if one.raddr and one.raddr.port == port and one.status == "ESTABLISHED"
    }


async def beside(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The emulator's control calls block, so they go to a thread."""
    return await asyncio.to_thread(function, *args, **kwargs)


def test_one_listing_for_a_hundred_jobs(control: Control) -> None:
    ids = control.make_jobs(300)

    async def scenario() -> None:
        watchers = [Watcher(batch_id, PATIENT) for batch_id in ids]
        await all_seen(watchers)
        assert await beside(control.requests) == {LISTING: 3}
        assert {watcher.status for watcher in watchers} == {"in_progress"}
        assert len(loops()) == 1
        await dismiss(watchers)

        # Many looks: still nothing but listings, three calls a look.
        await beside(control.reset)
        watchers = [Watcher(batch_id) for batch_id in ids]
        await until(lambda: control.requests().get(LISTING, 0) >= 12, "four looks")
        await dismiss(watchers)
        counted = await beside(control.requests)
        assert set(counted) == {LISTING}
        record = await beside(control.record)
        # The one in flight beside is the control call's own: that is not counted.
        assert record["most_in_flight"] == 1
        await nothing_left()

    asyncio.run(scenario())


def test_many_jobs_that_end_at_once_are_not_read_one_by_one(control: Control) -> None:
    ids = control.make_jobs(300)

    async def scenario() -> None:
        watchers = [Watcher(batch_id, Cadence(shortest=0.3, longest=0.3)) for batch_id in ids]
        await all_seen(watchers)
        await beside(control.end_jobs, ids)
        await until(
            lambda: all(
                job["status"] == "SUCCESS"
                for job in control.record(phantoms=True)["jobs"]
                if job["id"] in set(ids)
            ),
            "the end of the jobs",
        )
        await all_over(watchers)
        counted = await beside(control.requests)
        assert counted.get(SINGLE, 0) <= 60
        assert counted[LISTING] <= 40

    asyncio.run(scenario())


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Control]:
    """An emulator of its own: thousands of jobs would slow the record down for all tests after."""
    with Emulator() as emulator:
        connection = {"conn_type": "mistral", "host": emulator.url, "password": emulator.api_key}
        monkeypatch.setenv("AIRFLOW_CONN_MISTRAL_DEFAULT", json.dumps(connection))
        yield emulator.control


def test_three_jobs_among_thousands_of_others(crowded: Control) -> None:
    control = crowded
    ids = control.make_jobs(3, age_seconds=100)
    control.make_jobs(5000)

    async def scenario() -> None:
        watchers = [Watcher(batch_id) for batch_id in ids]
        await until(lambda: control.requests().get(SINGLE, 0) >= 12, "some looks")
        # One page told how long the listing is.
        assert (await beside(control.requests))[LISTING] == 1
        await beside(control.end_jobs, ids)
        await all_over(watchers)
        assert (await beside(control.requests))[LISTING] <= 2
        assert [watcher.status for watcher in watchers] == ["completed"] * 3

    asyncio.run(scenario())


def test_watchers_come_and_go_at_any_time(control: Control) -> None:
    chance = random.Random(7)
    staying, leaving = control.make_jobs(40), control.make_jobs(40)

    async def scenario() -> None:
        seen: list[Watcher] = []

        async def visit(batch_id: str) -> Watcher:
            await asyncio.sleep(chance.uniform(0, 1))
            seen.append(Watcher(batch_id))
            return seen[-1]

        async def leave(batch_id: str) -> None:
            watcher = await visit(batch_id)
            await asyncio.sleep(chance.uniform(0, 0.5))
            await dismiss([watcher])

        async def end(some: list[str]) -> None:
            await until(
                lambda: any(watcher.seen for watcher in seen if watcher.batch_id in some), "a first look"
            )
            await beside(control.end_jobs, some)

        # Each job twice: a loop must serve several watchers of one job, too.
        arrivals = asyncio.gather(*(visit(batch_id) for batch_id in staying * 2))
        await asyncio.gather(arrivals, *map(leave, leaving), *map(end, [staying[:20], staying[20:]]))
        watchers = arrivals.result()
        await all_over(watchers)
        assert {watcher.status for watcher in watchers} == {"completed"}
        assert max(len(watcher.seen) for watcher in watchers) == 2
        for watcher in watchers:
            # Nothing is told twice, and nothing after the end.
            assert all(one != other for one, other in pairwise(watcher.seen))
            assert [job.is_terminal for job in watcher.seen].count(True) == 1
        await nothing_left()

    asyncio.run(scenario())


def test_a_watcher_that_fails_harms_no_other(control: Control) -> None:
    ids = control.make_jobs(5)
    (foreign,) = control.make_jobs(1, key="somebody-elses-key")
    unknown = "00000000-0000-4000-8000-000000000000"

    async def scenario() -> None:
        strangers = [Watcher(unknown), Watcher(foreign)]
        watchers = [Watcher(batch_id) for batch_id in ids]
        await all_over(strangers)
        await beside(control.end_jobs, ids)
        await all_over(watchers)
        for watcher in strangers:
            assert isinstance(watcher.error, NotFoundError)
            assert watcher.batch_id in str(watcher.error)
            assert "another workspace" in str(watcher.error)
        assert [watcher.status for watcher in watchers] == ["completed"] * 5
        await nothing_left()

    asyncio.run(scenario())


def test_a_job_over_which_the_server_stumbles_harms_no_other(control: Control, logged: Any) -> None:
    # The listing shows nothing, so that all are read one by one, the stumbling stone first.
    stone, *ids = control.make_jobs(4)
    control.settings(listing_lag=1000)
    control.fault("status", "GET", f"/v1/batch/jobs/{stone}", status=500, times=None)
    began = time.monotonic()

    async def scenario() -> None:
        bad = Watcher(stone)
        watchers = [Watcher(batch_id) for batch_id in ids]
        await all_seen(watchers)
        # Its failures do not add up to a long pause for all.
        await until(lambda: control.requests()[SINGLE] > 40, "many looks")
        await beside(control.end_jobs, ids)
        await all_over(watchers)
        assert (bad.seen, bad.error) == ([], None)
        await beside(control.clear_faults)
        await beside(control.end_jobs, [stone])
        await all_over([bad])

    asyncio.run(scenario())
    lines = [line for line in logged() if f"Looking at batch job {stone} again" in line]
    # Once a minute, and on a busy machine this takes more than one.
    assert 1 <= len(lines) <= 1 + (time.monotonic() - began) // 60


async def longest_stall(seconds: float) -> float:
    """Seconds that the event loop worked without letting us run, at most: by its own clock, however busy others are."""
    longest, last = 0.0, time.thread_time()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await asyncio.sleep(0.01)
        now = time.thread_time()
        longest, last = max(longest, now - last), now
    return longest


def test_a_look_that_fails_when_nobody_watches_the_job_any_more(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, watched = control.make_jobs(2)
    begun, release = threading.Event(), threading.Event()
    get = MistralBatchHook.get

    def held(hook: MistralBatchHook, batch_id: str) -> BatchJobOut:
        if batch_id != left:
            return get(hook, batch_id)
        begun.set()
        release.wait(30)
        raise MistralResponseError("This is a proxy's page.", operation="GET")

    monkeypatch.setattr(MistralBatchHook, "get", held)

    async def scenario() -> float:
        leaving = Watcher(left)
        await beside(begun.wait, 30)
        staying = Watcher(watched, Cadence(shortest=3.0, longest=3.0))
        await dismiss([leaving])
        release.set()
        await all_seen([staying])
        # Were another look at the job planned, it would stay due, and the poll loop would never let others run.
        longest = await longest_stall(4.0)
        await dismiss([staying])
        return longest

    assert asyncio.run(scenario()) < 1.0


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 403},
        {"status": 404},
        {"status": 501},
        {"status": 500, "message": "this provider does not support listings"},
        {"status": 200, "body": {"data": [{"id": 1}]}},
    ],
    ids=["500", "403", "404", "501", "500 of a gateway", "an unreadable job in it"],
)
def test_a_listing_that_does_not_work_is_done_without(
    fault: dict[str, Any], control: Control, logged: Any
) -> None:
    ids = control.make_jobs(6)
    control.fault("status", "GET", "/v1/batch/jobs", times=None, **fault)

    async def scenario() -> None:
        watchers = [Watcher(batch_id) for batch_id in ids]
        await all_seen(watchers)
        await beside(control.end_jobs, ids)
        await all_over(watchers)
        assert [watcher.status for watcher in watchers] == ["completed"] * 6

    asyncio.run(scenario())
    assert [line for line in logged() if "are read one by one" in line]
    assert control.requests()[LISTING] <= 12


def test_a_listing_that_omits_jobs(control: Control) -> None:
    ids = control.make_jobs(20)
    control.settings(listing_lag=1000)

    async def scenario() -> None:
        watchers = [Watcher(batch_id, PATIENT) for batch_id in ids]
        await all_seen(watchers)
        assert {watcher.status for watcher in watchers} == {"in_progress"}
        assert (await beside(control.requests))[SINGLE] == 20
        await dismiss(watchers)

    asyncio.run(scenario())


@pytest.mark.parametrize("what", ["jobs end", "jobs are made"])
def test_pages_that_shift_while_they_are_read(what: str, control: Control) -> None:
    ids = control.make_jobs(250)
    hold = control.fault("hold", "GET", "/v1/batch/jobs", contains="page=1&")

    async def scenario() -> None:
        watchers = [Watcher(batch_id, PATIENT) for batch_id in ids]
        await beside(control.wait_for_fault, hold)
        if what == "jobs end":
            # The newest, that were on the page that is read: those on the next ones move up.
            await beside(control.end_jobs, ids[-70:])
            ended = set(ids[-70:])
            await until(
                lambda: all(
                    job["status"] == "SUCCESS"
                    for job in control.record(phantoms=True)["jobs"]
                    if job["id"] in ended
                ),
                "the end of the jobs",
            )
        else:
            await beside(control.make_jobs, 70)
        await beside(control.release, hold)
        await all_seen(watchers)
        assert [len(watcher.seen) for watcher in watchers] == [1] * 250
        assert [watcher.batch_id for watcher in watchers if watcher.seen[0].id != watcher.batch_id] == []
        await dismiss(watchers)

    asyncio.run(scenario())


def test_the_oldest_jobs_are_listed_too(control: Control) -> None:
    # This server's "created_after" is exclusive, and shows times rounded up: the oldest must not drop out.
    shown = {"created_at": int(time.time() - 50) + 1}
    ids = control.make_jobs(30, age_seconds=50, plan={"fields": shown})

    async def scenario() -> None:
        watchers = [Watcher(batch_id) for batch_id in ids]
        await until(lambda: control.requests().get(LISTING, 0) >= 5, "some looks")
        assert SINGLE not in await beside(control.requests)
        await dismiss(watchers)

    asyncio.run(scenario())


def test_a_429_slows_the_loop_and_not_each_task(control: Control, logged: Any) -> None:
    ids = control.make_jobs(50)
    late = control.make_jobs(5)

    async def scenario() -> None:
        watchers = [Watcher(batch_id) for batch_id in ids]
        await all_seen(watchers)
        await beside(control.fault, "status", "GET", status=429, retry_after=3600, times=1)
        await until(lambda: any(poller._trouble for poller in loops().values()), "a 429")
        await beside(control.reset)
        # Who comes now waits with the others.
        watchers += [Watcher(batch_id) for batch_id in late]
        await asyncio.sleep(1)
        assert await beside(control.requests) == {}
        await dismiss(watchers)

    asyncio.run(scenario())
    assert len([line for line in logged() if "jobs of connection" in line]) == 1


def test_a_long_pause_ends_with_the_last_watcher(control: Control) -> None:
    ids = control.make_jobs(3)
    fault = control.fault("status", "GET", status=429, retry_after=3600, times=None)

    async def scenario() -> None:
        watchers = [Watcher(batch_id) for batch_id in ids]
        await beside(control.wait_for_fault, fault)
        await asyncio.sleep(0.1)
        await dismiss(watchers[:2])
        assert len(loops()) == 1
        await dismiss(watchers[2:])
        await nothing_left()

    asyncio.run(scenario())
    assert sum(control.requests().values()) == 1


@pytest.mark.parametrize(
    "kind",
    [
        {"kind": "status", "status": 500},
        {"kind": "status", "status": 429},
        {"kind": "drop"},
        {"kind": "html"},
    ],
)
def test_a_storm_and_the_calm_after_it(kind: dict[str, Any], control: Control) -> None:
    ids = control.make_jobs(20)

    async def scenario() -> None:
        watchers = [Watcher(batch_id) for batch_id in ids]
        await all_seen(watchers)
        fault = await beside(control.fault, method="GET", times=None, **kind)
        await beside(control.wait_for_fault, fault, hits=4)
        await beside(control.end_jobs, ids)
        await beside(control.clear_faults)
        await all_over(watchers)
        assert {watcher.status for watcher in watchers} == {"completed"}
        assert {watcher.error for watcher in watchers} == {None}

    asyncio.run(scenario())


def test_each_waiting_task_logs_an_outage_once(control: Control, logged: Any) -> None:
    # More than the poller tells at once.
    ids = control.make_jobs(250)
    late, several = control.make_jobs(1), control.make_jobs(3)

    async def scenario() -> None:
        waits = [asyncio.ensure_future(MistralBatchJobTrigger(one).run().__anext__()) for one in ids]
        waits.append(asyncio.ensure_future(MistralBatchJobsTrigger(several).run().__anext__()))
        await until(lambda: control.requests().get(LISTING, 0) >= 1, "a first look")
        fault = await beside(control.fault, "status", "GET", status=503, times=None)
        (poller,) = loops().values()
        # Not to wait for the interval.
        watch = poller.join(ids[0], EAGER)
        await beside(control.wait_for_fault, fault, hits=3)
        # Who comes now is told, too.
        waits.append(asyncio.ensure_future(MistralBatchJobTrigger(late[0]).run().__anext__()))
        await beside(control.wait_for_fault, fault, hits=6)
        await beside(control.end_jobs, ids + late + several)
        await beside(control.clear_faults)
        await asyncio.wait_for(asyncio.gather(*waits), 60)
        poller.leave(watch)

    asyncio.run(scenario())
    lines = logged()
    begun = [line for line in lines if line.endswith("says here when the API answers again.")]
    over = [line for line in lines if line.startswith("info: The API answers again, after ")]
    assert len(begun) == len(over) == 250 + 1 + 1
    assert all("503" in line and line.startswith("warning: ") for line in begun)
    # The loop itself says it in the triggerer's log.
    assert len([line for line in lines if "Looking at the " in line]) == 1
    assert len([line for line in lines if f"Connection {CONNECTION!r}: The API answers again" in line]) == 1


@pytest.mark.parametrize("total", [None, 1, 10**9], ids=["unsaid", "too few", "too many"])
@pytest.mark.parametrize("kind", ["cycles", "never ends", "is empty for ever"])
def test_a_listing_without_end_does_not_hold_the_loop(
    kind: str, total: int | None, connection: Callable[..., Any]
) -> None:
    numbers = itertools.count()
    ids = [f"job-{number}" for number in range(40)]

    def job(batch_id: str, status: str) -> dict[str, Any]:
        return {"id": batch_id, "status": status, "created_at": int(time.time()), "endpoint": "/v1/ocr"}

    def step(request: Received) -> Answer:
        name = urlsplit(request.path).path.rsplit("/", 1)[-1]
        if name not in ("jobs", "batches"):
            return as_json(job(name, "SUCCESS" if total else "completed"))
        found = {"cycles": next(numbers) % 3, "never ends": next(numbers), "is empty for ever": None}[kind]
        others = [] if found is None else [job(f"other-{found}", "RUNNING" if total else "in_progress")]
        return as_json({"data": others, "has_more": True, **({"total": total} if total else {})})

    with ScriptedServer(step) as server:
        connection(host=server.url, extra={} if total else {"dialect": "openai"})

        async def scenario() -> None:
            watchers = [Watcher(batch_id) for batch_id in ids]
            await all_over(watchers)
            assert {watcher.status for watcher in watchers} == {"completed"}
            await nothing_left()

        asyncio.run(scenario())
        # No more pages than there are jobs to read.
        assert len(server.requests) <= 2 * len(ids)


def test_a_rotated_key(control: Control, connect: Callable[..., None], logged: Any) -> None:
    ids = control.make_jobs(10)

    async def scenario() -> None:
        watchers = [Watcher(batch_id) for batch_id in ids]
        await all_seen(watchers)
        control.add_key(control.api_key + "-new", same_workspace_as=control.api_key)
        connect(key=control.api_key + "-new")
        control.revoke_key(control.api_key)
        control.end_jobs(ids)
        await all_over(watchers)
        assert {watcher.status for watcher in watchers} == {"completed"}

    asyncio.run(scenario())
    lines = logged()
    assert len([line for line in lines if "trying again with the new key" in line]) == 1
    assert not any(control.api_key in line for line in lines)


def test_a_revoked_key_ends_all_waits(control: Control) -> None:
    ids = control.make_jobs(10)

    async def scenario() -> None:
        watchers = [Watcher(batch_id) for batch_id in ids]
        await all_seen(watchers)
        control.revoke_key(control.api_key)
        await all_over(watchers)
        assert {str(watcher.error) for watcher in watchers} == {str(watchers[0].error)}
        assert "the password of connection 'mistral_default'" in str(watchers[0].error)
        await nothing_left()

    asyncio.run(scenario())


def test_a_connection_deleted_while_its_loop_runs(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = control.make_jobs(3)

    async def scenario() -> None:
        watchers = [Watcher(first)]
        await all_seen(watchers)
        monkeypatch.delenv("AIRFLOW_CONN_MISTRAL_DEFAULT")
        # The loop goes on with what it knows, also for newcomers.
        watchers += [Watcher(second), Watcher(third)]
        await all_seen(watchers)
        control.end_jobs([first, second])
        await all_over(watchers[:2])
        assert {watcher.status for watcher in watchers[:2]} == {"completed"}
        # When it needs the connection, it is told.
        control.revoke_key(control.api_key)
        await all_over(watchers[2:])
        assert "mistral_default" in str(watchers[2].error)
        await nothing_left()

    asyncio.run(scenario())


def test_two_connections_have_two_loops(control: Control, connect: Callable[..., None]) -> None:
    connect("mistral_second")
    ids = control.make_jobs(4)

    async def scenario() -> None:
        watchers = [Watcher(ids[0]), Watcher(ids[1]), Watcher(ids[2], conn_id="mistral_second")]
        watchers.append(Watcher(ids[3], conn_id="mistral_second"))
        await all_seen(watchers)
        assert set(loops()) == {CONNECTION, "mistral_second"}
        control.end_jobs(ids)
        await all_over(watchers)
        await nothing_left()

    asyncio.run(scenario())


@pytest.mark.parametrize("moment", ["at once", "in a call", "between calls", "after the end"])
def test_nothing_stays_behind(moment: str, control: Control) -> None:
    ids = control.make_jobs(5)
    threads = threading.active_count()
    # What earlier tests left to the collector does not count.
    gc.collect()
    control.requests()
    before = sockets_to(control)

    async def scenario() -> None:
        hold = control.fault("hold", "GET", "/v1/batch/jobs*") if moment == "in a call" else ""
        watchers = [Watcher(batch_id) for batch_id in ids]
        if moment == "in a call":
            await beside(control.wait_for_fault, hold)
        elif moment != "at once":
            await all_seen(watchers)
            assert len(sockets_to(control) - before) == 1
        if moment == "after the end":
            control.end_jobs(ids)
            await all_over(watchers)
        else:
            await dismiss(watchers)
        if hold:
            control.release(hold)
        await nothing_left()
        assert not sockets_to(control) - before

    asyncio.run(scenario())
    assert threading.active_count() == threads


def test_who_joins_while_the_loop_ends_is_served(control: Control) -> None:
    first, second = control.make_jobs(2)

    async def scenario() -> None:
        hold = await beside(control.fault, "hold", "GET", f"/v1/batch/jobs/{first}")
        one = Watcher(first)
        await beside(control.wait_for_fault, hold)
        await dismiss([one])
        other = Watcher(second)
        await asyncio.sleep(0.1)
        # The one loop there is takes the newcomer over: never two calls at once through one connection.
        assert len(loops()) == 1
        await beside(control.release, hold)
        await all_seen([other])
        assert (await beside(control.record))["most_in_flight"] == 1
        await dismiss([other])

    asyncio.run(scenario())


def test_the_event_loop_is_never_blocked(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = control.make_jobs(90)
    begun, release = threading.Event(), threading.Event()
    released: list[bool] = []
    jobs_page = MistralBatchClient.jobs_page

    def held(*args: Any) -> Any:
        begun.set()
        # The event loop releases it, which it cannot do while a call blocks it.
        released.append(release.wait(20))
        return jobs_page(*args)

    monkeypatch.setattr(MistralBatchClient, "jobs_page", held)

    async def scenario() -> None:
        watchers = [Watcher(batch_id, PATIENT) for batch_id in ids]
        await until(begun.is_set, "a call")
        release.set()
        await all_seen(watchers)
        await dismiss(watchers)

    asyncio.run(scenario())
    assert released == [True]


@pytest.mark.parametrize("days", [-1, 1])
@pytest.mark.parametrize("whose", ["ours", "the server's"])
def test_a_clock_that_jumps(days: int, whose: str, control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = control.make_jobs(3)

    async def scenario() -> None:
        watchers = [Watcher(batch_id, Cadence(shortest=0.05, longest=1000)) for batch_id in ids]
        await all_seen(watchers)
        if whose == "ours":
            monkeypatch.setattr(time, "time", lambda now=time.time: now() + days * 86_400)
            jumped = -days * 86_400
        else:
            await beside(control.settings, clock_skew=days * 86_400)
            jumped = days * 86_400
        # The next one may be long in coming: the jobs may be a day old now.
        await until(
            lambda: any(abs(poller._hook.clock_offset - jumped) < 3600 for poller in loops().values()),
            "a look after the jump",
        )
        await beside(control.end_jobs, ids)
        if whose == "ours":
            # A job's age is told by the server's clock alone.
            await all_over(watchers)
            assert {watcher.status for watcher in watchers} == {"completed"}
        else:
            await dismiss(watchers)

    asyncio.run(scenario())


def test_a_deadline_passes_when_our_clock_jumps_over_it(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    (batch_id,) = control.make_jobs(1)
    monkeypatch.setattr(waiting, "_CLOCK_CHECK_SECONDS", 0.1)

    async def scenario() -> JobEvent:
        trigger = MistralBatchJobTrigger(batch_id, deadline=time.time() + 3600)
        event = asyncio.ensure_future(trigger.run().__anext__())
        await until(lambda: any(poller._created_at for poller in loops().values()), "a look")
        assert not event.done()
        monkeypatch.setattr(time, "time", lambda now=time.time: now() + 7200)
        return JobEvent.from_payload((await asyncio.wait_for(event, 30)).payload)

    told = asyncio.run(scenario())
    assert told.timed_out
    assert told.job is not None


def test_a_server_that_refuses_often_is_read_to_the_end_of_its_list(control: Control) -> None:
    # Were the listing begun anew after each refusal, few of the last jobs would ever be looked at.
    ids = control.make_jobs(1000)
    control.fault("status", "GET", "/v1/batch/jobs", status=429, retry_after=0, probability=0.3, times=None)

    async def scenario() -> None:
        watchers = [Watcher(batch_id) for batch_id in ids]
        await all_seen(watchers)
        await dismiss(watchers)

    asyncio.run(scenario())
    assert SINGLE not in control.requests()


def test_a_job_over_which_the_server_stumbles_slows_nobody_down(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setbacks.Backoff, "FIRST", 30.0)
    monkeypatch.setattr(setbacks.Backoff, "LONGEST", 120.0)
    stone, healthy = control.make_jobs(2)
    control.settings(listing_lag=1000)
    control.fault("status", "GET", f"/v1/batch/jobs/{stone}", status=500, times=None)

    async def scenario() -> None:
        bad = Watcher(stone)
        await until(lambda: control.requests().get(SINGLE, 0) >= 1, "a look")
        newcomer = Watcher(healthy)
        await asyncio.wait_for(all_seen([newcomer]), 10)
        await dismiss([bad, newcomer])

    asyncio.run(scenario())


def test_a_first_look_that_fails_is_soon_made_up_for(control: Control) -> None:
    (batch_id,) = control.make_jobs(1)
    control.fault("status", "GET", f"/v1/batch/jobs/{batch_id}", status=500, times=2)

    async def scenario() -> None:
        watcher = Watcher(batch_id)
        # Were it the gathering of newcomers that is doubled, this would take seconds.
        await asyncio.wait_for(all_seen([watcher]), 3)
        await dismiss([watcher])

    asyncio.run(scenario())


def test_a_connection_that_is_mended_is_read_anew(control: Control, connect: Any, monkeypatch: Any) -> None:
    [batch_id] = control.make_jobs(1)
    right = os.environ["AIRFLOW_CONN_MISTRAL_DEFAULT"]
    monkeypatch.setenv(
        "AIRFLOW_CONN_MISTRAL_DEFAULT", json.dumps({**json.loads(right), "host": "http://127.0.0.1:9"})
    )

    async def scenario() -> None:
        watcher = Watcher(batch_id)
        await until(lambda: any(poller._trouble for poller in loops().values()), "a look that failed")
        monkeypatch.setenv("AIRFLOW_CONN_MISTRAL_DEFAULT", right)
        await all_seen([watcher])
        assert watcher.error is None
        await dismiss([watcher])

    asyncio.run(scenario())


def test_an_end_for_thousands_does_not_block_the_event_loop(control: Control) -> None:
    ids = control.make_jobs(3000)

    async def scenario() -> None:
        watchers = [Watcher(batch_id, PATIENT) for batch_id in ids]
        await all_seen(watchers)
        await beside(control.fault, "status", "GET", status=401, times=None)
        extra = Watcher(ids[0])
        await all_over([*watchers, extra])
        errors = [watcher.error for watcher in watchers if watcher.error]
        assert len(errors) == len(watchers)
        # They share an error, but not each other's frames.
        assert len(traceback.extract_tb(errors[0].__traceback__)) < 10

    asyncio.run(scenario())


def test_what_others_do_in_threads_does_not_hold_up_the_loop(control: Control) -> None:
    [batch_id] = control.make_jobs(1)

    async def scenario() -> None:
        release = threading.Event()
        busy = [asyncio.create_task(asyncio.to_thread(release.wait)) for _ in range(40)]
        try:
            watcher = Watcher(batch_id)
            await asyncio.wait_for(all_seen([watcher]), 10)
            await dismiss([watcher])
        finally:
            release.set()
            await asyncio.gather(*busy)

    asyncio.run(scenario())
