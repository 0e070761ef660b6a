"""Which ended jobs are news: a table of looks, and how long what was told is remembered."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import msgspec
import pytest

from airflow_provider_mistral_batch.api.models import BatchJobOut
from airflow_provider_mistral_batch.policies.news import (
    LATE_SECONDS,
    MAX_ACTIVE,
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
    chosen, _, _ = news([(job, job.ended_at or 0) for job in jobs], bookmark, wanted, active={}, now=NOW)
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
        chosen, bookmark, _ = news([(job(), NOW - 10)], bookmark, ANY, active={}, now=NOW + step)
        seen += [job.id for job in chosen]
    assert seen == ["a"]
    assert bookmark.told == {}


def test_an_end_that_is_listed_late_is_told() -> None:
    bookmark = Bookmark.begin(NOW - 1000)
    for now in (NOW, NOW + 60):
        _, bookmark, _ = news([], bookmark, ANY, active={}, now=now)
    assert told([job(ended=NOW - 200)], bookmark) == ["a"]


def test_the_next_listing_begins_at_the_oldest_job_that_may_still_end() -> None:
    bookmark = Bookmark.begin(NOW)
    assert news([], bookmark, ANY, active={}, now=NOW + 60)[1].since == NOW - LATE_SECONDS
    # Active jobs are remembered by their ids, up to a number.
    active = {str(i): NOW - 600_000 + i for i in range(MAX_ACTIVE + 2)}
    _, following, _ = news([], bookmark, ANY, active=dict(list(active.items())[:MAX_ACTIVE]), now=NOW + 60)
    assert following.since == NOW - LATE_SECONDS
    _, following, _ = news([], bookmark, ANY, active=active, now=NOW + 60)
    assert following.since == NOW - 600_000 + MAX_ACTIVE
    assert following.active.keys() == set(list(active)[:MAX_ACTIVE])


def test_the_end_of_a_remembered_job_is_news_whatever_the_clocks_say() -> None:
    bookmark = Bookmark(floor=NOW, since=NOW, looked_at=NOW, looked_before=NOW, active={"a": NOW - 9_000})
    assert told([job(ended=NOW - 7_200), job("b", ended=NOW - 7_200)], bookmark) == ["a"]


def test_the_largest_state_is_one_that_airflow_does_not_warn_of() -> None:
    ids = [f"{number:036d}" for number in range(MAX_TOLD + MAX_ACTIVE)]
    times = dict.fromkeys(ids, 1_800_000_000)
    bookmark = Bookmark(
        floor=NOW,
        since=NOW,
        looked_at=NOW,
        looked_before=NOW,
        told={name: times[name] for name in ids[:MAX_TOLD]},
        active={name: times[name] for name in ids[MAX_TOLD:]},
    )
    assert len(json.dumps(msgspec.to_builtins(bookmark))) < 65_535


def test_many_ends_come_in_several_events_and_all_of_them_once() -> None:
    bookmark = Bookmark.begin(NOW - 10_000)
    jobs = [job(str(i), created=NOW - 9_500, ended=NOW - 9_000 + i) for i in range(2 * MAX_JOBS + 500)]
    seen: list[str] = []
    more = True
    while more:
        listed = [(job, job.ended_at or 0) for job in jobs if job.created_at >= bookmark.since]
        chosen, bookmark, more = news(listed, bookmark, ANY, active={}, now=NOW)
        assert len(chosen) <= MAX_JOBS
        seen += [job.id for job in chosen]
    assert seen == [job.id for job in jobs]


def test_what_is_remembered_is_bounded_and_nothing_is_repeated() -> None:
    bookmark = Bookmark.begin(NOW - 100)
    jobs = [(job(str(i), ended=NOW + i // 100), NOW + i // 100) for i in range(MAX_TOLD + 3_000)]
    seen: list[str] = []
    for _ in range(20):
        chosen, bookmark, _ = news(jobs, bookmark, ANY, active={}, now=NOW + 100)
        seen += [job.id for job in chosen]
        assert len(bookmark.told) <= MAX_TOLD
    assert len(seen) == len(set(seen)) == len(jobs)


def test_more_ends_than_are_remembered_hide_none_that_comes_in_the_same_second() -> None:
    bookmark = Bookmark.begin(NOW - 100)
    seen: list[str] = []
    for look in range(5):
        jobs = [(job(f"{look}-{i}"), NOW) for i in range(MAX_JOBS)]
        chosen, bookmark, _ = news(jobs, bookmark, ANY, active={}, now=NOW)
        seen += [job.id for job in chosen]
    assert len(seen) == 5 * MAX_JOBS
    _, bookmark, _ = news([], bookmark, ANY, active={}, now=NOW + 1)
    assert len(bookmark.told) <= MAX_TOLD


def test_ends_that_wait_for_the_next_event_outlive_a_restart_before_it() -> None:
    """They were seen active, so they count as ended now; whoever continues knows only what they state."""
    bookmark = Bookmark.begin(NOW - 10_000)
    jobs = [job(str(i), created=NOW - 9_500, ended=NOW - 3_000) for i in range(MAX_JOBS + 1)]
    chosen, bookmark, more = news([(job, NOW) for job in jobs], bookmark, ANY, active={}, now=NOW)
    assert more
    seen = [job.id for job in chosen]
    listed = [(job, job.ended_at or 0) for job in jobs if job.created_at >= bookmark.since]
    chosen, _, more = news(listed, bookmark, ANY, active={}, now=NOW + 60)
    assert not more
    assert sorted(seen + [job.id for job in chosen]) == sorted(job.id for job in jobs)


@pytest.mark.parametrize(
    ("ended", "active", "expected"),
    [
        (NOW - 10, {}, NOW - 10),
        (None, {}, NOW - 50),
        (None, {"a"}, NOW),
        # It was seen active, so its end is news although a clock is wrong, and told once.
        (NOW - 7_200, {"a"}, NOW),
        (NOW + 7_200, {"a"}, NOW + 7_200),
    ],
)
def test_when_a_job_ended(ended: int | None, active: Collection[str], expected: int) -> None:
    assert end_of(job(ended=ended), active=active, now=NOW) == expected
