"""All eleven operations and the listings, against the emulator, in both dialects."""

from __future__ import annotations

import io
import itertools
import json
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from uuid import uuid4

import pytest
import requests

from airflow_provider_mistral_batch.api.client import MistralBatchClient
from airflow_provider_mistral_batch.api.dialects.base import JobFilter
from airflow_provider_mistral_batch.api.errors import (
    AuthenticationError,
    BadRequestError,
    InvalidInputError,
    MistralCallError,
    MistralConnectionError,
    MistralResponseError,
    NotFoundError,
    PaymentRequiredError,
    RateLimitError,
    RequestTooLargeError,
)
from airflow_provider_mistral_batch.api.models import BatchJobIn, BatchJobOut
from airflow_provider_mistral_batch.api.retries import RetryPolicy
from airflow_provider_mistral_batch.emulator.client import Control

DIALECTS = ["mistral", "openai"]
MODEL = "mistral-small-latest"
BODY = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
ROWS = [
    {"custom_id": f"row-{n}", "method": "POST", "url": "/v1/chat/completions", "body": BODY} for n in range(3)
]


def _jsonl(rows: list[dict]) -> io.BytesIO:
    return io.BytesIO(b"".join(json.dumps(row).encode() + b"\n" for row in rows))


def _client(control: Control, dialect: str = "mistral", **options) -> MistralBatchClient:
    retries = RetryPolicy(attempts=3, first_wait=0)
    return MistralBatchClient(
        control.api_key, control.url, dialect=dialect, retries=retries, timeout=10, **options
    )


@pytest.fixture(params=DIALECTS)
def client(request, control) -> Iterator[MistralBatchClient]:
    with _client(control, request.param) as client:
        yield client


@pytest.fixture
def mistral(control) -> Iterator[MistralBatchClient]:
    with _client(control) as client:
        yield client


def _asked(client: MistralBatchClient, **fields) -> BatchJobIn:
    return BatchJobIn(**{"input_files": [client.upload_file(_jsonl(ROWS)).id], **fields})


def _ended(client: MistralBatchClient, batch_id: str) -> BatchJobOut:
    deadline = time.monotonic() + 20
    while not (job := client.get(batch_id)).is_terminal:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return job


def test_from_rows_to_results(client):
    file = client.upload_file(_jsonl(ROWS), filename="rows.jsonl")
    assert (file.filename, file.purpose, file.num_lines) == ("rows.jsonl", "batch", 3)
    created = client.create(BatchJobIn(input_files=[file.id], completion_window="2h", metadata={"team": "x"}))
    assert created.completion_window == "2h"
    assert created.expires_at == created.created_at + 7200
    assert created.input_file_id == file.id
    assert created.metadata == {"team": "x"}
    assert created.endpoint == "/v1/chat/completions"
    job = _ended(client, created.id)
    assert (job.status, job.error_file_id) == ("completed", None)
    assert (job.request_counts.total, job.request_counts.completed, job.request_counts.failed) == (3, 3, 0)
    assert job.in_progress_at is not None
    assert job.completed_at is not None
    assert job.created_at <= job.in_progress_at <= job.completed_at
    assert abs(time.time() + client.clock_offset - job.completed_at) < 60
    rows = [json.loads(line) for line in client.download_file(job.output_file_id).splitlines()]
    assert sorted(row["custom_id"] for row in rows) == ["row-0", "row-1", "row-2"]
    assert {row["response"]["status_code"] for row in rows} == {200}


def test_files(client):
    file = client.upload_file(_jsonl(ROWS))
    assert client.get_file(file.id).bytes == len(_jsonl(ROWS).getvalue())
    assert [listed.id for listed in client.list_files().data] == [file.id]
    assert client.list_files(purpose="ocr").data == []
    assert client.download_file(file.id) == _jsonl(ROWS).getvalue()
    assert client.delete_file(file.id).deleted
    assert client.list_files().data == []
    with pytest.raises(NotFoundError, match="It was deleted, or it belongs to another workspace"):
        client.get_file(file.id)
    with pytest.raises(NotFoundError):
        client.download_file(file.id)


def test_pages_of_files(client):
    ids = [client.upload_file(_jsonl(ROWS[:1]), filename=f"{n}.jsonl").id for n in range(5)]
    newest_first = [file.id for file in client.iter_files()]
    assert sorted(newest_first) == sorted(ids)
    page = client.list_files(limit=2)
    assert ([file.id for file in page.data], page.has_more) == (newest_first[:2], True)
    rest = client.list_files(limit=3, after=newest_first[1])
    assert ([file.id for file in rest.data], rest.has_more) == (newest_first[2:], False)


def test_file_filters_of_mistrals_dialect(mistral):
    ids = [mistral.upload_file(_jsonl(ROWS), filename=name).id for name in ("one.jsonl", "two.jsonl")]
    found = mistral.list_files(search="two", sample_type=["batch_request"], source=["upload"])
    assert [file.id for file in found.data] == [ids[1]]
    assert mistral.list_files(sample_type=["batch_result", "batch_error"]).data == []
    assert len(mistral.list_files(mimetypes=[found.data[0].mimetype]).data) == 2


def test_signed_url(mistral):
    file = mistral.upload_file(_jsonl(ROWS))
    answer = requests.get(mistral.get_signed_url(file.id, expiry=1), timeout=10)
    assert answer.content == _jsonl(ROWS).getvalue()


def test_cancel(client, control):
    control.plan_jobs(job_seconds=1000)
    created = client.create(_asked(client, metadata={"a": "b"}))
    assert client.cancel(created.id).status in ("cancelling", "cancelled")
    job = _ended(client, created.id)
    assert (job.status, job.ended_at) == ("cancelled", job.cancelled_at)
    assert job.cancelled_at is not None


def test_cancelling_what_is_over(client):
    job = _ended(client, client.create(_asked(client)).id)
    assert client.cancel(job.id).status == "completed"


def test_delete(mistral):
    job = _ended(mistral, mistral.create(_asked(mistral)).id)
    assert mistral.delete(job.id).deleted
    with pytest.raises(NotFoundError):
        mistral.get(job.id)


def test_inline(mistral):
    rows = [{"custom_id": "a", "body": BODY}, {"custom_id": "b", "body": BODY}]
    job = _ended(mistral, mistral.create(BatchJobIn(requests=rows, model=MODEL)).id)
    assert job.outputs is None
    outputs = mistral.get(job.id, inline=True).outputs
    assert sorted(row["custom_id"] for row in outputs) == ["a", "b"]


@pytest.mark.parametrize(
    ("plan", "status"),
    [
        ({"end": "FAILED", "errors": ["Bad input"]}, "failed"),
        ({"end": "TIMEOUT_EXCEEDED", "end_after": 0.5}, "expired"),
        ({"end": "CANCELLED"}, "cancelled"),
        ({"failed_rows": "all"}, "completed"),
    ],
)
def test_every_end(client, control, plan, status):
    control.plan_jobs(**plan)
    job = _ended(client, client.create(_asked(client)).id)
    assert job.status == status
    assert job.ended_at is not None
    assert [error.message for error in job.errors] == plan.get("errors", [])
    if plan.get("failed_rows"):
        assert (job.output_file_id, job.error_file_id is not None) == (None, True)


def test_a_status_and_fields_that_nobody_knows(client, control):
    control.plan_jobs(status="PAUSED", job_seconds=1000, fields={"new": {"a": 1}, "metadata": None})
    created = client.create(_asked(client))
    job = client.get(created.id)
    assert (job.raw_status, job.is_terminal, job.metadata) == ("PAUSED", False, None)


# Listings


@pytest.fixture
def jobs(client, control) -> list[str]:
    """Ids of 250 jobs of the client's workspace, newest first."""
    control.make_jobs(100, status="SUCCESS", age_seconds=3000, metadata={"n": "old"})
    control.make_jobs(100, status="RUNNING", age_seconds=2000, metadata={"n": "middle"})
    control.make_jobs(50, status="QUEUED", age_seconds=1000, metadata={"n": "new"})
    return [job.id for job in client.iter_jobs()]


def test_iterating_gives_each_job_once_newest_first(client, jobs):
    assert len(set(jobs)) == len(jobs) == 250
    times = [job.created_at for job in client.iter_jobs()]
    assert times == sorted(times, reverse=True)


def test_iterating_reads_only_the_pages_that_it_needs(client, jobs, control):
    control.reset()
    list(itertools.islice(client.iter_jobs(), 100))
    assert sum(control.requests().values()) == 1
    list(itertools.islice(client.iter_jobs(), 101))
    assert sum(control.requests().values()) == 3


@pytest.mark.parametrize("limit", [1, 99, 100, 101, 249, 250, 251, 1000])
def test_limits(client, jobs, limit):
    page = client.list(limit=limit)
    assert [job.id for job in page.data] == jobs[:limit]
    assert page.has_more is (limit < 250)
    assert (page.first_id, page.last_id) == (jobs[0], jobs[:limit][-1])


def test_the_default_limit(client, jobs):
    assert len(client.list().data) == 100


def test_a_listing_of_one_costs_one_call(client, jobs, control):
    control.reset()
    assert client.list(limit=1).has_more
    assert sum(control.requests().values()) == 1


@pytest.mark.parametrize("limit", [7, 100, 120])
def test_cursors_lead_through_all_jobs(client, jobs, limit):
    walked, after = [], None
    while True:
        page = client.list(limit=limit, after=after)
        walked += [job.id for job in page.data]
        if not page.has_more:
            break
        after = page.last_id
    assert walked == jobs


def test_a_cursor_that_is_not_there(mistral, control):
    control.make_jobs(3)
    with pytest.raises(InvalidInputError, match=r"after='gone' is not in this listing"):
        mistral.list(after="gone")


def test_an_empty_workspace(client):
    page = client.list()
    assert (page.data, page.first_id, page.last_id, page.has_more) == ([], None, None, False)


@pytest.mark.parametrize("limit", [0, -1, 1.5, "1", True])
@pytest.mark.parametrize("listing", ["list", "list_files"])
def test_bad_limits(client, limit, listing):
    with pytest.raises(InvalidInputError, match=f"^limit={limit!r} is not .*: pass a whole number of items$"):
        getattr(client, listing)(limit=limit)


def test_unknown_filters(client):
    with pytest.raises(InvalidInputError, match="state is not a filter of jobs: use status, model"):
        client.list(state="x")
    with pytest.raises(InvalidInputError, match="page_size is not a filter of jobs"):
        client.list(page_size=5)


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ({"status": ["in_progress"]}, 100),
        ({"status": ["in_progress", "validating"]}, 150),
        ({"status": ["failed"]}, 0),
        ({"status": ["finalizing"]}, 0),
        ({"metadata": {"n": "middle"}}, 100),
        ({"metadata": {"n": "middle"}, "status": ["completed"]}, 0),
        ({"model": MODEL}, 250),
    ],
)
def test_filters(client, jobs, filters, count):
    assert len(list(client.iter_jobs(**filters))) == count
    assert len(client.list(limit=10, **filters).data) == min(10, count)


@pytest.mark.parametrize(
    ("seconds", "count", "calls"), [(500, 0, 1), (1500, 50, 1), (2500, 150, 2), (9000, 250, 3)]
)
def test_created_after_spares_calls(client, jobs, control, seconds, count, calls):
    control.reset()
    since = datetime.now(timezone.utc) - timedelta(seconds=seconds)
    assert len(list(client.iter_jobs(created_after=since))) == count
    assert sum(control.requests().values()) == calls


def test_oldest_first(mistral, control):
    for age in (300, 200, 100):
        control.make_jobs(1, age_seconds=age)
    times = [job.created_at for job in mistral.iter_jobs(order_by="created")]
    assert times == sorted(times)


def test_jobs_that_come_while_we_read(client, jobs, control):
    walked = []
    for number, job in enumerate(client.iter_jobs()):
        if number in (10, 110):
            control.make_jobs(30)
        walked.append(job.id)
    assert set(jobs) <= set(walked)
    assert len(walked) == len(set(walked))


def test_pages_for_callers_with_time_of_their_own(client, jobs):
    page = client.jobs_page(JobFilter(status=["in_progress"]), page_size=100)
    assert page.total in (100, None)
    assert [job.id for job in page.items][:5]


# Faults


def _recorded(control: Control, team: str) -> list[str]:
    return [job["id"] for job in control.jobs() if (job["metadata"] or {}).get("of") == team]


@pytest.mark.parametrize(
    ("fault", "error", "in_the_record"),
    [
        ({"kind": "drop", "when": "before"}, MistralConnectionError, 0),
        ({"kind": "drop", "when": "after"}, MistralConnectionError, 1),
        ({"kind": "status", "status": 500}, MistralCallError, 0),
        ({"kind": "html"}, MistralResponseError, None),
        ({"kind": "truncate"}, MistralCallError, None),
    ],
)
def test_an_answer_that_is_lost_is_no_reason_for_a_second_job(client, control, fault, error, in_the_record):
    asked = _asked(client, metadata={"of": control.api_key})
    fault_id = control.fault(**fault, method="POST", path="*batch*", times=None)
    with pytest.raises(error) as caught:
        client.create(asked)
    assert caught.value.may_have_acted
    assert control.fault_state(fault_id)["hits"] == 1
    recorded = _recorded(control, control.api_key)
    assert len(recorded) <= 1
    assert in_the_record is None or len(recorded) == in_the_record


@pytest.mark.parametrize(
    "fault", [{"status": 429}, {"status": 429, "retry_after": 0}, {"status": 503, "retry_after": 0}]
)
def test_a_refusal_is_tried_again_and_gives_one_job(client, control, fault):
    asked = _asked(client, metadata={"of": control.api_key})
    control.fault("status", "POST", "*batch*", times=2, **fault)
    assert client.create(asked).id in _recorded(control, control.api_key)
    assert len(_recorded(control, control.api_key)) == 1


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "drop", "when": "before"},
        {"kind": "drop", "when": "after"},
        {"kind": "status", "status": 502},
        {"kind": "html"},
        {"kind": "truncate"},
        {"kind": "cut", "bytes": 10},
    ],
)
def test_reading_outlives_every_fault(client, control, fault):
    job = client.create(_asked(client))
    fault_id = control.fault(**fault, method="GET", path="*", times=2)
    assert client.get(job.id).id == job.id
    assert control.fault_state(fault_id)["hits"] == 2


def test_a_cut_download_is_resumed(client, control):
    rows = [{**ROWS[0], "custom_id": f"{n:06}"} for n in range(5000)]
    content = _jsonl(rows).getvalue()
    file = client.upload_file(io.BytesIO(content))
    control.fault("cut", "GET", "*/content", times=3, bytes=100_000)
    assert client.download_file(file.id) == content


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [(402, PaymentRequiredError, "set up billing"), (413, RequestTooLargeError, "Split the request file")],
)
def test_errors_that_say_what_to_do(client, control, status, error, words):
    fault_id = control.fault("status", "POST", "/v1/files", status=status, times=None)
    with pytest.raises(error, match=words):
        client.upload_file(_jsonl(ROWS))
    assert control.fault_state(fault_id)["hits"] == 1


def test_what_the_api_refuses(client):
    with pytest.raises((BadRequestError, NotFoundError)) as caught:
        client.create(BatchJobIn(input_files=[str(uuid4())]))
    assert caught.value.request_id
    with pytest.raises(NotFoundError):
        client.get(str(uuid4()))


def test_a_429_that_asks_for_more_than_we_have(client, control):
    control.fault("status", "GET", "*", status=429, retry_after=3600, times=None)
    with pytest.raises(RateLimitError) as caught:
        client.list()
    assert caught.value.retry_after == 3600


def test_rotation_of_the_key(control):
    other = f"key-{uuid4()}"
    control.add_key(other, same_workspace_as=control.api_key)
    with _client(control, renew_key=lambda: other) as client:
        file = client.upload_file(_jsonl(ROWS))
        control.revoke_key(control.api_key)
        assert client.get_file(file.id).id == file.id
        control.revoke_key(other)
        with pytest.raises(AuthenticationError):
            client.get_file(file.id)


def test_a_clock_that_is_five_minutes_ahead(mistral, control):
    control.settings(clock_skew=300)
    mistral.list(limit=1)
    assert 298 < mistral.clock_offset < 302
