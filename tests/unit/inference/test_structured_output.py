"""Forms of answers: what the API is told, what is acceptable, and how it is asked for again."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel

from airflow_provider_mistral_batch.inference.structured_output import StructuredOutput
from airflow_provider_mistral_batch.jsonl.reader import ResultRow

CHAT = "/v1/chat/completions"
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


class Author(BaseModel):
    name: str


class Book(BaseModel):
    title: str
    authors: list[Author]
    extra: dict[str, int] = {}


def row(content: str | None, finish_reason: str = "stop", error: str | None = None) -> ResultRow:
    return ResultRow("id", 200, content, finish_reason, 1, 1, "m", error, b"")


def test_a_pydantic_model_is_a_strict_schema() -> None:
    form = StructuredOutput(Book, CHAT).response_format["json_schema"]
    assert (form["name"], form["strict"]) == ("Book", True)
    schema = form["schema"]
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["Author"]["additionalProperties"] is False
    # Any keys are what a dict is for.
    assert schema["properties"]["extra"]["additionalProperties"] == {"type": "integer"}
    jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize(
    ("schema", "name"),
    [(SCHEMA, "answer"), ({**SCHEMA, "title": "A book, perhaps"}, "A_book__perhaps")],
)
def test_a_schema_is_sent_as_it_is(schema: dict[str, Any], name: str) -> None:
    form = StructuredOutput(schema, CHAT).response_format
    assert form == {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": True}}


CHECKS = [
    (SCHEMA, '{"n": 1}', None),
    (SCHEMA, '{"n": "1"}', "n: '1' is not of type 'integer'"),
    (SCHEMA, "{}", "'n' is a required property"),
    (SCHEMA, "[]", "is not of type 'object'"),
    (SCHEMA, "Sure! {", "it is not JSON"),
    (SCHEMA, "[" * 100_000, "it is not JSON"),
    (SCHEMA, None, "has no text"),
    (Book, '{"title": "a", "authors": [{"name": "b"}]}', None),
    (Book, '{"title": "a", "authors": [{}]}', "authors.0.name: Field required"),
    (Book, "Sure!", "Invalid JSON"),
]


@pytest.mark.parametrize(("model", "content", "reason"), CHECKS)
def test_checks(model: Any, content: str | None, reason: str | None) -> None:
    said = StructuredOutput(model, CHAT).check(row(content))
    assert (said is None) if reason is None else (said is not None and reason in said)


def test_a_cut_answer_is_called_so() -> None:
    assert "cut at max_tokens" in str(StructuredOutput(SCHEMA, CHAT).check(row('{"n"', "length")))


def test_reasons_stay_short() -> None:
    reason = StructuredOutput({"type": "integer"}, CHAT).check(row('"' + "x" * 10_000 + '"'))
    assert reason is not None
    assert len(reason) <= 501


def test_asking_again_goes_on_with_the_conversation() -> None:
    body = {"messages": [{"role": "user", "content": "n?"}], "max_tokens": 5}
    again = StructuredOutput(SCHEMA, CHAT).reask(body, row('{"n": "1"}', error="n: '1' is not an integer"))
    assert again is not None
    assert again["max_tokens"] == 5
    assert [message["role"] for message in again["messages"]] == ["user", "assistant", "user"]
    assert again["messages"][1]["content"] == '{"n": "1"}'
    assert "n: '1' is not an integer" in again["messages"][2]["content"]
    assert len(body["messages"]) == 1


def test_asking_again_needs_a_conversation() -> None:
    assert StructuredOutput(SCHEMA, CHAT).reask({}, row("x", error="y")) is None
