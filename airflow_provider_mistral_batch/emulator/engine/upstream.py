"""Rows that an upstream server answers: one with the OpenAI-compatible API, such as a local model's."""

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

from airflow_provider_mistral_batch.emulator.answers.dispatch import Answer
from airflow_provider_mistral_batch.emulator.answers.errors import error_body, invalid_body
from airflow_provider_mistral_batch.emulator.engine.inputs import Reader
from airflow_provider_mistral_batch.emulator.engine.options import UpstreamOptions
from airflow_provider_mistral_batch.emulator.engine.rows import Chunk, ResultLines, execute
from airflow_provider_mistral_batch.emulator.state.plans import JobPlan
from airflow_provider_mistral_batch.emulator.state.tables import Job

#: Endpoints that such servers have.
UPSTREAM_ENDPOINTS = frozenset({"/v1/chat/completions", "/v1/embeddings", "/v1/moderations"})

#: Status codes after which a request is sent again, and the seconds before each new attempt.
_TRANSIENT = frozenset({429, 500, 502, 503, 504})
_PAUSES = (0.5, 1.0)

#: Seconds. A local model may take long to answer.
_TIMEOUT = httpx.Timeout(600, connect=10)


def endpoint_url(base: str, endpoint: str) -> str:
    """
    The URL of an upstream server's endpoint.

    :param base: The server's base URL, with or without ``/v1``.
    :param endpoint: The endpoint, such as ``/v1/embeddings``.
    """
    return base.rstrip("/").removesuffix("/v1") + endpoint


class Upstream:
    """The upstream server, and the threads that wait for its answers."""

    def __init__(self, options: UpstreamOptions) -> None:
        self._options = options
        headers = {"Authorization": f"Bearer {options.key}"} if options.key else {}
        self._client = httpx.Client(headers=headers, timeout=_TIMEOUT, trust_env=False)
        self._pool = ThreadPoolExecutor(options.concurrency, thread_name_prefix="upstream")

    def pipeline(self, job: Job, plan: JobPlan, reader: Reader) -> Pipeline:
        """
        Make the pipeline of one job.

        :param job: The job.
        :param plan: Its plan.
        :param reader: Its input, at the next row.
        """
        return Pipeline(self._pool, 2 * self._options.concurrency, job, plan, reader, self._answer_of(job))

    def _answer_of(self, job: Job) -> Answer:
        def answer(raw: bytes) -> tuple[int, Any]:
            body = msgspec.json.decode(raw)
            if not isinstance(body, dict):
                return 422, invalid_body((("body",), "Input should be an object", "dict_type"))
            model = self._options.model or body.get("model") or job.model
            return self._post(job.endpoint, {**body, "model": model} if model else body)

        return answer

    def _post(self, endpoint: str, body: dict[str, Any]) -> tuple[int, Any]:
        for pause in (*_PAUSES, None):
            status, answer = self._try(endpoint, body)
            if status not in _TRANSIENT or pause is None:
                break
            time.sleep(pause)
        return status, answer

    def _try(self, endpoint: str, body: dict[str, Any]) -> tuple[int, Any]:
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
    """A row that was sent; ``index`` and ``offset`` say where the row after it begins."""

    results: Future[tuple[ResultLines, int]]
    index: int
    offset: int


class Pipeline:
    """
    The rows of one job that were sent to the upstream server. Their results come out in the rows' order.

    :param pool: The threads that send rows and wait for the answers.
    :param depth: How many rows may wait at the same time.
    :param job: The job.
    :param plan: Its plan.
    :param reader: Its input, at the next row.
    :param answer: Sends the body of a row.
    """

    def __init__(
        self, pool: ThreadPoolExecutor, depth: int, job: Job, plan: JobPlan, reader: Reader, answer: Answer
    ) -> None:
        self._pool = pool
        self._depth = depth
        self._reader = reader
        self._sent = self._send(job, plan, answer)
        self._pending: deque[_Pending] = deque()
        self._done_to = (reader.index, reader.offset)

    def run(self, count: int) -> Chunk:
        """
        Send rows, and collect the results that have arrived, without waiting for more.

        :param count: How many results to collect at most.
        """
        results = ResultLines([], [])
        rows = 0
        while True:
            self._pending.extend(itertools.islice(self._sent, min(count, self._depth) - len(self._pending)))
            if rows == count or not self._pending or not self._pending[0].results.done():
                return Chunk(results, rows, *self._done_to)
            done = self._pending.popleft()
            results.extend(done.results.result()[0])
            self._done_to = (done.index, done.offset)
            rows += 1

    def cancel(self) -> None:
        """Send nothing more, and ignore what was sent."""
        for pending in self._pending:
            pending.results.cancel()
        self._pending.clear()

    def _send(self, job: Job, plan: JobPlan, answer: Answer) -> Iterator[_Pending]:
        for number, line in enumerate(self._reader.lines(job.total - job.done), job.done):
            results = self._pool.submit(execute, job.id, [line], number, answer, plan)
            yield _Pending(results, self._reader.index, self._reader.offset)
