"""After which errors ``MistralRetryPolicy`` lets Airflow try again, and when."""

from __future__ import annotations

from datetime import timedelta
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


def decided(error: BaseException, **options: Any) -> tuple[str, float | None]:
    decision = MistralRetryPolicy(**options).evaluate(error, 1, 3)
    delay = decision.retry_delay
    return decision.action.value, None if delay is None else delay.total_seconds()


def wrapped(error: BaseException) -> BaseException:
    try:
        raise RuntimeError("the lookup failed") from error
    except RuntimeError as wrapper:
        return wrapper


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
    ],
)
def test_what_follows_an_error(error: BaseException, decision: tuple[str, float | None]) -> None:
    assert decided(error) == decision


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
