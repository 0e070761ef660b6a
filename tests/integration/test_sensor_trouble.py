"""What goes wrong while a sensor waits: trouble that passes, trouble that stays, and its settings."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from airflow.models.trigger import TriggerFailureReason

from airflow_provider_mistral_batch.compat import AirflowFailException, AirflowSkipException
from airflow_provider_mistral_batch.emulator.client import Control
from airflow_provider_mistral_batch.sensors.mistral_batch import MistralBatchJobSensor

from ..airflow_versions import TaskDeferralError, since

WAYS: dict[str, dict[str, Any]] = {
    "poke": {"mode": "poke"},
    "reschedule": {"mode": "reschedule"},
    "deferred": {"deferrable": True},
}

#: Trouble that passes, as faults of the emulator.
PASSING: dict[str, dict[str, Any]] = {
    "429": {"kind": "status", "status": 429, "retry_after": 0},
    "500": {"kind": "status", "status": 500},
    "503 with Retry-After": {"kind": "status", "status": 503, "retry_after": 0},
    "a dropped connection": {"kind": "drop"},
    "a proxy's page": {"kind": "html"},
    "half an answer": {"kind": "truncate"},
}


pytestmark = pytest.mark.usefixtures("short_pauses")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("trouble", PASSING)
def test_a_wait_outlives_trouble_that_passes(
    way: str, trouble: str, airflow: Any, connect: Callable[..., None], control: Control, make_job: Any
) -> None:
    batch_id = make_job()
    connect(retries=1)
    path = f"/v1/batch/jobs/{batch_id}"
    control.fault("alter", "GET", path, fields={"status": "RUNNING"})
    control.fault(method="GET", path=path, times=2, **PASSING[trouble])
    outcome = airflow.run(
        lambda: MistralBatchJobSensor(
            task_id="wait", batch_id=batch_id, poke_interval=0.02, timeout=30, **WAYS[way]
        )
    )
    assert outcome.state == "success"
    assert outcome.xcoms["status"] == "completed"
    assert control.requests()["GET /v1/batch/jobs/{id}"] >= 4


@pytest.mark.parametrize("deferrable", [False, True])
def test_an_outage_has_two_lines_in_the_log_of_a_worker(
    deferrable: bool,
    airflow: Any,
    connect: Callable[..., None],
    control: Control,
    make_job: Any,
    logged: Callable[[], list[str]],
) -> None:
    batch_id = make_job()
    connect(retries=1)
    # The first look of a deferrable sensor is a worker's, and the second begins the log of the trigger.
    control.fault("status", "GET", f"/v1/batch/jobs/{batch_id}", status=503, times=5)
    outcome = airflow.run(
        lambda: MistralBatchJobSensor(
            task_id="wait", batch_id=batch_id, poke_interval=0.02, timeout=30, deferrable=deferrable
        )
    )
    assert outcome.state == "success"
    lines = [line for line in logged() if "the API answers again" in line or "The API answers again" in line]
    begun = ["warning: GET"] * (2 if deferrable else 1)
    assert [line[:12] for line in lines] == [*begun, "info: The AP"]


@pytest.mark.parametrize("way", WAYS)
def test_a_deferred_first_look_in_trouble_waits_all_the_same(
    way: str, airflow: Any, connect: Callable[..., None], control: Control, make_job: Any
) -> None:
    batch_id = make_job()
    connect(retries=1)
    control.fault("status", "GET", f"/v1/batch/jobs/{batch_id}", status=502)
    outcome = airflow.run(
        lambda: MistralBatchJobSensor(task_id="wait", batch_id=batch_id, poke_interval=0.02, **WAYS[way])
    )
    assert outcome.state == "success"


def deleted_by_someone_else(batch_id: str, control: Control, connect: Any) -> None:
    control.fault("status", "GET", f"*/{batch_id}", status=404, message="Batch job not found", times=None)


def key_revoked(batch_id: str, control: Control, connect: Any) -> None:
    control.fault("status", "GET", status=401, message="Invalid API key", times=None)


def key_may_not(batch_id: str, control: Control, connect: Any) -> None:
    control.fault("status", "GET", status=403, message="Forbidden", times=None)


STAYING: dict[str, tuple[Callable[..., None], list[str]]] = {
    "404": (deleted_by_someone_else, ["404", "deleted", "another workspace"]),
    "401 twice": (key_revoked, ["401", "the password of connection 'mistral_default'"]),
    "403": (key_may_not, ["403", "Use the API key of a workspace"]),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("soft_fail", [False, True])
@pytest.mark.parametrize("trouble", STAYING)
@pytest.mark.parametrize("from_the_start", [True, False])
def test_trouble_that_stays_ends_the_wait_for_good(
    way: str,
    soft_fail: bool,
    trouble: str,
    from_the_start: bool,
    airflow: Any,
    connect: Callable[..., None],
    control: Control,
    make_job: Any,
) -> None:
    switch_on, words = STAYING[trouble]
    batch_id = make_job()
    if not from_the_start:
        control.fault("alter", "GET", f"/v1/batch/jobs/{batch_id}", fields={"status": "RUNNING"})
    switch_on(batch_id, control, connect)
    outcome = airflow.run(
        lambda: MistralBatchJobSensor(
            task_id="wait", batch_id=batch_id, poke_interval=0.02, soft_fail=soft_fail, **WAYS[way]
        )
    )
    # A skip is for the job's own end: here nobody knows how it ended.
    assert outcome.state == "failed"
    assert control.api_key not in outcome.message
    assert [word for word in words if word not in outcome.message] == []
    assert batch_id in outcome.message or trouble != "404"


@pytest.mark.parametrize("way", WAYS)
def test_soft_fail_hides_no_wrong_connection(way: str, airflow: Any, make_job: Any) -> None:
    batch_id = make_job()
    outcome = airflow.run(
        lambda: MistralBatchJobSensor(
            task_id="wait", batch_id=batch_id, mistral_conn_id="unknown", soft_fail=True, **WAYS[way]
        )
    )
    assert (outcome.state, "unknown" in outcome.message) == ("failed", True)


@pytest.mark.parametrize(
    ("option", "error"),
    [
        ("soft_fail", TaskDeferralError),
        pytest.param(
            "never_fail",
            AirflowSkipException,
            marks=since("3.2", "never_fail is for trouble in the triggerer, too"),
        ),
    ],
)
def test_soft_fail_hides_no_broken_triggerer(option: str, error: type[Exception], new_ti: Any) -> None:
    options: dict[str, Any] = {option: True}
    sensor = MistralBatchJobSensor(task_id="wait", batch_id="b", deferrable=True, **options)
    failure = {"error": TriggerFailureReason.TRIGGER_FAILURE, "traceback": ["no such trigger"]}
    with pytest.raises(error):
        sensor.resume_execution("__fail__", failure, new_ti().context)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"key": ""}, ["'mistral_default'", "password"]),
        ({"timeout": -1}, ["'mistral_default'", "extra.timeout=-1"]),
    ],
    ids=["no key", "bad timeout"],
)
def test_a_connection_that_cannot_work(
    way: str, extra: dict[str, Any], words: list[str], airflow: Any, connect: Callable[..., None]
) -> None:
    connect(**extra)
    outcome = airflow.run(lambda: MistralBatchJobSensor(task_id="wait", batch_id="b", **WAYS[way]))
    assert outcome.state == "failed"
    assert [word for word in words if word not in outcome.message] == []


@pytest.mark.parametrize("way", WAYS)
def test_a_connection_that_is_not_there(way: str, airflow: Any, control: Control) -> None:
    outcome = airflow.run(
        lambda: MistralBatchJobSensor(task_id="w", batch_id="b", mistral_conn_id="nobodys", **WAYS[way])
    )
    assert outcome.state == "failed"
    assert "nobodys" in outcome.message
    assert control.requests() == {}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("batch_id", ["", " ", "..", None, "a\nb", ["a"]])
def test_an_id_that_is_none(way: str, batch_id: Any, airflow: Any, control: Control) -> None:
    outcome = airflow.run(lambda: MistralBatchJobSensor(task_id="wait", batch_id=batch_id, **WAYS[way]))
    assert outcome.state == "failed"
    assert f"batch_id={batch_id!r}" in outcome.message
    assert control.requests() == {}


@pytest.mark.parametrize("ratio", [-0.1, 1.1, "half", True, float("nan"), None])
def test_a_ratio_that_is_none(ratio: Any, airflow: Any, control: Control) -> None:
    for way in WAYS.values():
        sensor = MistralBatchJobSensor(task_id="wait", batch_id="b", max_failed_ratio=ratio, **way)
        with pytest.raises(AirflowFailException, match=r"max_failed_ratio=.* is not .*: pass 0 for none"):
            sensor.execute({})
    assert control.requests() == {}


def test_a_rotated_key_is_read_anew(
    airflow: Any, connect: Callable[..., None], control: Control, make_job: Any
) -> None:
    batch_id = make_job()
    control.fault("alter", "GET", f"/v1/batch/jobs/{batch_id}", fields={"status": "RUNNING"}, times=3)

    def rotate() -> None:
        control.add_key(control.api_key + "-new", same_workspace_as=control.api_key)
        control.revoke_key(control.api_key)
        connect(key=control.api_key + "-new")

    for way in WAYS.values():
        airflow.on_deferral = rotate
        outcome = airflow.run(
            lambda way=way: MistralBatchJobSensor(
                task_id="wait", batch_id=batch_id, poke_interval=0.02, **way
            )
        )
        assert outcome.state == "success"


@pytest.mark.parametrize(("setting", "deferred"), [("True", True), (None, False)])
def test_default_deferrable(setting: str | None, deferred: bool) -> None:
    code = (
        "from airflow_provider_mistral_batch.sensors.mistral_batch import MistralBatchJobSensor as S\n"
        "from airflow_provider_mistral_batch.operators.mistral_batch import MistralCreateBatchJobOperator as C\n"
        "print(S(task_id='a', batch_id='b').deferrable, C(task_id='b', requests=[]).deferrable)"
    )
    environment = {**os.environ}
    if setting is not None:
        environment["AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE"] = setting
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    assert done.stdout.split()[-2:] == [str(deferred)] * 2


@pytest.mark.parametrize(
    ("job_seconds", "soft_fail", "state"),
    [(0, False, "success"), (1000, False, "timeout"), (1000, True, "skipped")],
)
def test_a_deferral_that_took_too_long_for_airflow_ends_with_a_last_look(
    job_seconds: float,
    soft_fail: bool,
    state: str,
    airflow: Any,
    control: Control,
    make_job: Any,
    new_ti: Any,
) -> None:
    batch_id = make_job(wait=not job_seconds, job_seconds=job_seconds)

    class Late(MistralBatchJobSensor):
        def execute(self, context: Any) -> Any:
            return self.resume_execution("__fail__", {"error": "Trigger timeout"}, context)

    outcome = airflow.run(lambda: Late(task_id="wait", batch_id=batch_id, soft_fail=soft_fail))
    assert outcome.state == state
    if state == "timeout":
        assert batch_id in outcome.message


def test_a_deferral_that_failed_otherwise_fails(airflow: Any, hook: Any) -> None:
    class Failed(MistralBatchJobSensor):
        def execute(self, context: Any) -> Any:
            return self.resume_execution("__fail__", {"error": "Trigger failure"}, context)

    assert airflow.run(lambda: Failed(task_id="wait", batch_id="b")).state == "retry"
