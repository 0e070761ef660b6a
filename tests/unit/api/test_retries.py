"""What is tried again, how often, and after how long."""

from __future__ import annotations

import logging
import random
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mistral_batch.api.errors import (
    InvalidInputError,
    MistralCallError,
    MistralConnectionError,
    MistralResponseError,
    error_from_answer,
)
from airflow_provider_mistral_batch.api.retries import RetryPolicy, http_timestamp, parse_retry_after


class Clock:
    """A clock for tenacity that moves only when somebody sleeps or works."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(tenacity, "time", clock)
    monkeypatch.setattr(tenacity.nap, "time", clock)
    return clock


class Call:
    """A call that fails with one error again and again, each time after some work."""

    def __init__(self, error: Exception, clock: Clock, seconds: float = 0.0) -> None:
        self.error = error
        self.clock = clock
        self.seconds = seconds
        self.made = 0

    def __call__(self) -> None:
        self.made += 1
        self.clock.now += self.seconds
        raise self.error


def _attempts(policy: RetryPolicy, call: Call, *, repeatable: bool) -> int:
    with pytest.raises(type(call.error)) as caught:
        policy.retrying(repeatable=repeatable)(call)
    assert caught.value is call.error
    return call.made


def _answered(status_code: int, retry_after: float | None = None) -> MistralCallError:
    return error_from_answer(status_code, b"", operation="POST /", retry_after=retry_after)


def _hopeless() -> MistralCallError:
    error = MistralConnectionError("certificate")
    error.transient = False
    return error


@pytest.mark.parametrize(
    ("error", "repeatable", "once"),
    [
        (MistralConnectionError("refused"), True, True),
        (MistralConnectionError("broken", may_have_acted=True), True, False),
        (_hopeless(), False, False),
        (MistralResponseError("html", may_have_acted=True), True, False),
        (MistralResponseError("redirected"), True, True),
        (_answered(429), True, True),
        (_answered(429, 1.0), True, True),
        (_answered(503, 1.0), True, True),
        (_answered(503), True, False),
        (_answered(500), True, False),
        (_answered(502), True, False),
        (_answered(504), True, False),
        (_answered(408), True, False),
        (_answered(425), True, True),
        (_answered(522), True, False),
        *((_answered(status), False, False) for status in (400, 401, 402, 403, 404, 409, 413, 422)),
        (InvalidInputError("x"), False, False),
        (KeyError("not ours"), False, False),
        (KeyboardInterrupt(), False, False),
    ],
    ids=repr,
)
def test_what_is_tried_again(error, repeatable, once, clock):
    policy = RetryPolicy(attempts=3)
    got = [
        _attempts(policy, Call(error, clock), repeatable=True) > 1,
        _attempts(policy, Call(error, clock), repeatable=False) > 1,
    ]
    assert got == [repeatable, once]


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_attempts_are_bounded(attempts, clock):
    assert _attempts(RetryPolicy(attempts=attempts), Call(_answered(429), clock), repeatable=True) == attempts


def test_waits_double_up_to_a_limit_with_jitter(clock, monkeypatch):
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    policy = RetryPolicy(attempts=8, first_wait=1, longest_wait=10, total_seconds=1000)
    _attempts(policy, Call(_answered(500), clock), repeatable=True)
    assert clock.slept == [1, 2, 4, 8, 10, 10, 10]


def test_jitter_is_anything_below(clock):
    policy = RetryPolicy(attempts=200, first_wait=1, longest_wait=10, total_seconds=10_000)
    _attempts(policy, Call(_answered(500), clock), repeatable=True)
    late = clock.slept[5:]
    assert 0 <= min(late) < 2
    assert 8 < max(late) <= 10


def test_retry_after_is_waited_for_and_the_jitter_comes_on_top(clock):
    _attempts(RetryPolicy(attempts=4, first_wait=1), Call(_answered(429, 20.0), clock), repeatable=True)
    assert all(20 <= seconds <= 20 + 2**n for n, seconds in enumerate(clock.slept))


def test_retry_after_may_exceed_the_longest_wait(clock):
    policy = RetryPolicy(attempts=2, longest_wait=1, total_seconds=200)
    _attempts(policy, Call(_answered(429, 100.0), clock), repeatable=True)
    assert clock.slept[0] >= 100


@pytest.mark.parametrize(("seconds", "attempts"), [(30.0, 3), (100.0, 1), (0.0, 100)])
def test_total_time_is_bounded(seconds, attempts, clock):
    policy = RetryPolicy(attempts=100, total_seconds=90, first_wait=0)
    assert _attempts(policy, Call(_answered(500), clock, seconds), repeatable=True) == attempts


def test_no_wait_that_leads_past_the_total_time(clock):
    assert _attempts(RetryPolicy(total_seconds=60), Call(_answered(429, 1e300), clock), repeatable=True) == 1
    assert clock.slept == []


def test_each_retry_is_logged(clock, caplog):
    with caplog.at_level(logging.WARNING):
        _attempts(RetryPolicy(attempts=3, first_wait=0), Call(_answered(429, 7.0), clock), repeatable=True)
    assert [record.getMessage() for record in caplog.records] == [
        f"Attempt {n} follows in 7.0 s: POST / was answered with 429: no message" for n in (2, 3)
    ]


@pytest.mark.parametrize(("number", "longest"), [(1, 1), (2, 2), (3, 4), (5, 10), (5_000, 10)], ids=str)
def test_the_pause_after_a_break_doubles_and_is_never_short(number, longest):
    policy = RetryPolicy(first_wait=1, longest_wait=10)
    assert all(longest / 2 <= policy.pause(number) <= longest for _ in range(100))


@pytest.mark.parametrize(
    "fields",
    [
        {"attempts": 0},
        {"attempts": -1},
        {"attempts": 2.0},
        {"attempts": True},
        {"total_seconds": -1},
        {"total_seconds": float("nan")},
        {"first_wait": "1"},
        {"longest_wait": None},
    ],
)
def test_bad_policies(fields):
    ((name, value),) = fields.items()
    with pytest.raises(InvalidInputError, match=f"{name}={value!r} is not"):
        RetryPolicy(**fields)


NOW = datetime(2026, 5, 6, 7, 8, 9, tzinfo=timezone.utc)


def _http(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("-3", 0.0),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("Wed, 99 Foo", None),
        (_http(NOW + timedelta(seconds=30)), 30.0),
        (_http(NOW - timedelta(seconds=30)), 0.0),
    ],
)
@pytest.mark.parametrize("skew", [timedelta(0), timedelta(hours=5), timedelta(days=-400)])
def test_retry_after_by_the_servers_clock(value, seconds, skew):
    date = NOW
    if value and value.startswith("Wed, 0"):
        value, date = (
            _http(datetime.strptime(value, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=timezone.utc) + skew),
            NOW + skew,
        )
    assert parse_retry_after(value, date=_http(date)) == seconds


def test_retry_after_without_the_servers_clock():
    value = _http(datetime.now(timezone.utc) + timedelta(seconds=100))
    seconds = parse_retry_after(value)
    assert seconds is not None
    assert 98 <= seconds <= 100


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun, 06 Nov 1994 08:49:37 -0000",
        "Sun, 06 Nov 1994 08:49:37",
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
def test_http_times_are_gmt_wherever_we_are(text, zone, monkeypatch):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert http_timestamp(text) == 784111777
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.text(), st.text() | st.none())
def test_no_header_breaks_anything(value, date):
    seconds = parse_retry_after(value, date=date)
    assert seconds is None or seconds >= 0
    http_timestamp(value)
