"""Judges whether a batch job ended well enough."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from airflow_provider_mistral_batch.api.errors import SMALLER_JOBS, MistralAPIError, speaks_of_size
from airflow_provider_mistral_batch.api.models import BatchJobOut, BatchStatus

#: How many of a job's own errors a message shows; the job has all of them.
_ERRORS_SHOWN = 3


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a job's end means for the task that waited for it.

    :param acceptable: Whether the task succeeds.
    :param message: How the job or batch ended, with the counts.
    :param rows_failed: Whether rows failed, so that their errors are worth showing.
    :param new_job_may_help: Whether the same requests in a new job may end better.
    """

    acceptable: bool
    message: str
    rows_failed: bool = False
    new_job_may_help: bool = False

    def with_digest(self, digest: str) -> Verdict:
        """Return a copy whose message ends with the most frequent row errors."""
        return msgspec.structs.replace(self, message=f"{self.message}. {digest}") if digest else self


def judge(job: BatchJobOut, *, max_failed_ratio: float = 1.0) -> Verdict:
    """
    Judge a job that is over.

    ``completed`` alone is not enough. A job in which no row succeeded fails at any ratio; otherwise
    ``max_failed_ratio`` decides. The API's counts are hints: an error file means failed rows even beside "0 failed",
    and an output file means rows that succeeded.

    :param job: A job whose ``is_terminal`` is true.
    :param max_failed_ratio: Share of rows that may fail, 0 to 1.
    """
    counts = job.request_counts
    failed = counts.failed or int(job.error_file_id is not None)
    where = f"batch job {job.id}"
    rows = f"{counts.completed} of {counts.total} requests succeeded, {counts.failed} failed"
    files = ", ".join(
        f"{name}={value}"
        for name, value in (("output_file_id", job.output_file_id), ("error_file_id", job.error_file_id))
        if value
    )
    errors = describe_job_errors(job)
    details = (f" ({files})" if files else "") + (f". Errors: {errors}" if errors else "")
    if job.status != BatchStatus.COMPLETED:
        return Verdict(
            acceptable=False,
            message=f"{where} ended as {job.status}: {rows}{details}",
            rows_failed=failed > 0,
            new_job_may_help=True,
        )
    if counts.completed == 0 and job.output_file_id is None and not job.outputs:
        return Verdict(
            acceptable=False,
            message=f"{where} is completed, but no request succeeded: {rows}{details}",
            rows_failed=failed > 0,
        )
    if offers_no_answers(job):
        return Verdict(
            acceptable=False,
            message=(
                f"{where} is completed: {rows}{details}. But {describe_gone(None, [job])}. To submit, and pay for, the "
                "requests again, set force_new=True on the task that created the job, and clear it"
            ),
            rows_failed=failed > 0,
        )
    ratio = failed / max(counts.total, counts.completed + failed, 1)
    if ratio > max_failed_ratio:
        return Verdict(
            acceptable=False,
            message=(
                f"{where} is completed, but {ratio:.2%} of its requests failed, more than "
                f"max_failed_ratio={max_failed_ratio:g} allows: {rows}{details}"
            ),
            rows_failed=True,
        )
    return Verdict(acceptable=True, message=f"{where} is completed: {rows}{details}", rows_failed=failed > 0)


def describe_job_errors(job: BatchJobOut) -> str:
    """
    Name the first of a job's own errors, and count the others; empty if it has none.

    :param job: The job.
    """
    more = len(job.errors) - _ERRORS_SHOWN
    shown = "; ".join(str(error) for error in job.errors[:_ERRORS_SHOWN])
    if more > 0:
        shown += f" and {more} more"
    return f"{shown}. {SMALLER_JOBS}" if speaks_of_size(shown) else shown


#: Seconds for which every API keeps results. Counts of a job that ended later than that ago are all that is left.
_KEPT_SECONDS = 3600.0


def offers_no_answers(job: BatchJobOut) -> bool:
    """
    Tell whether a job counts answers, and names no file of them.

    :param job: A job that is over.
    """
    return bool(
        job.status == BatchStatus.COMPLETED
        and job.input_files
        and job.request_counts.completed > 0
        and job.output_file_id is None
        and not job.outputs
    )


def has_lost_answers(job: BatchJobOut, *, now: float) -> bool:
    """
    Tell whether a job had answers, which the API does not offer any more: it counts them, and names no file of them.

    Of a job that has just ended, such counts say nothing: then its rows are missing, and can be asked again.

    :param job: A job with request files, which is over.
    :param now: The server's time (epoch seconds).
    """
    return offers_no_answers(job) and now - (job.ended_at or job.created_at) > _KEPT_SECONDS


def describe_gone(error: MistralAPIError | None, jobs: Sequence[BatchJobOut]) -> str:
    """
    Say that results cannot be downloaded any more, and why that may be.

    :param error: The API's answer to the download; ``None`` if it names no file to download.
    :param jobs: The jobs whose results were asked for.
    """
    ids = ", ".join(job.id for job in jobs)
    answer = (
        "the API counts answers, but names no output file"
        if error is None
        else f"{error.operation} was answered with {error.status_code}: {error.message}"
    )
    return (
        f"the results of batch job {ids} are no longer in the account ({answer}). "
        "The API keeps results for a limited time; delete_files of an earlier "
        "run, or somebody, may have deleted them; or the connection has the API key of another workspace"
    )
