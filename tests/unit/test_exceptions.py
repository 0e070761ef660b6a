"""Which errors end a task for good."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSkipException,
    TaskDeferred,
)
from airflow.triggers.testing import SuccessTrigger

from airflow_provider_mistral_batch.api.errors import (
    InvalidInputError,
    MistralConnectionError,
    MistralResponseError,
    error_from_answer,
)
from airflow_provider_mistral_batch.jsonl.results.splitter import TruncatedResultsError
from airflow_provider_mistral_batch.tasks.endings import failing_for_good, is_permanent


def answer(status_code: int) -> Exception:
    return error_from_answer(status_code, b'{"message": "no"}', operation="GET /v1/files")


PERMANENT = [answer(code) for code in (400, 401, 402, 403, 404, 405, 409, 410, 413, 422)] + [
    InvalidInputError("requests is empty"),
    AirflowNotFoundException("no such connection"),
]
TRANSIENT = [answer(code) for code in (408, 429, 500, 502, 503, 504)] + [
    MistralConnectionError("broken"),
    MistralResponseError("HTML"),
    TruncatedResultsError("cut"),
    AirflowException("not over yet"),
    OSError("disk full"),
]


@pytest.mark.parametrize("error", PERMANENT, ids=repr)
def test_what_no_retry_can_mend(error: Exception) -> None:
    assert is_permanent(error)
    with pytest.raises(AirflowFailException) as caught, failing_for_good():
        raise error
    assert str(caught.value) == str(error)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", TRANSIENT, ids=repr)
def test_what_a_retry_may_mend(error: Exception) -> None:
    assert not is_permanent(error)
    with pytest.raises(type(error)) as caught, failing_for_good():
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    "signal",
    [
        AirflowSkipException("skip"),
        AirflowFailException("fail"),
        TaskDeferred(trigger=SuccessTrigger(), method_name="execute_complete"),
        KeyboardInterrupt(),
    ],
    ids=repr,
)
def test_what_is_no_error_passes(signal: BaseException) -> None:
    with pytest.raises(type(signal)) as caught, failing_for_good():
        raise signal
    assert caught.value is signal
