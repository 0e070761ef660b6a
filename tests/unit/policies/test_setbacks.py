"""What a round looks at, by which way, and how a loop slows down."""

from __future__ import annotations

import pytest

from airflow_provider_mistral_batch.policies.polling import Backoff, Schedule, due, listing_pays


@pytest.mark.parametrize(
    ("schedules", "now", "expected"),
    [
        ({}, 0, []),
        ({"a": Schedule(10)}, 10, ["a"]),
        ({"a": Schedule(10)}, 9.9, []),
        # What is due within 30 % of its interval goes along.
        ({"a": Schedule(10, 10), "b": Schedule(10, 9)}, 7, ["a"]),
        ({"a": Schedule(10, 10), "b": Schedule(12, 60), "c": Schedule(30, 60)}, 10, ["a", "b"]),
        ({"a": Schedule(float("inf"))}, 1e9, []),
    ],
)
def test_due(schedules, now, expected):
    assert due(schedules, now) == expected


@pytest.mark.parametrize(
    ("wanted", "pages_left", "pays"),
    [
        (0, None, False),
        (1, None, False),
        (2, None, True),
        (0, 1, False),
        (1, 1, False),
        (2, 1, True),
        (3, 500, False),
        (501, 500, True),
        (1000, 10, True),
    ],
)
def test_the_way_that_costs_fewer_calls(wanted, pages_left, pays):
    assert listing_pays(wanted, pages_left) is pays


def test_pauses_double_up_to_a_limit():
    backoff = Backoff()
    pauses = [backoff.failed(None) for _ in range(40)]
    for pause, middle in zip(pauses, [2, 4, 8, 16, 32, 64, *[120] * 34], strict=True):
        assert 0.75 * middle <= pause <= 1.25 * middle
    assert len(set(pauses)) > 30


def test_a_success_ends_the_slowness():
    backoff = Backoff()
    for _ in range(5):
        backoff.failed(None)
    backoff.succeeded()
    assert backoff.failed(None) <= 2.5


@pytest.mark.parametrize(
    ("asked", "at_least", "at_most"), [(0.0, 1.5, 2.5), (30.0, 30, 31), (1e300, 3600, 3601)]
)
def test_the_server_is_obeyed_within_reason(asked, at_least, at_most):
    assert at_least <= Backoff().failed(asked) <= at_most
