"""What happens to a job next: a pure decision, from the job and the time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from airflow_provider_mistral_batch.emulator.state.plans import JobPlan
from airflow_provider_mistral_batch.emulator.state.tables import Job

#: The part of a job's running time in which its rows are executed; in the rest it is finalizing.
WORKING_PART = 0.95

#: Job seconds between two steps of a running job at least, so that progress costs little.
STEP_PART = 0.01


@dataclass(frozen=True)
class Step:
    """The next thing to do.

    ``validate`` reads the input, ``execute`` answers rows up to the number ``rows``, ``finalize`` notes that all
    rows are done, ``end`` publishes what there is and sets ``status``, ``discard`` forgets a deleted job, ``wait``
    does nothing until ``due``, in job time (``None``: until somebody changes the job).
    """

    kind: Literal["validate", "execute", "finalize", "end", "discard", "wait"]
    rows: int = 0
    status: str = ""
    due: float | None = None


def next_step(job: Job, plan: JobPlan, now: float) -> Step:
    """Decide what to do with a job at the job time ``now``."""
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
    working = job.job_seconds * WORKING_PART
    last = int(job.total * plan.part_done)
    target = min(last, rows_done_by(now - begin, job.total, working))
    if job.done < target:
        return Step("execute", rows=target)
    if job.done < last:
        due = max(
            begin + working * (job.done + 1) / job.total,
            now + job.job_seconds * STEP_PART,
        )
        return Step("wait", due=min(due, begin + working, job.deadline))
    if plan.end != "SUCCESS":
        end = begin + job.job_seconds * plan.part_done
        return Step("end", status=plan.end) if now >= end else Step("wait", due=min(end, job.deadline))
    if job.finalizing is None:
        return Step("finalize")
    end = begin + job.job_seconds
    return Step("end", status="SUCCESS") if now >= end else Step("wait", due=min(end, job.deadline))


def rows_done_by(elapsed: float, total: int, working: float) -> int:
    """How many of ``total`` rows, done evenly over ``working`` seconds, are done after ``elapsed`` seconds."""
    # A job that takes no time is done, also if the clock went back a little since it began.
    if working <= 0 or elapsed >= working:
        return total
    return int(total * elapsed / working)
