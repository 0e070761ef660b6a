"""What our client really sends, against the API's own description and the official SDK's request models."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from mistralai.client import models

from airflow_provider_mistral_batch.api.client import MistralBatchClient
from airflow_provider_mistral_batch.api.endpoints import ENDPOINTS
from airflow_provider_mistral_batch.api.models import BatchJobIn

from ..scripted_server import Answer, Received, ScriptedServer, as_json

JOB_ID = "9b1ab6a5-1b1b-4b1b-8b1b-1b1b1b1b1b1b"
FILE_ID = "497f6eca-6276-4993-bfeb-53cbbbba6f09"
SINCE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))
ROWS = [
    {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [], "n": 1.5}},
    {"custom_id": None, "body": {}},
    {"body": {"unicode": "ü \u2028 \U0001f600"}},
]


class Operation(NamedTuple):
    """A call of the client, and the operation of the API's description that it stands for."""

    method: str
    path: str
    call: Callable[[MistralBatchClient], Any]


def _create(**fields: Any) -> Operation:
    return Operation("post", "/v1/batch/jobs", lambda client: client.create(BatchJobIn(**fields)))


def _list(**filters: Any) -> Operation:
    return Operation("get", "/v1/batch/jobs", lambda client: client.list(**filters))


def _upload(**fields: Any) -> Operation:
    file = io.BytesIO(b'{"custom_id": "a", "body": {}}\n')
    return Operation("post", "/v1/files", lambda client: client.upload_file(file, **fields))


CREATIONS = {
    "smallest": _create(input_files=[FILE_ID]),
    "full": _create(
        input_files=(FILE_ID, JOB_ID),
        endpoint="/v1/ocr",
        completion_window="7d",
        metadata={"k" * 32: "v" * 512},
        model="mistral-ocr-latest",
    ),
    "inline": _create(requests=ROWS, model="mistral-small-latest"),
    "agent": _create(requests=ROWS, agent_id="ag:1", completion_window="1h", metadata={}),
    **{endpoint: _create(input_files=[FILE_ID], endpoint=endpoint) for endpoint in ENDPOINTS},
}
LISTINGS = {
    "all": _list(),
    "page": _list(limit=7),
    "filtered": _list(
        status=["validating", "in_progress", "completed", "failed", "expired", "cancelling", "cancelled"],
        model="m",
        agent_id="a",
        created_after=SINCE,
        created_by_me=True,
        metadata={"k": "v"},
        order_by="created",
    ),
}
UPLOADS = {
    "plain": _upload(),
    "full": _upload(purpose="ocr", filename="x.jsonl", expiry=48, visibility="user"),
}
OTHERS = {
    "get": Operation("get", "/v1/batch/jobs/{job_id}", lambda client: client.get(JOB_ID)),
    "get inline": Operation("get", "/v1/batch/jobs/{job_id}", lambda client: client.get(JOB_ID, inline=True)),
    "cancel": Operation("post", "/v1/batch/jobs/{job_id}/cancel", lambda client: client.cancel(JOB_ID)),
    "delete": Operation("delete", "/v1/batch/jobs/{job_id}", lambda client: client.delete(JOB_ID)),
    "get file": Operation("get", "/v1/files/{file_id}", lambda client: client.get_file(FILE_ID)),
    "delete file": Operation("delete", "/v1/files/{file_id}", lambda client: client.delete_file(FILE_ID)),
    "download": Operation("get", "/v1/files/{file_id}/content", lambda client: client.download_file(FILE_ID)),
    "url": Operation("get", "/v1/files/{file_id}/url", lambda client: client.get_signed_url(FILE_ID, 168)),
    "files": Operation("get", "/v1/files", lambda client: client.list_files()),
    "files filtered": Operation(
        "get",
        "/v1/files",
        lambda client: client.list_files(
            purpose="batch",
            search="x",
            sample_type=["batch_result", "batch_error"],
            source=["mistral"],
            mimetypes=["application/jsonl"],
        ),
    ),
}
ALL = [*CREATIONS.values(), *LISTINGS.values(), *UPLOADS.values(), *OTHERS.values()]

_ANSWER = {"id": JOB_ID, "status": "QUEUED", "created_at": 1, "data": [], "total": 0, "url": "https://x"}


def _sent(operation: Operation, answer: Answer | None = None) -> Received:
    with (
        ScriptedServer(answer or as_json(_ANSWER)) as server,
        MistralBatchClient("k3y", server.url) as client,
    ):
        operation.call(client)
        (request,) = server.requests
    return request


def _resolved(schema: dict[str, Any], openapi: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator(
        {**schema, "components": openapi["components"]}, format_checker=FormatChecker()
    )


def test_every_operation_of_the_description_is_called(openapi):
    described = {(method, path) for path, methods in openapi["paths"].items() for method in methods}
    assert {(operation.method, operation.path) for operation in ALL} == described
    assert len(described) == 11


@pytest.mark.parametrize("operation", ALL, ids=lambda operation: f"{operation.method} {operation.path}")
def test_path_and_query_are_those_of_the_description(operation, openapi):
    request = _sent(operation)
    url = urlsplit(request.path)
    pattern = re.sub(r"\{\w+\}", r"([^/]+)", operation.path)
    assert request.method == operation.method.upper()
    match = re.fullmatch(pattern, url.path)
    assert match is not None
    assert all(unquote(part) in (JOB_ID, FILE_ID) for part in match.groups())
    parameters = {
        parameter["name"]: parameter["schema"]
        for parameter in openapi["paths"][operation.path][operation.method]["parameters"]
        if parameter["in"] == "query"
    }
    given: dict[str, list[str]] = {}
    for name, value in parse_qsl(url.query, keep_blank_values=True, strict_parsing=bool(url.query)):
        given.setdefault(name, []).append(value)
    for name, values in given.items():
        schema = parameters[name]
        is_list = any(option.get("type") == "array" for option in schema.get("anyOf", []))
        kind = schema.get("type") or next(iter(schema.get("anyOf", [{}]))).get("type")
        read = [json.loads(value) if kind in ("integer", "boolean") else value for value in values]
        assert is_list or len(read) == 1
        _resolved(schema, openapi).validate(read if is_list else read[0])


@pytest.mark.parametrize("name", CREATIONS)
def test_bodies_of_creations(name, openapi):
    request = _sent(CREATIONS[name])
    body = json.loads(request.body)
    _resolved(openapi["components"]["schemas"]["CreateBatchJobRequest"], openapi).validate(body)
    assert set(body) <= set(openapi["components"]["schemas"]["CreateBatchJobRequest"]["properties"])
    # The SDK's model reads it, knows each field, and would send the same.
    read = models.CreateBatchJobRequest.model_validate(body, strict=True)
    assert not read.model_extra
    assert read.model_dump(mode="json") == body
    for row in body.get("requests", []):
        assert set(row) <= {"custom_id", "body"}
        models.BatchRequest.model_validate(row, strict=True)


@pytest.mark.parametrize("name", LISTINGS)
def test_queries_of_listings(name):
    query: dict[str, Any] = {}
    for key, value in parse_qsl(urlsplit(_sent(LISTINGS[name]).path).query):
        if key == "status":
            query.setdefault(key, []).append(value)
        else:
            assert key not in query
            query[key] = value
    read = models.JobsAPIRoutesBatchGetBatchJobsRequest.model_validate(query)
    assert set(query) <= set(models.JobsAPIRoutesBatchGetBatchJobsRequest.model_fields)
    if name == "filtered":
        assert read.created_after == SINCE
        assert read.created_by_me is True
        assert read.order_by == "created"
        assert isinstance(read.status, list)
        assert len(set(read.status)) == 7


@pytest.mark.parametrize("name", UPLOADS)
def test_forms_of_uploads(name, openapi):
    form = _sent(UPLOADS[name]).parts
    schema = openapi["paths"]["/v1/files"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    values: dict[str, Any] = {key: content.decode() for key, (_, _, content) in form.items()}
    if "expiry" in values:
        values["expiry"] = int(values["expiry"])
    _resolved(schema, openapi).validate(values)
    assert set(form) <= set(models.MultiPartBodyParams.model_fields)
    file_name, _, content = form["file"]
    models.MultiPartBodyParams.model_validate(
        {**values, "file": {"file_name": file_name, "content": content}}
    )


def test_the_sdk_sends_the_same_creation():
    """Both sides of one contract: the SDK's own request for the same job."""
    from mistralai.client import Mistral

    asked: dict[str, Any] = {"endpoint": "/v1/ocr", "model": "m", "metadata": {"a": "b"}, "timeout_hours": 48}
    with ScriptedServer(Answer(500)) as server:
        sdk = Mistral(api_key="k3y", server_url=server.url, retry_config=None)
        with pytest.raises(Exception, match="500"):
            sdk.batch.jobs.create(input_files=[FILE_ID], **asked)
        theirs = server.requests[0]
    ours = _sent(
        _create(
            input_files=[FILE_ID], endpoint="/v1/ocr", model="m", metadata={"a": "b"}, completion_window="2d"
        )
    )
    assert (ours.method, ours.path) == (theirs.method, theirs.path)
    assert json.loads(ours.body) == json.loads(theirs.body)
    assert ours.headers["authorization"] == theirs.headers["authorization"]
