"""Wire to model and back, in both dialects."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timezone

import msgspec
import pytest

from airflow_provider_mistral_batch.api.dialects import wire
from airflow_provider_mistral_batch.api.dialects.base import Call, JobFilter
from airflow_provider_mistral_batch.api.dialects.registry import DIALECTS, dialect_named
from airflow_provider_mistral_batch.api.dialects.wire import (
    decode_deleted,
    decode_file,
    decode_signed_url,
    file_path,
)
from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.api.models import BatchJobIn, BatchJobOut, BatchStatus
from airflow_provider_mistral_batch.get_provider_info import get_provider_info

MISTRAL, OPENAI = DIALECTS["mistral"], DIALECTS["openai"]

#: A job as the OpenAPI description requires it, with everything that is optional.
MISTRAL_JOB = {
    "id": "job-1",
    "object": "batch",
    "input_files": ["in-1", "in-2"],
    "metadata": {"k": "v"},
    "endpoint": "/v1/embeddings",
    "model": "mistral-embed",
    "agent_id": "agent-1",
    "output_file": "out-1",
    "error_file": "err-1",
    "errors": [{"message": "boom", "count": 2}],
    "outputs": [{"custom_id": "a"}],
    "status": "SUCCESS",
    "created_at": 100,
    "total_requests": 5,
    "completed_requests": 5,
    "succeeded_requests": 3,
    "failed_requests": 2,
    "started_at": 110,
    "completed_at": 120,
}

OPENAI_JOB = {
    "id": "batch_1",
    "object": "batch",
    "endpoint": "/v1/embeddings",
    "errors": {"object": "list", "data": [{"code": "c", "message": "boom", "param": "p", "line": 7}]},
    "input_file_id": "in-1",
    "completion_window": "24h",
    "status": "completed",
    "output_file_id": "out-1",
    "error_file_id": "err-1",
    "created_at": 100,
    "in_progress_at": 110,
    "expires_at": 200,
    "finalizing_at": 115,
    "completed_at": 120,
    "failed_at": None,
    "expired_at": None,
    "cancelling_at": None,
    "cancelled_at": None,
    "request_counts": {"total": 5, "completed": 3, "failed": 2},
    "metadata": {"k": "v"},
    "model": "mistral-embed",
}


def _bytes(value) -> bytes:
    return json.dumps(value).encode()


def _mistral(**changes) -> BatchJobOut:
    return MISTRAL.decode_job(_bytes({**MISTRAL_JOB, **changes}))


def _openai(**changes) -> BatchJobOut:
    return OPENAI.decode_job(_bytes({**OPENAI_JOB, **changes}))


def test_whole_job_in_mistrals_dialect():
    job = msgspec.to_builtins(_mistral())
    assert job == {
        "id": "job-1",
        "object": "batch",
        "endpoint": "/v1/embeddings",
        "errors": [{"code": None, "message": "boom", "param": None, "line": None, "count": 2}],
        "input_file_id": "in-1",
        "input_files": ["in-1", "in-2"],
        "completion_window": None,
        "status": "completed",
        "raw_status": "SUCCESS",
        "output_file_id": "out-1",
        "error_file_id": "err-1",
        "created_at": 100,
        "in_progress_at": 110,
        "expires_at": None,
        "finalizing_at": None,
        "completed_at": 120,
        "failed_at": None,
        "expired_at": None,
        "cancelling_at": None,
        "cancelled_at": None,
        "request_counts": {"total": 5, "completed": 3, "failed": 2},
        "metadata": {"k": "v"},
        "model": "mistral-embed",
        "agent_id": "agent-1",
        "outputs": [{"custom_id": "a"}],
    }


def test_whole_job_in_openais_dialect():
    job = msgspec.to_builtins(_openai())
    assert job == {
        **OPENAI_JOB,
        "errors": [{"code": "c", "message": "boom", "param": "p", "line": 7, "count": 1}],
        "input_files": ["in-1"],
        "raw_status": "completed",
        "agent_id": None,
        "outputs": None,
    }


def test_half_an_emoji_in_an_inline_answer_costs_one_character():
    # Python's own json writes an escape for it, as it does for a text that says "\\ud83d" and for each half of a pair.
    job = _mistral(outputs=[{"custom_id": "a", "text": "\\ud83d \N{GRINNING FACE} \ud83d"}])
    assert job.outputs == [{"custom_id": "a", "text": "\\ud83d \N{GRINNING FACE} \N{REPLACEMENT CHARACTER}"}]


def test_every_field_of_the_published_page_is_on_the_model():
    published = """id object endpoint errors input_file_id completion_window status output_file_id error_file_id
        created_at in_progress_at expires_at finalizing_at completed_at failed_at expired_at cancelling_at
        cancelled_at request_counts metadata"""
    assert set(published.split()) <= set(BatchJobOut.__struct_fields__)


@pytest.mark.parametrize(
    ("wire", "status", "ended"),
    [
        ("QUEUED", "validating", None),
        ("RUNNING", "in_progress", None),
        ("SUCCESS", "completed", "completed_at"),
        ("FAILED", "failed", "failed_at"),
        ("TIMEOUT_EXCEEDED", "expired", "expired_at"),
        ("CANCELLATION_REQUESTED", "cancelling", None),
        ("CANCELLED", "cancelled", "cancelled_at"),
    ],
)
def test_mistrals_statuses_and_the_time_of_each_end(wire, status, ended):
    job = _mistral(status=wire, completed_at=120)
    assert (job.status, job.raw_status, job.is_terminal) == (status, wire, ended is not None)
    times = {name: getattr(job, name) for name in ("completed_at", "failed_at", "expired_at", "cancelled_at")}
    assert {name for name, at in times.items() if at is not None} == ({ended} if ended else set())
    assert job.ended_at == (120 if ended else None)


@pytest.mark.parametrize("status", sorted(BatchStatus.ALL))
def test_openais_statuses_are_the_published_ones(status):
    job = _openai(status=status)
    assert (job.status, job.raw_status) == (status, status)


@pytest.mark.parametrize("decode", [_mistral, _openai])
def test_unknown_status_is_kept_is_no_end_and_is_logged_once(decode, caplog, monkeypatch):
    monkeypatch.setattr(wire, "_unknown_statuses_seen", set())
    with caplog.at_level(logging.WARNING):
        jobs = [wire.kept_job(decode(status="PAUSED"), str) for _ in range(3)]
    assert [(job.status, job.raw_status, job.is_terminal) for job in jobs] == [
        ("PAUSED", "PAUSED", False)
    ] * 3
    assert [record.getMessage().count("'PAUSED'") for record in caplog.records] == [1]


@pytest.mark.parametrize("dialect", [MISTRAL, OPENAI], ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("fill", [{}, None], ids=["missing", "null"])
def test_only_id_and_status_are_needed(dialect, fill):
    names = {*MISTRAL_JOB, *OPENAI_JOB} - {"id", "status"}
    job = dialect.decode_job(
        _bytes({"id": "b", "status": "RUNNING", **(dict.fromkeys(names) if fill is None else {})})
    )
    assert msgspec.structs.replace(job, status="", raw_status="") == BatchJobOut(
        id="b", status="", raw_status="", created_at=0
    )


@pytest.mark.parametrize("decode", [_mistral, _openai])
def test_unknown_fields_are_ignored(decode):
    assert decode(something_new={"a": [1]}, another=3) == decode()


@pytest.mark.parametrize("decode", [_mistral, _openai])
@pytest.mark.parametrize(
    ("errors", "read"),
    [
        ([], []),
        ({}, []),
        ("broken", []),
        (["broken"], [(None, "broken")]),
        ([{"code": 422, "message": {"a": 1}}], [("422", "{'a': 1}")]),
        ({"data": [{"code": "c", "message": "m", "line": "x", "count": None}]}, [("c", "m")]),
    ],
)
def test_errors_of_any_form_are_no_reason_to_not_read_a_job(decode, errors, read):
    assert [(error.code, error.message) for error in decode(errors=errors).errors] == read


@pytest.mark.parametrize("decode", [_mistral, _openai])
@pytest.mark.parametrize("metadata", ["text", [1], 5])
def test_metadata_of_another_form_is_none(decode, metadata):
    assert decode(metadata=metadata).metadata is None


def test_fractions_of_seconds_do_no_harm():
    assert _mistral(created_at=100.9).created_at == 100


def test_time_out_that_a_server_repeats():
    job = _mistral(timeout_hours=2)
    assert (job.completion_window, job.expires_at) == ("2h", 100 + 7200)


@pytest.mark.parametrize("file_id", ["", None])
def test_empty_file_ids_are_none(file_id):
    assert _mistral(output_file=file_id).output_file_id is None
    assert _openai(error_file_id=file_id).error_file_id is None


@pytest.mark.parametrize("dialect", [MISTRAL, OPENAI], ids=lambda dialect: dialect.name)
@pytest.mark.parametrize(
    "content", [b"", b"<html>", b"[]", b"null", b'{"id": 5, "status": "x"}', b'{"id": "x"}', b"\xff"]
)
def test_what_is_no_job_raises_msgspecs_error(dialect, content):
    with pytest.raises((msgspec.MsgspecError, UnicodeDecodeError)):
        dialect.decode_job(content)


# Calls

FULL = BatchJobIn(
    input_files=("f",), endpoint="/v1/ocr", completion_window="2d", metadata={"a": "b"}, model="m"
)
INLINE = BatchJobIn(
    requests=[
        {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"x": 1}},
        {"body": {"x": 2}},
    ],
    agent_id="agent",
)


@pytest.mark.parametrize(
    ("dialect", "job", "path", "body"),
    [
        (
            MISTRAL,
            FULL,
            "/v1/batch/jobs",
            {
                "endpoint": "/v1/ocr",
                "timeout_hours": 48,
                "input_files": ["f"],
                "model": "m",
                "metadata": {"a": "b"},
            },
        ),
        (
            MISTRAL,
            INLINE,
            "/v1/batch/jobs",
            {
                "endpoint": "/v1/chat/completions",
                "timeout_hours": 24,
                "requests": [{"custom_id": "a", "body": {"x": 1}}, {"body": {"x": 2}}],
                "agent_id": "agent",
            },
        ),
        (
            OPENAI,
            msgspec.structs.replace(FULL, model=None),
            "/v1/batches",
            {"input_file_id": "f", "endpoint": "/v1/ocr", "completion_window": "2d", "metadata": {"a": "b"}},
        ),
    ],
)
def test_create(dialect, job, path, body):
    assert dialect.create_job(job)._replace(remedies={}) == Call("POST", path, (), body)


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (INLINE, ["requests", "openai", "input_files"]),
        (
            BatchJobIn(input_files=["a", "b"]),
            ["input_files has 2 files", "one file per job", "one job for each"],
        ),
        (BatchJobIn(input_files=["a"], agent_id="x"), ["agent_id='x'", "model"]),
        (BatchJobIn(input_files=["a"], model="m"), ["model='m'", "each row's body", "default_model"]),
    ],
)
def test_what_openais_dialect_cannot_say(job, words):
    with pytest.raises(InvalidInputError) as caught:
        OPENAI.create_job(job)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_a_server_without_the_listings_is_another_api(dialect):
    for call in (dialect.list_jobs(JobFilter(), None, 1), dialect.list_files({}, None, 1)):
        assert "check the host" in call.remedies[404]


def test_inline_requests_that_are_too_large_have_another_way():
    assert "pass its id in input_files" in MISTRAL.create_job(INLINE).remedies[413]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (MISTRAL.get_job("j", inline=False), Call("GET", "/v1/batch/jobs/j", [])),
        (MISTRAL.get_job("j", inline=True), Call("GET", "/v1/batch/jobs/j", [("inline", "true")])),
        (MISTRAL.cancel_job("j"), Call("POST", "/v1/batch/jobs/j/cancel")),
        (MISTRAL.delete_job("j"), Call("DELETE", "/v1/batch/jobs/j")),
        (MISTRAL.file_url("f", expiry=5), Call("GET", "/v1/files/f/url", [("expiry", "5")])),
        (OPENAI.get_job("j", inline=True), Call("GET", "/v1/batches/j")),
        (OPENAI.cancel_job("j"), Call("POST", "/v1/batches/j/cancel")),
    ],
)
def test_calls_on_one_resource(call, expected):
    assert call == expected


@pytest.mark.parametrize(
    "call",
    [
        lambda: OPENAI.delete_job("j"),
        lambda: OPENAI.file_url("f", expiry=1),
        lambda: OPENAI.list_jobs(JobFilter(order_by="created"), None, 10),
        lambda: OPENAI.list_jobs(JobFilter(created_by_me=True), None, 10),
        lambda: OPENAI.list_files({"purpose": "batch", "search": "x", "source": None}, None, 10),
    ],
)
def test_calls_that_openais_dialect_does_not_have(call):
    with pytest.raises(InvalidInputError, match="openai dialect"):
        call()


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("a/b", "a%2Fb"),
        ("a?x=1#y", "a%3Fx%3D1%23y"),
        ("%2e%2e", "%252e%252e"),
        ("ä b", "%C3%A4%20b"),
        ("a;b&c", "a%3Bb%26c"),
    ],
)
@pytest.mark.parametrize(
    "call",
    [
        lambda value: MISTRAL.get_job(value, inline=False).path.removeprefix("/v1/batch/jobs/"),
        lambda value: MISTRAL.cancel_job(value).path.removeprefix("/v1/batch/jobs/").removesuffix("/cancel"),
        lambda value: OPENAI.get_job(value, inline=False).path.removeprefix("/v1/batches/"),
        lambda value: file_path(value).removeprefix("/v1/files/"),
        lambda value: MISTRAL.file_url(value, expiry=1).path.removeprefix("/v1/files/").removesuffix("/url"),
    ],
)
def test_ids_stay_in_their_segment(value, path, call):
    assert call(value) == path


def test_list_jobs_in_mistrals_dialect():
    wanted = JobFilter(
        status=["completed", "expired", "finalizing"],
        model="m",
        agent_id="a",
        created_after=datetime(2026, 1, 2, 3, tzinfo=timezone.utc),
        created_by_me=True,
        metadata={"k": "v"},
        order_by="created",
    )
    assert MISTRAL.list_jobs(wanted, "2/150", 50).params == [
        ("page", "2"),
        ("page_size", "50"),
        ("order_by", "created"),
        ("status", "SUCCESS"),
        ("status", "TIMEOUT_EXCEEDED"),
        ("model", "m"),
        ("agent_id", "a"),
        ("created_after", "2026-01-02T03:00:00+00:00"),
        ("created_by_me", "true"),
    ]


def test_list_jobs_in_openais_dialect():
    wanted = JobFilter(status=["completed"], metadata={"k": "v"})
    first = OPENAI.list_jobs(wanted, None, 50)
    assert (first.operation, first.params) == ("GET /v1/batches", [("limit", "50")])
    assert OPENAI.list_jobs(wanted, "b9", 50).params == [("limit", "50"), ("after", "b9")]


def test_list_files():
    filters = {"purpose": "batch", "sample_type": ["batch_result", "batch_error"], "search": None}
    assert MISTRAL.list_files(filters, None, 100).params == [
        ("page", "0"),
        ("page_size", "100"),
        ("purpose", "batch"),
        ("sample_type", "batch_result"),
        ("sample_type", "batch_error"),
    ]
    assert OPENAI.list_files({"purpose": "batch"}, "f9", 100).params == [
        ("limit", "100"),
        ("after", "f9"),
        ("purpose", "batch"),
    ]


# Cursors


def _pages(served: list[list[str]], totals: list[int | None], page_size: int) -> list[list[str]]:
    """Walk through Mistral's pages as a server serves them; return the pages that were read."""
    cursor, read = None, []
    while True:
        number = int(dict(MISTRAL.list_jobs(JobFilter(), cursor, page_size).params)["page"])
        ids = served[number] if number < len(served) else []
        content = {"data": [{**MISTRAL_JOB, "id": batch_id} for batch_id in ids], "total": totals[number]}
        page = MISTRAL.decode_jobs(_bytes(content), cursor, page_size)
        read.append([job.id for job in page.items])
        if page.next is None:
            return read
        cursor = page.next


@pytest.mark.parametrize(
    ("served", "totals", "pages_read"),
    [
        ([[]], [0], 1),
        ([["a"]], [1], 1),
        ([["a", "b"]], [2], 1),
        ([["a", "b"], ["c"]], [3, 3], 2),
        # The server's pages are smaller than asked for.
        ([["a"], ["b"], ["c"]], [3, 3, 3], 3),
        # Jobs come while we read: the pages shift.
        ([["a", "b"], ["b", "c"]], [3, 4], 2),
        ([["a", "b"], ["a", "b"], ["c"]], [3, 5, 5], 3),
        # Jobs go while we read.
        ([["a", "b"], []], [4, 2], 2),
        # The server does not count, or counts wrongly.
        ([["a", "b"], ["c"]], [None, None], 2),
        ([["a", "b"], ["c", "d"], []], [None, None, None], 3),
        ([["a", "b"], ["c"]], [0, 0], 2),
    ],
)
def test_pages_by_number(served, totals, pages_read):
    assert _pages(served, totals, page_size=2) == served[:pages_read]


@pytest.mark.parametrize(
    ("ids", "has_more", "cursor", "following"),
    [
        ([], True, None, None),
        (["a", "b"], True, None, "b"),
        (["a", "b"], False, None, None),
        (["a"], True, "z", "a"),
        # The server does not say: a page that is not full is the last.
        (["a", "b"], None, None, "b"),
        (["a"], None, None, None),
        # The server does not know `after` and always sends the first page.
        (["a", "b"], True, "b", None),
    ],
)
@pytest.mark.parametrize("listing", ["jobs", "files"])
def test_pages_by_cursor(ids, has_more, cursor, following, listing):
    item = OPENAI_JOB if listing == "jobs" else {}
    content = _bytes({"data": [{**item, "id": one} for one in ids], "has_more": has_more})
    decode = OPENAI.decode_jobs if listing == "jobs" else OPENAI.decode_files
    page = decode(content, cursor, 2)
    assert ([one.id for one in page.items], page.next) == (ids, following)


def test_where_a_listing_can_start():
    assert (MISTRAL.cursor_after("b"), OPENAI.cursor_after("b")) == (None, "b")


# Filters


def _job(**fields) -> BatchJobOut:
    return BatchJobOut(
        **{"id": "b", "status": "completed", "raw_status": "SUCCESS", "created_at": 1000, **fields}
    )


@pytest.mark.parametrize(
    ("wanted", "fields", "matches"),
    [
        ({}, {}, True),
        ({"status": ["completed"]}, {}, True),
        ({"status": ["failed"]}, {}, False),
        ({"status": []}, {}, False),
        ({"model": "m"}, {"model": "m"}, True),
        ({"model": "m"}, {"model": None}, True),
        ({"model": "m"}, {"model": "n"}, False),
        ({"agent_id": "a"}, {"agent_id": "b"}, False),
        ({"metadata": {"k": "v"}}, {"metadata": {"k": "v", "l": "w"}}, True),
        ({"metadata": {"k": "v"}}, {"metadata": {"k": "w"}}, False),
        ({"metadata": {"k": "v"}}, {"metadata": None}, False),
        ({"created_after": datetime.fromtimestamp(1000, timezone.utc)}, {}, True),
        ({"created_after": datetime.fromtimestamp(1000.9, timezone.utc)}, {}, True),
        ({"created_after": datetime.fromtimestamp(1001, timezone.utc)}, {}, False),
        # No creation time: it may be any.
        ({"created_after": datetime.fromtimestamp(1001, timezone.utc)}, {"created_at": 0}, True),
    ],
)
def test_filter_on_our_side(wanted, fields, matches):
    assert JobFilter(**wanted).matches(_job(**fields)) is matches


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"status": "completed"}, "status='completed' is not a list"),
        ({"status": ["SUCCESS"]}, "status='SUCCESS' is not known: use one of cancelled, "),
        ({"order_by": "-name"}, "order_by='-name' is not known: use one of created, -created"),
        ({"created_after": "2026-01-01"}, "created_after='2026-01-01' is not a time: pass a datetime"),
    ],
)
def test_bad_filters(filters, words):
    with pytest.raises(InvalidInputError) as caught:
        JobFilter(**filters)
    assert words in str(caught.value)


# Files and the rest


def test_file():
    file = {
        "id": "f",
        "object": "file",
        "bytes": 12,
        "created_at": 5.5,
        "filename": "a.jsonl",
        "purpose": "batch",
        "sample_type": "batch_request",
        "source": "upload",
        "num_lines": 2,
        "mimetype": "application/jsonl",
        "signature": "s",
        "expires_at": 9,
        "visibility": "workspace",
        "deleted": True,
    }
    assert msgspec.to_builtins(decode_file(_bytes({**file, "new": 1}))) == {**file, "created_at": 5}
    assert decode_file(b'{"id": "f", "bytes": null}').bytes == 0


def test_deletion_and_signed_url():
    assert decode_deleted(b'{"id": "f"}').deleted is True
    assert decode_signed_url(b'{"url": "https://x"}') == "https://x"


def test_the_connections_form_offers_the_dialects_there_are():
    (connection_type,) = get_provider_info()["connection-types"]
    assert connection_type["conn-fields"]["dialect"]["schema"]["enum"] == list(DIALECTS)


@pytest.mark.parametrize("name", ["Mistral", "", None, ["mistral"]])
def test_unknown_dialect(name):
    with pytest.raises(InvalidInputError, match=r"dialect=.* is not known: use one of mistral, openai"):
        dialect_named(name)


def test_a_gateway_that_gives_the_same_page_for_each_number_may_say_that_it_is_the_last():
    files = [{"id": f"f{number}"} for number in range(100)]
    for has_more, cursor in ((False, None), (None, "1/100"), (True, "1/100")):
        answer = json.dumps({"data": files, "has_more": has_more}).encode()
        assert MISTRAL.decode_files(answer, None, 100).next == cursor


@pytest.mark.parametrize(
    ("dialect", "job", "odd"),
    [
        *((MISTRAL, MISTRAL_JOB, {name: value}) for name, value in {
            "created_at": {}, "completed_at": "soon", "started_at": True, "timeout_hours": 24.5,
            "total_requests": "three", "succeeded_requests": {"n": 1}, "failed_requests": [], "model": {"id": "x"},
            "agent_id": 5, "endpoint": 5, "outputs": {"a": 1}, "metadata": 5, "errors": 5,
        }.items()),
        *((OPENAI, OPENAI_JOB, {name: value}) for name, value in {
            "created_at": [], "expires_at": "never", "request_counts": {"total": "x"}, "model": 5, "endpoint": 5,
            "completion_window": 24, "object": 1,
        }.items()),
    ],
)  # fmt: skip
def test_an_odd_side_field_hides_no_job(dialect, job, odd):
    text = json.dumps({**job, **odd}).encode()
    read = dialect.decode_job(text)
    assert (read.id, read.output_file_id, read.is_terminal) == (job["id"], "out-1", True)
    listed = dialect.decode_jobs(
        b'{"data": [%b, %b], "total": "x"}' % (text, json.dumps(job).encode()), None, 2
    )
    assert [one.id for one in listed.items] == [job["id"]] * 2


@pytest.mark.parametrize("name", ["id", "status", "output_file", "error_file", "input_files"])
def test_a_job_without_what_is_needed_is_not_read(name):
    with pytest.raises(msgspec.ValidationError):
        MISTRAL.decode_job(json.dumps({**MISTRAL_JOB, name: {"odd": 1}}).encode())


@pytest.mark.parametrize("answer", ["[]", '{"data": {}}', '{"data": [5]}', '{"data": [[]]}', '"x"'])
def test_what_is_no_answer_is_not_read(answer):
    for read in (
        lambda text: MISTRAL.decode_jobs(text, None, 100),
        lambda text: OPENAI.decode_files(text, None, 9),
    ):
        with pytest.raises(msgspec.ValidationError):
            read(answer.encode())


def test_a_time_may_be_a_text():
    text = json.dumps(
        {**MISTRAL_JOB, "created_at": "1970-01-01T00:01:40Z", "completed_at": "1970-01-01 00:02:00"}
    )
    job = MISTRAL.decode_job(text.encode())
    assert (job.created_at, job.completed_at) == (100, 120)


@pytest.mark.parametrize("levels", [3, 300, 900, 2_000, 100_000])
def test_a_deep_row_spoils_no_other_row(levels):
    deep = b'{"custom_id": "[\\"{", "body":\n%b%b}' % (b"[" * levels, b"]" * levels)
    rows = [b'{"custom_id": "a", "x": 1e999}', deep, b"null", b'{"custom_id": "b"}', deep]
    answer = (
        json.dumps({**MISTRAL_JOB, "outputs": 0})
        .encode()
        .replace(b'"outputs": 0', b'"outputs": [%b]' % b",\r\n".join(rows))
    )
    assert MISTRAL.decode_rows(answer) == [row.replace(b"\n", b" ") for row in rows]
    job = MISTRAL.decode_job(answer.replace(b"1e999", b"1"))
    assert job.id == MISTRAL_JOB["id"]
    assert [row["custom_id"] for row in job.outputs or () if row["custom_id"] in ("a", "b")] == ["a", "b"]
