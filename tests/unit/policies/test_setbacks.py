"""What a failed call means for a poll loop, and how long it pauses."""

from __future__ import annotations

import pytest

from airflow_provider_mistral_batch.api.errors import (
    AuthenticationError,
    BadRequestError,
    InvalidInputError,
    MistralConnectionError,
    MistralResponseError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
)
from airflow_provider_mistral_batch.policies.setbacks import (
    Backoff,
    Scope,
    Setbacks,
    connection_may_be_wrong,
    scope,
)


@pytest.mark.parametrize(
    ("error", "concerned", "reread_connection"),
    [
        (NotFoundError("trouble", status_code=404), Scope.THIS_CALL, False),
        (BadRequestError("trouble", status_code=422), Scope.THIS_CALL, False),
        (PermissionDeniedError("trouble", status_code=403), Scope.THIS_CALL, False),
        (ServerError("trouble", status_code=500), Scope.UNKNOWN, False),
        (MistralResponseError("a proxy's page"), Scope.UNKNOWN, True),
        (AuthenticationError("trouble", status_code=401), Scope.ALL_CALLS, False),
        (RateLimitError("trouble", status_code=429), Scope.ALL_CALLS, False),
        (MistralConnectionError("refused"), Scope.ALL_CALLS, True),
        (InvalidInputError("extra.timeout=-1"), Scope.ALL_CALLS, False),
    ],
)
def test_which_calls_fail_like_this_one(error, concerned, reread_connection):
    assert scope(error) is concerned
    assert connection_may_be_wrong(error) is reread_connection


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([("fails", "a")], [False]),
        ([("fails", "a"), ("fails", "a")], [False, False]),
        ([("fails", "a"), ("fails", "b"), ("fails", "c")], [False, True, True]),
        ([("fails", "a"), ("succeeds", "b"), ("fails", "c")], [False, False]),
        ([("fails", "a"), ("fails", "b"), ("succeeds", "c"), ("fails", "b")], [False, True, False]),
    ],
)
def test_a_server_that_stumbles_over_two_jobs_in_a_row_stumbles_over_all(calls, expected):
    setbacks = Setbacks()
    told = []
    for outcome, batch_id in calls:
        if outcome == "fails":
            told.append(setbacks.server_fails_for_others(batch_id))
        else:
            setbacks.call_succeeded()
    assert told == expected


def test_the_pauses_of_all_and_of_each_job_grow_apart():
    setbacks = Setbacks()
    error = ServerError("trouble", status_code=500)
    for _ in range(3):
        setbacks.pause_of_job("a", error)
    assert setbacks.pause_of_job("a", error) >= 12
    assert setbacks.pause_of_job("b", error) <= 2.5
    assert setbacks.pause_of_all(error) <= 2.5
    # A call that succeeds ends the slowness of all, but says nothing of a job that was not read.
    assert setbacks.pause_of_all(error) >= 3
    setbacks.call_succeeded()
    assert setbacks.pause_of_all(error) <= 2.5
    assert setbacks.pause_of_job("a", error) >= 24
    setbacks.job_succeeded("a")
    assert setbacks.pause_of_job("a", error) <= 2.5


def test_the_server_is_obeyed_for_all_and_for_a_job():
    setbacks = Setbacks()
    error = ServerError("trouble", status_code=503, retry_after=40.0)
    assert 40 <= setbacks.pause_of_all(error) <= 41
    assert 40 <= setbacks.pause_of_job("a", error) <= 41
    assert setbacks.pause_of_all(OSError("no retry_after here")) <= 5


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
