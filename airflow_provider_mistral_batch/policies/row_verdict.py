"""Judges a batch by the outcomes of its requests: by the rows, not by the jobs' own counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from airflow_provider_mistral_batch.api.models import BatchJobOut, BatchStatus
from airflow_provider_mistral_batch.policies.verdict import Verdict, describe_job_errors


def rounds_allowed(row_retries: int, try_number: int) -> int:
    """
    Tell how many rounds a try of the task may have, the first included.

    Each try may have one more than the previous try. It finds the jobs of earlier rounds and asks only for the rest.

    :param row_retries: How many further rounds the user allows.
    :param try_number: Number of the task's try, from 1.
    """
    return 1 + row_retries + max(0, try_number - 1)


def may_ask_again(jobs: Sequence[BatchJobOut]) -> bool:
    """
    Tell whether another round may follow a round whose jobs are over.

    None may follow a failed job, whose input or account is wrong, or a job that somebody cancelled.

    :param jobs: The jobs of the round that ended during this try of the task. Jobs that ended during an earlier try do
        not count: running the task again means that the user wants to continue.
    """
    return all(job.status in (BatchStatus.COMPLETED, BatchStatus.EXPIRED) for job in jobs)


class WayOn(Enum):
    """What a task does when a round cannot go on, although earlier rounds or some of its jobs have given answers."""

    NEXT_TRY = "leave all as it is: another try continues"
    WITHOUT_ROUND = "publish what has landed, and judge the batch by it"
    FAIL = "publish what has landed, and fail: the round's jobs may have more answers"


def way_on(*, ends_task: bool, waited_in_vain: bool, may_have_jobs: bool) -> WayOn:
    """
    Decide what follows an error in a round.

    Asking again is an extra: that it is refused costs no answer that has landed. But a batch that is published as done
    is never continued, so it must not be while a job of the round may have answers.

    :param ends_task: Whether the error ends the task, with no further try.
    :param waited_in_vain: Whether the round has waited for room in the workspace as long as it may.
    :param may_have_jobs: Whether a job of the round may exist.
    """
    if may_have_jobs:
        return WayOn.FAIL if ends_task else WayOn.NEXT_TRY
    return WayOn.WITHOUT_ROUND if ends_task or waited_in_vain else WayOn.NEXT_TRY


def judge_rows(
    counts: Mapping[str, Any],
    last_jobs: Sequence[BatchJobOut],
    *,
    max_failed_ratio: float,
    may_pass: int,
    gone: str = "",
) -> Verdict:
    """
    Judge the final outcomes of a batch.

    Requests without a result count as failed. If they are missing because a job failed, expired or was cancelled, the
    batch is not acceptable at any ``max_failed_ratio``. Nor is it if paid answers are gone, and no retry brings these.

    :param counts: ``total``, ``succeeded``, ``failed``, ``missing`` of the final outcomes.
    :param last_jobs: The jobs of the last round.
    :param max_failed_ratio: Share of requests that may fail, 0 to 1.
    :param may_pass: How many failed or missing requests may succeed in another try.
    :param gone: If the API does not offer results of some jobs any more, which and why.
    """
    total, succeeded, missing = counts["total"], counts["succeeded"], counts["missing"]
    failed = counts["failed"]
    rows = f"{succeeded} of {total} requests succeeded, {failed} failed, {missing} have no result"
    unfinished = [job for job in last_jobs if job.status != BatchStatus.COMPLETED]
    ratio = (failed + missing) / max(total, 1)

    def verdict(acceptable: bool, message: str) -> Verdict:
        return Verdict(
            acceptable=acceptable,
            message=message,
            rows_failed=failed + missing > 0,
            new_job_may_help=not acceptable and not gone and (may_pass > 0 or bool(unfinished)),
        )

    if gone and failed + missing:
        return verdict(False, f"{gone}: {rows}")
    if missing and unfinished:
        return verdict(False, f"{describe_ends(unfinished)}: {rows}")
    if succeeded == 0:
        return verdict(False, f"no request succeeded: {rows}")
    if ratio > max_failed_ratio:
        return verdict(
            False,
            f"{ratio:.2%} of the requests failed, more than max_failed_ratio={max_failed_ratio:g} allows: {rows}",
        )
    return verdict(True, rows)


def describe_ends(jobs: Sequence[BatchJobOut]) -> str:
    """
    Say how jobs ended, with their errors.

    :param jobs: The jobs.
    """
    return "; ".join(map(_end, jobs))


def _end(job: BatchJobOut) -> str:
    errors = describe_job_errors(job)
    return f"batch job {job.id} ended as {job.status}" + (f" ({errors})" if errors else "")
