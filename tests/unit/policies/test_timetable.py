"""When a poll loop looks at each of its jobs."""

from __future__ import annotations

import math
from typing import Any

import pytest

from airflow_provider_mistral_batch.policies.timetable import (
    GATHER_SECONDS,
    GATHER_SECONDS_AT_MOST,
    Timetable,
)


def _with(*batch_ids: str) -> Timetable:
    timetable = Timetable()
    for batch_id in batch_ids:
        timetable.add(batch_id, 0.0)
    return timetable


@pytest.mark.parametrize(
    ("intervals", "now", "expected"),
    [
        # Seconds from the last look at 0 to the next.
        ({}, 0, []),
        ({"a": 10}, 10, ["a"]),
        ({"a": 10}, 6.9, []),
        # What is due within 30 % of its interval goes along.
        ({"a": 10}, 7, ["a"]),
        ({"a": 10, "b": 11}, 7, ["a"]),
        ({"a": 10, "b": 12, "c": 60}, 10, ["a", "b"]),
    ],
)
def test_what_is_nearly_due_goes_along(intervals, now, expected):
    timetable = _with(*intervals)
    for batch_id, interval in intervals.items():
        timetable.put_off(batch_id, interval, 0.0)
    assert timetable.due(now) == expected


def test_the_next_look_is_the_earliest():
    timetable = _with("a", "b", "c")
    timetable.put_off("a", 7, 0.0)
    timetable.put_off("b", 5, 0.0)
    timetable.stop("c")
    assert timetable.next_look() == 5
    assert timetable.due(1e9) == ["a", "b"]
    timetable.remove("b")
    assert timetable.next_look() == 7
    assert Timetable().next_look() == math.inf


@pytest.mark.parametrize(
    ("interval", "earliest", "latest"),
    [
        # At most 15 % of jitter, and half a second for the look itself.
        (60.0, 60 * 0.85 - 0.5, 59.5),
        (2.0, 2 * 0.85 - 0.5, 1.5),
        # That half second is no more than a quarter of the interval.
        (0.1, 0.085 - 0.025, 0.075),
    ],
)
def test_a_job_is_never_looked_at_later_than_its_interval_allows(interval, earliest, latest):
    timetable = _with("a")
    looks = []
    for _ in range(200):
        timetable.seen("a", interval, 1000.0)
        looks.append(timetable.next_look() - 1000.0)
    assert earliest - 1e-9 <= min(looks)
    assert max(looks) <= latest + 1e-9
    assert len(set(looks)) > 100


def test_newcomers_wait_for_each_other_but_not_for_ever():
    timetable = Timetable()
    looks: list[Any] = []
    now = 10.0
    # Each comes before the look that the one before it has put off.
    while now < 10.0 + GATHER_SECONDS_AT_MOST:
        looks.append(timetable.add(f"job-{len(looks)}", now))
        now += GATHER_SECONDS / 2
    assert looks[0] == pytest.approx(10.0 + GATHER_SECONDS)
    assert looks == sorted(looks)
    assert looks[-1] == 10.0 + GATHER_SECONDS_AT_MOST
    # All of the crowd are looked at together, and who comes after that begins a new one.
    assert timetable.next_look() == looks[-1]
    assert len(timetable.due(now)) == len(looks)
    assert timetable.add("late", now) == pytest.approx(now + GATHER_SECONDS)


def test_a_look_that_happens_anyway_takes_newcomers_along():
    timetable = Timetable()
    timetable.add("new", 10.0)
    assert timetable.due(10.0) == ["new"]


@pytest.mark.parametrize("planned", [1000.0, math.inf])
def test_who_begins_to_watch_a_job_sees_it_soon(planned):
    timetable = _with("a")
    timetable.put_off("a", planned, 0.0)
    timetable.add("a", 50.0)
    assert timetable.next_look() == pytest.approx(50.0 + GATHER_SECONDS)


def test_a_newcomer_puts_no_look_off():
    timetable = _with("a")
    timetable.put_off("a", 50.1, 0.0)
    timetable.add("a", 50.0)
    assert timetable.next_look() == 50.1


@pytest.mark.parametrize(
    "plan",
    [
        lambda timetable: timetable.seen("gone", 1.0, 0.0),
        lambda timetable: timetable.put_off("gone", 1.0, 0.0),
        lambda timetable: timetable.stop("gone"),
    ],
    ids=["seen", "put off", "stopped"],
)
def test_no_look_is_planned_at_a_job_that_nobody_watches_any_more(plan):
    timetable = _with("gone")
    timetable.remove("gone")
    plan(timetable)
    assert timetable.due(1e9) == []
    assert timetable.next_look() == math.inf
