"""What holds for a whole source: one model, and rows that are not too long."""

from __future__ import annotations

import json

import pytest

from airflow_provider_mistral_batch.jsonl.requests.problems import MAX_PROBLEMS_SHOWN
from airflow_provider_mistral_batch.jsonl.requests.template import RowTemplate

from .request_rows import problems_of, row, write


def test_one_model_for_a_batch(prepare, tmp_path):
    lines = [
        row("a"),
        row("b", {"model": "m"}),
        row("c", {"model": "n"}),
        row("d", {"model": "n"}),
        row("e", {"model": "m"}),
    ]
    error = problems_of(lambda: prepare(write(tmp_path / "in.jsonl", lines)))
    (problem,) = error.problems
    assert (problem.line, problem.field, problem.value) == (3, "body.model", '"n"')
    assert 'line 2 names "m"' in problem.reason


def test_a_template_model_beside_another_one(prepare):
    error = problems_of(
        lambda: prepare([row("a"), row("b", {"model": "n"})], template=RowTemplate(model="m"))
    )
    assert error.problems[0].line == 2


def test_a_row_that_is_too_long(prepare, tmp_path):
    path = write(tmp_path / "in.jsonl", [row("a"), row("b", {"x": "x" * 5000}), row("c")])
    error = problems_of(lambda: prepare(path, max_row_bytes=1000))
    assert [(problem.line, problem.reason) for problem in error.problems] == [
        (2, "the row has more than 1,000 bytes")
    ]


LONGEST = {"x": "x" * 960}


@pytest.mark.parametrize("with_url", [False, True])
@pytest.mark.parametrize(
    "given_rows",
    [[row("b", LONGEST)], [row(body=LONGEST)], [row("a"), row("b", LONGEST), row("c")]],
    ids=["ready", "to be numbered", "between others"],
)
def test_a_row_that_becomes_too_long_by_what_is_added(prepare, out, tmp_path, given_rows, with_url):
    lines = [json.dumps(line, separators=(",", ":")).encode() for line in given_rows]
    path = write(tmp_path / "in.jsonl", lines)
    assert max(map(len, lines)) <= 1000
    assert prepare(path, max_row_bytes=1000).request_count == len(given_rows)
    template = RowTemplate(max_tokens=123, parameters={"safe_prompt": True})
    error = problems_of(lambda: prepare(path, max_row_bytes=1000, template=template, with_url=with_url))
    assert [(problem.line, problem.reason) for problem in error.problems] == [
        (1 + len(given_rows) // 2, "the row has more than 1,000 bytes with what is added to it")
    ]
    assert list(out.iterdir()) == []


def test_rows_that_become_too_long_in_a_block_of_several(prepare):
    given_rows = [row(str(number), {"x": "x" * (number % 100)}) for number in range(300)]
    added = {"y": "y" * 30}
    error = problems_of(
        lambda: prepare(given_rows, max_shard_bytes=150, template=RowTemplate(parameters=added))
    )
    written = [row(line["custom_id"], {**added, **line["body"]}) for line in given_rows]
    lengths = [len(json.dumps(line, separators=(",", ":"))) for line in written]
    too_long = [number for number, length in enumerate(lengths, 1) if length + 1 > 150]
    assert [problem.line for problem in error.problems] == too_long[:MAX_PROBLEMS_SHOWN]
    assert error.total == len(too_long) < 70


def test_a_row_that_fits_no_shard(prepare):
    error = problems_of(lambda: prepare([row("a", {"x": "x" * 100})], max_shard_bytes=100))
    assert "99 bytes" in str(error)
