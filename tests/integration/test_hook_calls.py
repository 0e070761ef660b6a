"""The published page's calls and examples, line by line, with the hook in the client's place."""

from __future__ import annotations

import io
import json
import math
import time
from typing import Any

import pytest

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook

from ..scripted_server import ScriptedServer, as_json

MODEL = "mistral-small-latest"


def test_the_published_example(hook, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "sleep", lambda seconds, sleep=time.sleep: sleep(min(seconds, 0.01)))

    # Prepare Batch Requests
    batch_requests = []
    for i in range(100):
        request = {
            "custom_id": f"request-{i}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {
                "model": "mistral-small-latest",
                "messages": [{"role": "user", "content": f"Summarize topic number {i}"}],
                "max_tokens": 100,
            },
        }
        batch_requests.append(request)
    with open("batch_requests.jsonl", "w") as f:  # noqa: PTH123 - as published
        for request in batch_requests:
            f.write(json.dumps(request) + "\n")

    # Submit Batch Job
    upload_result = hook.upload_file(file="batch_requests.jsonl", purpose="batch")
    batch_job = hook.create(
        input_files=[upload_result.id],
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"description": "Batch summarization job"},
    )
    print(f"Created batch job: {batch_job.id}")  # noqa: T201
    print(f"Status: {batch_job.status}")  # noqa: T201

    # Monitor Batch Progress
    while True:
        batch_status = hook.get(batch_job.id)
        print(f"Batch status: {batch_status.status}")  # noqa: T201
        print(f"Completed: {batch_status.request_counts.completed}")  # noqa: T201
        print(f"Failed: {batch_status.request_counts.failed}")  # noqa: T201
        print(f"Total: {batch_status.request_counts.total}")  # noqa: T201
        if batch_status.status in ["completed", "failed", "cancelled"]:
            break
        time.sleep(60)
    assert batch_status.status == "completed"
    assert batch_status.output_file_id
    results = hook.download_file(batch_status.output_file_id)
    with open("batch_results.jsonl", "wb") as f:  # noqa: PTH123 - as published
        f.write(results)

    # Process Results
    contents = {}
    with open("batch_results.jsonl") as f:  # noqa: PTH123 - as published
        for line in f:
            result = json.loads(line)
            custom_id = result["custom_id"]
            assert result["response"]["status_code"] == 200
            response_body = result["response"]["body"]
            contents[custom_id] = response_body["choices"][0]["message"]["content"]

    assert set(contents) == {f"request-{i}" for i in range(100)}
    assert all(isinstance(content, str) and content for content in contents.values())
    assert "Total: 100\n" in capsys.readouterr().out


def test_create_by_position(hook):
    file = hook.upload_file(_rows_file())
    job = hook.create([file.id], "/v1/chat/completions", "24h", {"a": "b"})
    assert (job.completion_window, job.metadata, job.input_file_id) == ("24h", {"a": "b"}, file.id)


def _rows_file() -> io.BytesIO:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
    return io.BytesIO(json.dumps({"custom_id": "a", "body": body}).encode())


def test_list_and_cancel(hook, control):
    ids = control.make_jobs(3)
    page = hook.list(limit=2)
    assert (page.object, len(page.data), page.has_more) == ("list", 2, True)
    assert page.last_id == page.data[-1].id
    rest = hook.list(2, page.last_id)
    assert sorted(job.id for job in [*page.data, *rest.data]) == sorted(ids)
    assert sorted(job.id for job in hook.iter_jobs(status=["in_progress"])) == sorted(ids)
    assert hook.cancel(ids[0]).status in ("cancelling", "cancelled")
    control.end_jobs([ids[1]])
    assert hook.delete(ids[1]).deleted


def test_files(hook):
    file = hook.upload_file(_rows_file(), filename="x.jsonl", visibility="workspace")
    assert hook.get_file(file.id).filename == "x.jsonl"
    assert [one.id for one in hook.list_files(limit=5, purpose="batch").data] == [file.id]
    assert [one.id for one in hook.iter_files(purpose="batch")] == [file.id]
    assert b"".join(hook.stream_file(file.id)) == hook.download_file(file.id) == _rows_file().getvalue()
    assert hook.get_signed_url(file.id).startswith("http")
    assert hook.delete_file(file.id).deleted


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({}, {"model": "m-default", "timeout_hours": 24}),
        ({"model": "m"}, {"model": "m"}),
        ({"agent_id": "a"}, {"agent_id": "a", "model": None}),
        ({"input_files": None, "requests": [{"body": {"model": "m-row"}}]}, {"model": "m-row"}),
        ({"input_files": None, "requests": [{"body": {}}]}, {"model": "m-default"}),
        ({"timeout_hours": 48}, {"timeout_hours": 48}),
        ({"completion_window": "2d"}, {"timeout_hours": 48}),
    ],
)
def test_what_create_sends(monkeypatch, given, sent):
    with ScriptedServer(as_json({"id": "j", "status": "QUEUED"})) as server:
        extra = {"default_model": "m-default"}
        connection = {"conn_type": "mistral", "host": server.url, "password": "k3y", "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_MISTRAL_DEFAULT", json.dumps(connection))
        MistralBatchHook().create(**{"input_files": ["f"], **given})
        body = json.loads(server.requests[0].body)
    assert {name: body.get(name) for name in sent} == sent


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "input_files and requests are both missing"),
        ({"input_files": ["f"], "timeout_hours": 0}, "timeout_hours=0 is not between 1 and 168"),
        ({"input_files": ["f"], "completion_window": "1w"}, "completion_window='1w'"),
        (
            {"input_files": ["f"], "completion_window": "12h", "timeout_hours": 48},
            "completion_window='12h' and timeout_hours=48 are both given",
        ),
        ({"requests": [{"custom_id": "a"}]}, "row 1: body: missing"),
        ({"requests": [{"url": "/v1/ocr", "body": {}}]}, 'row 1: url = "/v1/ocr"'),
        ({"requests": [{"method": "GET", "body": {}}]}, 'row 1: method = "GET"'),
        ({"requests": [{"custom_id": 5, "body": {}}]}, "row 1: custom_id = 5"),
        ({"requests": [{"custom_id": "", "body": {}}]}, 'row 1: custom_id = ""'),
        ({"requests": [{"custom_id": "a", "body": {}}] * 2}, 'row 2: custom_id = "a": the same as on row 1'),
        ({"requests": [{"model": "m", "body": {}}]}, 'row 1: model = "m": unknown field'),
        ({"requests": [{"body": {"temperature": math.nan}}]}, "row 1: body.temperature: NaN"),
        ({"requests": [{"body": {"model": 5}}]}, "row 1: body.model = 5"),
        ({"requests": [{"body": {"model": "m"}}, {"body": {"model": "n"}}]}, 'row 2: body.model = "n"'),
        ({"requests": [{"body": {"model": "m"}}], "model": "n"}, "model='n', but the requests name 'm'"),
    ],
)
def test_bad_input_sends_nothing(hook, control, given, words):
    control.reset()
    with pytest.raises(InvalidInputError) as caught:
        hook.create(**given)
    assert words in str(caught.value)
    assert control.requests() == {}


def test_inline_requests_without_an_id_are_numbered(monkeypatch, logged):
    with ScriptedServer(as_json({"id": "j", "status": "QUEUED"})) as server:
        connection = {"conn_type": "mistral", "host": server.url, "password": "k3y"}
        monkeypatch.setenv("AIRFLOW_CONN_MISTRAL_DEFAULT", json.dumps(connection))
        rows: list[dict[str, Any]] = [{"body": {}}, {"custom_id": "row-3", "body": {}}, {"body": {}}]
        MistralBatchHook().create(requests=rows)
        sent = json.loads(server.requests[0].body)["requests"]
    assert [row["custom_id"] for row in sent] == ["row-1", "row-3", "row_3"]
    assert "info: 2 of 3 requests had no custom_id and were numbered." in logged()


def test_inline_requests_may_be_prompts(monkeypatch):
    with ScriptedServer(as_json({"id": "j", "status": "QUEUED"})) as server:
        connection = {"conn_type": "mistral", "host": server.url, "password": "k3y"}
        monkeypatch.setenv("AIRFLOW_CONN_MISTRAL_DEFAULT", json.dumps(connection))
        MistralBatchHook().create(requests=[{"custom_id": "a", "prompt": "Hello"}, "Good night"])
        sent = json.loads(server.requests[0].body)["requests"]
    assert [(row["custom_id"], row["body"]["messages"][0]["content"]) for row in sent] == [
        ("a", "Hello"),
        ("row-2", "Good night"),
    ]
