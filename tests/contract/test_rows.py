"""Result rows: against the SDK's response models, and against the published samples."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from mistralai.client import models
from pydantic import BaseModel

from airflow_provider_mistral_batch.jsonl.requests.template import RowTemplate

Run = Callable[..., list[dict[str, Any]]]
CHAT = [{"role": "user", "content": "Kill the process, then email me at a@example.com"}]
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}

BODIES = [
    ("/v1/chat/completions", {"messages": CHAT, "max_tokens": 5, "n": 2}, models.ChatCompletionResponse),
    ("/v1/embeddings", {"input": ["one", "two"], "output_dimension": 4}, models.EmbeddingResponse),
    ("/v1/fim/completions", {"prompt": "def add(a, b):", "suffix": "x"}, models.FIMCompletionResponse),
    ("/v1/moderations", {"input": "text"}, models.ModerationResponse),
    ("/v1/chat/moderations", {"input": CHAT}, models.ModerationResponse),
    ("/v1/chat/moderations", {"input": [CHAT, CHAT]}, models.ModerationResponse),
    ("/v1/ocr", {"document": {"document_url": "https://a/b.pdf"}, "pages": "0-1"}, models.OCRResponse),
    ("/v1/ocr", {"document": {"file_id": "x"}, "document_annotation_format": FORMAT}, models.OCRResponse),
    ("/v1/classifications", {"input": ["one", "two"]}, models.ClassificationResponse),
    ("/v1/chat/classifications", {"input": {"messages": CHAT}}, models.ClassificationResponse),
    ("/v1/chat/classifications", {"input": [{"messages": CHAT}] * 2}, models.ClassificationResponse),
    ("/v1/conversations", {"inputs": "Hello"}, models.ConversationResponse),
    ("/v1/conversations", {"inputs": CHAT, "agent_id": "ag"}, models.ConversationResponse),
    (
        "/v1/audio/transcriptions",
        {"file_url": "https://a/b.mp3", "timestamp_granularities": ["segment"]},
        models.TranscriptionResponse,
    ),
]


@pytest.mark.parametrize(("endpoint", "body", "model"), BODIES)
def test_answers_are_what_the_sdk_expects(run: Run, endpoint: str, body: dict[str, Any], model: Any) -> None:
    [row] = run(endpoint, [{"custom_id": "a", "body": body}])
    assert row["response"]["status_code"] == 200, row
    answer = row["response"]["body"]
    # Read strictly: what is not as the model has it is not bent into shape.
    parsed = model.model_validate_json(json.dumps(answer), strict=True)
    assert parsed.model_dump(by_alias=True)


def test_every_endpoint_is_tried(openapi: dict[str, Any]) -> None:
    assert {endpoint for endpoint, _, _ in BODIES} == set(
        openapi["components"]["schemas"]["ApiEndpoint"]["enum"]
    )


#: The SDK's model of each endpoint's body.
REQUESTS: dict[str, type[BaseModel]] = {
    "/v1/chat/completions": models.ChatCompletionRequest,
    "/v1/embeddings": models.EmbeddingRequest,
    "/v1/fim/completions": models.FIMCompletionRequest,
    "/v1/moderations": models.ClassificationRequest,
    "/v1/chat/moderations": models.ChatModerationRequest,
    "/v1/ocr": models.OCRRequest,
    "/v1/classifications": models.ClassificationRequest,
    "/v1/chat/classifications": models.ChatClassificationRequest,
    "/v1/conversations": models.ConversationRequest,
    "/v1/audio/transcriptions": models.AudioTranscriptionRequest,
}

#: Parameters that a template can bring to each endpoint.
PARAMETERS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"system": "Be brief.", "max_tokens": 5, "temperature": 0.1},
    "/v1/fim/completions": {"max_tokens": 5, "temperature": 0.1},
    "/v1/conversations": {"system": "Be brief.", "max_tokens": 5, "temperature": 0.1},
    "/v1/audio/transcriptions": {"temperature": 0.1},
}


@pytest.mark.parametrize("endpoint", REQUESTS)
def test_a_prompt_becomes_a_body_that_the_sdk_knows(run: Run, endpoint: str) -> None:
    template = RowTemplate(model="m", **PARAMETERS.get(endpoint, {})).fitted(endpoint)
    body = template.body("https://a/b", endpoint)
    model = REQUESTS[endpoint]
    names = {field.alias or name for name, field in model.model_fields.items()}
    assert set(body) <= names
    model.model_validate_json(json.dumps(body), strict=True)
    [row] = run(endpoint, [{"custom_id": "a", "body": body}])
    assert row["response"]["status_code"] == 200, row


SAMPLES = [
    ("chat_completion", "/v1/chat/completions"),
    ("structured_outputs", "/v1/chat/completions"),
    ("ocr", "/v1/ocr"),
    ("ocr_annotations", "/v1/ocr"),
    ("transcriptions", "/v1/audio/transcriptions"),
]


@pytest.mark.parametrize(("name", "endpoint"), SAMPLES)
def test_results_have_the_samples_shape(
    run: Run, samples: Callable[[str], bytes], name: str, endpoint: str
) -> None:
    published = [json.loads(line) for line in samples(f"{name}.results").splitlines() if line.strip()]
    made = run(endpoint, samples(f"{name}.requests"))
    assert [row["custom_id"] for row in made] == [row["custom_id"] for row in published]
    whole = {number: shapes(row) for number, row in enumerate(published)}
    known = set().union(*whole.values())
    for row in made:
        strange = shapes(row) - known
        # Where the samples have a value, ours may have none, and the other way round.
        assert not {path for path, kind in strange if kind != "null" and (path, "null") not in known}, strange
    missing = {path for path, _ in set.intersection(*whole.values())} - {path for path, _ in shapes(made[0])}
    assert not missing


@pytest.mark.parametrize(("name", "endpoint"), SAMPLES)
def test_row_ids_are_numbered_as_in_the_samples(
    run: Run, samples: Callable[[str], bytes], name: str, endpoint: str
) -> None:
    pattern = re.compile(r"batch-([0-9a-f]{8})-(\d+)-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
    published = [json.loads(line) for line in samples(f"{name}.results").splitlines() if line.strip()]
    for rows in (published, run(endpoint, samples(f"{name}.requests"))):
        found = [pattern.fullmatch(row["id"]) for row in rows]
        assert all(found)
        assert [int(one.group(2)) for one in found if one] == [1, 2, 3]
        assert len({one.group(1) for one in found if one}) == 1


def test_structured_outputs_satisfy_their_schemas(run: Run, samples: Callable[[str], bytes]) -> None:
    requests = [
        json.loads(line) for line in samples("structured_outputs.requests").splitlines() if line.strip()
    ]
    rows = run("/v1/chat/completions", samples("structured_outputs.requests"))
    for request, row in zip(requests, rows, strict=True):
        content = row["response"]["body"]["choices"][0]["message"]["content"]
        jsonschema.validate(json.loads(content), request["body"]["response_format"]["json_schema"]["schema"])


def test_annotations_satisfy_their_schemas(run: Run, samples: Callable[[str], bytes]) -> None:
    requests = [json.loads(line) for line in samples("ocr_annotations.requests").splitlines() if line.strip()]
    for request, row in zip(requests, run("/v1/ocr", samples("ocr_annotations.requests")), strict=True):
        answer = row["response"]["body"]
        wanted = {name: request["body"].get(f"{name}_annotation_format") for name in ("bbox", "document")}
        images = [image["image_annotation"] for page in answer["pages"] for image in page["images"]]
        assert bool(images) == (wanted["bbox"] is not None)
        for name, found in (("bbox", images), ("document", [answer["document_annotation"]])):
            for annotation in found:
                if wanted[name] is None:
                    assert annotation is None
                else:
                    jsonschema.validate(json.loads(annotation), wanted[name]["json_schema"]["schema"])


def test_embeddings_of_the_sample_requests(run: Run, samples: Callable[[str], bytes]) -> None:
    rows = run("/v1/embeddings", samples("embeddings.requests"))
    assert [len(row["response"]["body"]["data"]) for row in rows] == [2, 1, 3]


def shapes(value: Any, path: str = "") -> set[tuple[str, str]]:
    """Each path in a JSON value with the kind of what is there."""
    if isinstance(value, dict):
        return {(path, "object")}.union(*(shapes(one, f"{path}.{name}") for name, one in value.items()))
    if isinstance(value, list):
        return {(path, "array")}.union(*(shapes(one, f"{path}[]") for one in value))
    kinds = {str: "string", bool: "boolean", int: "number", float: "number", type(None): "null"}
    return {(path, kinds[type(value)])}
