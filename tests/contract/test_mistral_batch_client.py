"""The official SDK's batch client, unchanged: small jobs inline, large ones from a file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mistralai.client import Mistral
from mistralai.client.models import (
    ChatCompletionRequest,
    ChatCompletionResponse,
    EmbeddingResponse,
    UserMessage,
)
from mistralai.extra.batch import BatchClient, BatchError, BatchInput, BatchRequestError
from requests_toolbelt.sessions import BaseUrlSession

from airflow_provider_mistral_batch.emulator.client import Control

IDS = [f"row-{n}" for n in range(5)]
PAYLOAD = {
    custom_id: ChatCompletionRequest(model="m", messages=[UserMessage(content=f"What is {custom_id}?")])
    for custom_id in IDS
}


@asynccontextmanager
async def batch_client(control: Control) -> AsyncIterator[BatchClient[Any, Any]]:
    async with Mistral(api_key=control.api_key, server_url=control.url) as mistral:
        yield BatchClient(mistral, endpoint="/v1/chat/completions", response_body_type=ChatCompletionResponse)


@pytest.fixture
def drive(control: Control) -> Callable[[Callable[[BatchClient[Any, Any]], Coroutine[Any, Any, None]]], None]:
    """Runs a coroutine function with a batch client for chat completions."""

    def drive(scene: Callable[[BatchClient[Any, Any]], Coroutine[Any, Any, None]]) -> None:
        async def play() -> None:
            async with batch_client(control) as client:
                await scene(client)

        asyncio.run(play())

    return drive


@pytest.mark.parametrize("threshold", [1000, 1], ids=["inline", "file"])
def test_run(api: BaseUrlSession, drive: Callable[..., None], threshold: int) -> None:
    async def scene(client: BatchClient[Any, Any]) -> None:
        result = await client.run(PAYLOAD, poll_interval_seconds=0.01, inline_threshold=threshold)
        assert (result.status, result.succeeded, result.failed) == ("SUCCESS", 5, 0)
        answers = [body.choices[0].message.content for body in result.ordered(IDS)]
        assert all(custom_id in answer for custom_id, answer in zip(IDS, answers, strict=True))

    drive(scene)
    [job] = api.get("/v1/batch/jobs").json()["data"]
    assert bool(job["input_files"]) == (threshold == 1)
    # It deletes the files that it made.
    assert api.get("/v1/files").json()["data"] == []


def test_run_with_failed_rows(control: Control, drive: Callable[..., None]) -> None:
    control.plan_jobs(failed_ids=["row-1", "row-3"], failed_statuses=[429])

    async def scene(client: BatchClient[Any, Any]) -> None:
        result = await client.run(PAYLOAD, poll_interval_seconds=0.01)
        assert (result.succeeded, result.failed) == (3, 2)
        assert {(error.custom_id, error.status_code) for error in result.errors()} == {
            ("row-1", 429),
            ("row-3", 429),
        }
        with pytest.raises(BatchError):
            result.ordered(IDS)

    drive(scene)


def test_whole_job_retry(control: Control, drive: Callable[..., None]) -> None:
    control.plan_jobs(failed_rows="all")

    async def scene(client: BatchClient[Any, Any]) -> None:
        result = await client.run(PAYLOAD, poll_interval_seconds=0.01, max_failed_job_retries=1)
        assert (result.succeeded, result.failed) == (5, 0)

    drive(scene)


def test_errors_of_either_style(control: Control, drive: Callable[..., None]) -> None:
    control.plan_jobs(failed_rows=1, error_style="error")

    async def scene(client: BatchClient[Any, Any]) -> None:
        result = await client.run(PAYLOAD, poll_interval_seconds=0.01)
        [error] = result.errors()
        assert (error.custom_id, error.status_code, error.error["code"]) == ("row-0", None, 500)

    drive(scene)


def test_primitives(control: Control, drive: Callable[..., None]) -> None:
    control.plan_jobs(failed_ids=["row-4"])

    async def scene(client: BatchClient[Any, Any]) -> None:
        source = await client.upload(BatchInput.from_payload(PAYLOAD), expiry_hours=3)
        handle = await client.create(source, metadata={"kind": "test"}, timeout_hours=1)
        handle = await client.wait(await client.get(handle.id), poll_interval_seconds=0.01)
        streamed = {custom_id: item async for custom_id, item in client.stream_results(handle)}
        assert set(streamed) == set(IDS)
        assert isinstance(streamed["row-4"], BatchRequestError)
        output = await client.output(handle)
        errors = await client.error_output(handle)
        assert set(output.responses) == set(IDS) - {"row-4"}
        assert errors is not None
        assert [error.custom_id for error in errors.request_errors] == ["row-4"]
        assert (await client.signed_url(source.file_id)).startswith("http")
        assert len((await client.download(source.file_id)).splitlines()) == 5
        await client.delete(source.file_id)

    drive(scene)


def test_cancellation(control: Control, drive: Callable[..., None]) -> None:
    control.plan_jobs(job_seconds=3600)

    async def scene(client: BatchClient[Any, Any]) -> None:
        handle = await client.create(BatchInput.from_payload(PAYLOAD))
        assert (await client.cancel(handle)).status == "CANCELLATION_REQUESTED"
        assert (await client.wait(handle, poll_interval_seconds=0.01)).status == "CANCELLED"

    drive(scene)


def test_another_endpoint(control: Control) -> None:
    async def scene() -> None:
        async with Mistral(api_key=control.api_key, server_url=control.url) as mistral:
            client: Any = BatchClient(
                mistral, endpoint="/v1/embeddings", response_body_type=EmbeddingResponse
            )
            raw = b'{"custom_id": "a", "body": {"model": "mistral-embed", "input": ["one", "two"]}}'
            result = await client.run(raw, poll_interval_seconds=0.01)
            assert [len(one.embedding) for one in result.by_id()["a"].data] == [8, 8]

    asyncio.run(scene())
