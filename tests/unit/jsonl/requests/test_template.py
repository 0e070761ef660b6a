"""Prompts become bodies, and bodies get the parameters that they lack."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

import pytest

from airflow_provider_mistral_batch.api.endpoints import ENDPOINTS
from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.jsonl.requests.template import RowTemplate

from .request_rows import CHAT, row, rows_of, write


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (CHAT, {"messages": [{"role": "user", "content": "Hi"}]}),
        ("/v1/embeddings", {"input": "Hi"}),
        ("/v1/fim/completions", {"prompt": "Hi"}),
        ("/v1/moderations", {"input": "Hi"}),
        ("/v1/chat/moderations", {"input": [{"role": "user", "content": "Hi"}]}),
        ("/v1/ocr", {"document": {"type": "document_url", "document_url": "Hi"}}),
        ("/v1/classifications", {"input": "Hi"}),
        ("/v1/chat/classifications", {"input": {"messages": [{"role": "user", "content": "Hi"}]}}),
        ("/v1/conversations", {"inputs": "Hi"}),
        ("/v1/audio/transcriptions", {"file_url": "Hi"}),
    ],
)
def test_prompts_become_bodies(prepare, endpoint, body):
    assert rows_of(prepare(["Hi"], endpoint=endpoint)) == [row("row-1", body)]


def test_every_endpoint_takes_prompts(prepare):
    for endpoint in ENDPOINTS:
        assert prepare(["Hi"], endpoint=endpoint).request_count == 1


def test_a_conversation_has_its_parameters_in_completion_args(prepare):
    template = RowTemplate(
        system="Be brief.",
        max_tokens=5,
        temperature=0.1,
        parameters={"store": False, "completion_args": {"top_p": 0.5, "max_tokens": 9}},
    )
    own = {"inputs": "Ho", "completion_args": {"max_tokens": 7}}
    prepared = prepare(["Hi"], endpoint="/v1/conversations", template=template)
    arguments = {"top_p": 0.5, "max_tokens": 5, "temperature": 0.1}
    body = {"store": False, "completion_args": arguments, "inputs": "Hi", "instructions": "Be brief."}
    assert rows_of(prepared) == [row("row-1", body)]
    prepared = prepare([row("own", own)], endpoint="/v1/conversations", template=template)
    arguments["max_tokens"] = 7
    body = {"store": False, "completion_args": arguments, "inputs": "Ho", "instructions": "Be brief."}
    assert rows_of(prepared) == [row("own", body)]


def test_prompts_get_all_of_a_template_and_bodies_what_they_lack(prepare, tmp_path):
    template = RowTemplate(
        system="Be brief.",
        model="m",
        max_tokens=5,
        temperature=0.0,
        response_format={"type": "json_object"},
        parameters={"top_p": 0.5},
    )
    own = {"max_tokens": 9, "messages": [], "temperature": None}
    prepared = prepare(["Hi", row("own", own)], template=template)
    defaults = {
        "model": "m",
        "max_tokens": 5,
        "temperature": 0.0,
        "response_format": {"type": "json_object"},
        "top_p": 0.5,
    }
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert rows_of(prepared) == [
        row("row-1", {**defaults, "messages": messages}),
        row("own", {**defaults, **own, "messages": messages[:1]}),
    ]
    assert prepared.model == "m"
    path = write(tmp_path / "in.jsonl", [b'{"custom_id":"a","body": { "n": 1.50, "model": "m" }}', row("b")])
    prepared = prepare(path, template=RowTemplate(model="m", max_tokens=5))
    assert (
        prepared.paths[0]
        .read_bytes()
        .startswith(b'{"custom_id":"a","body":{"max_tokens":5, "n": 1.50, "model": "m" }}')
    )


def test_parameters_of_python_values_are_written_as_in_rows(prepare):
    temperature: Any = decimal.Decimal("0.20")
    template = RowTemplate(temperature=temperature, parameters={"when": datetime.date(2026, 1, 2)})
    prompt, body = (line["body"] for line in rows_of(prepare(["Hi", row("a")], template=template)))
    assert body == {"temperature": 0.2, "when": "2026-01-02"}
    assert prompt == {**body, "messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize("prompts", [["Hi"], [{"custom_id": "a", "body": {}}]])
@pytest.mark.parametrize(
    ("template", "message"),
    [
        ({"temperature": float("nan")}, "^temperature = NaN: NaN and Infinity are not JSON"),
        ({"parameters": {"top_p": float("inf")}}, "^top_p = Infinity: NaN and Infinity"),
        ({"parameters": {"top_p": decimal.Decimal("NaN")}}, "^top_p = .*NaN and Infinity"),
        ({"parameters": {"x": {"y": [float("nan")]}}}, r"^x\.y\[0\] = .*NaN and Infinity"),
        ({"parameters": {"x": {"y": [decimal.Decimal("-Infinity")]}}}, r"^x\.y\[0\] = .*NaN and Infinity"),
        ({"parameters": {"x": object()}}, "^x = <object .*cannot be written as JSON"),
        ({"parameters": {"x": "\ud800"}}, "^x = .*cannot be written as JSON"),
        ({"parameters": {5: 1}}, "^parameters=.*keys are strings"),
        ({"parameters": [1]}, r"^parameters=\[1\]: expected a dict"),
        ({"parameters": None}, "^parameters=None: expected a dict"),
        ({"response_format": "json"}, "^response_format='json': expected a dict"),
        ({"model": 5}, "^model = 5: must be a string"),
    ],
)
def test_bad_templates(prepare, out, prompts, template, message):
    with pytest.raises(InvalidInputError, match=message):
        prepare(prompts, template=RowTemplate(**template))
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parameters": {"completion_args": None}}, "^completion_args=None: expected a dict"),
        ({"temperature": float("nan"), "parameters": {}}, r"^completion_args\.temperature = .*NaN"),
    ],
)
def test_bad_templates_of_conversations(prepare, options, message):
    with pytest.raises(InvalidInputError, match=message):
        prepare(["Hi"], endpoint="/v1/conversations", template=RowTemplate(max_tokens=5, **options))
