"""The official SDK, unchanged, through every job and file call, synchronous and asynchronous."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import requests
from mistralai.client import Mistral
from mistralai.client.errors import SDKError

from airflow_provider_mistral_batch.emulator.client import Control

ROWS = "\n".join(
    json.dumps({"custom_id": f"row-{n}", "body": {"messages": [{"role": "user", "content": f"Say {n}"}]}})
    for n in range(3)
).encode()
#: Requests of a job without files.
REQUESTS: Any = [{"body": {}}]
FILE: Any = {"file_name": "rows.jsonl", "content": ROWS}


@pytest.fixture
def client(control: Control) -> Iterator[Mistral]:
    with Mistral(api_key=control.api_key, server_url=control.url) as client:
        yield client


def finished(client: Mistral, job_id: str):
    deadline = time.monotonic() + 30
    while True:
        job = client.batch.jobs.get(job_id=job_id)
        if job.completed_at:
            return job
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_files(client: Mistral) -> None:
    file = client.files.upload(file=FILE, purpose="batch", expiry=2, visibility="user")
    assert (file.filename, file.size_bytes, file.num_lines) == ("rows.jsonl", len(ROWS), 3)
    assert (file.purpose, file.sample_type, file.source) == ("batch", "batch_request", "upload")
    assert (file.expires_at, file.visibility) == (file.created_at + 7200, "user")
    other = client.files.upload(file={"file_name": "page.pdf", "content": b"%PDF"}, purpose="ocr")
    assert (other.num_lines, other.mimetype) == (None, "application/pdf")

    assert client.files.retrieve(file_id=file.id).deleted is False
    assert client.files.download(file_id=file.id).read() == ROWS
    url = client.files.get_signed_url(file_id=file.id, expiry=1).url
    assert requests.get(url, timeout=10).content == ROWS

    assert [one.id for one in client.files.list().data] == [other.id, file.id]
    assert client.files.list(page=1, page_size=1).data[0].id == file.id
    assert client.files.list(page_size=1).total == 2
    assert client.files.list(include_total=False).total is None
    assert [one.id for one in client.files.list(purpose="batch", source=["upload"]).data] == [file.id]
    assert [one.id for one in client.files.list(search="PAGE").data] == [other.id]
    assert client.files.list(sample_type=["batch_result", "batch_error"]).data == []

    assert client.files.delete(file_id=file.id).deleted is True
    with pytest.raises(SDKError, match="404"):
        client.files.retrieve(file_id=file.id)


def test_jobs(client: Mistral) -> None:
    file = client.files.upload(file=FILE, purpose="batch")
    job = client.batch.jobs.create(
        endpoint="/v1/chat/completions",
        input_files=[file.id],
        model="mistral-small-latest",
        metadata={"kind": "test"},
        timeout_hours=2,
    )
    assert (job.status, job.total_requests, job.input_files) == ("QUEUED", 0, [file.id])
    job = finished(client, job.id)
    assert (job.status, job.total_requests, job.succeeded_requests) == ("SUCCESS", 3, 3)
    assert not job.error_file
    lines = client.files.download(file_id=job.output_file).read().splitlines()
    assert sorted(json.loads(line)["custom_id"] for line in lines) == ["row-0", "row-1", "row-2"]
    assert client.files.retrieve(file_id=job.output_file).sample_type == "batch_result"
    assert client.batch.jobs.cancel(job_id=job.id).status == "SUCCESS"
    assert client.batch.jobs.delete(job_id=job.id).deleted is True
    with pytest.raises(SDKError, match="404"):
        client.batch.jobs.get(job_id=job.id)


def test_inline_job_with_its_outputs(client: Mistral) -> None:
    requests_: Any = [{"custom_id": "a", "body": {"input": "text"}}, {"custom_id": "b", "body": {}}]
    job = client.batch.jobs.create(endpoint="/v1/embeddings", requests=requests_, model="mistral-embed")
    finished(client, job.id)
    outputs: Any = client.batch.jobs.get(job_id=job.id, inline=True).outputs
    assert {row["custom_id"]: row["response"]["status_code"] for row in outputs} == {"a": 200, "b": 422}


def test_listing(client: Mistral, control: Control) -> None:
    def create(model: str, **metadata: str) -> str:
        return client.batch.jobs.create(
            endpoint="/v1/embeddings", requests=REQUESTS, model=model, metadata=metadata or None
        ).id

    first, second = create("one"), create("two", team="red", part="1")
    for job_id in (first, second):
        finished(client, job_id)
    running = control.make_jobs(1)[0]

    def listed(**filters: Any) -> list[str]:
        return [job.id for job in client.batch.jobs.list(**filters).data or ()]

    assert listed() == [running, second, first]
    assert listed(order_by="created") == [first, second, running]
    assert listed(page=1, page_size=2) == [first]
    assert client.batch.jobs.list(page_size=1).total == 3
    assert listed(status=["QUEUED", "RUNNING"]) == [running]
    assert listed(status=["SUCCESS"]) == [second, first]
    assert listed(model="two") == [second]
    assert listed(agent_id="nobody") == []
    assert listed(metadata={"team": "red"}) == [second]
    assert listed(metadata={"team": "red", "part": "2"}) == []
    assert listed(created_by_me=True) == [running, second, first]
    now = datetime.now(timezone.utc)
    assert listed(created_after=now - timedelta(minutes=1)) == [running, second, first]
    assert listed(created_after=now + timedelta(minutes=1)) == []


def test_cancellation(client: Mistral, control: Control) -> None:
    control.plan_jobs(job_seconds=3600)
    job = client.batch.jobs.create(endpoint="/v1/embeddings", requests=REQUESTS, model="m")
    assert client.batch.jobs.cancel(job_id=job.id).status == "CANCELLATION_REQUESTED"
    assert finished(client, job.id).status == "CANCELLED"


def test_errors(client: Mistral, control: Control) -> None:
    with pytest.raises(SDKError, match="422"):
        client.batch.jobs.create(endpoint="/v1/embeddings", requests=REQUESTS, timeout_hours=169)
    with pytest.raises(SDKError, match="422"):
        client.batch.jobs.create(endpoint="/v1/embeddings")
    with pytest.raises(SDKError, match="404"):
        client.batch.jobs.create(
            endpoint="/v1/embeddings", input_files=["b1946ac9-2f9b-4e44-9a2c-6f1d8c7b0a11"]
        )
    control.revoke_key(control.api_key)
    with pytest.raises(SDKError, match="401"):
        client.batch.jobs.list()


def test_asynchronous(control: Control) -> None:
    async def drive() -> None:
        async with Mistral(api_key=control.api_key, server_url=control.url) as client:
            file = await client.files.upload_async(file=FILE, purpose="batch")
            assert (await client.files.list_async()).total == 1
            assert (await client.files.retrieve_async(file_id=file.id)).num_lines == 3
            assert (await client.files.get_signed_url_async(file_id=file.id)).url.startswith(control.url)
            job = await client.batch.jobs.create_async(
                endpoint="/v1/chat/completions", input_files=[file.id], model="m"
            )
            while not job.completed_at:
                job = await client.batch.jobs.get_async(job_id=job.id)
            assert (await client.batch.jobs.list_async(status=["SUCCESS"])).total == 1
            content = await client.files.download_async(file_id=job.output_file)
            assert len((await content.aread()).splitlines()) == 3
            assert (await client.batch.jobs.cancel_async(job_id=job.id)).status == "SUCCESS"
            assert (await client.batch.jobs.delete_async(job_id=job.id)).deleted
            assert (await client.files.delete_async(file_id=file.id)).deleted

    asyncio.run(drive())
