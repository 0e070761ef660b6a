"""The emulator's decisions and answers, without a process: tables of what follows from what."""

from __future__ import annotations

import json
import math
from typing import Any

import jsonschema
import pytest

from airflow_provider_mistral_batch.emulator.answers.dispatch import make_answer
from airflow_provider_mistral_batch.emulator.answers.embeddings import embedding
from airflow_provider_mistral_batch.emulator.answers.gist import reply
from airflow_provider_mistral_batch.emulator.answers.schema import instance
from airflow_provider_mistral_batch.emulator.answers.tokens import count_tokens
from airflow_provider_mistral_batch.emulator.engine.lifecycle import Step, next_step, rows_done_by
from airflow_provider_mistral_batch.emulator.engine.rows import execute
from airflow_provider_mistral_batch.emulator.engine.upstream import endpoint_url
from airflow_provider_mistral_batch.emulator.state.clock import JobClock
from airflow_provider_mistral_batch.emulator.state.plans import JobPlan
from airflow_provider_mistral_batch.emulator.state.tables import Job

CHAT = "/v1/chat/completions"


def job(**fields: Any) -> Job:
    """A job of ten rows that runs from 100 to 200, by default."""
    known = {"id": "j", "workspace": "w", "user": "u", "dialect": "mistral", "endpoint": CHAT, "created": 0.0}
    running = {"status": "RUNNING", "begin": 100.0, "job_seconds": 100.0, "deadline": 1000.0, "total": 10}
    return Job(**{**known, **running, **fields})


@pytest.mark.parametrize(
    ("changes", "plan", "now", "step"),
    [
        ({"status": "QUEUED", "validation_due": 90.0}, {}, 80.0, Step("wait", due=90.0)),
        ({"status": "QUEUED", "validation_due": 90.0}, {}, 90.0, Step("validate")),
        ({"status": "QUEUED", "validation_due": 90.0, "deadline": 85.0}, {}, 80.0, Step("wait", due=85.0)),
        ({"status": "QUEUED", "deadline": 85.0}, {}, 85.0, Step("end", status="TIMEOUT_EXCEEDED")),
        ({}, {}, 100.0, Step("wait", due=109.5)),
        ({}, {}, 110.0, Step("execute", rows=1)),
        ({"done": 1}, {}, 110.0, Step("wait", due=119.0)),
        ({"done": 1}, {}, 195.0, Step("execute", rows=10)),
        ({"done": 10}, {}, 195.0, Step("finalize")),
        ({"done": 10, "finalizing": 1.0}, {}, 195.0, Step("wait", due=200.0)),
        ({"done": 10, "finalizing": 1.0}, {}, 200.0, Step("end", status="SUCCESS")),
        ({"done": 5, "deadline": 150.0}, {}, 150.0, Step("end", status="TIMEOUT_EXCEEDED")),
        ({"job_seconds": 0.0}, {}, 100.0, Step("execute", rows=10)),
        ({"job_seconds": 0.0, "done": 10, "finalizing": 1.0}, {}, 100.0, Step("end", status="SUCCESS")),
        ({}, {"end": "FAILED"}, 100.0, Step("end", status="FAILED")),
        ({"done": 5}, {"end": "CANCELLED"}, 149.0, Step("wait", due=150.0)),
        ({"done": 5}, {"end": "CANCELLED"}, 150.0, Step("end", status="CANCELLED")),
        ({"status": "CANCELLATION_REQUESTED", "cancel_due": 120.0}, {}, 110.0, Step("wait", due=120.0)),
        (
            {"status": "CANCELLATION_REQUESTED", "cancel_due": 120.0},
            {},
            120.0,
            Step("end", status="CANCELLED"),
        ),
        ({"end_as": "SUCCESS", "done": 3}, {}, 100.0, Step("execute", rows=10)),
        ({"end_as": "SUCCESS", "done": 10}, {}, 100.0, Step("end", status="SUCCESS")),
        ({"end_as": "SUCCESS", "status": "QUEUED", "begin": None}, {}, 0.0, Step("validate")),
        ({"end_as": "FAILED"}, {}, 100.0, Step("end", status="FAILED")),
        ({"phantom": 1}, {}, 100.0, Step("wait", due=200.0)),
        ({"phantom": 1}, {"end": "FAILED"}, 200.0, Step("end", status="FAILED")),
        ({"deleted": 1}, {}, 100.0, Step("discard")),
        ({"status": "SUCCESS"}, {}, 2000.0, Step("wait")),
    ],
)
def test_next_step(changes: dict[str, Any], plan: dict[str, Any], now: float, step: Step) -> None:
    assert next_step(job(**changes), JobPlan(**plan), now) == step


def test_every_wait_leads_on() -> None:
    # From one due time to the next the job gets to its end, and never waits for what has passed.
    one, now, steps = job(total=1_000), 100.0, 0
    while (step := next_step(one, JobPlan(), now)).kind != "end":
        if step.kind == "wait":
            assert step.due is not None
            assert step.due > now
            now = step.due
        elif step.kind == "execute":
            assert step.rows > one.done
            one.done = step.rows
        else:
            one.finalizing = now
        steps += 1
    assert (one.done, now) == (1_000, 200.0)
    assert steps < 300


@pytest.mark.parametrize(
    ("elapsed", "working", "done"),
    [
        (0, 10, 0),
        (4.99, 10, 49),
        (5, 10, 50),
        (10, 10, 100),
        (99, 10, 100),
        (0, 0, 100),
        # The clock went back a little since the job began.
        (-0.001, 0, 100),
        (-0.001, 10, 0),
    ],
)
def test_rows_are_done_evenly(elapsed: float, working: float, done: int) -> None:
    assert rows_done_by(elapsed, 100, working) == done


def test_a_job_clock_keeps_what_has_passed() -> None:
    clock = JobClock(wall=1000.0, job=0.0, speed=1.0)
    assert clock.now(1010.0) == 10.0
    faster = clock.with_speed(60.0, 1010.0)
    assert (faster.now(1010.0), faster.now(1011.0)) == (10.0, 70.0)
    assert faster.seconds_until(130.0, 1011.0) == 1.0
    assert faster.seconds_until(0.0, 1011.0) == 0.0


TOPIC = """The "assert" statement
**********************

Assert statements are a convenient way to insert debugging assertions
into a program:

   assert_stmt: "assert" expression ["," expression]

The simple form, "assert expression", is equivalent to

   if __debug__:
      if not expression: raise AssertionError
"""
GIST = "Assert statements are a convenient way to insert debugging assertions into a program."


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        (f"Summarise this topic of the Python help in one sentence:\n\n{TOPIC}", GIST),
        (f"Summarize the help topic 'assert'.\n\n{TOPIC}", GIST),
        (f"Summarise in one sentence:\n{TOPIC}", GIST),
        (f"{TOPIC}\n\nSummarise the text above.", GIST),
        ("Translate this text: The cat sat on the mat. It slept.", "The cat sat on the mat. It slept."),
        ("", "There is nothing to answer."),
        ("  \n ", "There is nothing to answer."),
    ],
)
def test_an_answer_begins_with_the_gist(prompt: str, answer: str) -> None:
    assert reply(prompt).startswith(answer)
    assert len(reply(prompt)) < 500


@pytest.mark.parametrize("prompt", ["What is the best French cheese?", "Summarize topic number 3", "Hello"])
def test_a_question_is_named_in_its_answer(prompt: str) -> None:
    assert prompt in reply(prompt)
    assert "--upstream" in reply(prompt)


def answer(body: dict[str, Any], endpoint: str = CHAT) -> tuple[int, Any]:
    return make_answer(endpoint, "some-model", None, 8)(json.dumps(body).encode())


MESSAGES = [{"role": "user", "content": f"Summarise:\n\n{TOPIC}"}]


@pytest.mark.parametrize(
    ("fields", "finish", "tokens"),
    [
        ({}, "stop", None),
        ({"max_tokens": 5}, "length", 5),
        ({"max_tokens": 0}, "length", 0),
        ({"max_tokens": 500}, "stop", None),
    ],
)
def test_usage_and_the_reason_to_finish(fields: dict[str, Any], finish: str, tokens: int | None) -> None:
    _, body = answer({"messages": MESSAGES, **fields})
    [choice] = body["choices"]
    usage = body["usage"]
    assert choice["finish_reason"] == finish
    assert usage["completion_tokens"] == count_tokens(choice["message"]["content"])
    assert tokens in (None, usage["completion_tokens"])
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_stop_sequences_and_several_choices() -> None:
    _, body = answer({"messages": MESSAGES, "stop": ["convenient", "never"], "n": 3})
    assert {choice["message"]["content"] for choice in body["choices"]} == {"Assert statements are a "}
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]


def test_chunks_are_read_as_text() -> None:
    content = [
        {"type": "text", "text": "What is"},
        {"type": "image_url", "image_url": "x"},
        {"type": "text", "text": "this?"},
    ]
    _, body = answer(
        {"messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": content}]}
    )
    assert "What is this?" in body["choices"][0]["message"]["content"]


@pytest.mark.parametrize("choice", ["any", "required", {"type": "function", "function": {"name": "weather"}}])
def test_tools_are_called_if_they_must_be(choice: Any) -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": parameters}}]
    _, body = answer({"messages": MESSAGES, "tools": tools, "tool_choice": choice})
    assert body["choices"][0]["finish_reason"] == "tool_calls"
    [call] = body["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "weather"
    jsonschema.validate(json.loads(call["function"]["arguments"]), parameters)


def test_json_mode() -> None:
    _, body = answer({"messages": MESSAGES, "response_format": {"type": "json_object"}})
    assert json.loads(body["choices"][0]["message"]["content"])["answer"].startswith(GIST)


SCHEMAS = [
    {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    },
    {"type": "array", "items": {"type": "number"}, "minItems": 5, "maxItems": 5},
    {"type": "array", "items": {"enum": ["x", "y", "z"]}, "uniqueItems": True, "minItems": 3},
    {"type": "array", "prefixItems": [{"type": "string"}, {"type": "null"}], "items": False},
    {"type": "integer", "minimum": 17, "maximum": 18},
    {"type": "integer", "exclusiveMinimum": 7, "multipleOf": 5},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    {"type": "number", "maximum": -3.25},
    {"type": "string", "minLength": 100},
    {"type": "string", "maxLength": 3},
    {"type": "string", "pattern": r"^[A-Z]{2}-\d{4}(foo|bar)?$"},
    {"type": "string", "format": "date-time"},
    {"type": ["null", "string"], "minLength": 1},
    {"const": {"a": [1]}},
    {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
    {"oneOf": [{"type": "object", "properties": {"k": {"const": "a"}}, "required": ["k"]}, {"type": "null"}]},
    {"allOf": [{"type": "object", "required": ["x"]}, {"properties": {"x": {"type": "integer"}}}]},
    {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
            }
        },
        "$ref": "#/$defs/node",
    },
    {"type": "object", "required": ["free"], "additionalProperties": {"type": "integer"}},
    # A linked list whose last node must say so, a tree of them, and an expression that ends in its last alternative.
    {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
                "required": ["next"],
            }
        },
        "$ref": "#/$defs/node",
    },
    {
        "type": "object",
        "properties": {name: {"oneOf": [{"$ref": "#"}, {"type": "null"}]} for name in "abcdef"},
        "required": [*"abcdef"],
    },
    {
        "$defs": {
            "sum": {
                "type": "object",
                "properties": {"of": {"type": "array", "items": {"$ref": "#/$defs/any"}, "minItems": 2}},
                "required": ["of"],
            },
            "number": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
            "any": {"anyOf": [{"$ref": "#/$defs/sum"}, {"$ref": "#/$defs/number"}]},
        },
        "$ref": "#/$defs/any",
    },
    {"anyOf": [True, {"type": "null"}], "allOf": [True]},
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=[json.dumps(schema)[:60] for schema in SCHEMAS])
@pytest.mark.parametrize("text", ["Some words to make values of", ""])
def test_json_that_satisfies_a_schema(schema: dict[str, Any], text: str) -> None:
    jsonschema.validate(instance(schema, text), schema, format_checker=jsonschema.FormatChecker())


@pytest.mark.parametrize(
    ("endpoint", "body", "loc"),
    [
        (CHAT, {}, ["body", "messages"]),
        (CHAT, {"messages": []}, ["body", "messages"]),
        (CHAT, {"messages": [{"role": "boss", "content": "x"}]}, ["body", "messages", 0]),
        (CHAT, {"messages": [{"role": "user"}]}, ["body", "messages", 0, "user", "content"]),
        (
            CHAT,
            {"messages": [{"role": "system", "content": None}]},
            ["body", "messages", 0, "system", "content"],
        ),
        (CHAT, {"messages": MESSAGES, "max_tokens": -1}, ["body", "max_tokens"]),
        (CHAT, {"messages": MESSAGES, "temperature": "hot"}, ["body", "temperature"]),
        (CHAT, {"messages": MESSAGES, "stream": True}, ["body", "stream"]),
        (CHAT, {"messages": MESSAGES, "model": 7}, ["body", "model"]),
        (
            CHAT,
            {"messages": MESSAGES, "response_format": {"type": "xml"}},
            ["body", "response_format", "type"],
        ),
        (
            CHAT,
            {
                "messages": MESSAGES,
                "tools": [{"function": {"name": "f"}}],
                "tool_choice": {"type": "function", "function": "f"},
            },
            ["body", "tool_choice"],
        ),
        (
            CHAT,
            {"messages": MESSAGES, "tools": [{"function": {"name": "f", "parameters": {"minItems": "x"}}}]},
            ["body", "tools", 0, "function", "parameters", "Schema", "minItems"],
        ),
        ("/v1/embeddings", {"input": 1}, ["body", "input"]),
        ("/v1/fim/completions", {"suffix": "x"}, ["body", "prompt"]),
        ("/v1/moderations", {}, ["body", "input"]),
        ("/v1/chat/moderations", {"input": "text"}, ["body", "input"]),
        ("/v1/ocr", {}, ["body", "document"]),
        ("/v1/ocr", {"document": {}}, ["body", "document"]),
        ("/v1/classifications", {"input": [1]}, ["body", "input"]),
        ("/v1/chat/classifications", {"input": []}, ["body", "input"]),
        ("/v1/conversations", {}, ["body", "inputs"]),
        (
            "/v1/conversations",
            {"inputs": [{"role": "user", "content": ["a"]}]},
            ["body", "inputs"],
        ),
        (
            "/v1/conversations",
            {"inputs": "a", "completion_args": {"max_tokens": "ten"}},
            ["body", "completion_args", "max_tokens"],
        ),
        (
            "/v1/conversations",
            {"inputs": "a", "completion_args": {"stop": 5}},
            ["body", "completion_args", "stop"],
        ),
        ("/v1/audio/transcriptions", {"file_id": "f", "language": 1}, ["body", "language"]),
        ("/v1/audio/transcriptions", {}, ["body"]),
        ("/v1/audio/transcriptions", {"language": "en"}, ["body"]),
    ],
)
def test_an_invalid_body_is_a_422(endpoint: str, body: dict[str, Any], loc: list[Any]) -> None:
    status, error = answer(body, endpoint)
    assert status == 422
    assert set(error["detail"][0]) == {"loc", "msg", "type"}
    assert error["detail"][0]["loc"][: len(loc)] == loc


def test_a_reference_to_nowhere_asks_for_nothing() -> None:
    assert instance({"$ref": "#/type/nowhere", "type": "boolean"}, "text") is True


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": []},
        {"multipleOf": 0},
        {"minimum": "a"},
        {"properties": []},
        {"required": "a"},
        {"anyOf": [{"enum": []}]},
        {"$ref": 5},
        {"$defs": {"a": {"enum": []}}},
    ],
    ids=str,
)
def test_a_schema_that_no_answer_can_satisfy_is_a_422(schema: dict[str, Any]) -> None:
    asked = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    for endpoint, body in (
        (CHAT, {"messages": MESSAGES, "response_format": asked}),
        ("/v1/conversations", {"inputs": "a", "completion_args": {"response_format": asked}}),
        ("/v1/ocr", {"document": {"file_id": "f"}, "document_annotation_format": asked}),
    ):
        status, error = answer(body, endpoint)
        assert status == 422
        assert [*error["detail"][0]["loc"]][-2:] != ["json_schema", "schema"]
        assert next(iter(schema)) in error["detail"][0]["loc"]


def test_numbers_in_texts_are_read_wherever_they_are_bounds() -> None:
    for endpoint, body in (
        (CHAT, {"messages": MESSAGES, "max_tokens": "1"}),
        ("/v1/conversations", {"inputs": "some words", "completion_args": {"max_tokens": "1"}}),
    ):
        status, answered = answer(body, endpoint)
        assert (status, answered["usage"]["completion_tokens"]) == (200, 1)


def test_a_row_at_which_the_emulator_fails_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    def answer(body: bytes) -> tuple[int, Any]:
        if bytes(body) == b'"bad"':
            raise RecursionError("too deep")
        return 200, {"id": "good"}

    lines = [json.dumps({"custom_id": name, "body": name}).encode() for name in ("good", "bad", "better")]
    for plan in (JobPlan(), JobPlan(duplicate_rows=3)):
        written, _ = execute("job-1", lines, 0, answer, plan)
        assert (written.succeeded, written.failed) == (2, 1)
        failed = json.loads(written.errors[0])
        assert (failed["custom_id"], failed["error"], failed["response"]["status_code"]) == ("bad", None, 500)
        assert failed["response"]["body"]["message"] == "The emulator failed at this row: its log says why"
        assert "Row 2 of batch job job-1 cannot be answered" in caplog.text
        assert "RecursionError: too deep" in caplog.text
        caplog.clear()


@pytest.mark.parametrize("base", ["http://host:1", "http://host:1/", "http://host:1/v1", "http://host:1/v1/"])
def test_where_an_upstream_server_has_its_endpoints(base: str) -> None:
    assert endpoint_url(base, CHAT) == "http://host:1/v1/chat/completions"


def test_embeddings_are_unit_vectors_of_the_text_alone() -> None:
    vector = embedding("text", 64)
    assert math.isclose(math.hypot(*vector), 1)
    assert embedding("text", 64) == vector != embedding("other", 64)
    assert [len(embedding("text", 64, dtype)) for dtype in ("int8", "uint8", "binary", "ubinary")] == [
        64,
        64,
        8,
        8,
    ]
