"""Problems are listed in the order of the input, and counted."""

from __future__ import annotations

import pickle

from airflow_provider_mistral_batch.api.errors import MistralBatchError
from airflow_provider_mistral_batch.jsonl.requests.problems import MAX_PROBLEMS_SHOWN

from .request_rows import problems_of, row, write


def test_many_problems_are_listed_in_order_and_counted(prepare, tmp_path, out):
    lines = [b"oops" if number % 3 == 0 else row(f"{number // 2}") for number in range(1, 901)]
    error = problems_of(lambda: prepare(write(tmp_path / "in.jsonl", lines)))
    good = [str(number // 2) for number in range(1, 901) if number % 3]
    assert error.total == 300 + len(good) - len(set(good))
    assert len(error.problems) == MAX_PROBLEMS_SHOWN
    places = [problem.line for problem in error.problems]
    assert places == sorted(places)
    assert places[:3] == [3, 5, 6] or places[:2] == [3, 6]
    assert f"and {error.total - MAX_PROBLEMS_SHOWN:,} more" in str(error)
    assert list(out.iterdir()) == []
    assert isinstance(error, MistralBatchError)
    assert isinstance(error, ValueError)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_early_problems_that_are_found_late_come_first(prepare, tmp_path):
    lines = [row("a"), row("a"), *[b"oops"] * 100]
    error = problems_of(lambda: prepare(write(tmp_path / "in.jsonl", lines)))
    assert error.total == 101
    assert [problem.line for problem in error.problems] == list(range(2, 2 + MAX_PROBLEMS_SHOWN))
