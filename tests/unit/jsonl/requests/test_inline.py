"""Requests that a job carries in its own body are validated as those of files are."""

from __future__ import annotations

import decimal

import pytest

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.api.limits import MAX_INLINE_REQUESTS
from airflow_provider_mistral_batch.jsonl.requests.inline import validate_inline

from .request_rows import CHAT, problems_of, row


def test_inline_requests_are_validated_and_numbered():
    found, model, numbered, _ = validate_inline(
        [row("a", {"n": 10**25}), "Hi", row(), row("row-3")], endpoint=CHAT
    )
    assert (model, numbered) == (None, 2)
    assert [request["custom_id"] for request in found] == ["a", "row-2", "row_3", "row-3"]
    assert found[0]["body"] == {"n": 10**25}
    assert all(set(request) == {"custom_id", "body"} for request in found)


def test_inline_requests_of_the_published_form():
    assert validate_inline([row("a", method="POST", url=CHAT)], endpoint=CHAT) == ([row("a")], None, 0, None)


@pytest.mark.parametrize("number", [decimal.Decimal("1E+400"), decimal.Decimal("9" * 5000)])
def test_inline_numbers_that_python_cannot_hold(number):
    error = problems_of(lambda: validate_inline([row("a"), row("b", {"n": number}), row("a")], endpoint=CHAT))
    assert [(problem.line, problem.field) for problem in error.problems] == [(2, None), (3, "custom_id")]
    assert "out of range" in error.problems[0].reason


def test_inline_duplicates():
    error = problems_of(lambda: validate_inline([row("a"), row("b"), row("a")], endpoint=CHAT))
    assert [(problem.line, problem.reason) for problem in error.problems] == [(3, "the same as on row 1")]


def test_inline_limit():
    rows, _, numbered, _ = validate_inline([row()] * MAX_INLINE_REQUESTS, endpoint=CHAT)
    assert len(rows) == numbered == MAX_INLINE_REQUESTS
    with pytest.raises(InvalidInputError, match=r"10,000.*input_files"):
        validate_inline([row()] * (MAX_INLINE_REQUESTS + 1), endpoint=CHAT)


def test_inline_nothing():
    with pytest.raises(InvalidInputError, match="requests is empty"):
        validate_inline([], endpoint=CHAT)
