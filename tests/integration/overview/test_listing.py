"""One listing for all who look: few calls, each job once, and the last good answer while the API is down."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from airflow_provider_mistral_batch.emulator.client import Control
from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
from airflow_provider_mistral_batch.overview.jobs import job_view
from airflow_provider_mistral_batch.overview.listing import Listing, default_hook

A = "mistral_default"


@pytest.fixture
def listing() -> Iterator[Listing]:
    listing = Listing(fresh_seconds=3600, idle_seconds=3600)
    yield listing
    listing.close()


def calls(control: Control) -> int:
    return control.requests().get("GET /v1/batch/jobs", 0)


def test_many_jobs_are_read_once(listing: Listing, connect: Callable[..., None], control: Control) -> None:
    connect()
    control.make_jobs(4990, status="SUCCESS", age_seconds=600)
    running = control.make_jobs(10, age_seconds=1200)
    whole = listing.snapshot([A], whole=True, time_limit=60)
    assert len(whole.jobs) == 5000
    assert whole.connections[0].is_complete
    assert sum(not job.is_over for job in whole.jobs) == 10
    control.reset()
    # The page of newest jobs shows none that runs: the listing of running jobs is read, too.
    listing.snapshot([A], fresh=True, time_limit=60)
    assert calls(control) == 2
    control.end_jobs(running[:3])
    new = control.make_jobs(1)
    wait_for(lambda: done(listing, running[:3]))
    jobs = {job.id: job for job in listing.snapshot([A], fresh=True, time_limit=60).jobs}
    assert len(jobs) == 5001
    assert not jobs[new[0]].is_over
    # As the API says now.
    hook = MistralBatchHook(A)
    for job_id in (*running, *new):
        assert jobs[job_id] == job_view(hook.get(job_id), A)


def done(listing: Listing, job_ids: list[str]) -> bool:
    jobs = {job.id: job for job in listing.snapshot([A], fresh=True, time_limit=60).jobs}
    return all(jobs[job_id].is_over for job_id in job_ids)


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_many_jobs_that_end_at_once_are_read_by_page(
    listing: Listing, connect: Callable[..., None], control: Control
) -> None:
    connect()
    running = control.make_jobs(500, age_seconds=600)
    control.make_jobs(200, status="FAILED")
    listing.snapshot([A], whole=True, time_limit=60)
    control.end_jobs(running)
    control.reset()
    wait_for(lambda: done(listing, running))
    assert control.requests().get("GET /v1/batch/jobs/{job_id}", 0) <= 20


def test_a_deleted_job_is_forgotten(listing: Listing, connect: Callable[..., None], control: Control) -> None:
    connect()
    (gone,) = control.make_jobs(1, age_seconds=600)
    control.make_jobs(150, status="FAILED")
    assert len(listing.snapshot([A], whole=True, time_limit=60).jobs) == 151
    MistralBatchHook(A).delete(gone)
    assert len(listing.snapshot([A], fresh=True, time_limit=60).jobs) == 150


@pytest.mark.parametrize(
    ("dialect", "looks", "calls_after"),
    [
        # The server's count tells that a job is missing, and that none is.
        ("mistral", 1, 1),
        # Without a count, each look reads a page of the past again.
        ("openai", 3, 2),
    ],
)
def test_a_job_that_becomes_visible_late_is_found(
    listing: Listing,
    connect: Callable[..., None],
    control: Control,
    dialect: str,
    looks: int,
    calls_after: int,
) -> None:
    connect(dialect=dialect)
    control.make_jobs(350, status="SUCCESS", age_seconds=600)
    assert len(listing.snapshot([A], whole=True, time_limit=60).jobs) == 350
    (late,) = control.make_jobs(1, status="SUCCESS", age_seconds=7200)
    for _ in range(looks):
        found = listing.snapshot([A], fresh=True, time_limit=60)
    assert late in {job.id for job in found.jobs}
    control.reset()
    listing.snapshot([A], fresh=True, time_limit=60)
    assert sum(control.requests().values()) == calls_after


def test_a_count_that_is_never_right_costs_one_reading(
    listing: Listing, connect: Callable[..., None], control: Control
) -> None:
    connect()
    gone = control.make_jobs(350, status="SUCCESS", age_seconds=600)[-1]
    listing.snapshot([A], whole=True, time_limit=60)
    MistralBatchHook(A).delete(gone)
    listing.snapshot([A], fresh=True, time_limit=60)
    control.reset()
    listing.snapshot([A], fresh=True, time_limit=60)
    assert calls(control) == 1


def test_ten_viewers_cost_one_call(connect: Callable[..., None], control: Control) -> None:
    connect()
    control.make_jobs(5)
    listing = Listing(fresh_seconds=3600)
    listing.snapshot([A], time_limit=60)
    control.reset()
    viewers = [threading.Thread(target=listing.snapshot, args=([A],)) for _ in range(10)]
    for viewer in viewers:
        viewer.start()
    for viewer in viewers:
        viewer.join()
    assert calls(control) == 0
    listing.snapshot([A], fresh=True, time_limit=60)
    assert calls(control) == 1


def test_two_connections_to_one_workspace_show_each_job_once(
    listing: Listing, connect: Callable[..., None], control: Control
) -> None:
    connect()
    connect("second")
    connect("wrong", key="")
    control.make_jobs(3)
    snapshot = listing.snapshot([A, "second", "wrong"], time_limit=60)
    assert [job.connections for job in snapshot.jobs] == [(A, "second")] * 3
    states = {state.conn_id: state for state in snapshot.connections}
    assert states[A].ok
    assert not states["wrong"].ok
    assert "password is empty" in str(states["wrong"].error)
    # Who may see one connection sees nothing of the other.
    assert [job.connections for job in listing.snapshot(["second"]).jobs] == [("second",)] * 3


def test_a_wrong_key_is_said_without_the_key(
    listing: Listing, connect: Callable[..., None], control: Control
) -> None:
    key = "k3y-that-was-revoked"
    connect(key=key)
    control.add_key(key)
    control.revoke_key(key)
    state = listing.snapshot([A], time_limit=60).connections[0]
    assert "401" in str(state.error)
    assert key not in str(state)


def test_a_dead_api_keeps_nobody_waiting(connect: Callable[..., None], control: Control) -> None:
    connect()
    control.make_jobs(3)
    listing = Listing(fresh_seconds=3600, idle_seconds=3600)
    before = listing.snapshot([A], time_limit=60)
    fault = control.fault("hold", "GET", "/v1/batch/jobs", times=None)
    begun = time.monotonic()
    held = listing.snapshot([A], fresh=True, time_limit=0.3)
    assert 0.3 <= time.monotonic() - begun < 5
    assert [job.id for job in held.jobs] == [job.id for job in before.jobs]
    assert held.as_of is not None
    control.wait_for_fault(fault)
    # Whoever comes later does not wait for the same call again, and begins no second one.
    begun = time.monotonic()
    listing.snapshot([A], fresh=True, time_limit=0.3)
    assert time.monotonic() - begun < 0.3
    assert control.fault_state(fault)["hits"] == 1
    control.release(fault)


def test_the_last_answer_stays_with_its_age(
    listing: Listing, connect: Callable[..., None], control: Control
) -> None:
    connect()
    control.make_jobs(3)
    good = listing.snapshot([A], time_limit=60)
    control.fault("status", "GET", "/v1/batch/jobs", status=503, times=None)
    bad = listing.snapshot([A], fresh=True, time_limit=60)
    assert len(bad.jobs) == 3
    state = bad.connections[0]
    assert (state.ok, "503" in str(state.error)) == (False, True)
    assert bad.as_of == pytest.approx(good.as_of, abs=1)
    # The next viewers do not ask again at once.
    control.reset()
    listing.snapshot([A], fresh=True)
    assert calls(control) == 0


def test_a_clock_that_is_off(
    listing: Listing, connect: Callable[..., None], control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect()
    control.make_jobs(3)
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + 400 * 86_400)
    snapshot = listing.snapshot([A], time_limit=60)
    assert len(snapshot.jobs) == 3
    assert snapshot.now == pytest.approx(right(), abs=30)


def test_the_hook_of_viewers_tries_once(connect: Callable[..., None], control: Control) -> None:
    connect()
    hook = default_hook(A)
    assert hook.retries is not None
    assert hook.retries.attempts == 1
