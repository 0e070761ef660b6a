"""What a waiting task says, and how seldom."""

from __future__ import annotations

import pytest

from airflow_provider_mistral_batch.api.models import BatchJobOut, BatchJobRequestCounts
from airflow_provider_mistral_batch.policies.progress import Progress, describe, seconds_left


def _job(status: str = "in_progress", counts=(0, 0, 0), started: int | None = 1000) -> BatchJobOut:
    total, completed, failed = counts
    return BatchJobOut(
        id="b",
        status=status,
        raw_status=status,
        created_at=900,
        in_progress_at=started,
        request_counts=BatchJobRequestCounts(total=total, completed=completed, failed=failed),
    )


@pytest.mark.parametrize(
    ("job", "server_now", "line"),
    [
        (_job("validating"), 1000, "validating"),
        (_job(counts=(1000, 412, 3)), 1256, "in_progress 412/1000 completed, 3 failed, about 6 min left"),
        (_job(counts=(10, 5, 0)), 1000.2, "in_progress 5/10 completed, 0 failed, about 1 s left"),
        (_job(counts=(10, 5, 0)), 1089, "in_progress 5/10 completed, 0 failed, about 89 s left"),
        (_job(counts=(100, 1, 0)), 1600, "in_progress 1/100 completed, 0 failed, about 16.5 h left"),
        (_job(counts=(10, 0, 0)), 1600, "in_progress 0/10 completed, 0 failed"),
        (_job(counts=(10, 10, 0)), 1600, "in_progress 10/10 completed, 0 failed"),
        (_job(counts=(10, 5, 0), started=None), 1600, "in_progress 5/10 completed, 0 failed"),
        # A clock that jumped.
        (_job(counts=(10, 5, 0)), 900, "in_progress 5/10 completed, 0 failed"),
        # Nothing more is to come.
        (_job("cancelling", (10, 5, 0)), 1600, "cancelling 5/10 completed, 0 failed"),
        (_job("completed", (10, 5, 4)), 1600, "completed 5/10 completed, 4 failed"),
        (_job("PAUSED", (10, 5, 4)), 1600, "PAUSED 5/10 completed, 4 failed"),
    ],
)
def test_lines(job, server_now, line):
    assert describe(job, server_now=server_now) == line


def test_seconds_left_go_by_the_pace_so_far():
    assert seconds_left(_job(counts=(100, 20, 5)), server_now=1050) == 150


def test_one_line_a_minute_unless_the_status_changes():
    steps = [
        (0, _job("validating"), True),
        (1, _job("validating"), False),
        (2, _job(counts=(10, 0, 0)), True),
        (3, _job(counts=(10, 1, 0)), False),
        (61, _job(counts=(10, 2, 0)), False),
        (62, _job(counts=(10, 3, 0)), True),
        (63, _job("cancelling", (10, 4, 0)), True),
        # Nothing new to say, however long it takes.
        (500, _job("cancelling", (10, 4, 0)), False),
        (501, _job("cancelled", (10, 4, 0)), True),
    ]
    progress = Progress()
    said = [progress.line(job, now=now, server_now=1000) is not None for now, job, _ in steps]
    assert said == [expected for _, _, expected in steps]


def test_two_jobs_do_not_know_of_each_other():
    lines = [Progress().line(_job(), now=0, server_now=0) for _ in range(2)]
    assert lines == ["in_progress", "in_progress"]
