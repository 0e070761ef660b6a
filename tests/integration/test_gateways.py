"""Servers that can do less than the API says: no listing of jobs, smaller jobs, results that are gone."""

from __future__ import annotations

import json

import pytest

from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
from airflow_provider_mistral_batch.operators.mistral_batch import (
    MistralBatchInferenceOperator,
    MistralCreateBatchJobOperator,
    MistralDownloadBatchResultsOperator,
    MistralUploadBatchFileOperator,
)

CHAT = {"messages": [{"role": "user", "content": "Hi"}]}
AGENT = {**CHAT, "agent_id": "ag_1"}
CANNOT_FIND = "submits, and pays for, a new job"

#: What LiteLLM and others answer to a listing that the provider behind them does not have.
NO_LISTING = [
    (400, "LiteLLM doesn't support mistral for 'list_batch'. Supported providers: azure, openai."),
    (404, "Not Found"),
    (405, "Method Not Allowed"),
    (500, "Missing credentials. Please pass an `api_key`"),
    (501, "Not Implemented"),
]


@pytest.fixture
def inference(tmp_path):
    def inference(**options):
        options = {
            "model": "mistral-small-latest",
            "poll_interval_min": 0.02,
            "poll_interval": 0.05,
            **options,
        }
        options = {"requests": ["Hi"], "destination": str(tmp_path / "out"), **options}
        return lambda: MistralBatchInferenceOperator(task_id="task", **options)

    return inference


def warned(caplog):
    return sum(CANNOT_FIND in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    ("dialect", "status", "message"),
    [
        *((dialect, *answer) for dialect in ("mistral", "openai") for answer in NO_LISTING),
        # LiteLLM without its package prisma.
        ("openai", 500, "Internal Server Error"),
    ],
)
def test_a_batch_runs_without_a_listing(
    connect, control, airflow, inference, caplog, short_pauses, dialect, status, message
):
    connect(dialect=dialect)
    path = {"mistral": "/v1/batch/jobs", "openai": "/v1/batches"}[dialect]
    control.fault("status", "GET", path, status=status, message=message, times=None)
    outcome = airflow.run(inference())
    assert outcome.state == "success", outcome.message
    assert warned(caplog) == 1


@pytest.mark.parametrize(
    ("status", "message"), [(500, "Internal Server Error"), (503, "Busy"), (400, "Bad filter")]
)
def test_a_later_try_does_not_take_an_outage_for_a_missing_listing(
    control, airflow, new_ti, inference, jobs, status, message
):
    control.fault("status", "GET", "/v1/batch/jobs", status=status, message=message, times=None)
    outcome = airflow.run(inference(), new_ti(try_number=2))
    assert outcome.state == ("failed" if status == 400 else "retry")
    assert jobs() == []


def test_a_lost_answer_is_not_followed_by_a_second_job_where_none_can_be_found(
    control, airflow, inference, jobs
):
    control.fault("status", "GET", "/v1/batch/jobs", status=501, times=None)
    control.fault("drop", "POST", "/v1/batch/jobs", when="after")
    outcome = airflow.run(inference())
    assert outcome.state == "failed"
    assert "the job may exist" in outcome.message
    control.clear_faults()
    assert len(jobs()) == 1


def test_a_file_listing_that_is_missing_stops_no_upload(control, airflow):
    control.fault("status", "GET", "/v1/files", status=500, message="Missing credentials", times=None)
    outcome = airflow.run(lambda: MistralUploadBatchFileOperator(task_id="upload", requests=[{"body": CHAT}]))
    assert outcome.state == "success", outcome.message


@pytest.mark.parametrize("value", [True, "true", "True"])
def test_a_connection_adds_method_and_url_to_rows(connect, airflow, hook, value):
    connect(rows_have_url=value)
    outcome = airflow.run(lambda: MistralUploadBatchFileOperator(task_id="upload", requests=[{"body": CHAT}]))
    row = json.loads(hook.download_file(outcome.value[0]))
    assert (row["method"], row["url"]) == ("POST", "/v1/chat/completions")
    connect(rows_have_url="maybe")
    outcome = airflow.run(lambda: MistralUploadBatchFileOperator(task_id="upload", requests=[{"body": CHAT}]))
    assert outcome.state == "failed"
    assert "extra.rows_have_url='maybe'" in outcome.message


# Limits


@pytest.mark.parametrize(
    ("path", "status", "message", "is_size"),
    [
        ("/v1/batch/jobs", 400, "Too many requests in batch: 3 > 2", True),
        ("/v1/batch/jobs", 413, "Payload Too Large", True),
        ("/v1/batch/jobs", 422, "The input file exceeds the maximum number of 100,000 rows", True),
        ("/v1/files", 413, "Batch input file has more than 2 records", True),
        ("/v1/files", 400, "File has more than 100000 lines", True),
        ("/v1/batch/jobs", 400, "Invalid model: nope", False),
        ("/v1/batch/jobs", 422, "metadata: at most 16 items", False),
    ],
)
def test_a_job_that_is_too_large_names_the_remedy(
    control, airflow, inference, path, status, message, is_size
):
    control.fault("status", "POST", path, status=status, message=message, times=None)
    outcome = airflow.run(inference(requests=["a", "b", "c"]))
    assert outcome.state == "failed"
    assert ("max_job_requests" in outcome.message) == is_size


def test_max_job_requests_makes_several_jobs(control, airflow, inference, jobs):
    outcome = airflow.run(inference(requests=[str(number) for number in range(5)], max_job_requests=2))
    assert outcome.state == "success", outcome.message
    assert sorted(job["total_requests"] for job in jobs()) == [1, 2, 2]
    assert outcome.value["counts"]["succeeded"] == 5


@pytest.mark.parametrize("value", [0, -1, 1.5, "ten", True])
def test_max_job_requests_is_a_whole_number(airflow, inference, value):
    outcome = airflow.run(inference(max_job_requests=value))
    assert outcome.state == "failed"
    assert f"max_job_requests={value!r}" in outcome.message


@pytest.mark.parametrize("endpoint", ["/v1/embeddings", "/v1/fim/completions", "/v1/ocr", "/v1/moderations"])
def test_a_parameter_that_the_endpoint_lacks_is_refused_before_anything_is_read(
    airflow, inference, tmp_path, endpoint
):
    outcome = airflow.run(
        inference(endpoint=endpoint, system="S", requests=None, path=str(tmp_path / "none.jsonl"))
    )
    assert outcome.state == "failed"
    assert "system='S'" in outcome.message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, {"detail": "No file matches"}),
        (404, {"object": "error", "message": "gone"}),
        (404, "<html>"),
        (404, {}),
        (410, None),
    ],
)
def test_results_that_are_gone_are_explained(control, airflow, new_ti, inference, tmp_path, status, body):
    first = airflow.run(inference(), ti := new_ti())
    batch_id = first.xcoms["batch_id"]
    control.fault("status", "GET", "/v1/files/*/content", status=status, body=body, times=None)
    again = airflow.run(inference(destination=str(tmp_path / "elsewhere")), ti.cleared())
    landed = airflow.run(
        lambda: MistralDownloadBatchResultsOperator(
            task_id="download", batch_id=batch_id, destination=str(tmp_path / "landed")
        )
    )
    for outcome in (again, landed):
        assert outcome.state == "failed"
        for words in (batch_id, "limited time", "delete_files", "another workspace", "force_new=True"):
            assert words in outcome.message


# Agents


@pytest.mark.parametrize("how", ["inference", "path", "create", "upload", "hook"])
@pytest.mark.parametrize(
    ("body", "model"), [(AGENT, None), (CHAT, "default"), ({**CHAT, "model": "own"}, "own")]
)
def test_the_default_model_does_not_go_to_agents(
    connect, airflow, inference, jobs, tmp_path, how, body, model
):
    connect(default_model="default")
    rows = [{"custom_id": "a", "body": body}]
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps(rows[0]) + "\n")
    if how in ("inference", "path"):
        source = {"requests": None, "path": str(path)} if how == "path" else {"requests": rows}
        airflow.run(inference(model=None, **source))
    elif how == "create":
        airflow.run(lambda: MistralCreateBatchJobOperator(task_id="create", requests=rows))
    elif how == "upload":
        uploaded = airflow.run(lambda: MistralUploadBatchFileOperator(task_id="upload", path=str(path)))
        airflow.run(lambda: MistralCreateBatchJobOperator(task_id="create", input_files=uploaded.value))
    else:
        MistralBatchHook().create(requests=rows)
    assert {job["model"] for job in jobs()} == {model}


@pytest.mark.parametrize("kind", ["inference", "create"])
def test_a_model_and_an_agent_contradict_each_other(airflow, inference, kind):
    rows = [{"custom_id": "a", "body": AGENT}]
    task = {
        "inference": inference(requests=rows, model="m"),
        "create": lambda: MistralCreateBatchJobOperator(task_id="task", requests=rows, model="m"),
    }
    outcome = airflow.run(task[kind])
    assert outcome.state == "failed"
    assert "model='m', but the requests name the agent 'ag_1'" in outcome.message


@pytest.mark.parametrize("kind", ["inference", "create", "upload"])
def test_rows_with_and_without_an_agent_are_refused(airflow, inference, kind):
    rows = [{"custom_id": "a", "body": AGENT}, {"custom_id": "b", "body": CHAT}]
    task = {
        "inference": inference(requests=rows, model=None),
        "create": lambda: MistralCreateBatchJobOperator(task_id="task", requests=rows),
        "upload": lambda: MistralUploadBatchFileOperator(task_id="task", requests=rows),
    }
    outcome = airflow.run(task[kind])
    assert outcome.state == "failed"
    assert "row 2: body.agent_id: missing, but row 1 names an agent" in outcome.message
