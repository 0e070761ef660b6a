"""When a wait for a job ends: counted from its submission, so that no retry, re-attach or restart moves it."""

from __future__ import annotations

from airflow_provider_mistral_batch.api.models import BatchJobOut
from airflow_provider_mistral_batch.policies.ownership import SUBMITTED_AT, noted_number

#: Seconds to wait beyond a job's completion window: the API itself ends jobs when the window is over.
GRACE_SECONDS = 3600.0


def submitted_at(job: BatchJobOut, *, clock_offset: float, now: float) -> float:
    """
    Tell when a job was submitted, by our own clock.

    :param job: The job.
    :param clock_offset: Seconds by which the server's clock is ahead of ours.
    :param now: The current time, used if neither the API nor the job's metadata say.
    :return: Epoch seconds.
    """
    if job.created_at:
        return job.created_at - clock_offset
    noted = noted_number(job, SUBMITTED_AT)
    return now if noted is None else float(noted)


def seconds_allowed(timeout: float | None, timeout_hours: int) -> float:
    """
    Tell how long to wait for a job.

    :param timeout: Seconds that the user allows; ``None`` allows the job's window plus an hour.
    :param timeout_hours: The job's completion window in hours.
    """
    return timeout_hours * 3600 + GRACE_SECONDS if timeout is None else timeout
