"""A killed task gives up its batch job only when no later try and no other triggerer wants it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import ErrorResponse, TaskStatesResult

from airflow_provider_mistral_batch.compat import AirflowException, AirflowFailException, AirflowSkipException
from airflow_provider_mistral_batch.tasks.endings import (
    abandoned,
    abandoned_on_worker,
    ends_for_good,
    gives_up,
)

from ..airflow_versions import RETRY_POLICIES


@pytest.mark.parametrize(
    ("state", "another_try", "expected"),
    [
        # A user marked it.
        ("failed", True, True),
        ("success", True, True),
        ("skipped", True, True),
        ("removed", True, True),
        # It is this very try that is ended: by its time-out, or by a machine that goes down.
        ("running", True, False),
        ("running", False, True),
        # Its heartbeats came too late, and it is tried again.
        ("up_for_retry", True, False),
        ("queued", True, False),
        # A user cleared it.
        (None, True, False),
        ("scheduled", True, False),
        ("restarting", True, False),
        # Its trigger went to another triggerer.
        ("deferred", True, False),
    ],
)
def test_who_still_wants_the_job(state: str | None, another_try: bool, expected: bool) -> None:
    assert gives_up(state, another_try=another_try) is expected


class Policy:
    """Stands for a retry policy, which makes the decision of this name."""

    def __init__(self, decision: str | Exception) -> None:
        self.decision = decision

    def evaluate(self, exception: Any, try_number: Any, max_tries: Any, context: Any) -> Any:
        # Imported late: Airflow has it since 3.3.
        from airflow.sdk import RetryDecision

        if isinstance(self.decision, Exception):
            raise self.decision
        return getattr(RetryDecision, self.decision)()


@pytest.mark.parametrize(
    ("error", "max_tries", "expected"),
    [
        (AirflowException("it may pass"), 1, False),
        (AirflowException("it may pass"), 0, True),
        (AirflowFailException("never"), 1, True),
        (AirflowSkipException("nothing to do"), 1, True),
    ],
)
def test_after_which_errors_nobody_tries_again(error: Exception, max_tries: int, expected: bool) -> None:
    task_instance = ti(max_tries=max_tries)
    task_instance.task = SimpleNamespace(retry_policy=None)
    assert ends_for_good(error, {"ti": task_instance}) is expected
    # Before Airflow 3.3, tasks have no such attribute.
    task_instance.task = SimpleNamespace()
    assert ends_for_good(error, {"ti": task_instance}) is expected


@RETRY_POLICIES
@pytest.mark.parametrize(
    ("max_tries", "policy", "expected"),
    [
        (1, Policy("fail"), True),
        (1, Policy("default"), False),
        (1, Policy("retry"), False),
        # A policy cannot give more tries than there are.
        (0, Policy("retry"), True),
        (1, Policy(ValueError("a bug in it")), False),
    ],
)
def test_a_retry_policy_is_heard(max_tries: int, policy: Policy, expected: bool) -> None:
    task_instance = ti(max_tries=max_tries)
    task_instance.task = SimpleNamespace(retry_policy=policy)
    assert ends_for_good(AirflowException("it may pass"), {"ti": task_instance}) is expected


class Comms:
    """Stands for the supervisor that is asked."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[Any] = []

    def send(self, message: Any) -> Any:
        self.asked.append(message)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def ti(try_number: int = 1, max_tries: int = 0, map_index: int = 3) -> Any:
    return SimpleNamespace(
        dag_id="dag",
        task_id="task",
        run_id="run",
        map_index=map_index,
        try_number=try_number,
        max_tries=max_tries,
    )


def states(state: str | None) -> TaskStatesResult:
    return TaskStatesResult(task_states={"run": {"task_3": state}})


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (states("deferred"), False),
        (states("failed"), True),
        (TaskStatesResult(task_states={}), True),
        (AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={})), False),
        # The supervisor is gone, or what it says makes no sense.
        (EOFError("Request socket closed before length"), False),
        (BrokenPipeError(32, "Broken pipe"), False),
        (RuntimeError("unexpected response"), False),
    ],
)
def test_the_answer_of_airflow_decides(answer: Any, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    comms = Comms(answer)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", comms, raising=False)
    assert abandoned(ti()) is expected
    (question,) = comms.asked
    assert (question.dag_id, question.task_ids, question.run_ids, question.map_index) == (
        "dag",
        ["task"],
        ["run"],
        3,
    )


def test_where_there_is_no_airflow_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(task_runner, "SUPERVISOR_COMMS", raising=False)
    assert abandoned(ti()) is True


@pytest.mark.parametrize(
    ("try_number", "max_tries", "expected"), [(1, 0, True), (1, 2, False), (2, 2, False), (3, 2, True)]
)
def test_the_last_try_gives_up(
    try_number: int, max_tries: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Comms(states("running")), raising=False)
    assert abandoned_on_worker(ti(try_number, max_tries)) is expected
