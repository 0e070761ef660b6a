"""From an answer to an error: its class, its words, and what it says about the server."""

from __future__ import annotations

import json
import pickle

import pytest

from airflow_provider_mistral_batch.api.errors import (
    AuthenticationError,
    BadRequestError,
    MistralBatchError,
    MistralCallError,
    MistralConnectionError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    RequestTooLargeError,
    ServerError,
    error_from_answer,
    speaks_of_size,
)
from airflow_provider_mistral_batch.api.texts import excerpt


def _error(status_code: int = 400, body: object = None, **details):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return error_from_answer(status_code, content, **{"operation": "GET /v1/x", **details})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no message"),
        (b" ", "no message"),
        (b"{}", "{}"),
        (b'{"code": 7}', '{"code": 7}'),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"[" * 100_000, "[" * 500 + "…"),
        (json.dumps({"message": "a\x1b[31m\nb\x00c\u2028d"}).encode(), "a [31m b c d"),
        (b"<html>\n <b>Bad</b>\n</html>", "<html> <b>Bad</b> </html>"),
    ],
)
def test_a_message_is_one_short_line_and_never_empty(content, message):
    assert _error(body=content).message == message


@pytest.mark.parametrize(
    ("status_code", "retry_after", "kind", "transient", "may_have_acted"),
    [
        (400, None, BadRequestError, False, False),
        (401, None, AuthenticationError, False, False),
        (402, None, PaymentRequiredError, False, False),
        (403, None, PermissionDeniedError, False, False),
        (404, None, NotFoundError, False, False),
        (408, None, ServerError, True, True),
        (409, None, BadRequestError, False, False),
        (413, None, RequestTooLargeError, False, False),
        (425, None, BadRequestError, True, False),
        (422, None, BadRequestError, False, False),
        (429, None, RateLimitError, True, False),
        (429, 3.0, RateLimitError, True, False),
        (500, None, ServerError, True, True),
        (502, 3.0, ServerError, True, True),
        (503, None, ServerError, True, True),
        (503, 0.0, ServerError, True, False),
        (504, None, ServerError, True, True),
        (522, None, ServerError, True, True),
        (599, None, ServerError, True, True),
    ],
)
def test_classes_of_errors(status_code, retry_after, kind, transient, may_have_acted):
    error = _error(status_code, {"message": "m"}, retry_after=retry_after)
    assert type(error) is kind
    assert (error.transient, error.may_have_acted, error.retry_after) == (
        transient,
        may_have_acted,
        retry_after,
    )
    assert isinstance(error, MistralCallError)
    assert isinstance(error, MistralBatchError)


@pytest.mark.parametrize(
    ("status_code", "remedy"),
    [
        (401, "Check the API key"),
        (402, "set up billing"),
        (403, "Use the API key of a workspace"),
        (404, "belongs to another workspace"),
        (413, "Split the request file"),
    ],
)
def test_remedies(status_code, remedy):
    assert remedy in str(_error(status_code, {"message": "m"}))
    assert str(_error(status_code, {"message": "m"}, remedies={status_code: "Do that"})).endswith(". Do that")
    assert remedy in str(_error(status_code, {"message": "m"}, remedies={400: "Do that"}))


def test_words_of_an_error():
    error = _error(
        422, {"message": "No", "type": "t", "param": "p", "code": "c"}, request_id="r\r\n 1", retry_after=None
    )
    assert str(error) == "GET /v1/x was answered with 422: No (code=c, type=t, param=p, request_id=r 1)"
    assert error.status_code == 422
    assert error.operation == "GET /v1/x"


@pytest.mark.parametrize(
    "body", [{"message": "k" * 495 + "SECRET"}, {"message": "m", "code": "SECRET"}, b"x SECRET"]
)
def test_secrets_go_before_a_text_is_cut_short(body):
    error = _error(400, body, request_id="SECRET", without_secrets=lambda text: text.replace("SECRET", "***"))
    assert "SEC" not in f"{error!s}{error!r}{vars(error)}"


@pytest.mark.parametrize(
    "error",
    [
        _error(401, {"message": "No", "code": "c"}, request_id="r", retry_after=1.0),
        MistralConnectionError("gone", operation="GET /", may_have_acted=True),
    ],
)
def test_errors_survive_pickling(error):
    error.remedy = "Do something"
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (str(copy), vars(copy)) == (str(error), vars(error))


def test_excerpt():
    assert excerpt("a" * 10, 4) == "aaaa…"
    assert excerpt(" a \n\t b ") == "a b"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Too many requests in batch: 150000 > 100000", True),
        ("Batch size exceeds the limit of 100,000 requests", True),
        ("The number of lines in the input file exceeds the maximum of 50000.", True),
        ("body.input_files: a job may have at most 1000000 entries", True),
        ("Batch input file is 12.0 MB, which exceeds the configured max_batch_file_size_mb of 10 MB.", True),
        ("file too large", True),
        ("Invalid model: nope", False),
        ("body.metadata: Dictionary should have at most 16 items", False),
        ("body.metadata.x: String should have at most 512 characters", False),
        ("body.timeout_hours: Input should be less than or equal to 168, the maximum of a job", False),
        ("The request exceeds the context limit of 32768 tokens", False),
        ("Rate limit exceeded: at most 6 requests per second", False),
        ("No file matches the given query", False),
        ("", False),
    ],
)
def test_what_speaks_of_the_size_of_a_job(text, expected):
    assert speaks_of_size(text) is expected
