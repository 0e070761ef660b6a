"""One reading of each form of error body, for the errors of calls and for those of result rows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_mistral_batch.api.error_bodies import ErrorBody, decode_error, read_error
from airflow_provider_mistral_batch.api.errors import error_from_answer
from airflow_provider_mistral_batch.jsonl.results.outcomes import failure

#: A body, and what it says; as bytes where it is not JSON.
BODIES: dict[str, tuple[object, ErrorBody]] = {
    "the API's": (
        {"object": "error", "message": "No", "type": "invalid", "param": "model", "code": "1500"},
        ErrorBody("No", "1500", "invalid", "model"),
    ),
    "a code that is a number": (
        {"message": "No", "code": 1500, "param": None, "type": ""},
        ErrorBody("No", "1500"),
    ),
    "the API's, of the gateway": ({"message": "Unauthorized", "request_id": "r"}, ErrorBody("Unauthorized")),
    "validation": (
        {"detail": [{"loc": ["body", "timeout_hours", 0], "msg": "too big", "type": "x"}, {"msg": "b"}, "c"]},
        ErrorBody("body.timeout_hours.0: too big; b; c"),
    ),
    "validation without words": ({"detail": [{"loc": ["body"]}, 5]}, ErrorBody('{"loc":["body"]}; 5')),
    "validation of many fields": (
        {"detail": [{"msg": str(number)} for number in range(8)]},
        ErrorBody("0; 1; 2; 3; 4; and 3 more"),
    ),
    "validation within a message": (
        {"object": "error", "message": {"detail": [{"loc": ["body"], "msg": "no"}]}, "type": "t"},
        ErrorBody("body: no", None, "t"),
    ),
    "a summary beside the detail": (
        {"message": "Invalid", "detail": [{"loc": ["n"], "msg": "bad"}]},
        ErrorBody("n: bad"),
    ),
    "a text as detail": ({"detail": "Not Found"}, ErrorBody("Not Found")),
    "an object as detail": ({"detail": {"code": "c", "message": "No"}}, ErrorBody("No", "c")),
    "no detail": ({"detail": None, "message": "No"}, ErrorBody("No")),
    "OpenAI's": (
        {"error": {"message": "No", "type": "t", "param": "p", "code": "c"}},
        ErrorBody("No", "c", "t", "p"),
    ),
    "wrapped, with fields outside": (
        {"type": "error", "error": {"type": "overloaded", "message": "No"}, "code": 529},
        ErrorBody("No", "529", "overloaded"),
    ),
    "wrapped, with the message outside": ({"error": {"code": 7}, "message": "No"}, ErrorBody("No", "7")),
    "an object as message": ({"error": {"message": {"text": "x"}}}, ErrorBody('{"text":"x"}')),
    "a text as error": ({"error": "invalid_token"}, ErrorBody("invalid_token")),
    "a flag as error": ({"error": True, "message": "No"}, ErrorBody("No")),
    "unknown": ({"something": "else"}, ErrorBody('{"something":"else"}')),
    "a text": ("No", ErrorBody("No")),
    "a list": (["a", {"msg": "b"}], ErrorBody("a; b")),
    "a number": (5, ErrorBody("5")),
    "a code alone": ({"error": {"code": "c"}}, ErrorBody("", "c")),
    "null": (None, ErrorBody()),
    "an empty object": ({}, ErrorBody()),
    "an empty list": ([], ErrorBody()),
    "half an emoji": ({"message": "\ud83d"}, ErrorBody("\N{REPLACEMENT CHARACTER}")),
    "HTML": (b"<html><b>Bad</b></html>", ErrorBody("<html><b>Bad</b></html>")),
    "nothing": (b"", ErrorBody()),
    "not UTF-8": (b"\xff", ErrorBody("\N{REPLACEMENT CHARACTER}")),
}
SAYING_SOMETHING = {form: body for form, body in BODIES.items() if body[1].message}


def _content(body: object) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


@pytest.mark.parametrize("form", BODIES)
def test_forms_of_error_bodies(form: str) -> None:
    body, said = BODIES[form]
    assert decode_error(_content(body)) == said


@pytest.mark.parametrize("form", SAYING_SOMETHING)
def test_the_error_of_a_call_says_it(form: str) -> None:
    body, said = BODIES[form]
    error = error_from_answer(400, _content(body), operation="GET /")
    assert (error.message, error.code, error.type, error.param) == said


@pytest.mark.parametrize("place", ["error", "response"])
@pytest.mark.parametrize("form", [form for form, (body, _) in BODIES.items() if not isinstance(body, bytes)])
def test_the_failure_of_a_row_says_it(form: str, place: str) -> None:
    body, said = BODIES[form]
    row: dict[str, Any] = {"custom_id": "a", "response": {"status_code": 400, "body": body}, "error": None}
    if place == "error":
        row = {"custom_id": "a", "response": None, "error": body}
    found = failure(json.dumps(row).encode())
    assert (found.message, found.code) == (said.message, said.code)


@pytest.mark.parametrize("levels", [5, 100, 900])
def test_any_depth_can_be_read(levels: int) -> None:
    body: object = "x"
    for _ in range(levels):
        body = {"error": body}
    assert read_error(body).message
    assert decode_error(b"[" * levels + b"1" + b"]" * levels).message
