"""The official OpenAI SDK against the OpenAI-compatible dialect."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import openai
import pytest
from openai import OpenAI
from openai.types import Batch

from airflow_provider_mistral_batch.emulator.client import Control
from airflow_provider_mistral_batch.emulator.process import Emulator


def row(number: int, **changes: object) -> str:
    body = {"model": "some-model", "messages": [{"role": "user", "content": f"Say {number}"}]}
    whole = {"custom_id": f"row-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps({name: value for name, value in {**whole, **changes}.items() if value is not None})


@pytest.fixture
def client(control: Control) -> Iterator[OpenAI]:
    with OpenAI(api_key=control.api_key, base_url=f"{control.url}/v1", max_retries=0) as client:
        yield client


def create(client: OpenAI, *rows: str, **fields: object) -> Batch:
    content = "\n".join(rows or [row(n) for n in range(3)]).encode()
    file = client.files.create(file=("rows.jsonl", content), purpose="batch")
    arguments = {
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
        "metadata": {"k": "v"},
        **fields,
    }
    return client.batches.create(input_file_id=file.id, **arguments)  # type: ignore[arg-type]


def finished(client: OpenAI, batch: Batch) -> Batch:
    deadline = time.monotonic() + 30
    while batch.status in ("validating", "in_progress", "finalizing", "cancelling"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
        batch = client.batches.retrieve(batch.id)
    return batch


def test_completed(client: OpenAI, control: Control) -> None:
    control.plan_jobs(failed_ids=["row-1"])
    batch = create(client)
    Batch.model_validate(batch.model_dump(), strict=True)
    assert (batch.status, batch.metadata, batch.completion_window) == ("validating", {"k": "v"}, "24h")
    assert batch.expires_at == batch.created_at + 24 * 3600
    batch = finished(client, batch)
    Batch.model_validate(batch.model_dump(), strict=True)
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 3, "completed": 2, "failed": 1}
    assert batch.in_progress_at is not None
    assert batch.finalizing_at is not None
    assert batch.completed_at is not None
    assert batch.created_at <= batch.in_progress_at <= batch.finalizing_at <= batch.completed_at
    assert batch.errors is None
    assert batch.output_file_id is not None
    results = client.files.content(batch.output_file_id).text.splitlines()
    assert {json.loads(line)["custom_id"] for line in results} == {"row-0", "row-2"}
    assert batch.error_file_id is not None
    errors = client.files.content(batch.error_file_id).text.splitlines()
    assert [json.loads(line)["custom_id"] for line in errors] == ["row-1"]


@pytest.mark.parametrize(
    ("status", "moment"),
    [("FAILED", "failed_at"), ("TIMEOUT_EXCEEDED", "expired_at"), ("CANCELLED", "cancelled_at")],
)
def test_other_ends(client: OpenAI, control: Control, status: str, moment: str) -> None:
    control.plan_jobs(end=status)
    batch = finished(client, create(client))
    assert batch.status == moment.removesuffix("_at")
    ends = {"completed_at", "failed_at", "expired_at", "cancelled_at"}
    assert {name for name in ends if getattr(batch, name) is not None} == {moment}


def test_cancellation(client: OpenAI, control: Control) -> None:
    control.plan_jobs(job_seconds=3600)
    batch = client.batches.cancel(create(client).id)
    assert batch.status == "cancelling"
    batch = finished(client, batch)
    assert batch.status == "cancelled"
    assert batch.cancelling_at is not None
    assert batch.cancelled_at is not None
    assert batch.cancelling_at <= batch.cancelled_at


@pytest.mark.parametrize(
    ("changes", "code", "param"),
    [
        ({"method": None}, "missing_method", "method"),
        ({"url": None}, "missing_url", "url"),
        ({"custom_id": None}, "missing_custom_id", "custom_id"),
        ({"url": "/v1/embeddings"}, "mismatched_url", "url"),
        ({"method": "GET"}, "invalid_method", "method"),
        ({"custom_id": "row-0"}, "duplicate_custom_id", "custom_id"),
        ({"body": "text"}, "invalid_request", None),
    ],
)
def test_a_row_that_is_not_as_it_must_be_fails_the_batch(
    client: OpenAI, changes: dict[str, object], code: str, param: str | None
) -> None:
    batch = finished(client, create(client, row(0), row(1, **changes)))
    assert batch.status == "failed"
    assert batch.errors is not None
    assert batch.errors.object == "list"
    assert batch.errors.data is not None
    [error] = batch.errors.data
    assert (error.code, error.param, error.line) == (code, param, 2)
    assert batch.request_counts is not None
    assert batch.request_counts.total == 0


def test_listing(client: OpenAI) -> None:
    made = [create(client).id for _ in range(5)]
    assert [batch.id for batch in client.batches.list(limit=2)] == made[::-1]
    page = client.batches.list(limit=2)
    assert (page.has_more, [batch.id for batch in page.data]) == (True, made[:2:-1])
    assert page.to_dict()["first_id"] == made[4]
    assert page.to_dict()["last_id"] == made[3]
    rest = client.batches.list(limit=3, after=made[3])
    assert (rest.has_more, [batch.id for batch in rest.data]) == (False, made[2::-1])


def test_files(client: OpenAI) -> None:
    made = [client.files.create(file=(f"{n}.jsonl", b"{}"), purpose="batch").id for n in range(3)]
    assert [file.id for file in client.files.list()] == made[::-1]
    assert [file.id for file in client.files.list(limit=2, order="asc")] == made
    assert client.files.list(limit=2).has_more
    file = client.files.retrieve(made[0])
    assert (file.object, file.filename, file.bytes, file.status) == ("file", "0.jsonl", 2, "processed")
    assert client.files.content(made[0]).read() == b"{}"
    assert client.files.delete(made[0]).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(made[0])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"completion_window": "1 day"}, "completion_window"),
        ({"completion_window": "169h"}, "completion_window"),
        ({"endpoint": "/v1/nonsense"}, "endpoint"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k"),
    ],
)
def test_errors_have_the_dialects_form(client: OpenAI, fields: dict[str, object], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        create(client, **fields)
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"


def test_an_unknown_input_file_is_a_bad_request(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="not found"):
        client.batches.create(
            input_file_id="b1946ac9-2f9b-4e44-9a2c-6f1d8c7b0a11",
            endpoint="/v1/chat/completions",
            completion_window="24h",
        )


def test_a_wrong_key(emulator: Emulator, client: OpenAI, control: Control) -> None:
    control.revoke_key(control.api_key)
    with pytest.raises(openai.AuthenticationError):
        client.batches.list()


def test_the_jobs_are_the_same_in_both_dialects(client: OpenAI, control: Control) -> None:
    batch = finished(client, create(client))
    [job] = [job for job in control.jobs() if job["id"] == batch.id]
    assert (job["status"], job["dialect"]) == ("SUCCESS", "openai")
