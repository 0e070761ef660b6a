"""After which errors ``MistralRetryPolicy`` lets Airflow try again, and when."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("airflow.sdk.definitions.retry_policy", reason="Airflow has retry policies since 3.3")

from airflow_provider_mistral_batch.api.errors import (
    InvalidInputError,
    MistralBatchError,
    MistralConnectionError,
    NotFoundError,
    RateLimitError,
    ServerError,
)
from airflow_provider_mistral_batch.tasks import retry_policy
from airflow_provider_mistral_batch.tasks.retry_policy import MistralRetryPolicy


def decided(
    error: BaseException, retry_delay: float | None = None, **options: Any
) -> tuple[str, float | None]:
    task = SimpleNamespace(retry_delay=None if retry_delay is None else timedelta(seconds=retry_delay))
    context: Any = {"task": task}
    decision = MistralRetryPolicy(**options).evaluate(error, 1, 3, context)
    delay = decision.retry_delay
    return decision.action.value, None if delay is None else delay.total_seconds()


def wrapped(error: BaseException) -> BaseException:
    try:
        raise RuntimeError("the lookup failed") from error
    except RuntimeError as wrapper:
        return wrapper


def circular(error: BaseException) -> BaseException:
    """As ``raise error from error`` leaves it."""
    error.__cause__ = error
    return error


LIMITED = RateLimitError("slow down", status_code=429, retry_after=90.0)


@pytest.mark.parametrize(
    ("error", "decision"),
    [
        (LIMITED, ("retry", 90.0)),
        (wrapped(LIMITED), ("retry", 90.0)),
        (ServerError("busy", status_code=503, retry_after=7200.0), ("retry", 3600.0)),
        (RateLimitError("slow down", status_code=429), ("default", None)),
        (MistralConnectionError("no answer"), ("default", None)),
        (MistralBatchError("a job failed"), ("default", None)),
        (InvalidInputError("max_tokens=-1"), ("fail", None)),
        (NotFoundError("no such job", status_code=404, retry_after=5.0), ("fail", None)),
        (wrapped(NotFoundError("no such job", status_code=404)), ("fail", None)),
        (ValueError("the user's own"), ("default", None)),
        (circular(ValueError("the user's own")), ("default", None)),
        # It may say so for ever.
        (RateLimitError("slow down", status_code=429, retry_after=0.0), ("default", None)),
        # More than a timedelta can hold.
        (RateLimitError("slow down", status_code=429, retry_after=1e15), ("retry", 3600.0)),
    ],
)
def test_what_follows_an_error(error: BaseException, decision: tuple[str, float | None]) -> None:
    assert decided(error) == decision


@pytest.mark.parametrize(
    ("retry_delay", "longest", "decision"),
    [
        (30, 3600, ("retry", 90.0)),
        (90, 3600, ("default", None)),
        (300, 3600, ("default", None)),
        (30, 60, ("retry", 60.0)),
        (80, 60, ("default", None)),
    ],
)
def test_a_server_never_shortens_the_tasks_own_delay(
    retry_delay: float, longest: float, decision: tuple[str, float | None]
) -> None:
    assert decided(LIMITED, retry_delay, longest_delay=timedelta(seconds=longest)) == decision


def test_the_longest_delay() -> None:
    assert decided(LIMITED, longest_delay=timedelta(seconds=30)) == ("retry", 30.0)
    with pytest.raises(InvalidInputError, match="longest_delay"):
        MistralRetryPolicy(longest_delay=timedelta(0))


def test_bad_input_of_common_ai() -> None:
    errors = pytest.importorskip(
        "airflow.providers.common.ai.exceptions", reason="the extra common-ai needs Python 3.11"
    )
    assert decided(errors.LLMBatchLimitExceededError("too many")) == ("fail", None)
    assert decided(errors.LLMBatchTimeoutError("too late")) == ("default", None)


def test_a_policy_survives_its_json() -> None:
    policy = MistralRetryPolicy(longest_delay=timedelta(minutes=5))
    assert MistralRetryPolicy.deserialize(policy.serialize()).longest_delay == timedelta(minutes=5)


def test_an_older_airflow_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry_policy, "RetryDecision", None)
    with pytest.raises(RuntimeError, match=r"needs Airflow 3\.3"):
        MistralRetryPolicy()
