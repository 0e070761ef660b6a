"""Forms of answers: what the API is told, what is acceptable, and how it is asked for again."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel, field_validator

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.inference.structured_output import StructuredOutput
from airflow_provider_mistral_batch.jsonl.results.rows import ResultRow
from airflow_provider_mistral_batch.jsonl.results.split import split_results

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
    (SCHEMA, "[" * 100_000, "it is not JSON of at most 650 levels"),
    (SCHEMA, "[" * 651 + "]" * 651, "it is not JSON of at most 650 levels"),
    (Book, "[" * 651 + "]" * 651, "it is not JSON of at most 650 levels"),
    (SCHEMA, None, "has no text"),
    (Book, '{"title": "a", "authors": [{"name": "b"}]}', None),
    (Book, '{"title": "a", "authors": [{}]}', "authors.0.name: Field required"),
    (Book, "Sure!", "Invalid JSON"),
]


@pytest.mark.parametrize(("model", "content", "reason"), CHECKS)
def test_checks(model: Any, content: str | None, reason: str | None) -> None:
    said = StructuredOutput(model, CHAT).check(row(content))
    assert (said is None) if reason is None else (said is not None and reason in said)


class Validated(BaseModel):
    numbers: list[int]
    text: str = ""

    @field_validator("numbers")
    @classmethod
    def first_is_positive(cls, numbers: list[int]) -> list[int]:
        return numbers if numbers[0] > 0 else []

    @field_validator("text")
    @classmethod
    def no_halves(cls, text: str) -> str:
        raise LookupError(json.loads(text))


NODE = {"type": "object", "properties": {"child": {"$ref": "#"}}}
ODD_CHECKS = [
    ({"type": "number", "multipleOf": 0.01}, "1" * 321, "cannot be checked: OverflowError"),
    (NODE, '{"child":' * 300 + "{}" + "}" * 300, "cannot be checked: RecursionError"),
    (Validated, '{"numbers": []}', "cannot be checked: IndexError: list index out of range"),
    (Validated, r'{"numbers": [1], "text": "\"\\ud83d\""}', "cannot be checked: LookupError: ?"),
]


@pytest.mark.parametrize(("model", "content", "reason"), ODD_CHECKS)
def test_an_odd_answer_does_not_keep_the_others_from_landing(
    model: Any, content: str, reason: str, tmp_path: Path
) -> None:
    body = {"choices": [{"message": {"content": content}}]}
    line = {"custom_id": "a", "response": {"status_code": 200, "body": body}, "error": None}
    summary = split_results(
        [[json.dumps(line).encode()]],
        tmp_path / "results",
        tmp_path / "errors",
        check=StructuredOutput(model, CHAT).check,
    )
    (error,) = summary.errors
    assert error["code"] == "invalid_output"
    assert reason in error["message"]


REFERENCES = [
    {"$ref": "#/$defs/none"},
    {"$ref": "#none"},
    {"$ref": "#/required/none"},
    {"$ref": "other.json"},
    {"$ref": "http://127.0.0.1:9/schema.json"},
    {"$dynamicRef": "#none"},
    {"properties": {"n": {"items": {"$ref": "#/$defs/none"}}}},
    {"$ref": "#/components/n", "components": {"n": {"$ref": "#/components/none"}}},
    {"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#/definitions/none"},
]


@pytest.mark.parametrize("schema", REFERENCES)
def test_a_reference_that_leads_nowhere_is_refused(
    schema: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*_: Any) -> None:
        pytest.fail("something was fetched")

    monkeypatch.setattr(socket.socket, "connect", fetch)
    with pytest.raises(InvalidInputError, match=r"response_model: \$(ref|dynamicRef) '.*' names nothing"):
        StructuredOutput({"required": ["n"], **schema}, CHAT)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/a%20b", "$defs": {"a b": SCHEMA}},
        {"$ref": "#n", "$defs": {"n": {**SCHEMA, "$anchor": "n"}}},
        {"$ref": "n", "$id": "http://example.com/", "$defs": {"n": {**SCHEMA, "$id": "n"}}},
        {
            "$ref": "#/components/n",
            "components": {"n": {**SCHEMA, "not": {"$ref": "#/components/m"}, "m": 1}, "m": False},
        },
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "$ref": "#/definitions/n",
            "definitions": {"n": SCHEMA},
        },
    ],
)
def test_references_within_a_schema(schema: dict[str, Any]) -> None:
    check = StructuredOutput(schema, CHAT).check
    assert check(row('{"n": 1}')) is None
    assert "is not of type 'integer'" in str(check(row('{"n": "1"}')))


def test_schemas_may_be_asked_for() -> None:
    check = StructuredOutput({"$ref": "https://json-schema.org/draft/2020-12/schema"}, CHAT).check
    assert check(row('{"type": "object"}')) is None
    assert "'oops' is not valid" in str(check(row('{"type": "oops"}')))


def test_a_cut_answer_is_called_so() -> None:
    assert "cut off at max_tokens" in str(StructuredOutput(SCHEMA, CHAT).check(row('{"n"', "length")))
    cut = str(StructuredOutput(SCHEMA, CHAT).check(row('{"n"', "model_length")))
    assert "cut off at the longest context of the model" in cut


PREFIX = {"role": "assistant", "content": '{"n": ', "prefix": True}
PIECES = {"role": "assistant", "content": [{"type": "text", "text": '{"n": '}], "prefix": True}


@pytest.mark.parametrize("begun", [PREFIX, PIECES, {**PREFIX, "prefix": False}])
@pytest.mark.parametrize(
    ("content", "answer"), [('{"n": x}', '{"n": x}'), ("x}", '{"n": x}'), ("", '{"n": '), (None, '{"n": ')]
)
def test_the_beginning_of_an_answer_becomes_the_answer(
    begun: dict[str, Any], content: str | None, answer: str
) -> None:
    question = {"role": "user", "content": "n?"}
    body = {"messages": [question, begun]}
    again = StructuredOutput(SCHEMA, CHAT).reask(body, row(content, error="it is not JSON"))
    assert again is not None
    assert again["messages"][:2] == [question, {"role": "assistant", "content": answer}]
    assert [message["role"] for message in again["messages"]] == ["user", "assistant", "user"]
    # The API takes a prefix only as the last message.
    assert not any(message.get("prefix") for message in again["messages"])


@pytest.mark.parametrize("finish_reason", ["length", "model_length"])
@pytest.mark.parametrize("content", ['{"n": ', '{"n": "1"}', "", None])
def test_a_cut_answer_is_not_asked_again(finish_reason: str, content: str | None) -> None:
    structured = StructuredOutput(SCHEMA, CHAT)
    failed = row(content, finish_reason)
    reason = structured.check(failed)
    assert reason is not None
    assert reason.endswith("increase max_tokens" if finish_reason == "length" else "shorten the request")
    assert not structured.may_be_asked_again(reason)
    assert structured.reask({"messages": []}, row(content, finish_reason, error=reason)) is None


def test_a_cut_answer_that_matches_is_one() -> None:
    assert StructuredOutput(SCHEMA, CHAT).check(row('{"n": 1}', "length")) is None


@pytest.mark.parametrize(("content", "stays"), [('{"n": "1"', False), ("", False), ('{"n": "1"}', True)])
def test_a_text_that_may_have_stopped_an_answer_does_not_stop_the_next(content: str, stays: bool) -> None:
    body = {"messages": [], "stop": ["}"], "n": 2}
    again = StructuredOutput(SCHEMA, CHAT).reask(body, row(content, error="it is not JSON"))
    assert again is not None
    assert ("stop" in again, again["n"]) == (stays, 2)
    assert body["stop"] == ["}"]


def test_an_answer_that_calls_tools_is_asked_again_without() -> None:
    structured = StructuredOutput(SCHEMA, CHAT)
    body = {"messages": [], "tools": [{"type": "function"}], "tool_choice": "any"}
    failed = row(None, "tool_calls")
    assert structured.check(failed) == "the answer calls tools and has no text"
    again = structured.reask(body, row(None, "tool_calls", structured.check(failed)))
    assert again is not None
    assert (again["tool_choice"], len(again["messages"])) == ("none", 1)
    kept = structured.reask(body, row("{}", error="n is missing"))
    assert kept is not None
    assert kept["tool_choice"] == "any"


def test_reasons_stay_short() -> None:
    reason = StructuredOutput({"type": "integer"}, CHAT).check(row('"' + "x" * 10_000 + '"'))
    assert reason is not None
    assert len(reason) <= 501


def test_asking_again_goes_on_with_the_conversation() -> None:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "n?"}], "max_tokens": 5}
    again = StructuredOutput(SCHEMA, CHAT).reask(body, row('{"n": "1"}', error="n: '1' is not an integer"))
    assert again is not None
    assert again["max_tokens"] == 5
    assert [message["role"] for message in again["messages"]] == ["user", "assistant", "user"]
    assert again["messages"][1]["content"] == '{"n": "1"}'
    assert "n: '1' is not an integer" in again["messages"][2]["content"]
    assert len(body["messages"]) == 1


def test_asking_again_needs_a_conversation() -> None:
    assert StructuredOutput(SCHEMA, CHAT).reask({}, row("x", error="y")) is None


def test_an_answer_that_could_not_be_checked_is_not_asked_for_again() -> None:
    structured = StructuredOutput(Validated, CHAT)
    failed = row('{"numbers": []}', "length")
    reason = structured.check(failed)
    assert reason is not None
    assert structured.reask({"messages": []}, row(failed.content, error=reason)) is None


def test_a_list_among_the_schemas_of_an_older_draft_is_none() -> None:
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "dependencies": {"a": {"required": ["b"]}, "c": ["d"]},
    }
    check = StructuredOutput(schema, CHAT).check
    assert check(row('{"c": 1, "d": 2}')) is None
    assert check(row('{"c": 1}')) is not None
