"""Every operation of the API's own description, answered by the emulator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
import requests
from jsonschema import Draft202012Validator
from requests_toolbelt.sessions import BaseUrlSession

ROW = b'{"custom_id": "a", "body": {"messages": [{"role": "user", "content": "What is the best cheese?"}]}}\n'
JOBS = "/v1/batch/jobs"


@pytest.fixture
def upload(api: BaseUrlSession) -> Callable[[], requests.Response]:
    return lambda: api.post(
        "/v1/files", files={"file": ("rows.jsonl", ROW)}, data={"purpose": "batch", "expiry": "48"}
    )


def test_no_operation_is_left_out(openapi: dict[str, Any]) -> None:
    operations = {(method, path) for path, methods in openapi["paths"].items() for method in methods}
    assert operations == {
        ("post", "/v1/files"),
        ("get", "/v1/files"),
        ("get", "/v1/files/{file_id}"),
        ("delete", "/v1/files/{file_id}"),
        ("get", "/v1/files/{file_id}/content"),
        ("get", "/v1/files/{file_id}/url"),
        ("get", JOBS),
        ("post", JOBS),
        ("get", f"{JOBS}/{{job_id}}"),
        ("delete", f"{JOBS}/{{job_id}}"),
        ("post", f"{JOBS}/{{job_id}}/cancel"),
    }


def test_files(
    api: BaseUrlSession, upload: Callable[[], requests.Response], check: Callable[..., Any]
) -> None:
    file = check("post", "/v1/files", upload())
    assert (file["bytes"], file["num_lines"], file["purpose"]) == (len(ROW), 1, "batch")
    assert (file["sample_type"], file["source"], file["mimetype"]) == (
        "batch_request",
        "upload",
        "application/jsonl",
    )
    assert file["expires_at"] == file["created_at"] + 48 * 3600
    listed = check("get", "/v1/files", api.get("/v1/files", params={"page": 0, "page_size": 100}))
    assert listed["total"] == 1
    one = check("get", "/v1/files/{file_id}", api.get(f"/v1/files/{file['id']}"))
    assert one == {**file, "deleted": False}
    assert listed["data"] == [file]
    path = f"/v1/files/{file['id']}"
    assert check("get", "/v1/files/{file_id}/content", api.get(f"{path}/content")) == ROW
    signed = check("get", "/v1/files/{file_id}/url", api.get(f"{path}/url", params={"expiry": 1}))
    assert requests.get(signed["url"], timeout=10).content == ROW
    gone = check("delete", "/v1/files/{file_id}", api.delete(path))
    assert gone == {"id": file["id"], "object": "file", "deleted": True}
    assert api.get(path).status_code == 404


def test_jobs(
    api: BaseUrlSession,
    upload: Callable[[], requests.Response],
    check: Callable[..., Any],
    wait: Callable[[str], dict[str, Any]],
) -> None:
    body = {
        "input_files": [upload().json()["id"]],
        "endpoint": "/v1/chat/completions",
        "model": "mistral-small-latest",
        "metadata": {"kind": "test"},
    }
    job = check("post", JOBS, api.post(JOBS, json={**body, "timeout_hours": 1}))
    assert job == {**job, **body, "total_requests": 0, "status": "QUEUED", "completed_at": None}
    path = f"{JOBS}/{job['id']}"
    assert wait(job["id"])["status"] == "SUCCESS"
    done = check("get", f"{JOBS}/{{job_id}}", api.get(path))
    assert (done["total_requests"], done["succeeded_requests"], done["failed_requests"]) == (1, 1, 0)
    assert done["created_at"] <= done["started_at"] <= done["completed_at"]
    listed = check("get", JOBS, api.get(JOBS))
    assert listed == {"object": "list", "data": [done], "total": 1}
    assert check("post", f"{JOBS}/{{job_id}}/cancel", api.post(f"{path}/cancel")) == done
    gone = check("delete", f"{JOBS}/{{job_id}}", api.delete(path))
    assert gone == {"id": job["id"], "object": "batch", "deleted": True}
    assert api.get(path).status_code == 404


def test_inline_jobs_give_their_rows(
    api: BaseUrlSession, check: Callable[..., Any], wait: Callable[[str], dict[str, Any]]
) -> None:
    requests_ = [{"custom_id": "good", "body": {"input": "text"}}, {"body": {}}]
    body = {"requests": requests_, "endpoint": "/v1/embeddings", "model": "mistral-embed"}
    job = check("post", JOBS, api.post(JOBS, json=body))
    wait(job["id"])
    assert api.get(f"{JOBS}/{job['id']}").json()["outputs"] is None
    done = check("get", f"{JOBS}/{{job_id}}", api.get(f"{JOBS}/{job['id']}", params={"inline": "true"}))
    statuses = {row["custom_id"]: row["response"]["status_code"] for row in done["outputs"]}
    assert statuses == {"good": 200, "1": 422}


GOOD = {"requests": [{"body": {}}], "endpoint": "/v1/embeddings"}


@pytest.mark.parametrize(
    ("change", "loc"),
    [
        ({"endpoint": "/v1/nonsense"}, ["endpoint"]),
        ({"endpoint": None}, ["endpoint"]),
        ({"timeout_hours": 0}, ["timeout_hours"]),
        ({"timeout_hours": 169}, ["timeout_hours"]),
        ({"metadata": {"k" * 33: "v"}}, ["metadata"]),
        ({"metadata": {"": "v"}}, ["metadata"]),
        ({"metadata": {"k": "v" * 513}}, ["metadata"]),
        ({"metadata": {"k": ""}}, ["metadata"]),
        ({"metadata": {"k": 1}}, ["metadata"]),
        ({"requests": [{"body": {}}] * 10_001}, ["requests"]),
        ({"requests": [{"custom_id": "a"}]}, ["requests", 0, "body"]),
        ({"requests": [{"custom_id": 1, "body": {}}]}, ["requests", 0, "custom_id"]),
        ({"requests": [{"body": []}]}, ["requests", 0, "body"]),
        ({"requests": None, "input_files": ["no-uuid"]}, ["input_files", 0]),
    ],
)
def test_what_the_description_forbids_is_a_422(
    api: BaseUrlSession, openapi: dict[str, Any], change: dict[str, Any], loc: list[Any]
) -> None:
    body = {**GOOD, **change}
    schema = {
        **openapi["components"]["schemas"]["CreateBatchJobRequest"],
        "components": openapi["components"],
    }
    with pytest.raises(jsonschema.ValidationError):
        Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(body)
    answer = api.post(JOBS, json=body)
    assert answer.status_code == 422
    detail = answer.json()["detail"]
    assert all(set(problem) == {"loc", "msg", "type"} for problem in detail)
    assert any(problem["loc"][1 : 1 + len(loc)] == loc for problem in detail), detail


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"timeout_hours": 1},
        {"timeout_hours": 168},
        {"metadata": {"k" * 32: "v" * 512}},
        {"metadata": None, "model": None, "agent_id": None, "input_files": None},
        {"requests": [{"custom_id": None, "body": {}}] * 10_000},
    ],
)
def test_what_the_description_allows_is_accepted(
    api: BaseUrlSession, openapi: dict[str, Any], change: dict[str, Any]
) -> None:
    assert api.post(JOBS, json={**GOOD, **change}).status_code == 200


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        (JOBS, {"page": -1}),
        (JOBS, {"page_size": 0}),
        (JOBS, {"status": "completed"}),
        (JOBS, {"order_by": "status"}),
        (JOBS, {"created_after": "yesterday"}),
        (JOBS, {"metadata": "{"}),
        ("/v1/files", {"sample_type": "nonsense"}),
        ("/v1/files", {"purpose": "nonsense"}),
        (f"{JOBS}/not-a-uuid", {}),
        ("/v1/files/not-a-uuid", {}),
        ("/v1/files/b1946ac9-2f9b-4e44-9a2c-6f1d8c7b0a11/url", {"expiry": 169}),
    ],
)
def test_wrong_parameters_are_a_422(api: BaseUrlSession, path: str, parameters: dict[str, Any]) -> None:
    answer = api.get(path, params=parameters)
    assert answer.status_code == 422, answer.text
    assert set(answer.json()["detail"][0]) == {"loc", "msg", "type"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", JOBS + "/{id}"),
        ("DELETE", JOBS + "/{id}"),
        ("POST", JOBS + "/{id}/cancel"),
        ("GET", "/v1/files/{id}"),
        ("DELETE", "/v1/files/{id}"),
        ("GET", "/v1/files/{id}/content"),
        ("GET", "/v1/files/{id}/url"),
        ("GET", "/v1/nothing"),
    ],
)
def test_what_does_not_exist_is_a_404(api: BaseUrlSession, method: str, path: str) -> None:
    answer = api.request(method, path.format(id="b1946ac9-2f9b-4e44-9a2c-6f1d8c7b0a11"))
    assert answer.status_code == 404
    body = answer.json()
    assert set(body) == {"object", "message", "type", "param", "code"}
    assert body["object"] == "error"
    assert answer.headers["mistral-correlation-id"]
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Basic abc"])
def test_without_a_token_is_a_401(api: BaseUrlSession, authorization: str | None) -> None:
    api.headers["Authorization"] = authorization
    for path in (JOBS, "/v1/files", "/v1/batches"):
        answer = api.get(path)
        assert answer.status_code == 401
        body = answer.json()
        assert (body.get("error") or body)["type"] == "unauthorized"
