"""What happens to a job next: a pure decision, from the job, its plan and the time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from airflow_provider_mistral_batch.emulator.state.plans import JobPlan
from airflow_provider_mistral_batch.emulator.state.tables import Job

#: The share of a job's running time in which its rows are executed. In the rest it is finalizing.
_EXECUTING_SHARE = 0.95

#: Two steps are at least this share of a job's running time apart, so that progress costs little.
_STEP_SHARE = 0.01


@dataclass(frozen=True)
class Step:
    """
    The next thing to do with a job.

    :param kind: ``validate`` checks the input, ``execute`` executes rows, ``finalize`` notes that all rows are done,
        ``end`` publishes the results and sets the final status, ``discard`` drops a deleted job, ``wait`` does nothing.
    :param rows: Of ``execute``: how many rows of the job are done then.
    :param status: Of ``end``: the final status.
    :param due: Of ``wait``: job time in seconds of the next look; ``None`` until the job is changed.
    """

    kind: Literal["validate", "execute", "finalize", "end", "discard", "wait"]
    rows: int = 0
    status: str = ""
    due: float | None = None


def next_step(job: Job, plan: JobPlan, now: float) -> Step:
    """
    Decide what to do with a job.

    :param job: The job as it is.
    :param plan: Its plan.
    :param now: Job time of now, in seconds.
    """
    if job.deleted:
        return Step("discard")
    if not job.active:
        return Step("wait")
    if job.end_as is not None:
        return _end_now(job)
    if job.status == "CANCELLATION_REQUESTED":
        due = job.cancel_due or 0.0
        return Step("end", status="CANCELLED") if now >= due else Step("wait", due=due)
    if now >= job.deadline:
        return Step("end", status="TIMEOUT_EXCEEDED")
    if job.phantom:
        return _end_phantom(job, plan, now)
    if job.status == "QUEUED":
        if now >= job.validation_due:
            return Step("validate")
        return Step("wait", due=min(job.validation_due, job.deadline))
    return _run(job, plan, now)


def _end_now(job: Job) -> Step:
    assert job.end_as is not None
    if job.end_as == "SUCCESS" and not job.phantom:
        if job.status == "QUEUED" or job.begin is None:
            return Step("validate")
        if job.done < job.total:
            return Step("execute", rows=job.total)
    return Step("end", status=job.end_as)


def _end_phantom(job: Job, plan: JobPlan, now: float) -> Step:
    end = (job.begin or 0.0) + job.job_seconds
    if now >= end:
        return Step("end", status=plan.end)
    return Step("wait", due=min(end, job.deadline))


def _run(job: Job, plan: JobPlan, now: float) -> Step:
    begin = job.begin or 0.0
    executing_seconds = job.job_seconds * _EXECUTING_SHARE
    last = int(job.total * plan.share_done)
    target = min(last, rows_done_by(now - begin, job.total, executing_seconds))
    if job.done < target:
        return Step("execute", rows=target)
    if job.done < last:
        due = max(
            begin + executing_seconds * (job.done + 1) / job.total,
            now + job.job_seconds * _STEP_SHARE,
        )
        return Step("wait", due=min(due, begin + executing_seconds, job.deadline))
    if plan.end != "SUCCESS":
        end = begin + job.job_seconds * plan.share_done
        return Step("end", status=plan.end) if now >= end else Step("wait", due=min(end, job.deadline))
    if job.finalizing is None:
        return Step("finalize")
    end = begin + job.job_seconds
    return Step("end", status="SUCCESS") if now >= end else Step("wait", due=min(end, job.deadline))


def rows_done_by(elapsed: float, total: int, executing_seconds: float) -> int:
    """
    How many rows are done after a while, if they are executed evenly.

    :param elapsed: Seconds since the job started to run.
    :param total: Rows of the job.
    :param executing_seconds: Seconds in which all of them are executed.
    """
    # A job that takes no time is done at once, even if the clock went back a little since it started.
    if executing_seconds <= 0 or elapsed >= executing_seconds:
        return total
    return int(total * elapsed / executing_seconds)
