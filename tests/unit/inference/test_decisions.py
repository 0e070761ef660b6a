"""The decisions of a whole batch, by tables: verdict on rows, rounds, room, and which jobs are stale."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from airflow_provider_mistral_batch.api.models import BatchError, BatchJobOut, BatchJobRequestCounts
from airflow_provider_mistral_batch.inference.table import with_failures_of_table
from airflow_provider_mistral_batch.jsonl.results.tally import OTHER_ERRORS, FailureKind
from airflow_provider_mistral_batch.policies.capacity import pending_requests
from airflow_provider_mistral_batch.policies.ownership import (
    TaskIdentity,
    decide,
    ownership_metadata,
)
from airflow_provider_mistral_batch.policies.row_verdict import (
    WayOn,
    judge_rows,
    may_ask_again,
    rounds_allowed,
    way_on,
)


def job(status: str = "completed", **fields: Any) -> BatchJobOut:
    return BatchJobOut(**{"id": "b", "status": status, "raw_status": status, "created_at": 0, **fields})


#: succeeded, failed, missing, statuses of the last round's jobs, max_failed_ratio, may_pass -> acceptable, a new job
#: may help, words of the message
VERDICTS = [
    (5, 0, 0, ["completed"], 1.0, 0, True, False, "5 of 5 requests succeeded"),
    (5, 0, 0, ["completed"], 0.0, 0, True, False, ""),
    (4, 1, 0, ["completed"], 1.0, 0, True, False, "1 failed"),
    (4, 1, 0, ["completed"], 0.2, 0, True, False, ""),
    (4, 1, 0, ["completed"], 0.19, 0, False, False, "20.00% of the requests failed"),
    (4, 1, 0, ["completed"], 0.19, 1, False, True, "max_failed_ratio=0.19"),
    (4, 0, 1, ["completed"], 0.19, 1, False, True, "1 have no result"),
    (4, 0, 1, ["completed"], 1.0, 1, True, False, ""),
    (0, 5, 0, ["completed"], 1.0, 0, False, False, "no request succeeded"),
    (0, 5, 0, ["completed"], 1.0, 5, False, True, "no request succeeded"),
    (0, 0, 5, ["completed"], 1.0, 5, False, True, "no request succeeded"),
    (4, 0, 1, ["expired"], 1.0, 1, False, True, "ended as expired"),
    (4, 0, 1, ["cancelled"], 1.0, 1, False, True, "ended as cancelled"),
    (4, 0, 1, ["completed", "failed"], 1.0, 1, False, True, "ended as failed"),
    # Rows are the truth: a job that was cancelled when all was done did all.
    (5, 0, 0, ["cancelled"], 1.0, 0, True, False, ""),
    (4, 1, 0, ["expired"], 1.0, 0, True, False, ""),
]


@pytest.mark.parametrize(
    ("succeeded", "failed", "missing", "ends", "ratio", "may_pass", "acceptable", "retry", "words"), VERDICTS
)
def test_verdicts(
    succeeded: int,
    failed: int,
    missing: int,
    ends: list[str],
    ratio: float,
    may_pass: int,
    acceptable: bool,
    retry: bool,
    words: str,
) -> None:
    counts = {
        "total": succeeded + failed + missing,
        "succeeded": succeeded,
        "failed": failed,
        "missing": missing,
    }
    verdict = judge_rows(counts, [job(end) for end in ends], max_failed_ratio=ratio, may_pass=may_pass)
    assert (verdict.acceptable, verdict.new_job_may_help) == (acceptable, retry)
    assert words in verdict.message


@pytest.mark.parametrize(
    ("succeeded", "failed", "missing", "acceptable"),
    [(5, 0, 0, True), (4, 1, 0, False), (4, 0, 1, False), (0, 0, 5, False)],
)
def test_answers_that_are_gone_fail_a_batch_and_no_retry_brings_them(
    succeeded: int, failed: int, missing: int, acceptable: bool
) -> None:
    counts = {"total": 5, "succeeded": succeeded, "failed": failed, "missing": missing}
    verdict = judge_rows(counts, [job()], max_failed_ratio=1.0, may_pass=5, gone="the results are gone")
    assert (verdict.acceptable, verdict.new_job_may_help) == (acceptable, False)
    assert ("the results are gone" in verdict.message) is not acceptable


@pytest.mark.parametrize(
    ("ends_task", "waited_in_vain", "may_have_jobs", "way"),
    [
        (False, False, False, WayOn.NEXT_TRY),
        (False, False, True, WayOn.NEXT_TRY),
        (False, True, False, WayOn.WITHOUT_ROUND),
        (False, True, True, WayOn.NEXT_TRY),
        (True, False, False, WayOn.WITHOUT_ROUND),
        (True, False, True, WayOn.FAIL),
        (True, True, False, WayOn.WITHOUT_ROUND),
        (True, True, True, WayOn.FAIL),
    ],
)
def test_what_follows_an_error_in_a_further_round(
    ends_task: bool, waited_in_vain: bool, may_have_jobs: bool, way: WayOn
) -> None:
    assert way_on(ends_task=ends_task, waited_in_vain=waited_in_vain, may_have_jobs=may_have_jobs) is way


def test_a_jobs_errors_are_in_the_message() -> None:
    errors = [BatchError(message=f"error {number}") for number in range(5)]
    counts = {"total": 1, "succeeded": 0, "failed": 0, "missing": 1}
    verdict = judge_rows(counts, [job("failed", errors=errors)], max_failed_ratio=1.0, may_pass=1)
    assert "batch job b ended as failed (error 0; error 1; error 2 and 2 more)" in verdict.message


@pytest.mark.parametrize(
    ("row_retries", "try_number", "rounds"),
    [(0, 1, 1), (1, 1, 2), (3, 1, 4), (0, 2, 2), (1, 3, 4), (1, 0, 2)],
)
def test_rounds_allowed(row_retries: int, try_number: int, rounds: int) -> None:
    assert rounds_allowed(row_retries, try_number) == rounds


@pytest.mark.parametrize(
    ("ends", "may"),
    [
        (["completed"], True),
        (["completed", "expired"], True),
        (["completed", "failed"], False),
        (["cancelled"], False),
        ([], True),
    ],
)
def test_whether_another_round_may_follow(ends: list[str], may: bool) -> None:
    assert may_ask_again([job(end) for end in ends]) is may


def counts(total: int = 0, completed: int = 0, failed: int = 0) -> BatchJobRequestCounts:
    return BatchJobRequestCounts(total=total, completed=completed, failed=failed)


PENDING = [
    ([], 0),
    ([job("completed", request_counts=counts(9))], 0),
    ([job("in_progress", request_counts=counts(9, 4, 1))], 4),
    ([job("cancelling", request_counts=counts(9, 4, 1))], 4),
    ([job("a status of 2031", request_counts=counts(9))], 9),
    ([job("in_progress", request_counts=counts(3, 4, 1))], 0),
    ([job("validating")], 0),
    ([job("validating", metadata={"airflow_requests": "7"})], 7),
    ([job("in_progress", request_counts=counts(9, 2), metadata={"airflow_requests": "7"})], 7),
    (
        [job("validating", metadata={"airflow_requests": value}) for value in ("-7", "x", "", "²", "9" * 40)],
        0,
    ),
    (
        [job("validating", metadata={"airflow_requests": "7"}), job("in_progress", request_counts=counts(9))],
        16,
    ),
]


@pytest.mark.parametrize(("jobs", "pending"), PENDING)
def test_pending_requests(jobs: list[BatchJobOut], pending: int) -> None:
    assert pending_requests(jobs) == pending


IDENTITY = TaskIdentity(dag_id="d", task_id="t", run_id="r")


def part_of(identity: TaskIdentity, part: str, status: str = "in_progress") -> BatchJobOut:
    metadata = ownership_metadata(msgspec.structs.replace(identity, part=part), {})
    return job(status, id=part, metadata=metadata)


def test_what_is_cancelled_are_running_parts_of_another_batch() -> None:
    other_task = msgspec.structs.replace(IDENTITY, map_index=1)
    jobs = [
        part_of(IDENTITY, "new/0/0"),
        part_of(IDENTITY, "old/0/0"),
        part_of(IDENTITY, "old/1/0", "validating"),
        part_of(IDENTITY, "old/0/1", "completed"),
        part_of(IDENTITY, "old/0/2", "cancelling"),
        part_of(other_task, "old/0/3"),
        job("in_progress", id="another's"),
    ]
    ours = ownership_metadata(msgspec.structs.replace(IDENTITY, part="new/0/1"), {})
    decision = decide(jobs, ours, parts_prefix="new/")
    assert [one.id for one in decision.cancel] == ["old/0/0", "old/1/0"]


def test_parts_of_one_task_instance_are_no_rivals() -> None:
    ours = ownership_metadata(msgspec.structs.replace(IDENTITY, part="new/0/1"), {})
    decision = decide([part_of(IDENTITY, "new/0/0")], ours)
    assert decision.attach_to is None
    assert decision.cancel == []


def test_what_a_table_finds_is_an_error_among_the_others() -> None:
    kinds = [
        FailureKind(500, None, "oops", 9, "id-1", may_pass=True),
        FailureKind(400, None, "no", 2, "id-2", may_pass=False),
        FailureKind(None, None, OTHER_ERRORS, 40, None, may_pass=False),
    ]
    final = {
        "counts": {"total": 100, "succeeded": 49, "failed": 51, "missing": 0},
        "errors": [one.as_dict() for one in kinds],
    }

    found = with_failures_of_table(final, unfit=5, missing=3)

    assert found["counts"] == {"total": 103, "succeeded": 44, "failed": 56, "missing": 3}
    assert [one["count"] for one in found["errors"]] == [9, 5, 3, 2, 40]
    assert {tuple(one) for one in found["errors"]} == {tuple(kinds[0].as_dict())}
    assert with_failures_of_table(final, unfit=0, missing=0) == final
