"""After all rounds, each request has exactly one outcome."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_mistral_batch.jsonl.results.merge import merge_rounds
from airflow_provider_mistral_batch.jsonl.results.placeholder_rows import MISSING_MESSAGE
from airflow_provider_mistral_batch.results import read_results

from .rounds import Rounds


@pytest.mark.parametrize("output_format", ["jsonl", "parquet"])
def test_merging_keeps_the_last_word_on_each_request(tmp_path, output_format):
    rounds = Rounds(tmp_path, "abcdefg", output_format=output_format)
    rounds.run({"a": 200, "b": 429, "c": 422, "d": 500, "e": 500})
    rounds.run({"b": 200, "d": 503, "f": 200})
    rounds.run({"d": 400})
    summary, rows = rounds.merge()
    outcome = {id_: (row.status_code, row.content or row.error) for id_, row in rows.items()}
    assert outcome == {
        "a": (200, "a in 0"),
        "b": (200, "b in 1"),
        "c": (422, "failed 422"),
        "d": (400, "failed 400"),
        "e": (500, "failed 500"),
        "f": (200, "f in 1"),
        "g": (None, MISSING_MESSAGE),
    }
    assert summary.counts == {
        "total": 7,
        "succeeded": 3,
        "failed": 3,
        "missing": 1,
        "unknown": 0,
        "duplicates": 0,
        "by_status": {"200": 3, "400": 1, "422": 1, "500": 1},
    }
    assert summary.usage["total_tokens"] == 6
    kinds = {(kind["status_code"] or kind["code"], kind["count"]) for kind in summary.errors}
    assert kinds == {(400, 1), (422, 1), (500, 1), ("missing_row", 1)}
    assert summary.may_pass == 2


@pytest.mark.parametrize("output_format", ["jsonl", "parquet"])
def test_the_text_of_an_invalid_answer_outlives_what_comes_after_it(tmp_path, output_format):
    rounds = Rounds(tmp_path, "abcdef", output_format=output_format)
    again: dict[str, list[str]] = {"messages": []}
    outcomes = {**dict.fromkeys("abcde", "invalid"), "f": 429}
    rounds.run(outcomes, reask=lambda body, row: again)
    rounds.run({"a": 400, "b": 503, "c": "invalid", "d": 200, "f": "invalid"}, reask=lambda body, row: again)
    summary, rows = rounds.merge()
    assert {id_: (row.content, row.error) for id_, row in rows.items()} == {
        "a": ("bad", "not acceptable; it was asked again, which failed: 400 failed 400"),
        "b": ("bad", "not acceptable; it was asked again, which failed: 503 failed 503"),
        "c": ("bad", "not acceptable"),
        "d": ("d in 1", None),
        "e": ("bad", "not acceptable"),
        "f": ("bad", "not acceptable"),
    }
    kinds = {kind["code"]: kind["count"] for kind in summary.errors}
    assert kinds.pop("invalid_output_asked_again") == 1
    assert sum(kind["count"] for kind in summary.errors if kind["code"] == "invalid_output") == 4
    assert (summary.counts["failed"], summary.counts["missing"], summary.may_pass) == (5, 0, 0)


def test_missing_rows_are_merged_though_the_request_files_are_gone(tmp_path):
    rounds = Rounds(tmp_path, "abcd")
    rounds.run({"a": 200, "b": 500})
    rounds.run({"c": 200})
    summary = merge_rounds(rounds.landed, tmp_path / "r", tmp_path / "e", requests=None)
    outcome = {row.custom_id: row.status_code for row in read_results(summary.as_dict(), failed=True)}
    assert outcome == {"a": 200, "b": 500, "c": 200, "d": None}
    counts = summary.counts
    assert (counts["total"], counts["succeeded"], counts["failed"], counts["missing"]) == (4, 2, 1, 1)


@settings(deadline=None, max_examples=30)
@given(
    script=st.lists(
        st.dictionaries(st.sampled_from("abcdefghij"), st.sampled_from([200, 422, 429, 500, 0])),
        min_size=1,
        max_size=4,
    )
)
def test_each_request_has_exactly_one_final_outcome(tmp_path_factory, script):
    rounds = Rounds(tmp_path_factory.mktemp("rounds"), "abcdefghij")
    expected: dict[str, int] = {}
    for outcomes in script:
        expected.update(
            {id_: code for id_, code in outcomes.items() if expected.get(id_, 500) not in (200, 422)}
        )
        again = rounds.run(outcomes)
        assert {json.loads(line)["custom_id"] for line in again} == {
            id_ for id_ in "abcdefghij" if expected.get(id_, 500) not in (200, 422)
        }
    summary, rows = rounds.merge()
    assert {id_: row.status_code for id_, row in rows.items()} == {**dict.fromkeys("abcdefghij"), **expected}
    counts = summary.counts
    assert counts["succeeded"] + counts["failed"] + counts["missing"] == counts["total"] == 10
    assert counts["succeeded"] == list(expected.values()).count(200)
