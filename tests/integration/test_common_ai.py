"""common-ai's own operator on Mistral: through its dispatch, on a worker and in a triggerer, and under faults."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, task
from airflow.sdk.execution_time.context import set_current_context
from pydantic import BaseModel

dispatch = pytest.importorskip(
    "airflow.providers.common.ai.batch.dispatch", reason="the extra common-ai needs Python 3.11"
)

from airflow.providers.common.ai.batch import state  # noqa: E402
from airflow.providers.common.ai.operators import llm_batch  # noqa: E402

from airflow_provider_mistral_batch.api.errors import NotFoundError  # noqa: E402
from airflow_provider_mistral_batch.common_ai import FINGERPRINT, KEY, MistralBatchAdapter  # noqa: E402
from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook  # noqa: E402

MODEL = "mistral-small-latest"
PROMPTS = ["One", "Two", "Three", "Four"]


class Fruit(BaseModel):
    name: str
    sweet: bool


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch, control: Any) -> None:
    # It refuses to look more often than every 30 s.
    monkeypatch.setattr(llm_batch, "_MIN_POLL_INTERVAL", 0)
    control.settings(job_seconds=0.1)


class Runner:
    """Runs common-ai's operator as a task, try after try."""

    def __init__(self, airflow: Any, ti: Any, folder: Path) -> None:
        self.airflow = airflow
        self.ti = ti
        self.folder = folder
        self.options: dict[str, Any] = {}

    def __call__(self, requests: Any = PROMPTS, **options: Any) -> Any:
        self.options = {
            "task_id": "ask",
            "requests": requests,
            "result_path": f"file://{self.folder}",
            "llm_conn_id": "mistral_default",
            "model_id": f"mistral:{MODEL}",
            "poll_interval": 0.05,
            **options,
        }
        return self.run(lambda: llm_batch.LLMBatchOperator(**self.options))

    def run(self, make: Callable[[], Any]) -> Any:
        # As Airflow's task runner does.
        with set_current_context(self.ti.context):
            return self.airflow.run(make, self.ti)

    def again(self, requests: Any = PROMPTS, **options: Any) -> Any:
        self.ti = self.ti.next_try()
        return self(requests, **options)


@pytest.fixture
def run(airflow: Any, new_ti: Any, tmp_path: Path) -> Runner:
    return Runner(airflow, new_ti(task_id="ask"), tmp_path)


@pytest.fixture
def adapter(hook: MistralBatchHook) -> Iterator[MistralBatchAdapter]:
    adapter = dispatch.build_adapter("mistral", llm_conn_id="mistral_default")
    yield adapter
    adapter.close()


def rows_of(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    path = Path(manifest["result_uri"].removeprefix("file://"))
    return sorted(map(json.loads, path.read_text().splitlines()), key=lambda row: row["index"])


def bodies_of(control: Any, hook: MistralBatchHook, batch_id: str) -> list[dict[str, Any]]:
    (file_id,) = hook.get(batch_id).input_files
    return [json.loads(line)["body"] for line in hook.download_file(file_id).splitlines()]


# What works


@pytest.mark.parametrize("deferrable", [False, True])
def test_prompts_are_answered(
    run: Runner, jobs: Any, hook: MistralBatchHook, control: Any, deferrable: bool
) -> None:
    outcome = run(
        [
            *PROMPTS[:3],
            {"prompt": "Four", "system_prompt": "Be brief.", "max_tokens": 7, "params": {"top_p": 0.5}},
        ],
        deferrable=deferrable,
        system_prompt="Be kind.",
        request_params={"temperature": 0.25, "model": "another", "messages": []},
    )
    assert outcome.state == "success", outcome.message
    assert len(outcome.triggers) == deferrable
    assert outcome.value["counts"]["succeeded"] == 4
    assert (outcome.value["adapter"], outcome.value["terminal_reason"]) == ("mistral", "succeeded")
    rows = rows_of(outcome.value)
    assert [row["status"] for row in rows] == ["success"] * 4
    assert all(row["output"] and row["usage"]["output_tokens"] for row in rows)
    assert {row["model"] for row in rows} == {MODEL}
    (job,) = jobs()
    assert job["id"] == outcome.value["batch_id"] == outcome.xcoms["batch_id"]
    assert job["model"] == MODEL
    assert {job["metadata"][name] for name in ("airflow_dag_id", "airflow_task_id", "airflow_run_id")} == {
        "dag",
        "ask",
        "run",
    }
    first, *_, last = bodies_of(control, hook, job["id"])
    assert first == {
        "temperature": 0.25,
        "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "One"}],
        "max_tokens": 1024,
    }
    assert last["messages"][0]["content"] == "Be brief."
    assert (last["max_tokens"], last["top_p"]) == (7, 0.5)


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_function_gives_prompts_and_gets_objects(
    run: Runner, hook: Any, control: Any, deferrable: bool
) -> None:
    def make() -> Any:
        with DAG("dag", schedule=None):
            decorated = task.llm_batch(
                task_id="ask",
                result_path=f"file://{run.folder}",
                llm_conn_id="mistral_default",
                model_id=f"mistral:{MODEL}",
                output_type=Fruit,
                poll_interval=0.05,
                deferrable=deferrable,
            )
            asked: Any = decorated(lambda names: [f"Describe {name}" for name in names])(["plum", "sloe"])
            return asked.operator

    outcome = run.run(make)
    assert outcome.state == "success", outcome.message
    (first, _) = rows_of(outcome.value)
    assert first["status"] == "success", first
    assert Fruit.model_validate(first["output"])
    body, _ = bodies_of(control, hook, outcome.value["batch_id"])
    asked = body["response_format"]["json_schema"]
    assert (asked["name"], asked["strict"]) == ("Fruit", True)
    assert asked["schema"]["additionalProperties"] is False


def test_a_type_that_is_no_object(run: Runner) -> None:
    outcome = run(output_type=list[str])
    assert outcome.value["counts"]["succeeded"] == 4, rows_of(outcome.value)
    assert isinstance(rows_of(outcome.value)[0]["output"], list)


def test_a_pydanticai_connection(
    run: Runner, control: Any, monkeypatch: pytest.MonkeyPatch, logged: Any
) -> None:
    fields = {
        "conn_type": "pydanticai",
        "host": f"{control.url}/v1",
        "password": control.api_key,
        "extra": {"model": f"mistral:{MODEL}", "fallback_conn_ids": ["x"]},
    }
    monkeypatch.setenv("AIRFLOW_CONN_LLM", json.dumps(fields))
    outcome = run(llm_conn_id="llm", model_id=None)
    assert outcome.value["counts"]["succeeded"] == 4
    assert "unknown fields" not in "".join(logged())


def test_the_model_in_a_connection_of_ours(run: Runner, connect: Any, logged: Any) -> None:
    connect(model=f"mistral:{MODEL}")
    assert run(model_id=None).value["counts"]["succeeded"] == 4
    assert "unknown fields" not in "".join(logged())


# The whole connection


def test_all_fields_of_the_connection_count(connect: Any, control: Any) -> None:
    proxies = {"http": "http://proxy.invalid:3128"}
    connect(timeout=7, proxies=proxies, verify="false", dialect="openai", deployment="north", retries=3)
    with_connection = dispatch.build_adapter("mistral", llm_conn_id="mistral_default")
    client = with_connection._hook.get_conn()
    assert client.dialect.name == "openai"
    assert client.verifies_tls is False
    assert client._transport._options["proxies"]["http"] == proxies["http"]
    assert client._transport._options["timeout"][1] == 7
    assert client._transport.retries.attempts == 3
    assert with_connection._hook.deployment == "north"
    with_connection.close()


@pytest.mark.parametrize("deferrable", [False, True])
def test_the_other_dialect(run: Runner, connect: Any, control: Any, hook: Any, deferrable: bool) -> None:
    connect(dialect="openai")
    outcome = run(deferrable=deferrable)
    assert outcome.value["counts"]["succeeded"] == 4, rows_of(outcome.value)
    assert {body["model"] for body in bodies_of(control, MistralBatchHook(), outcome.value["batch_id"])} == {
        MODEL
    }


def test_a_key_that_is_rotated_while_the_batch_runs(run: Runner, connect: Any, control: Any) -> None:
    control.add_key("the-new-key", same_workspace_as=control.api_key)
    control.settings(job_seconds=1)

    def rotate() -> None:
        connect(key="the-new-key")
        control.revoke_key(control.api_key)

    # The trigger has read the old key when the new one comes.
    original = MistralBatchAdapter.get_batch

    def get_batch(adapter: MistralBatchAdapter, batch_id: str) -> Any:
        state = original(adapter, batch_id)
        if not rotated:
            rotated.append(1)
            rotate()
        return state

    rotated: list[int] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(MistralBatchAdapter, "get_batch", get_batch)
        outcome = run(deferrable=True)
    assert outcome.state == "success", outcome.message


def test_without_a_connection_password_and_host_count(control: Any, logged: Any) -> None:
    adapter = MistralBatchAdapter(api_key=control.api_key, base_url=control.url)
    with pytest.raises(NotFoundError):
        adapter.get_batch("00000000-0000-0000-0000-000000000000")
    assert "Only password and host" in "".join(logged())
    adapter.close()


def test_the_key_of_the_environment(
    run: Runner, connect: Any, control: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(key="")
    monkeypatch.setenv("MISTRAL_API_KEY", control.api_key)
    assert run(deferrable=True).state == "success"
    monkeypatch.delenv("MISTRAL_API_KEY")
    outcome = run(["another"])
    assert "password is empty" in outcome.message
    assert control.api_key not in outcome.message


# One job


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_lost_answer_makes_one_job(run: Runner, control: Any, jobs: Any, deferrable: bool) -> None:
    control.fault("drop", "POST", "/v1/batch/jobs", when="after")
    outcome = run(deferrable=deferrable)
    assert outcome.state == "success", outcome.message
    assert len(jobs()) == 1


def test_a_try_that_died_before_it_wrote_down_its_job(run: Runner, control: Any, jobs: Any) -> None:
    def dies(*_: Any, **__: Any) -> None:
        raise RuntimeError("the worker dies")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(state, "write_submitted", dies)
        assert run().state == "retry"
    assert len(jobs()) == 1
    # More than a page of newer jobs of others.
    control.make_jobs(120)
    outcome = run.again()
    assert outcome.state == "success", outcome.message
    assert outcome.value["batch_id"] == jobs()[0]["id"]
    assert len(jobs()) == 121


def test_an_orphan_of_other_input_is_none(adapter: MistralBatchAdapter, hook: Any, make_job: Any) -> None:
    job = hook.create(
        requests=[{"custom_id": "1", "body": {"messages": [{"role": "user", "content": "x"}]}}],
        model=MODEL,
        metadata={KEY: "k", FINGERPRINT: "f", "airflow_submitted_at": "1764000000"},
    )
    assert adapter.find_orphaned_batch("k", "f", "2025-11-24T15:00:00+00:00") == job.id
    assert adapter.find_orphaned_batch("k", "g", "2025-11-24T15:00:00+00:00") is None
    assert adapter.find_orphaned_batch("l", "f", "2025-11-24T15:00:00+00:00") is None
    # Submitted before this was written down.
    assert adapter.find_orphaned_batch("k", "f", "2025-11-24T17:00:00+00:00") is None
    assert adapter.find_orphaned_batch("k", "f", "") == job.id


def test_a_listing_that_fails_does_not_mean_that_there_is_no_orphan(
    run: Runner, control: Any, jobs: Any
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(state, "write_submitted", lambda *_, **__: 1 / 0)
        run()
    control.fault("status", "GET", "/v1/batch/jobs", status=500, times=None)
    assert "Whether a batch is already in flight is unknown" in run.again().message
    assert len(jobs()) == 1


def test_a_gateway_without_a_listing_has_no_orphans(adapter: Any, control: Any, logged: Any) -> None:
    control.fault("status", "GET", "/v1/batch/jobs", status=404, times=None)
    assert adapter.find_orphaned_batch("k", "f", "") is None
    assert "does not list batch jobs" in "".join(logged())


def test_a_retry_attaches(run: Runner, jobs: Any) -> None:
    first = run()
    again = run.again()
    assert again.value["batch_id"] == first.value["batch_id"]
    assert len(jobs()) == 1


def test_other_input_is_another_job(run: Runner, control: Any, jobs: Any, settled: Any) -> None:
    control.settings(job_seconds=600)
    assert run(timeout=1, cancel_on_timeout=False).state == "retry"
    control.settings(job_seconds=0.1)
    outcome = run.again(["Five"])
    assert outcome.value["request_count"] == 1
    settled("CANCELLED", "SUCCESS")


def test_deleted_state_submits_anew(run: Runner, jobs: Any) -> None:
    run()
    for path in (run.folder / "_airflow_batch_state").iterdir():
        path.unlink()
    run.again()
    assert len(jobs()) == 2


def test_a_job_that_is_gone_is_submitted_anew(run: Runner, hook: Any, jobs: Any, logged: Any) -> None:
    first = run()
    hook.delete(first.value["batch_id"])
    again = run.again()
    assert again.state == "success", again.message
    assert again.value["batch_id"] != first.value["batch_id"]
    assert "was not found on the provider" in "".join(logged())


# Rows that go wrong


def plan_rows(run: Runner, control: Any, **plan: Any) -> tuple[dict[str, Any], list[str]]:
    control.plan_jobs(**plan)
    outcome = run()
    assert outcome.state == "success", outcome.message
    return outcome.value, [row["status"] for row in rows_of(outcome.value)]


@pytest.mark.parametrize("error_style", ["response", "error"])
def test_failed_rows(run: Runner, control: Any, error_style: str) -> None:
    manifest, statuses = plan_rows(
        run, control, failed_rows=1, failed_statuses=[429], error_style=error_style
    )
    assert statuses == ["error", "success", "success", "success"]
    error = rows_of(manifest)[0]["error"]
    assert error["message"]
    assert (error["type"], error["stage"]) == ("provider_error", "provider")
    assert error["provider_code"]


def test_missing_rows(run: Runner, control: Any) -> None:
    _, statuses = plan_rows(run, control, missing_rows=1)
    assert statuses == ["missing", "success", "success", "success"]


def test_repeated_rows(run: Runner, control: Any) -> None:
    manifest, statuses = plan_rows(run, control, duplicate_rows=2)
    assert statuses == ["success"] * 4
    assert manifest["duplicate_result_count"] == 2


def test_rows_of_nobody_take_no_index(run: Runner, control: Any) -> None:
    manifest, statuses = plan_rows(run, control, unknown_rows=2)
    assert statuses == ["success"] * 4
    assert manifest["out_of_range_result_count"] == 2


def test_a_cut_last_line_costs_its_row(run: Runner, control: Any, logged: Any) -> None:
    _, statuses = plan_rows(run, control, cut_last_line=True)
    assert sorted(statuses) == ["missing", "success", "success", "success"]
    assert "is no whole JSON object" in "".join(logged())


def test_answers_without_text(run: Runner, control: Any) -> None:
    manifest, statuses = plan_rows(run, control, unfinished_rows=1, finish_reasons=["error"])
    assert statuses[0] == "error"
    assert rows_of(manifest)[0]["error"]["provider_code"] == "finish_reason_error"


# Jobs that go wrong


@pytest.mark.parametrize("deferrable", [False, True])
def test_an_expired_job_lands_what_it_has(run: Runner, control: Any, deferrable: bool) -> None:
    control.plan_jobs(end="TIMEOUT_EXCEEDED", end_after=0.5)
    outcome = run(deferrable=deferrable)
    assert outcome.state == "success", outcome.message
    assert outcome.value["terminal_reason"] == "expired"
    assert outcome.value["counts"]["succeeded"] == 2
    assert outcome.value["counts"]["expired"] == 2


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_cancelled_job_is_submitted_anew(run: Runner, control: Any, jobs: Any, deferrable: bool) -> None:
    control.plan_jobs(end="CANCELLED", end_after=0.5)
    outcome = run(deferrable=deferrable)
    assert "was cancelled before 2 of 4 requests" in outcome.message
    assert run.again(deferrable=deferrable).state == "success"
    assert len(jobs()) == 2


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_failed_job_is_submitted_anew(run: Runner, control: Any, jobs: Any, deferrable: bool) -> None:
    control.plan_jobs(end="FAILED", end_after=0, errors=["no such model"])
    outcome = run(deferrable=deferrable)
    assert "no such model" in outcome.message
    assert run.again(deferrable=deferrable).state == "success"
    assert len(jobs()) == 2


def test_a_failed_job_lands_what_is_paid(run: Runner, control: Any, logged: Any) -> None:
    control.plan_jobs(end="FAILED", end_after=0.5, errors=["no room"])
    outcome = run()
    assert outcome.state == "success", outcome.message
    assert outcome.value["counts"]["succeeded"] == 2
    assert outcome.value["counts"]["missing"] == 2
    assert "failed (no room)" in "".join(logged())


def test_an_unknown_status_is_no_end(run: Runner, control: Any) -> None:
    control.plan_jobs(status="DREAMING")
    assert run().state == "success"


def test_a_job_is_cancelled_at_the_deadline(run: Runner, control: Any, settled: Any) -> None:
    control.settings(job_seconds=600)
    assert "The batch was cancelled" in run(timeout=1).message
    settled("CANCELLED")


# Bad input


def test_one_model_for_all_requests(run: Runner, jobs: Any) -> None:
    requests = [{"prompt": "a"}, {"prompt": "b", "model": "mistral:mistral-large-latest"}]
    outcome = run(requests)
    assert "has one model, and these requests name 2" in outcome.message
    assert (
        "does not resolve to the 'mistral' adapter" in run([{"prompt": "a", "model": "openai:gpt-5"}]).message
    )
    assert jobs() == []
    run([{"prompt": "a", "model": "mistral:mistral-large-latest"}])
    assert [job["model"] for job in jobs()] == ["mistral-large-latest"]


@pytest.mark.parametrize(
    ("requests", "options", "message"),
    [
        (PROMPTS, {"request_params": {"temperature": "hot"}}, "temperature"),
        ([{"prompt": "a", "max_tokens": -1}], {}, "max_tokens"),
        ([{"prompt": "a", "params": {"top_p": 2}}], {}, "requests[0]['params']['top_p']"),
        ([{"prompt": "a", "params": "top_p"}], {}, "requests[0]['params']"),
        (PROMPTS, {"completion_window": "900h"}, "completion_window"),
    ],
)
def test_nothing_is_sent_of_bad_requests(
    run: Runner, control: Any, requests: Any, options: dict[str, Any], message: str
) -> None:
    control.reset()
    assert message in run(requests, **options).message
    assert not [call for call in control.requests() if call.startswith("POST")]


def test_limits(run: Runner, monkeypatch: pytest.MonkeyPatch, jobs: Any) -> None:
    monkeypatch.setattr(MistralBatchAdapter, "max_requests", 3)
    assert re.search("at most 3 requests, and there are 4.*expand", run().message)
    monkeypatch.setattr(MistralBatchAdapter, "max_requests", 1000)
    monkeypatch.setattr(MistralBatchAdapter, "max_payload_bytes", 300)
    assert re.search("at most 300 bytes, and these 4 requests have .*expand", run().message)
    assert jobs() == []
