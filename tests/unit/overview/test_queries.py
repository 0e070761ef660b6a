"""Queries: what is chosen, in which order, on which page; and what is refused."""

from __future__ import annotations

import pytest

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.overview.jobs import JobView
from airflow_provider_mistral_batch.overview.queries import Query, moment, query_of, select

NOW = 1_700_000_000.0


def job(number: int, **fields) -> JobView:
    known = {
        "status": "completed",
        "raw_status": "SUCCESS",
        "endpoint": "",
        "connections": ("a",),
        "is_over": True,
    }
    return JobView(id=f"job-{number}", created_at=1000 - number, **{**known, **fields})


JOBS = [
    job(0, dag_id="nightly", model="large", metadata={"team": "Search"}, total=5),
    job(1, status="in_progress", is_over=False, progress=0.5, connections=("a", "b")),
    job(2, status="PAUSED", is_over=False, progress=0.1),
    job(3, status="failed", dag_id="nightly", total=9),
]


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ({}, "0123"),
        ({"status": "completed,failed"}, "03"),
        # An unknown status is not an end.
        ({"status": "active"}, "12"),
        ({"dag_id": "nightly"}, "03"),
        ({"dag_id": "night"}, ""),
        ({"model": "large"}, "0"),
        ({"connection": "b"}, "1"),
        ({"since": "1970-01-01T00:16:39Z"}, "01"),
        ({"until": "1970-01-01T00:16:39Z"}, "23"),
        ({"text": "sEARch"}, "0"),
        ({"text": "job-3"}, "3"),
        ({"sort": "created_at", "descending": "false"}, "3210"),
        ({"sort": "total"}, "3012"),
        # Jobs without the value come last in either direction.
        ({"sort": "progress"}, "1203"),
        ({"sort": "progress", "descending": "false"}, "2103"),
        ({"page": "2", "page_size": "3"}, "3"),
        ({"page": "99", "page_size": "3"}, "3"),
    ],
)
def test_jobs_are_chosen(wanted: dict[str, str], ids: str) -> None:
    selection = select(JOBS, query_of(wanted, now=NOW))
    assert "".join(one.id[-1] for one in selection.jobs) == ids


def test_counts_are_those_of_all_other_filters() -> None:
    selection = select(JOBS, Query(status=("failed",), dag_id="nightly"))
    assert selection.counts_by_status == {"completed": 1, "failed": 1}
    assert (selection.total, selection.page, selection.pages) == (1, 1, 1)


def test_no_jobs_are_one_empty_page() -> None:
    selection = select([], Query(page=3))
    assert (selection.jobs, selection.total, selection.page, selection.pages) == ([], 0, 1, 1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"colour": "red"}, "'colour' is not a filter"),
        ({"sort": "password"}, "sort='password'"),
        ({"page": "0"}, "page=0"),
        ({"page": "-1"}, "page='-1'"),
        ({"page": "１"}, "page="),
        ({"page_size": "100000"}, "page_size=100000"),
        ({"page_size": "9" * 5000}, "page_size="),
        ({"since": "yesterday"}, "since='yesterday'"),
        ({"descending": "maybe"}, "descending='maybe'"),
        ({"text": "x" * 201}, "text="),
    ],
)
def test_what_cannot_be_asked_is_refused(wrong: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message) as error:
        query_of(wrong, now=NOW)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90m", NOW - 5400),
        ("7d", NOW - 7 * 86_400),
        ("1700000000.5", 1_700_000_000.5),
        ("2026-01-31", 1_769_817_600),
        ("2026-01-31T01:00:00+01:00", 1_769_817_600),
    ],
)
def test_times_are_read(text: str, seconds: float) -> None:
    assert moment(text, field="since", now=NOW) == seconds
