"""Every request is accounted for: answered, failed or missing; other rows are repeated or unknown."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_mistral_batch.jsonl.results.placeholder_rows import MISSING_MESSAGE, missing_row
from airflow_provider_mistral_batch.jsonl.results.split import split_results
from airflow_provider_mistral_batch.results import read_results

from .result_rows import answer, counts, lines, result


def test_every_request_is_accounted_for(split):
    output = lines(answer("a"), answer("stranger"), answer("b"), answer("a", "again"))
    errors = lines(
        result("c", 500, {}), result("b", 500, {}), result(None, 500, {}), result("stranger", 500, {})
    )
    summary = split(output, errors, asked="abcde")
    assert summary.counts == counts(
        total=5, succeeded=2, failed=1, missing=2, unknown=3, duplicates=2, by_status={"200": 2, "500": 1}
    )
    assert summary.may_pass == 3
    assert summary.usage["total_tokens"] == 10
    assert split.results.read_bytes() == lines(answer("a"), answer("b"))
    aside = [answer("stranger"), result(None, 500, {}), result("stranger", 500, {})]
    assert sorted(split.errors.read_bytes().splitlines()) == sorted(
        [*lines(result("c", 500, {}), *aside).splitlines(), missing_row("d"), missing_row("e")]
    )


def test_each_request_without_a_row_gets_one(split):
    asked = ['q"1', "é", "c", "d"]
    summary = split(lines(answer("c")), asked=asked)
    assert summary.counts == counts(total=4, succeeded=1, missing=3, by_status={"200": 1})
    assert [json.loads(line) for line in split.errors.read_bytes().splitlines()] == [
        {
            "id": None,
            "custom_id": id_,
            "response": None,
            "error": {"code": "missing_row", "message": MISSING_MESSAGE},
        }
        for id_ in ('q"1', "é", "d")
    ]
    kind = {"status_code": None, "code": "missing_row", "message": MISSING_MESSAGE, "count": 3}
    assert summary.errors == [{**kind, "example": 'q"1', "may_pass": True}]
    assert summary.may_pass == 3
    assert [(row.custom_id, row.error) for row in read_results(summary.as_dict(), failed=True)] == [
        ("c", None),
        *((id_, MISSING_MESSAGE) for id_ in ('q"1', "é", "d")),
    ]


def test_missing_rows_of_several_request_files_in_parquet(tmp_path):
    files = [tmp_path / f"requests-{number}" for number in range(3)]
    for number, file in enumerate(files):
        ids = [f"{number}-{row:05d}" for row in range(5000)]
        file.write_bytes(lines(*({"custom_id": id_, "body": {}} for id_ in ids)))
    gone = {"0-00000", "0-04999", "1-02500", "2-00000", "2-04999"}
    rows = [json.loads(line) for file in files for line in file.read_bytes().splitlines()]
    stream = [lines(answer(row["custom_id"])) for row in rows if row["custom_id"] not in gone]
    summary = split_results(
        [stream], tmp_path / "r", tmp_path / "e", requests=iter(files), output_format="parquet"
    )
    assert [row.custom_id for row in read_results(tmp_path / "e")] == sorted(gone)
    assert (summary.counts["missing"], summary.counts["failed"]) == (5, 0)


def test_a_duplicate_does_not_make_up_for_a_missing_row(split):
    summary = split(lines(answer("a"), answer("a", "again")), asked="ab")
    assert summary.counts == counts(total=2, succeeded=1, missing=1, duplicates=1, by_status={"200": 1})


def test_without_requests_duplicates_are_found_all_the_same(split):
    summary = split(
        lines(answer("a"), answer("b"), answer("a", "again"), result(None, 500, {}), result(None, 500, {}))
    )
    assert summary.counts == counts(
        total=4, succeeded=2, failed=2, duplicates=1, by_status={"200": 2, "500": 2}
    )
    assert split.results.read_bytes() == lines(answer("a"), answer("b"))


@pytest.mark.parametrize("asked", [None, "ab"])
def test_an_answer_counts_before_the_failures_that_it_followed(split, asked):
    first = [result("b", 500, {}), result("b", 429, {}), answer("b", "late"), answer("b", "later")]
    summary = split(
        lines(*first, result("b", 503, {})), lines(result("a", 500, {}), result("a", 429, {})), asked=asked
    )
    assert summary.counts == counts(
        total=2, succeeded=1, failed=1, duplicates=5, by_status={"200": 1, "500": 1}
    )
    assert split.results.read_bytes() == lines(answer("b", "late"))
    assert split.errors.read_bytes() == lines(result("a", 500, {}))


@settings(deadline=None)
@given(
    asked=st.sets(st.integers(0, 40)),
    answered=st.lists(st.tuples(st.integers(0, 45), st.booleans()), max_size=60),
)
def test_counts_balance(tmp_path_factory, asked, answered):
    folder = tmp_path_factory.mktemp("counts")
    (folder / "requests").write_bytes(lines(*({"custom_id": str(id_), "body": {}} for id_ in asked)))
    rows = [answer(str(id_)) if good else result(str(id_), 500, {}) for id_, good in answered]
    summary = split_results([[lines(*rows)]], folder / "r", folder / "e", requests=[folder / "requests"])
    found = summary.counts
    ids = [id_ for id_, _ in answered]
    best = {id_: (id_, True) in answered for id_, _ in answered if id_ in asked}
    assert found["total"] == len(asked) == found["succeeded"] + found["failed"] + found["missing"]
    assert found["succeeded"] == sum(best.values())
    assert found["missing"] == len(asked - set(ids))
    assert found["unknown"] == sum(id_ not in asked for id_ in ids)
    assert found["duplicates"] == len(ids) - found["unknown"] - len(set(ids) & asked)
    assert {row.custom_id for row in read_results(folder / "r")} == {
        str(id_) for id_, good in best.items() if good
    }
    failed = [row.custom_id or "" for row in read_results(folder / "e")]
    failed = [custom_id for custom_id in failed if int(custom_id) in asked]
    assert sorted(failed) == sorted(str(id_) for id_ in asked if not best.get(id_))


@pytest.mark.parametrize("id_", ["\0" + "0", "\0", "0", "\ufffd0"])
def test_no_id_is_taken_for_that_of_a_row_without_one(split, id_):
    nameless = [answer(None), answer(""), answer(5)]
    summary = split(lines(*nameless, answer(id_)), asked=[id_])
    assert summary.counts == counts(total=1, succeeded=1, unknown=3, by_status={"200": 1})
    summary = split(lines(answer(""), answer("")))
    assert summary.counts == counts(total=2, succeeded=2, by_status={"200": 2})
