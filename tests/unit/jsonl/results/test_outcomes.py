"""What a row says: whether its request succeeded, why not, and whether another try may pass."""

from __future__ import annotations

import pytest

from airflow_provider_mistral_batch.jsonl.results.outcomes import failure, may_pass
from airflow_provider_mistral_batch.results import read_results

from .result_rows import answer, lines, result

OUTCOMES = {
    "answer": (answer("a"), True, None),
    "201": (result("a", 201, {}), True, None),
    "error beside 200": (result("a", 200, {}, {"message": "no"}), False, False),
    "error as text": (result("a", 200, {}, "no"), False, False),
    "status 0": (result("a", 0, None), False, True),
    "status 0, body": (result("a", 0, {"message": "upstream"}), False, True),
    "200 without body": (result("a", 200, None), False, True),
    "no status": (result("a", None, {}), False, True),
    "no response": ({"custom_id": "a", "response": None, "error": None}, False, True),
    "expired": (
        {"custom_id": "a", "response": None, "error": {"code": "batch_expired", "message": "x"}},
        False,
        True,
    ),
    "cancelled": (
        {"custom_id": "a", "response": None, "error": {"code": "batch_cancelled", "message": "x"}},
        False,
        False,
    ),
    **{
        str(code): (result("a", code, {"message": "x"}), False, True)
        for code in (408, 409, 429, 500, 502, 503, 504, 529)
    },
    **{
        str(code): (result("a", code, {"message": "x"}), False, False)
        for code in (300, 400, 401, 402, 403, 404, 413, 422)
    },
    "body is text": (result("a", 200, "done"), True, None),
    "body is a list": (result("a", 200, [1]), True, None),
    "odd usage": (result("a", 200, {"usage": {"prompt_tokens": "many"}}), True, None),
    "status is text": (result("a", "200", {}), True, None),
    "status is a float": (result("a", 200.0, {}), True, None),
    "status is no number": (result("a", "OK", {}), False, True),
    "status of many digits": (result("a", 10**30, {}), False, True),
    "error of nulls": (result("a", 200, {}, {"code": None, "message": ""}), True, None),
    "error is empty": (result("a", 200, {}, {}), True, None),
    "broken off": (result("a", 200, {"choices": [{"finish_reason": "error"}]}), False, True),
    "other reasons": (result("a", 200, {"choices": [{"finish_reason": "content_filter"}]}), True, None),
    "response is text": ({"custom_id": "a", "response": "x", "error": None}, False, True),
}


@pytest.mark.parametrize("kind", OUTCOMES)
def test_verdicts(split, kind):
    row, succeeds, passes = OUTCOMES[kind]
    summary = split(lines(answer("first"), row))
    assert summary.counts["succeeded"] == 1 + succeeds
    assert summary.counts["failed"] == (not succeeds)
    assert (split.results if succeeds else split.errors).read_bytes().splitlines()[-1:] == [
        lines(row).strip()
    ]
    assert summary.may_pass == bool(passes)
    (read,) = (
        read_results(split.results if succeeds else split.errors)
        if not succeeds
        else [list(read_results(split.results))[1]]
    )
    assert read.succeeded == succeeds
    assert read.custom_id == "a"


@pytest.mark.parametrize(
    ("row", "code", "message"),
    [
        (result("a", 429, {"object": "error", "message": "Slow\ndown", "code": "1300"}), "1300", "Slow down"),
        (
            result("a", 422, {"detail": [{"loc": ["body", "n"], "msg": "bad", "type": "t"}]}),
            None,
            "body.n: bad",
        ),
        (result("a", 422, {"message": {"detail": [{"loc": ["body"], "msg": "x"}]}}), None, "body: x"),
        (result("a", 500, {"error": {"message": "inner", "code": 7}}), "7", "inner"),
        (result("a", 500, {"error": "text"}), None, "text"),
        (result("a", 500, "plain"), None, "plain"),
        (result("a", 500, None), None, ""),
        (result("a", 400, {"message": "body"}, {"code": "c"}), "c", "body"),
        (result("a", 400, {"message": "body"}, {"message": "error"}), None, "error"),
        (result("a", 400, {"strange": True}), None, '{"strange":true}'),
    ],
)
def test_reasons_are_found_wherever_they_are(row, code, message):
    found = failure(lines(row).strip())
    assert (found.code, found.message) == (code, message)


def test_long_reasons_are_cut():
    assert len(failure(lines(result("a", 500, "x" * 10_000)).strip()).message) < 400


def test_an_answer_that_was_not_acceptable_never_passes_by_itself():
    assert not may_pass(200, "invalid_output", "timed out")
