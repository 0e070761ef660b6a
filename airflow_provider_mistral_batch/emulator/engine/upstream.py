"""Rows answered by another server: any that speaks the OpenAI-compatible API, such as a local model's."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec

from airflow_provider_mistral_batch.emulator.engine.inputs import Reader
from airflow_provider_mistral_batch.emulator.engine.rows import Answer, Batch, Written, execute
from airflow_provider_mistral_batch.emulator.http.errors import error_body
from airflow_provider_mistral_batch.emulator.state.plans import JobPlan
from airflow_provider_mistral_batch.emulator.state.tables import Job

#: Endpoints that such servers have.
ENDPOINTS = frozenset({"/v1/chat/completions", "/v1/embeddings", "/v1/moderations"})

_TRANSIENT = frozenset({429, 500, 502, 503, 504})
_PAUSES = (0.5, 1.0)
_TIMEOUT = httpx.Timeout(600, connect=10)


class UpstreamOptions(msgspec.Struct, frozen=True):
    """Where rows go.

    :param url: base URL, with or without its ``/v1``.
    :param key: bearer token.
    :param model: model to ask for, whatever the rows and the job say.
    :param concurrency: requests that are under way at once.
    """

    url: str
    key: str | None = None
    model: str | None = None
    concurrency: int = 4


def endpoint_url(base: str, endpoint: str) -> str:
    """Where a server has an endpoint, whether its base URL ends in ``/v1`` or not."""
    return base.rstrip("/").removesuffix("/v1") + endpoint


class Upstream:
    """A pool of connections to the other server."""

    def __init__(self, options: UpstreamOptions) -> None:
        self._options = options
        headers = {"Authorization": f"Bearer {options.key}"} if options.key else {}
        self._client = httpx.Client(headers=headers, timeout=_TIMEOUT, trust_env=False)
        self._pool = ThreadPoolExecutor(options.concurrency, thread_name_prefix="upstream")

    def pipeline(self, job: Job, plan: JobPlan, reader: Reader) -> Pipeline:
        """A pipeline for the rows of one job."""
        return Pipeline(self._pool, 2 * self._options.concurrency, job, plan, reader, self._answer_of(job))

    def _answer_of(self, job: Job) -> Answer:
        def answer(raw: bytes) -> tuple[int, Any]:
            body = msgspec.json.decode(raw)
            if not isinstance(body, dict):
                return 422, {
                    "detail": [{"loc": ["body"], "msg": "Input should be an object", "type": "dict_type"}]
                }
            model = self._options.model or body.get("model") or job.model
            return self._post(job.endpoint, {**body, "model": model} if model else body)

        return answer

    def _post(self, endpoint: str, body: dict[str, Any]) -> tuple[int, Any]:
        for pause in (*_PAUSES, None):
            status, answer = self._attempt(endpoint, body)
            if status not in _TRANSIENT or pause is None:
                break
            time.sleep(pause)
        return status, answer

    def _attempt(self, endpoint: str, body: dict[str, Any]) -> tuple[int, Any]:
        try:
            response = self._client.post(endpoint_url(self._options.url, endpoint), json=body)
        except httpx.HTTPError as error:
            return 502, error_body(f"The upstream server did not answer: {error!r}", "upstream_error")
        try:
            return response.status_code, response.json()
        except ValueError:
            return response.status_code, response.text


@dataclass
class _Pending:
    result: Future[Written]
    index: int
    offset: int


class Pipeline:
    """One job's rows on their way: some are under way at any time, and they come out in their order."""

    def __init__(
        self, pool: ThreadPoolExecutor, depth: int, job: Job, plan: JobPlan, reader: Reader, answer: Answer
    ) -> None:
        self._pool = pool
        self._depth = depth
        self._reader = reader
        self._lines = self._submitted(job, plan, answer)
        self._pending: deque[_Pending] = deque()
        self._done_to = (reader.index, reader.offset)

    def run(self, count: int) -> Batch:
        """Send rows on their way, and collect up to ``count`` that have arrived. It does not wait for any."""
        written = Written([], [])
        rows = 0
        while True:
            self._pending.extend(itertools.islice(self._lines, min(count, self._depth) - len(self._pending)))
            if rows == count or not self._pending or not self._pending[0].result.done():
                return Batch(written, rows, *self._done_to)
            arrived = self._pending.popleft()
            written.extend(arrived.result.result())
            self._done_to = (arrived.index, arrived.offset)
            rows += 1

    def cancel(self) -> None:
        """Send nothing more, and forget what is under way."""
        for pending in self._pending:
            pending.result.cancel()
        self._pending.clear()

    def _submitted(self, job: Job, plan: JobPlan, answer: Answer) -> Iterator[_Pending]:
        for number, line in enumerate(self._reader.lines(job.total - job.done), job.done):
            result = self._pool.submit(execute, job.id, [line], number, answer, plan)
            yield _Pending(result, self._reader.index, self._reader.offset)
