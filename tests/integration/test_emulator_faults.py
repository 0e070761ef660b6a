"""The emulator's faults over a socket: what requests suffer, and what becomes of jobs that are to go wrong."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests
from requests_toolbelt.sessions import BaseUrlSession

from airflow_provider_mistral_batch.emulator.client import Control

JOBS = "/v1/batch/jobs"
CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "What is this?"}]}


def create(api: BaseUrlSession, rows: int = 1, **fields: Any) -> requests.Response:
    rows_ = [{"custom_id": f"row-{n}", "body": BODY} for n in range(rows)]
    body = {"requests": rows_, "endpoint": CHAT, "model": "some-model", **fields}
    return api.post(JOBS, json=body, allow_redirects=False)


@pytest.fixture
def run(api: BaseUrlSession) -> Callable[..., dict[str, Any]]:
    """Runs a job to its end and gives it with its rows, as ``output`` and ``errors_``."""

    def run(rows: int = 10, **fields: Any) -> dict[str, Any]:
        job: dict[str, Any] = create(api, rows, **fields).json()
        deadline = time.monotonic() + 30
        while job["completed_at"] is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
            job = api.get(f"{JOBS}/{job['id']}").json()
        for name, file_id in (("output", job["output_file"]), ("errors_", job["error_file"])):
            text = api.get(f"/v1/files/{file_id}/content").text if file_id else ""
            job[name] = [json.loads(line) for line in text.splitlines()]
        return job

    return run


def test_a_status_some_times(control: Control, api: BaseUrlSession) -> None:
    control.fault("status", "GET", JOBS, status=429, retry_after=7, times=2, skip=1)
    answers = [api.get(JOBS) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 429, 429, 200]
    assert answers[1].headers["Retry-After"] == "7"
    assert (answers[1].json()["object"], answers[1].json()["type"]) == ("error", "rate_limited")
    assert answers[1].headers["mistral-correlation-id"]


@pytest.mark.parametrize("status", [401, 402, 500, 502, 503, 504])
def test_any_status(control: Control, api: BaseUrlSession, status: int) -> None:
    control.fault("status", status=status, message="planned")
    answer = api.get("/v1/files")
    assert (answer.status_code, answer.json()["message"]) == (status, "planned")


def test_a_body_of_ones_own(control: Control, api: BaseUrlSession) -> None:
    control.fault("status", status=500, body={"unexpected": True})
    assert api.get(JOBS).json() == {"unexpected": True}


def test_matching(control: Control, api: BaseUrlSession) -> None:
    control.fault("status", "POST", JOBS, contains='"team": "red"', times=None)
    control.fault("status", path="/v1/files/*", key=control.api_key, times=None, status=500)
    control.fault("status", path=JOBS, contains="model=wanted", times=None, status=502)
    assert create(api, metadata={"team": "blue"}).status_code == 200
    assert create(api, metadata={"team": "red"}).status_code == 503
    path = "/v1/files/b1946ac9-2f9b-4e44-9a2c-6f1d8c7b0a11"
    assert api.get(path).status_code == 500
    assert api.get(path, headers={"Authorization": "Bearer other"}).status_code == 404
    assert api.get("/v1/files").status_code == 200
    assert api.get(JOBS, params={"model": "wanted"}).status_code == 502
    assert api.get(JOBS, params={"model": "other"}).status_code == 200


def test_probability(control: Control, api: BaseUrlSession) -> None:
    fault = control.fault("status", probability=0.5, times=None)
    failed = [api.get(JOBS).status_code for _ in range(60)].count(503)
    assert 10 < failed < 50
    assert control.fault_state(fault)["hits"] == failed


def test_faults_can_be_switched_off(control: Control, api: BaseUrlSession) -> None:
    one = control.fault("status", path=JOBS, times=None)
    control.fault("status", path="/v1/files", times=None)
    control.remove_fault(one)
    assert (api.get(JOBS).status_code, api.get("/v1/files").status_code) == (200, 503)
    control.clear_faults()
    assert api.get("/v1/files").status_code == 200
    with pytest.raises(ValueError, match="404"):
        control.fault_state(one)
    with pytest.raises(ValueError, match="422"):
        control.fault("nonsense")


def test_html_with_200(control: Control, api: BaseUrlSession) -> None:
    control.fault("html")
    answer = api.get(JOBS)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html")
    assert answer.text.startswith("<!DOCTYPE html>")


def test_truncated_json(control: Control, api: BaseUrlSession) -> None:
    control.fault("truncate")
    answer = api.get(JOBS)
    assert answer.status_code == 200
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        answer.json()


def test_altered_answers(control: Control, api: BaseUrlSession) -> None:
    job = create(api).json()
    control.fault("alter", "GET", times=2, fields={"status": "PAUSED", "novel": [1]})
    one, listed = api.get(f"{JOBS}/{job['id']}").json(), api.get(JOBS).json()["data"][0]
    assert (one["status"], one["novel"], one["id"]) == ("PAUSED", [1], job["id"])
    assert (listed["status"], listed["novel"], listed["id"]) == ("PAUSED", [1], job["id"])


def test_a_redirect_to_another_host(control: Control, api: BaseUrlSession) -> None:
    control.fault("redirect", location="http://other.example")
    answer = api.get(JOBS, params={"page": 1}, allow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (307, f"http://other.example{JOBS}?page=1")


@pytest.mark.parametrize(("when", "made"), [("before", 0), ("after", 1)])
def test_dropped_connections(control: Control, api: BaseUrlSession, when: str, made: int) -> None:
    control.fault("drop", "POST", when=when)
    with pytest.raises(requests.ConnectionError):
        create(api)
    assert api.get(JOBS).json()["total"] == made
    assert control.record()["answers"][f"POST {JOBS} dropped"] == 1


@pytest.mark.parametrize(("when", "made"), [("before", 0), ("after", 1)])
def test_held_answers(control: Control, api: BaseUrlSession, when: str, made: int) -> None:
    fault = control.fault("hold", "POST", JOBS, when=when)
    answers: list[requests.Response] = []
    caller = threading.Thread(target=lambda: answers.append(create(api)))
    caller.start()
    control.wait_for_fault(fault)
    with BaseUrlSession(control.url) as other:
        other.headers["Authorization"] = f"Bearer {control.api_key}"
        assert other.get(JOBS).json()["total"] == made
        assert not answers
        control.release(fault)
        caller.join(30)
        assert answers[0].json()["status"] == "QUEUED"
        assert other.get(JOBS).json()["total"] == 1


def test_a_held_request_is_worked_on_though_its_client_gave_up(control: Control, api: BaseUrlSession) -> None:
    fault = control.fault("hold", "POST", JOBS, when="before")
    with pytest.raises(requests.ReadTimeout):
        api.post(JOBS, json={"requests": [{"body": BODY}], "endpoint": CHAT}, timeout=0.3)
    control.release(fault)
    deadline = time.monotonic() + 30
    while not api.get(JOBS).json()["total"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_hold_for_some_time(control: Control, api: BaseUrlSession) -> None:
    control.fault("hold", seconds=0.2)
    started = time.monotonic()
    assert api.get(JOBS).status_code == 200
    assert time.monotonic() - started >= 0.2


def test_slow_answers(control: Control, api: BaseUrlSession) -> None:
    control.fault("slow", seconds=0.2)
    started = time.monotonic()
    assert api.get(JOBS).status_code == 200
    assert time.monotonic() - started >= 0.2


def test_cut_downloads(control: Control, api: BaseUrlSession) -> None:
    content = bytes(range(256)) * 20_000
    file_id = api.post("/v1/files", files={"file": ("a", content)}, data={"purpose": "batch"}).json()["id"]
    path = f"/v1/files/{file_id}/content"
    control.fault("cut", "GET", path, bytes=3_000_000, times=2)
    for offset in (0, 1_500_000):
        pieces: list[bytes] = []
        with api.get(path, headers={"Range": f"bytes={offset}-"}, stream=True) as answer:
            assert answer.headers["Content-Length"] == str(len(content) - offset)
            with pytest.raises(requests.exceptions.ChunkedEncodingError):
                pieces.extend(answer.iter_content(10_000))
        got = b"".join(pieces)
        # The client may lose the last piece that it got: never does it get more.
        assert content[offset:].startswith(got)
        assert 2_900_000 < len(got) <= 3_000_000
    assert api.get(path).content == content


def test_a_cut_at_the_first_byte(control: Control, api: BaseUrlSession) -> None:
    control.fault("cut", "GET", JOBS)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        api.get(JOBS)


@pytest.mark.parametrize("status", ["FAILED", "TIMEOUT_EXCEEDED", "CANCELLED"])
@pytest.mark.parametrize("end_after", [0, 0.3, 1])
def test_jobs_that_end_badly(control: Control, run: Any, status: str, end_after: float) -> None:
    control.plan_jobs(end=status, end_after=end_after, errors=["Out of luck"])
    job = run(10)
    assert (job["status"], len(job["output"])) == (status, int(10 * end_after))
    assert job["errors"] == ([{"message": "Out of luck", "count": 1}] if status == "FAILED" else [])
    assert run()["status"] == "SUCCESS"


def test_failed_rows(control: Control, run: Any) -> None:
    control.plan_jobs(failed_rows=4, failed_statuses=[429, 500, 400], failed_ids=["row-9"])
    job = run(10)
    assert (job["status"], job["succeeded_requests"], job["failed_requests"]) == ("SUCCESS", 5, 5)
    statuses = {row["custom_id"]: row["response"]["status_code"] for row in job["errors_"]}
    assert statuses == {"row-0": 429, "row-1": 500, "row-2": 400, "row-3": 429, "row-9": 429}
    assert {row["response"]["body"]["object"] for row in job["errors_"]} == {"error"}


def test_all_rows_fail(control: Control, run: Any) -> None:
    control.plan_jobs(failed_rows="all")
    job = run(3)
    assert (job["status"], job["output_file"], len(job["errors_"])) == ("SUCCESS", None, 3)


def test_failed_rows_without_a_response(control: Control, run: Any) -> None:
    control.plan_jobs(failed_rows=1, error_style="error")
    [row] = run(2)["errors_"]
    assert row["response"] is None
    assert row["error"]["code"] == 500


def test_rows_that_are_not_what_they_should_be(control: Control, run: Any) -> None:
    control.plan_jobs(zero_rows=1, missing_rows=2, duplicate_rows=1, unknown_rows=1)
    job = run(6)
    assert job["errors_"] == []
    assert [row["custom_id"] for row in job["output"]] == [
        "row-0",
        "row-3",
        "row-3",
        "row-4",
        "unknown-4",
        "row-5",
    ]
    assert job["output"][0]["response"] == {"status_code": 0, "body": None}
    assert job["output"][0]["error"] is None
    assert job["total_requests"] == 6


def test_a_cut_last_line(control: Control, api: BaseUrlSession) -> None:
    control.plan_jobs(cut_last_line=True)
    job_id = create(api, 3).json()["id"]
    deadline = time.monotonic() + 30
    while not (file_id := api.get(f"{JOBS}/{job_id}").json()["output_file"]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    answer = api.get(f"/v1/files/{file_id}/content")
    *whole, last = answer.content.split(b"\n")
    assert [json.loads(line)["custom_id"] for line in whole] == ["row-0", "row-1"]
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        json.loads(last)
    assert api.get(f"/v1/files/{file_id}").json()["bytes"] == len(answer.content)


def test_an_unknown_status_and_unknown_fields(control: Control, api: BaseUrlSession) -> None:
    control.plan_jobs(job_seconds=3600, status="PAUSED", fields={"novel": 1, "failed_requests": 0})
    job = create(api).json()
    assert (job["status"], job["novel"]) == ("PAUSED", 1)
    assert api.get(JOBS).json()["data"][0]["status"] == "PAUSED"
    assert control.plan_job(job["id"], status=None)["status"] in ("QUEUED", "RUNNING")
    control.plan_job(job["id"], status="PAUSED")
    control.end_jobs([job["id"]])
    deadline = time.monotonic() + 30
    while api.get(f"{JOBS}/{job['id']}").json()["status"] != "SUCCESS":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_plans_choose_their_jobs(control: Control, run: Any) -> None:
    control.plan_jobs(metadata={"team": "red"}, times=None, failed_rows=1)
    control.plan_jobs(endpoint="/v1/embeddings", failed_rows=2)
    control.plan_jobs(skip=1, failed_rows=3)
    assert run(5, metadata={"team": "blue"})["failed_requests"] == 0
    assert run(5, metadata={"team": "red", "part": "1"})["failed_requests"] == 1
    assert run(5)["failed_requests"] == 3
    assert run(5, metadata={"team": "red"})["failed_requests"] == 1
    assert run(5)["failed_requests"] == 0
    with pytest.raises(ValueError, match="422"):
        control.plan_jobs(nonsense=1)
