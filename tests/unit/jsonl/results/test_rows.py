"""Every endpoint's answer becomes one typed row."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_mistral_batch.jsonl.results.reader import read_rows
from airflow_provider_mistral_batch.jsonl.results.rows import result_row
from airflow_provider_mistral_batch.jsonl.results.split import split_results
from airflow_provider_mistral_batch.jsonl.row_ids import row_ids

from .answers import BODIES, CHAT_BODY
from .result_rows import row_line


@pytest.mark.parametrize("kind", BODIES)
def test_every_endpoint_has_its_content(kind):
    body, expected = BODIES[kind]
    line = row_line("a", body)
    row = result_row(line)
    assert (row.content, row.finish_reason, row.prompt_tokens, row.completion_tokens, row.model) == expected
    assert (row.custom_id, row.status_code, row.error, row.succeeded, row.raw) == ("a", 200, None, True, line)
    assert row.body == body


def test_a_failed_row_has_an_error_and_what_there_is_beside():
    row = result_row(row_line("a", CHAT_BODY, error={"code": "invalid_output", "message": "no number"}))
    assert (row.error, row.content, row.succeeded) == ("no number", "Hé", False)
    row = result_row(row_line("a", None, status_code=0))
    assert (row.error, row.status_code, row.body) == ("no answer (status code 0)", 0, None)


@pytest.mark.parametrize("line", [b"oops", b"[]", b"{}", b'{"response": 1}', b"\xff", b'{"custom_id": 5}'])
def test_what_is_no_row_is_a_failed_row(line):
    row = result_row(line)
    assert not row.succeeded
    assert (row.custom_id, row.content) == (None, None)


ODD_FIELDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "float tokens": ({"usage": {"prompt_tokens": 10.0, "completion_tokens": "2"}}, {"prompt_tokens": 10}),
    "token beside an odd one": (
        {"usage": {"prompt_tokens": float("nan"), "completion_tokens": 2}},
        {"prompt_tokens": None},
    ),
    "usage is text": ({"usage": "none"}, {"prompt_tokens": None, "completion_tokens": None}),
    "usage is null": ({"usage": None}, {"prompt_tokens": None, "completion_tokens": None}),
    "details are text": (
        {"usage": {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": "x"}},
        {},
    ),
    "model is null": ({"model": None}, {"model": None}),
    "model is an object": ({"model": {"id": "m"}}, {"model": None}),
    "a field of ours": ({"pages": 3, "outputs": {}, "text": 4, "usage_info": [1]}, {}),
    "a number without bounds": ({"logprobs": float("-inf"), "seed": 10**400}, {}),
    "finish_reason is a number": (
        {"choices": [{"finish_reason": 1, "message": {"content": "Hé"}}]},
        {"finish_reason": None},
    ),
    "finish_reason of others": (
        {"choices": [{"finish_reason": "content_filter", "message": {"content": "Hé"}}]},
        {"finish_reason": "content_filter"},
    ),
    "a second choice is none": (
        {"choices": [{"finish_reason": "stop", "message": {"content": "Hé"}}, None]},
        {"finish_reason": "stop"},
    ),
}


@pytest.mark.parametrize("kind", ODD_FIELDS)
def test_an_odd_field_hides_no_other(kind, tmp_path):
    fields, expected = ODD_FIELDS[kind]
    line = row_line("a", {**CHAT_BODY, **fields})
    row = result_row(line)
    expected = {
        "custom_id": "a",
        "status_code": 200,
        "content": "Hé",
        "finish_reason": "length",
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "model": "m",
        "error": None,
        **expected,
    }
    assert row.as_dict() == expected
    assert row_ids([line]) == ["a"]
    (tmp_path / "requests").write_bytes(b'{"custom_id":"a","body":{}}\n')
    for check, place in ((None, "r"), (lambda _: "not acceptable", "e")):
        paths = tmp_path / "r", tmp_path / "e"
        summary = split_results([[line]], *paths, requests=[tmp_path / "requests"], check=check)
        assert (summary.counts["missing"], summary.counts["unknown"]) == (0, 0)
        (landed,) = read_rows(tmp_path / place)
        assert landed.content == "Hé"


def test_of_several_pages_an_odd_one_hides_no_other():
    row = result_row(row_line("a", {"pages": [{"markdown": "A"}, {"markdown": 5}, None, {"markdown": "B"}]}))
    assert row.content is not None
    assert row.content.split() == ["A", "B"]


CALL = {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}
RESULT = {"role": "tool", "content": "5 °C", "tool_call_id": "1"}


@pytest.mark.parametrize(
    ("choice", "content"),
    [
        ({"messages": [CALL, RESULT, {"role": "assistant", "content": "Cold."}]}, "Cold."),
        (
            {"messages": [{"content": [{"type": "text", "text": "Co"}, {"type": "text", "text": "ld."}]}]},
            "Cold.",
        ),
        ({"messages": [{"role": "assistant", "content": "Cold."}, CALL, RESULT]}, "Cold."),
        ({"message": None, "messages": [{"role": "assistant", "content": "Cold."}]}, "Cold."),
        ({"message": {"content": "Warm."}, "messages": []}, "Warm."),
        ({"messages": [CALL, RESULT]}, None),
        ({"messages": "none"}, None),
    ],
)
def test_choices_of_many_messages_have_the_last_answer(choice, content):
    body = {**CHAT_BODY, "choices": [{"index": 0, "finish_reason": "stop", **choice}]}
    assert result_row(row_line("a", body)).content == content


@pytest.mark.parametrize("output_format", ["jsonl", "parquet"])
def test_an_answer_that_broke_off_is_a_failure(tmp_path, output_format):
    body = {**CHAT_BODY, "choices": [{"finish_reason": "error", "message": {"content": "Hal"}}]}
    lines = row_line("a", CHAT_BODY) + b"\n" + row_line("b", body)
    summary = split_results([[lines]], tmp_path / "r", tmp_path / "e", output_format=output_format)
    assert (summary.counts["succeeded"], summary.counts["failed"], summary.may_pass) == (1, 1, 1)
    (row,) = read_rows(tmp_path / "e")
    assert (row.custom_id, row.content, row.finish_reason) == ("b", "Hal", "error")
    assert row.error == "the model broke off (finish_reason: error)"
