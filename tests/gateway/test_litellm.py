"""Whole batches through a real LiteLLM, in both dialects: how users configure it, and what they are warned of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
from airflow_provider_mistral_batch.operators.mistral_batch import (
    MistralBatchInferenceOperator,
    MistralCreateBatchJobOperator,
    MistralDownloadBatchResultsOperator,
    MistralUploadBatchFileOperator,
)

from .conftest import MODEL

CANNOT_FIND = "submits, and pays for, a new job"

PASS_THROUGH = {"path": "/mistral", "rows_have_url": True}
OPENAI = {"dialect": "openai"}

ways = pytest.mark.parametrize("way", [PASS_THROUGH, OPENAI], ids=["mistral", "openai"])


def answers(path):
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    return {row["custom_id"]: row["response"]["body"]["choices"][0]["message"]["content"] for row in rows}


@ways
@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
def test_a_whole_batch(connect, airflow, tmp_path, caplog, way, deferrable):
    connect(**way)

    def task():
        return MistralBatchInferenceOperator(
            task_id="task",
            requests=[
                "Say 1",
                {"custom_id": "b", "body": {"messages": [{"role": "user", "content": "Say 2"}]}},
            ],
            system="Be brief",
            model=MODEL,
            destination=str(tmp_path / "out"),
            deferrable=deferrable,
            poll_interval_min=0.05,
            poll_interval=0.2,
        )

    outcome = airflow.run(task)
    assert outcome.state == "success", outcome.message
    assert {id_: "Say" in text for id_, text in answers(outcome.value["results_path"]).items()} == {
        "row-1": True,
        "b": True,
    }
    assert sum(CANNOT_FIND in record.getMessage() for record in caplog.records) == 1


@ways
def test_a_batch_step_by_step(connect, airflow, tmp_path, way):
    connect(default_model=MODEL, **way)
    rows = tmp_path / "in.jsonl"
    rows.write_text(
        json.dumps({"custom_id": "a", "body": {"messages": [{"role": "user", "content": "Hi"}]}}) + "\n"
    )
    uploaded = airflow.run(lambda: MistralUploadBatchFileOperator(task_id="upload", path=str(rows)))
    assert uploaded.state == "success", uploaded.message
    created = airflow.run(
        lambda: MistralCreateBatchJobOperator(
            task_id="create",
            input_files=uploaded.value,
            wait_for_completion=True,
            poll_interval_min=0.05,
            poll_interval=0.2,
        )
    )
    assert created.state == "success", created.message
    landed = airflow.run(
        lambda: MistralDownloadBatchResultsOperator(
            task_id="download", batch_id=created.value, destination=str(tmp_path / "out")
        )
    )
    assert landed.state == "success", landed.message
    assert set(answers(landed.value["results_path"])) == {"a"}


def test_without_the_extra_the_proxy_refuses_rows_and_says_what_they_lack(connect, airflow):
    connect("/mistral")
    outcome = airflow.run(
        lambda: MistralUploadBatchFileOperator(task_id="upload", requests=[{"body": {"messages": []}}])
    )
    assert outcome.state == "failed"
    assert "'method'" in outcome.message


def test_rows_that_have_method_and_url_need_no_extra(connect, airflow):
    connect("/mistral")
    row = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": []}}
    outcome = airflow.run(lambda: MistralUploadBatchFileOperator(task_id="upload", requests=[row]))
    assert outcome.state == "success", outcome.message


@ways
def test_the_connection_can_be_tested(connect, way):
    connect(**way)
    with_key, message = MistralBatchHook().test_connection()
    assert with_key, message
