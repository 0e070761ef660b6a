"""Which ended jobs are news: a table of looks, and how long what was told is remembered."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_mistral_batch.api.models import BatchJobOut
from airflow_provider_mistral_batch.policies.news import (
    LATE_SECONDS,
    MAX_JOBS,
    MAX_TOLD,
    Bookmark,
    EndFilter,
    end_of,
    news,
)

NOW = 1_000_000
ANY = EndFilter()


def job(
    batch_id: str = "a", *, created: int = NOW - 50, ended: int | None = NOW - 10, **fields: Any
) -> BatchJobOut:
    fields = {"status": "completed", "raw_status": "SUCCESS", "completed_at": ended, **fields}
    return BatchJobOut(id=batch_id, created_at=created, **fields)


def told(jobs: list[BatchJobOut], bookmark: Bookmark, wanted: EndFilter = ANY) -> list[str]:
    chosen, _, _ = news(
        [(job, job.ended_at or 0) for job in jobs], bookmark, wanted, oldest_active=None, now=NOW
    )
    return [job.id for job in chosen]


@pytest.mark.parametrize(
    ("fields", "wanted", "expected"),
    [
        ({}, ANY, True),
        ({"status": "failed"}, ANY, True),
        ({"status": "in_progress"}, ANY, False),
        ({"status": "failed"}, EndFilter(status={"completed"}), False),
        ({"model": "m"}, EndFilter(model="m"), True),
        ({"model": None}, EndFilter(model="m"), False),
        ({"endpoint": "/v1/ocr"}, EndFilter(endpoint="/v1/ocr"), True),
        ({"endpoint": "/v1/ocr"}, EndFilter(endpoint="/v1/embeddings"), False),
        ({"metadata": {"a": "1", "b": "2"}}, EndFilter(metadata={"a": "1"}), True),
        ({"metadata": None}, EndFilter(metadata={"a": "1"}), False),
        ({"metadata": {"a": 1}}, EndFilter(metadata={"a": "1"}), False),
        # A job of a week counts by its end.
        ({"created": NOW - 700_000}, ANY, True),
        ({"ended": NOW - 101}, ANY, False),
        ({"ended": NOW - 99}, ANY, True),
    ],
)
def test_what_is_news(fields: dict[str, Any], wanted: EndFilter, expected: bool) -> None:
    bookmark = Bookmark.begin(NOW - 100)
    assert told([job(**fields)], bookmark, wanted) == (["a"] if expected else [])


def test_nothing_is_told_twice_however_often_it_is_listed() -> None:
    bookmark = Bookmark.begin(NOW - 100)
    seen: list[str] = []
    for step in range(0, 3 * LATE_SECONDS, 50):
        chosen, bookmark, _ = news([(job(), NOW - 10)], bookmark, ANY, oldest_active=None, now=NOW + step)
        seen += [job.id for job in chosen]
    assert seen == ["a"]
    assert bookmark.told == {}


def test_an_end_that_is_listed_late_is_told() -> None:
    bookmark = Bookmark.begin(NOW - 1000)
    for now in (NOW, NOW + 60):
        _, bookmark, _ = news([], bookmark, ANY, oldest_active=None, now=now)
    assert told([job(ended=NOW - 200)], bookmark) == ["a"]


def test_the_next_listing_begins_at_the_oldest_job_that_may_still_end() -> None:
    bookmark = Bookmark.begin(NOW)
    assert news([], bookmark, ANY, oldest_active=None, now=NOW + 60)[1].since == NOW - LATE_SECONDS
    assert news([], bookmark, ANY, oldest_active=NOW - 600_000, now=NOW + 60)[1].since == NOW - 600_000


def test_many_ends_come_in_several_events_and_all_of_them_once() -> None:
    bookmark = Bookmark.begin(NOW - 10_000)
    jobs = [job(str(i), created=NOW - 9_500, ended=NOW - 9_000 + i) for i in range(2 * MAX_JOBS + 500)]
    seen: list[str] = []
    more = True
    while more:
        listed = [(job, job.ended_at or 0) for job in jobs if job.created_at >= bookmark.since]
        chosen, bookmark, more = news(listed, bookmark, ANY, oldest_active=None, now=NOW)
        assert len(chosen) <= MAX_JOBS
        seen += [job.id for job in chosen]
    assert seen == [job.id for job in jobs]


def test_what_is_remembered_is_bounded_and_nothing_is_repeated() -> None:
    bookmark = Bookmark.begin(NOW - 100)
    jobs = [(job(str(i), ended=NOW + i // 100), NOW + i // 100) for i in range(MAX_TOLD + 3_000)]
    seen: list[str] = []
    for _ in range(20):
        chosen, bookmark, _ = news(jobs, bookmark, ANY, oldest_active=None, now=NOW + 100)
        seen += [job.id for job in chosen]
        assert len(bookmark.told) <= MAX_TOLD
    assert len(seen) == len(set(seen)) == len(jobs)


@pytest.mark.parametrize(
    ("ended", "active", "expected"), [(NOW - 10, {}, NOW - 10), (None, {"a": 1}, NOW), (None, {}, NOW - 50)]
)
def test_when_a_job_ended(ended: int | None, active: dict[str, int], expected: int) -> None:
    assert end_of(job(ended=ended), active=active, now=NOW) == expected
