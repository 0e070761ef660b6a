"""Which errors end a task for good, and what its log shows of them."""

from __future__ import annotations

import traceback
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.triggers.testing import SuccessTrigger

from airflow_provider_mistral_batch.api.errors import (
    InvalidInputError,
    MistralConnectionError,
    MistralResponseError,
    error_from_answer,
)
from airflow_provider_mistral_batch.compat import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSkipException,
)
from airflow_provider_mistral_batch.jsonl.results.splitter import TruncatedResultsError
from airflow_provider_mistral_batch.operators.mistral_batch import (
    MistralBatchInferenceOperator,
    MistralCancelBatchJobOperator,
    MistralCreateBatchJobOperator,
    MistralDownloadBatchResultsOperator,
    MistralUploadBatchFileOperator,
)
from airflow_provider_mistral_batch.sensors.mistral_batch import MistralBatchJobSensor
from airflow_provider_mistral_batch.tasks.endings import (
    ending_briefly,
    failing_for_good,
    in_lines,
    is_permanent,
)

from ..airflow_versions import TaskDeferred


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


ROWS = [{"custom_id": "a", "body": {"messages": [{"role": "user", "content": "Hi"}]}}]

LONG = (
    "GET /v1/batch/jobs/11111111-1111-1111-1111-111111111111 was answered with 404: no such job (type=not_found). "
    "It was deleted, or it belongs to another workspace: check the id and the API key"
)


@pytest.mark.parametrize(
    ("message", "lines"),
    [
        ("batch_id is empty: name a job. Or two", ["batch_id is empty: name a job. Or two"]),
        (LONG, LONG.replace("found). ", "found).\n").split("\n")),
        (
            f"requests={'x' * 120} is no list: pass a list",
            [f"requests={'x' * 120} is no list:", "pass a list"],
        ),
        ("x" * 300, ["x" * 300]),
        (f"{'x' * 100}: {'y' * 200}", [f"{'x' * 100}: {'y' * 200}"]),
    ],
)
def test_a_long_message_is_broken_before_what_to_do(message: str, lines: list[str]) -> None:
    assert in_lines(message).split("\n") == lines


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (MistralUploadBatchFileOperator, {"requests": ROWS}),
        (MistralCreateBatchJobOperator, {"requests": ROWS, "model": "m"}),
        (MistralCancelBatchJobOperator, {"batch_id": "job-1"}),
        (MistralDownloadBatchResultsOperator, {"batch_id": "job-1", "destination": "/nowhere"}),
        (MistralBatchInferenceOperator, {"requests": ROWS, "destination": "/nowhere"}),
        (MistralBatchJobSensor, {"batch_id": "job-1"}),
        (MistralBatchJobSensor, {"batch_id": "job-1", "deferrable": True}),
    ],
)
def test_each_task_ends_with_one_message_and_few_frames(kind: Any, arguments: dict[str, Any]) -> None:
    task = kind(task_id="t", mistral_conn_id="nobodys", **arguments)
    ti = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1, try_number=1, max_tries=0)
    run = SimpleNamespace(clear_number=0, run_after=None, start_date=None)
    with pytest.raises(AirflowFailException) as caught:
        task.execute({"ti": ti, "dag_run": run})
    shown = "".join(traceback.format_exception(caught.value))
    assert shown.count("nobodys") == 1
    ours = [
        frame for frame in traceback.extract_tb(caught.tb) if "airflow_provider_mistral" in frame.filename
    ]
    assert len(ours) <= 2
    # For whoever looks into the error with code.
    assert isinstance(caught.value.__context__, AirflowNotFoundException)


@pytest.mark.parametrize(
    "error", [ValueError("a bug"), InvalidInputError("a user's"), AirflowFailException("a user's")], ids=repr
)
def test_what_others_raise_keeps_its_frames(error: Exception) -> None:
    def function_of_a_user() -> None:
        raise error

    with pytest.raises(type(error)) as caught, ending_briefly():
        function_of_a_user()
    assert traceback.extract_tb(caught.tb)[-1].name == "function_of_a_user"
