"""Which ends of a batch job are acceptable, and what the message says."""

from __future__ import annotations

import itertools

import pytest

from airflow_provider_mistral_batch.api.models import (
    BatchError,
    BatchJobOut,
    BatchJobRequestCounts,
    BatchStatus,
)
from airflow_provider_mistral_batch.policies.verdict import has_lost_answers, judge


def _job(status: str = "completed", counts=(0, 0, 0), files: str = "", **fields) -> BatchJobOut:
    total, completed, failed = counts
    return BatchJobOut(
        id="b1",
        status=status,
        raw_status=status,
        created_at=1,
        request_counts=BatchJobRequestCounts(total=total, completed=completed, failed=failed),
        output_file_id="out" if "o" in files else None,
        error_file_id="err" if "e" in files else None,
        **fields,
    )


@pytest.mark.parametrize(
    ("counts", "files", "ratio", "acceptable", "rows_failed"),
    [
        ((4, 4, 0), "o", 1.0, True, False),
        ((4, 4, 0), "o", 0.0, True, False),
        ((4, 3, 1), "oe", 1.0, True, True),
        ((4, 3, 1), "oe", 0.25, True, True),
        ((4, 3, 1), "oe", 0.24, False, True),
        ((4, 3, 1), "oe", 0.0, False, True),
        ((4, 1, 3), "oe", 1.0, True, True),
        ((4, 1, 3), "oe", 0.5, False, True),
        # No row succeeded.
        ((4, 0, 4), "e", 1.0, False, True),
        ((4, 0, 0), "", 1.0, False, False),
        ((0, 0, 0), "", 1.0, False, False),
        ((0, 0, 0), "e", 1.0, False, True),
        # The counts are hints: an error file beside "0 failed" has rows, as has an output file beside "0 completed".
        ((4, 4, 0), "oe", 1.0, True, True),
        ((4, 4, 0), "oe", 0.25, True, True),
        ((4, 4, 0), "oe", 0.0, False, True),
        ((4, 0, 0), "o", 1.0, True, False),
        ((0, 0, 0), "o", 1.0, True, False),
        # An inline job has no files.
        ((4, 4, 0), "", 1.0, True, False),
        ((4, 3, 1), "", 0.2, False, True),
        # The total lags behind.
        ((0, 3, 1), "oe", 0.25, True, True),
        ((2, 3, 1), "oe", 0.24, False, True),
    ],
)
def test_completed(counts, files, ratio, acceptable, rows_failed):
    verdict = judge(_job("completed", counts, files), max_failed_ratio=ratio)
    assert (verdict.acceptable, verdict.rows_failed, verdict.new_job_may_help) == (
        acceptable,
        rows_failed,
        False,
    )


@pytest.mark.parametrize("status", sorted(BatchStatus.TERMINAL - {"completed"}))
@pytest.mark.parametrize("counts", [(0, 0, 0), (4, 4, 0), (4, 2, 1), (4, 0, 4)])
@pytest.mark.parametrize("files", ["", "o", "e", "oe"])
@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_other_ends_are_never_acceptable(status, counts, files, ratio):
    verdict = judge(_job(status, counts, files), max_failed_ratio=ratio)
    assert not verdict.acceptable
    assert verdict.new_job_may_help
    assert verdict.rows_failed is (counts[2] > 0 or "e" in files)
    assert verdict.message.startswith(f"batch job b1 ended as {status}: ")


@pytest.mark.parametrize(
    ("counts", "files", "acceptable"),
    [((4, 4, 0), "", False), ((4, 3, 1), "e", False), ((4, 4, 0), "o", True), ((4, 0, 4), "e", False)],
)
def test_answers_without_a_file_of_them_are_lost(counts, files, acceptable):
    verdict = judge(_job(counts=counts, files=files, input_files=["in"]))
    assert verdict.acceptable is acceptable
    assert ("names no output file" in verdict.message) is (counts[1] > 0 and not acceptable)


def test_inline_outputs_are_rows_that_succeeded():
    assert judge(_job(outputs=[{"custom_id": "a"}])).acceptable


def test_more_failures_are_never_more_acceptable():
    for total, ratio in itertools.product((1, 3, 7), (0.0, 0.3, 0.5, 1.0)):
        verdicts = [
            judge(_job(counts=(total, total - failed, failed), files="oe"), max_failed_ratio=ratio).acceptable
            for failed in range(1, total + 1)
        ]
        assert verdicts == sorted(verdicts, reverse=True)


@pytest.mark.parametrize(
    ("job", "ratio", "message"),
    [
        (
            _job(counts=(4, 3, 1), files="oe"),
            1.0,
            "batch job b1 is completed: 3 of 4 requests succeeded, 1 failed (output_file_id=out, error_file_id=err)",
        ),
        (
            _job(counts=(3, 2, 1), files="oe"),
            0.1,
            (
                "batch job b1 is completed, but 33.33% of its requests failed, more than max_failed_ratio=0.1 allows: "
                "2 of 3 requests succeeded, 1 failed (output_file_id=out, error_file_id=err)"
            ),
        ),
        (
            _job(counts=(3, 0, 3), files="e"),
            1.0,
            (
                "batch job b1 is completed, but no request succeeded: 0 of 3 requests succeeded, 3 failed "
                "(error_file_id=err)"
            ),
        ),
        (
            _job("failed", errors=[BatchError(message=f"m{n}", line=n) for n in range(1, 6)]),
            1.0,
            (
                "batch job b1 ended as failed: 0 of 0 requests succeeded, 0 failed. "
                "Errors: m1 (line 1); m2 (line 2); m3 (line 3) and 2 more"
            ),
        ),
    ],
)
def test_messages(job, ratio, message):
    assert judge(job, max_failed_ratio=ratio).message == message


def test_digest_ends_the_message():
    verdict = judge(_job("failed"))
    assert verdict.with_digest("Most frequent: x").message == f"{verdict.message}. Most frequent: x"
    assert verdict.with_digest("") == verdict


LONG_AGO = 1_000
NOW = 1_000_000.0


@pytest.mark.parametrize(
    ("job", "lost"),
    [
        (_job(input_files=["in"], counts=(4, 4, 0), completed_at=LONG_AGO), True),
        (_job(input_files=["in"], counts=(4, 1, 3), files="e", completed_at=LONG_AGO), True),
        (_job(input_files=["in"], counts=(4, 4, 0)), True),
        (_job(input_files=["in"], counts=(4, 4, 0), files="o", completed_at=LONG_AGO), False),
        (_job(input_files=["in"], counts=(4, 0, 4), files="e", completed_at=LONG_AGO), False),
        # Its rows are missing, and can be asked again.
        (_job(input_files=["in"], counts=(4, 4, 0), completed_at=int(NOW) - 60), False),
        (_job("expired", input_files=["in"], counts=(4, 4, 0), expired_at=LONG_AGO), False),
    ],
)
def test_counts_without_a_file_tell_of_lost_answers_long_after_the_end(job, lost):
    assert has_lost_answers(job, now=NOW) is lost
