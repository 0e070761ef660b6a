"""The emulator against hostile input: whatever a client sends, the answer is never a 500, and others are served."""

from __future__ import annotations

import itertools
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from packaging.version import Version
from requests_toolbelt.sessions import BaseUrlSession

from airflow_provider_mistral_batch.emulator import Emulator
from airflow_provider_mistral_batch.emulator.client import Control

JOBS = "/v1/batch/jobs"
ID = "b1946ac9-2f9b-4e44-9a2c-6f1d8c7b0a11"
ROW = b'{"custom_id": "a", "body": {"messages": [{"role": "user", "content": "What?"}]}}\n'

#: As they stand in a URL.
TEXTS = [
    "",
    "-1",
    "0",
    "9" * 18,
    "9223372036854775807",
    "9" * 19,
    "-" + "9" * 30,
    "9" * 5_000,
    "1e308",
    "NaN",
    "Infinity",
    "-Infinity",
    "%00",
    "%ff%fe",
    "%ed%a0%80",
    "0001-01-01T00:00:00",
    "9999-12-31T23:59:59",
    "0001-01-01T00:00:00%2B23:59",
    "9999-12-31T23:59:59-23:59",
    "%7B%22a%22:%22%5Cud800%22%7D",
    "%7B%22%5Cud800%22:%22a%22%7D",
    quote("[" * 3_000),
    quote('{"a":' * 3_000),
    "'%3B drop table jobs",
]
DEEP = "[" * 400 + "]" * 400
ENDLESS = "[" * 100_000 + "]" * 100_000
#: As they stand in JSON.
VALUES = [
    "null",
    "-1",
    "0",
    "1.5",
    "9" * 19,
    "9" * 400,
    "9" * 5_000,
    "-" + "9" * 30,
    "1e308",
    "1e999",
    "NaN",
    "-Infinity",
    '""',
    '"\\ud800"',
    '"a\\u0000b"',
    '"caf\\u00e9\\n"',
    '"' + "x" * 100_000 + '"',
    '["\\ud800"]',
    '{"\\ud800": "\\udc00"}',
    '{"a": "b\\udfff"}',
    "[]",
    "{}",
    DEEP,
    '{"a":' * 400 + "1" + "}" * 400,
    ENDLESS,
    '{"a": ' + "9" * 400 + "}",
]
GOOD_JOB = {
    "requests": [{"body": {"input": "text"}}],
    "endpoint": "/v1/embeddings",
    "model": "mistral-embed",
    "metadata": {"a": "b"},
    "timeout_hours": 1,
    "agent_id": None,
}
BODIES: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", JOBS, GOOD_JOB),
    ("POST", JOBS, {**GOOD_JOB, "requests": None, "input_files": [ID]}),
    (
        "POST",
        "/v1/batches",
        {"input_file_id": ID, "endpoint": "/v1/ocr", "completion_window": "24h", "metadata": {}},
    ),
    ("PATCH", "/emulator/settings", {"embedding_dimension": 8}),
    ("POST", "/emulator/keys", {"key": "some-key", "same_workspace_as": "other-key"}),
    ("POST", "/emulator/keys/revoke", {"key": "some-key"}),
    ("POST", "/emulator/jobs/end", {"ids": [ID], "status": "SUCCESS"}),
    ("POST", "/emulator/jobs/end", {"metadata": {"nobody": "has"}}),
]
QUERIES = {
    JOBS: [
        "page",
        "page_size",
        "model",
        "agent_id",
        "created_after",
        "created_by_me",
        "status",
        "order_by",
        "metadata",
        "metadata[a]",
        "anything",
    ],
    "/v1/files": [
        "page",
        "page_size",
        "include_total",
        "sample_type",
        "source",
        "search",
        "purpose",
        "mimetypes",
        "after",
        "limit",
        "order",
    ],
    "/v1/batches": ["after", "limit"],
    f"{JOBS}/{ID}": ["inline"],
    f"/v1/files/{ID}/url": ["expiry"],
    f"/signed/{ID}": ["expires", "signature"],
    "/emulator/record": ["phantoms"],
}


@pytest.fixture
def hostile(api: BaseUrlSession, emulator: Emulator) -> Iterator[BaseUrlSession]:
    """Plain HTTP; afterwards the emulator must be whole, and must not have failed at anything."""
    api.headers["X-Emulator-Control"] = "1"
    before = len(emulator.log)
    yield api
    assert api.get(JOBS).status_code == 200
    assert "Traceback" not in emulator.log[before:]


def send(api: BaseUrlSession, method: str, path: str, body: str) -> requests.Response:
    return api.request(
        method, path, data=body.encode("utf-8", "surrogatepass"), headers={"Content-Type": "application/json"}
    )


@pytest.mark.parametrize(
    ("path", "name"), [(path, name) for path, names in QUERIES.items() for name in names]
)
def test_no_query_is_a_500(hostile: BaseUrlSession, path: str, name: str) -> None:
    others = "&expires=1&signature=a" if path.startswith("/signed") else ""
    for text in TEXTS:
        answer = hostile.get(f"{path}?{name}={text}{others}")
        assert answer.status_code < 500, (text[:50], answer.text)


@pytest.mark.parametrize("path", QUERIES)
@pytest.mark.parametrize(
    "query",
    [
        "&".join(f"k{number}=v" for number in range(2_000)),
        "&".join(["status=RUNNING"] * 40_000),
        "&".join(["mimetypes=a/b"] * 40_000),
        "&".join(["source=upload"] * 40_000),
        "=&&=%ff&%ed%a0%80=1;;",
    ],
)
def test_no_number_of_query_keys_is_a_500(hostile: BaseUrlSession, path: str, query: str) -> None:
    assert hostile.get(f"{path}?{query}").status_code < 500


@pytest.mark.parametrize(("method", "path", "body"), BODIES)
def test_no_body_is_a_500(
    hostile: BaseUrlSession, control: Control, method: str, path: str, body: dict[str, Any]
) -> None:
    bodies = [json.dumps(body).replace(json.dumps(value), text) for value in body.values() for text in VALUES]
    for text in [*VALUES, *bodies, '{"a": "\xff', "", "\x00", json.dumps(body)[:-1]]:
        answer = send(hostile, method, path, text)
        assert answer.status_code < 500, (text[:200], answer.text)


def test_bytes_that_are_not_utf8_are_refused(hostile: BaseUrlSession) -> None:
    for body in (b"\xff\xfe{}", b'{"model": "\xff"}', '{"a": 1}'.encode("utf-16"), b"\xed\xa0\x80"):
        answer = hostile.post(JOBS, data=body, headers={"Content-Type": "application/json"})
        assert 400 <= answer.status_code < 500


@pytest.mark.parametrize("place", ["model", "agent_id", "metadata key", "metadata value"])
def test_a_lone_surrogate_is_refused(hostile: BaseUrlSession, place: str) -> None:
    text = {
        "model": '"model": "\\ud800"',
        "agent_id": '"agent_id": "\\ud800"',
        "metadata key": '"metadata": {"\\ud800": "a"}',
        "metadata value": '"metadata": {"a": "\\ud800"}',
    }[place]
    body = '{"requests": [{"body": {"input": "a"}}], "endpoint": "/v1/embeddings", ' + text + "}"
    answer = send(hostile, "POST", JOBS, body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["type"] == "json_invalid"


NAMES = [
    "Authorization",
    "Content-Type",
    pytest.param(
        "Range",
        marks=pytest.mark.skipif(
            Version(version("starlette")) < Version("0.49"),
            reason="starlette before 0.49 fails at huge ranges",
        ),
    ),
    "If-Range",
    "Accept-Encoding",
    "Content-Length",
    "X-Forwarded-Host",
]
HEADERS = [
    "",
    "\xff",
    "x" * 20_000,
    "bytes=" + "9" * 5_000 + "-",
    "bytes=0-1" + ",2-3" * 500,
    "bytes=-" + "9" * 30,
]
HEADERS += [
    "Bearer \xff\xfe",
    "multipart/form-data; boundary=" + "b" * 5_000,
    "multipart/form-data; boundary=\xff",
]
HEADERS += [
    "multipart/form-data; boundary*=utf-8''%ff",
    "application/json; charset=nonsense",
    "bytes=a-b",
    "=;=;",
]


@pytest.mark.parametrize("name", NAMES)
def test_no_header_is_a_500(hostile: BaseUrlSession, name: str) -> None:
    file = hostile.post("/v1/files", files={"file": ("a.jsonl", ROW)}, data={"purpose": "batch"}).json()
    for value, (method, path) in itertools.product(
        HEADERS,
        [("GET", f"/v1/files/{file['id']}/content"), ("GET", JOBS), ("POST", JOBS), ("POST", "/v1/files")],
    ):
        if name == "Content-Length" and not value:
            continue
        try:
            answer = hostile.request(method, path, headers={name: value.encode("latin-1")})
        except requests.RequestException:
            continue
        assert answer.status_code < 500, (method, path, value[:50], answer.text)


def form(*parts: tuple[str, bytes], end: bytes = b"--limit--\r\n") -> bytes:
    made = b"".join(b"--limit\r\n" + head.encode() + b"\r\n\r\n" + body + b"\r\n" for head, body in parts)
    return made + end


FILE = 'Content-Disposition: form-data; name="file"; filename="a.jsonl"'
PURPOSE = ('Content-Disposition: form-data; name="purpose"', b"batch")


@pytest.fixture
def upload(hostile: BaseUrlSession) -> Callable[[bytes], requests.Response]:
    headers = {"Content-Type": "multipart/form-data; boundary=limit"}
    return lambda body: hostile.post("/v1/files", data=body, headers=headers)


@pytest.mark.parametrize("field", ["expiry", "purpose", "visibility", "sample_type", "", "\xff"])
def test_no_form_field_is_a_500(upload: Callable[[bytes], requests.Response], field: str) -> None:
    values = [text.encode() for text in TEXTS] + [
        b"\xff",
        b"\xed\xa0\x80",
        "\u0663".encode(),
        b"1_000",
        b"x" * 50_000,
    ]
    for value in values:
        part = (f'Content-Disposition: form-data; name="{field}"', value)
        answer = upload(form(PURPOSE, part, (FILE, ROW)))
        assert answer.status_code < 500, (value[:50], answer.text)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "\x01",
        "../../x",
        "http://[",
        "//[::1",
        "data:,x",
        "x" * 10_000,
        "\ud800",
        'a\\"b',
        "%0d%0aX: y",
        "\xff",
    ],
)
def test_no_file_name_is_a_500(
    hostile: BaseUrlSession, upload: Callable[[bytes], requests.Response], name: str
) -> None:
    for purpose in (PURPOSE, (PURPOSE[0], b"ocr")):
        head = (
            b'Content-Disposition: form-data; name="file"; filename="'
            + name.encode("utf-8", "surrogatepass")
            + b'"'
        )
        body = form(purpose, end=b"--limit\r\n" + head + b"\r\n\r\n" + ROW + b"\r\n--limit--\r\n")
        answer = upload(body)
        assert answer.status_code < 500, answer.text
        if answer.ok:
            file = answer.json()
            assert hostile.get(f"/v1/files/{file['id']}/content").content == ROW
            assert hostile.get("/v1/files").status_code == 200


@pytest.mark.parametrize("expiry", ["0", "-1", "9" * 30, "9" * 5_000, "1e3", "1_000", "\u0663", "nonsense"])
def test_expiry_is_a_number_of_hours(upload: Callable[[bytes], requests.Response], expiry: str) -> None:
    part = ('Content-Disposition: form-data; name="expiry"', expiry.encode())
    answer = upload(form(PURPOSE, part, (FILE, ROW)))
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "expiry"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--limit",
        b"--limit\r\n",
        form(PURPOSE, (FILE, ROW), end=b""),
        form(PURPOSE, (FILE, ROW), end=b"--limit"),
        form(PURPOSE, (FILE, ROW))[: -len(b"--\r\n")],
        form(PURPOSE, (FILE, ROW))[:-30],
        form(PURPOSE, (FILE, ROW), (FILE, ROW)),
        form(PURPOSE, *[(PURPOSE[0], b"batch")] * 5_000, (FILE, ROW)),
        form(PURPOSE, (FILE + "\r\nX-Long: " + "x" * 100_000, ROW)),
    ],
    ids=[
        "empty",
        "3",
        "4",
        "no end",
        "half an end",
        "no dashes",
        "in a part",
        "two files",
        "many fields",
        "long head",
    ],
)
def test_a_form_that_is_broken_is_refused(
    control: Control, upload: Callable[[bytes], requests.Response], body: bytes
) -> None:
    files = len(control.record()["files"])
    answer = upload(body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["type"] == "invalid_request_error"
    assert len(control.record()["files"]) == files


@pytest.mark.parametrize(
    "method", ["GET", "POST", "PATCH", "DELETE", "PUT", "OPTIONS", "HEAD", "TRACE", "NONSENSE"]
)
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "//",
        "/v1",
        "/v1/files/%ff",
        f"{JOBS}/%00",
        f"{JOBS}/{ID}/cancel",
        "/emulator/faults/%ff",
        "/emulator/jobs/x",
        "/emulator",
        "/%ed%a0%80",
        "/signed/x",
        "/" + "x" * 5_000,
        "/../../etc/passwd",
        "/v1/files/" + "%2e" * 50,
    ],
)
def test_no_path_is_a_500(hostile: BaseUrlSession, method: str, path: str) -> None:
    assert hostile.request(method, path).status_code < 500


@pytest.mark.parametrize(
    "name",
    [
        "validation_seconds",
        "job_seconds",
        "cancel_seconds",
        "speed",
        "latency",
        "clock_skew",
        "listing_lag",
        "max_file_bytes",
        "max_pending_requests",
        "embedding_dimension",
    ],
)
def test_no_setting_breaks_the_emulator(name: str, settings_emulator: Emulator) -> None:
    session = BaseUrlSession(settings_emulator.url)
    session.headers.update({"Authorization": "Bearer any", "X-Emulator-Control": "1"})
    good = session.get("/emulator/settings").json()
    for value in [
        "1e308",
        "1e999",
        "-1e308",
        "NaN",
        "Infinity",
        "-Infinity",
        "9" * 400,
        "-1",
        "1e10",
        '"\\ud800"',
    ]:
        if name == "latency" and value == "1e10":
            continue
        answer = send(session, "PATCH", "/emulator/settings", f'{{"{name}": {value}}}')
        assert answer.status_code == 422 or value in ("-1", "1e10"), (value, answer.text)
        for path in (JOBS, "/v1/files"):
            assert session.get(path).status_code == 200, (value, path)
        assert session.post(JOBS, json=GOOD_JOB).status_code < 500, value
        assert session.patch("/emulator/settings", json=good).status_code == 200
    assert "Traceback" not in settings_emulator.log


@pytest.fixture(scope="module")
def settings_emulator() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


FAULT = {"kind": "status", "path": "/v1/files"}
PLAN = {"times": 1}


@pytest.mark.parametrize(
    "rule",
    [
        '"retry_after": "a\\r\\nb"',
        '"retry_after": "\\u20ac"',
        '"retry_after": ' + "9" * 400,
        '"body": "\\ud800"',
        '"body": ' + "9" * 400,
        '"body": ' + DEEP,
        '"body": ' + ENDLESS,
        '"message": "\\ud800"',
        '"status": 204',
        '"status": 304',
        '"status": 999',
        '"kind": "redirect", "location": "\\u20ac"',
        '"kind": "redirect", "location": "a\\r\\nb"',
        '"kind": "alter", "fields": {"a": ' + "9" * 400 + "}",
        '"kind": "alter", "fields": {"a": ' + DEEP + "}",
        '"kind": "slow", "seconds": 1e999',
        '"kind": "hold", "seconds": 1e308',
        '"contains": "\\u0000", "key": "\\u20ac"',
        '"path": "' + "*a" * 5_000 + '"',
        '"skip": ' + "9" * 400,
    ],
)
def test_a_fault_strikes_as_it_says_or_is_refused(hostile: BaseUrlSession, rule: str) -> None:
    answer = send(
        hostile,
        "POST",
        "/emulator/faults",
        '{"kind": "status", "path": "/v1/files", "status": 418, ' + rule + "}",
    )
    assert answer.status_code in (200, 400, 422)
    if answer.ok and "hold" not in rule:
        assert hostile.get("/v1/files").status_code != 500
    assert hostile.get("/emulator/faults").status_code == 200
    hostile.delete("/emulator/faults")


@pytest.mark.parametrize(
    "plan",
    [
        '"fields": {"a": "\\ud800"}',
        '"fields": {"a": ' + "9" * 400 + "}",
        '"fields": {"a": ' + DEEP + "}",
        '"status": "\\ud800"',
        '"errors": ["\\ud800"]',
        '"job_seconds": 1e999',
        '"validation_seconds": 1e308',
        '"failed_rows": ' + "9" * 400,
        '"failed_rows": -5',
        '"failed_statuses": [' + "9" * 400 + "]",
        '"failed_statuses": [-1, 0, 99999]',
        '"failed_ids": ["\\ud800"]',
        '"duplicate_rows": ' + "9" * 400,
        '"end_after": NaN',
    ],
)
def test_a_plan_is_kept_or_refused(hostile: BaseUrlSession, plan: str) -> None:
    answer = send(hostile, "POST", "/emulator/job-faults", '{"plan": {' + plan + "}}")
    assert answer.status_code in (200, 400, 422)
    job = hostile.post(JOBS, json=GOOD_JOB)
    assert job.status_code == 200
    path = f"/emulator/jobs/{job.json()['id']}"
    assert send(hostile, "PATCH", path, "{" + plan + "}").status_code in (200, 400, 422)
    assert hostile.get(f"{JOBS}/{job.json()['id']}").status_code == 200
    assert hostile.get("/emulator/record").status_code == 200
    hostile.delete(f"{JOBS}/{job.json()['id']}")
    hostile.delete("/emulator/faults")


@pytest.mark.parametrize(
    "field",
    [
        '"count": ' + "9" * 400,
        '"total_requests": ' + "9" * 30,
        '"age_seconds": 1e308',
        '"age_seconds": 1e999',
        '"ends_after": [1e999]',
        '"ends_after": [-1e308]',
        '"metadata": {"\\ud800": "a"}',
        '"model": "\\ud800"',
        '"plan": {"fields": {"a": ' + DEEP + "}}",
        '"key": "\\ud800"',
    ],
)
def test_phantoms_are_made_or_refused(hostile: BaseUrlSession, control: Control, field: str) -> None:
    body = f'{{"count": 1, "key": "{control.api_key}", {field}}}'
    assert send(hostile, "POST", "/emulator/jobs", body).status_code in (200, 400, 422)
    assert hostile.get(JOBS).status_code == 200
    assert hostile.post(JOBS, json=GOOD_JOB).status_code == 200
    assert hostile.get("/emulator/record?phantoms=true").status_code == 200


def test_listings_find_jobs_by_any_number_of_keys(hostile: BaseUrlSession) -> None:
    metadata = {f"k{number}": f"v{number}" for number in range(3_000)}
    job = hostile.post(JOBS, json={**GOOD_JOB, "metadata": metadata}).json()
    hostile.post(JOBS, json={**GOOD_JOB, "metadata": {**metadata, "k7": "other"}})
    listed = hostile.get(JOBS, params=metadata).json()
    assert [one["id"] for one in listed["data"]] == [job["id"]]
    assert uuid.UUID(job["id"])


CONTROL_CALLS = [
    ("GET", "/emulator/settings"),
    ("PATCH", "/emulator/settings"),
    ("GET", "/emulator/faults"),
    ("POST", "/emulator/faults"),
    ("DELETE", "/emulator/faults"),
    ("POST", "/emulator/job-faults"),
    ("POST", "/emulator/jobs"),
    ("POST", "/emulator/jobs/end"),
    ("POST", "/emulator/keys"),
    ("POST", "/emulator/keys/revoke"),
    ("GET", "/emulator/record"),
    ("POST", "/emulator/record/reset"),
]


@pytest.mark.parametrize(("method", "path"), CONTROL_CALLS)
def test_the_control_api_needs_a_header_that_no_web_page_can_send(
    api: BaseUrlSession, control: Control, method: str, path: str
) -> None:
    control.fault("status", "GET", path="/nowhere")
    api.get(JOBS)
    answer = api.request(method, path, json={}, headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403
    assert "X-Emulator-Control: 1" in answer.json()["message"]
    assert control.requests() == {f"GET {JOBS}": 1}
    assert api.request(method, path, json={}, headers={"X-Emulator-Control": "1"}).status_code != 403
    # What a browser asks before it lets a page send the header is not granted.
    preflight = {"Origin": "https://evil.example", "Access-Control-Request-Headers": "x-emulator-control"}
    answer = api.options(path, headers={**preflight, "Access-Control-Request-Method": method})
    assert not answer.ok
    assert not any(name.lower().startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize(
    "path", [JOBS, "/v1/files", f"/signed/{ID}", "/emulator/record/reset", "/emulator/health"]
)
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:80",
        "127.0.0.1.evil.example",
        "localhost.evil.example:1",
        "192.0.2.1",
        "0.0.0.0",
        "[2001:db8::1]:80",
        "",
        "user@evil.example",
        "\xff",
    ],
)
def test_a_page_whose_name_leads_to_this_machine_is_refused(
    api: BaseUrlSession, control: Control, host: str, path: str
) -> None:
    for method in ("GET", "POST"):
        headers = {"Host": host.encode("latin-1"), "X-Emulator-Control": "1"}
        answer = api.request(method, path, headers=headers)
        assert answer.status_code in (400, 403)
        if answer.status_code == 403:
            assert "--host" in answer.json()["message"]
    assert control.requests() == {}


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:80", "localhost", "LOCALHOST:8787", "[::1]:8787", "127.9.9.9"]
)
def test_every_name_of_this_machine_is_let_in(api: BaseUrlSession, host: str) -> None:
    assert api.get(JOBS, headers={"Host": host}).status_code == 200


def test_other_machines_may_use_any_name_if_they_are_let_in() -> None:
    with Emulator(options={"host": "0.0.0.0"}) as emulator:
        url = emulator.url.replace("0.0.0.0", "127.0.0.1")
        headers = {"Host": "emulator.internal", "Authorization": "Bearer any"}
        assert requests.get(f"{url}{JOBS}", headers=headers, timeout=30).status_code == 200
        assert requests.get(f"{url}/emulator/record", headers=headers, timeout=30).status_code == 403


def _others_may(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o077)


@pytest.mark.parametrize("made_before", [False, True])
def test_nobody_else_reads_the_state_directory(tmp_path: Path, made_before: bool) -> None:
    state_dir = tmp_path / "state"
    before = os.umask(0o022)
    try:
        if made_before:
            # As an older emulator left it.
            (state_dir / "blobs").mkdir(parents=True)
            (state_dir / "server.lock").touch()
        with Emulator(state_dir=state_dir) as emulator:
            api = BaseUrlSession(emulator.url)
            api.headers["Authorization"] = "Bearer any"
            api.post(
                "/v1/files", files={"file": ("a.jsonl", ROW)}, data={"purpose": "batch"}
            ).raise_for_status()
            job = api.post(JOBS, json=GOOD_JOB).json()
            while api.get(f"{JOBS}/{job['id']}").json()["completed_at"] is None:
                time.sleep(0.01)
            found = [state_dir, *state_dir.rglob("*")]
            assert len(found) > 6
            assert [path for path in found if _others_may(path)] == []
    finally:
        os.umask(before)


def test_a_directory_with_other_things_in_it_stays_open_but_not_our_files(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    tmp_path.chmod(0o755)
    before = os.umask(0o022)
    try:
        with Emulator(state_dir=tmp_path):
            assert _others_may(tmp_path)
            assert [
                path for path in tmp_path.rglob("*") if _others_may(path) and path.name != "notes.txt"
            ] == []
    finally:
        os.umask(before)


PROMPT = [{"role": "user", "content": "Describe " + "a" * 3_000}]


def _schema(schema: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    body_format = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    return "/v1/chat/completions", {"messages": PROMPT, "response_format": body_format}


_MANY_REFERENCES = {
    f"s{number}": {"anyOf": [{"$ref": f"#/$defs/s{other}"} for other in range(12)]} for number in range(12)
}
_LAUGHS = {f"s{number}": {"allOf": [{"$ref": f"#/$defs/s{number + 1}"}] * 10} for number in range(12)}
STALLING = {
    "n": ("/v1/chat/completions", {"messages": PROMPT, "n": 2_000_000_000}),
    "output_dimension": ("/v1/embeddings", {"input": "a", "output_dimension": 2_000_000_000}),
    "many inputs": ("/v1/embeddings", {"input": ["a"] * 100_000, "output_dimension": 10_000}),
    "minItems": _schema({"type": "array", "minItems": 10**9}),
    "minItems of minItems": _schema(
        {
            "type": "array",
            "minItems": 900,
            "items": {"type": "array", "minItems": 900, "items": {"type": "integer"}},
        }
    ),
    "uniqueItems": _schema(
        {"type": "array", "minItems": 10**6, "uniqueItems": True, "items": {"type": "string"}}
    ),
    "minLength": _schema({"type": "string", "minLength": 10**9}),
    "pattern": _schema({"type": "string", "pattern": "a{4000000000}"}),
    "patterns in patterns": _schema({"type": "string", "pattern": "((((b{999}){999}){999}){999}){999}"}),
    "backtracking": _schema({"type": "string", "pattern": "(a|a|aa)+(a|aa)+$b"}),
    "references": _schema({"$ref": "#/$defs/s0", "$defs": _MANY_REFERENCES}),
    "laughs": _schema({"$ref": "#/$defs/s0", "$defs": _LAUGHS}),
    "multipleOf": _schema({"type": "number", "multipleOf": 5e-324, "minimum": 1e308}),
    "half a character": _schema({"type": "string", "pattern": "\\ud800[\\udfff]"}),
    "moderation": ("/v1/moderations", {"input": "a.b" * 100_000}),
}


@pytest.mark.parametrize("name", STALLING)
def test_one_row_stalls_no_other_job(hostile: BaseUrlSession, name: str) -> None:
    endpoint, body = STALLING[name]
    # More than one of them: each takes its time, and the others come in between.
    rows = [{"custom_id": f"bad-{number}", "body": body} for number in range(3)]
    job = {"requests": rows, "endpoint": endpoint, "model": "some-model"}
    bad = hostile.post(JOBS, json=job).json()["id"]
    good = hostile.post(JOBS, json=GOOD_JOB).json()["id"]
    ended = {}
    deadline = time.monotonic() + 90
    for job_id in (good, bad):
        while (now := hostile.get(f"{JOBS}/{job_id}?inline=true").json())["completed_at"] is None:
            assert time.monotonic() < deadline, now
            time.sleep(0.01)
        ended[job_id] = now
    assert ended[good]["succeeded_requests"] == 1
    assert ended[bad]["status"] == "SUCCESS"
    assert {row["response"]["status_code"] for row in ended[bad]["outputs"]} <= {200, 422}


def test_a_job_with_many_rows_lets_others_in(hostile: BaseUrlSession) -> None:
    rows = b"".join(b'{"custom_id": "%d", "body": {"input": "text"}}\n' % number for number in range(30_000))
    file = hostile.post("/v1/files", files={"file": ("a.jsonl", rows)}, data={"purpose": "batch"}).json()
    body = {"input_files": [file["id"]], "endpoint": "/v1/embeddings", "model": "m"}
    large = hostile.post(JOBS, json=body).json()["id"]
    small = hostile.post(JOBS, json=GOOD_JOB).json()["id"]
    while hostile.get(f"{JOBS}/{small}").json()["completed_at"] is None:
        time.sleep(0.01)
    assert hostile.get(f"{JOBS}/{large}").json()["completed_at"] is None
    hostile.delete(f"{JOBS}/{large}")
