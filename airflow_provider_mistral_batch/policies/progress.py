"""The progress lines that a waiting task logs about its job, and how often it logs one."""

from __future__ import annotations

import msgspec

from airflow_provider_mistral_batch.api.models import BatchJobOut, BatchJobRequestCounts, BatchStatus

#: Least seconds between two lines with the same status.
QUIET_SECONDS = 60.0


class Progress(msgspec.Struct):
    """
    Turns snapshots of one job into log lines: one when its status changes, otherwise at most one a minute.

    It remembers the status, the counts and the time of the last line.
    """

    _said: tuple[str, BatchJobRequestCounts] | None = None
    _said_at: float = float("-inf")

    def line(self, job: BatchJobOut, *, now: float, server_now: float) -> str | None:
        """
        Describe the job if there is something new to log.

        :param job: The job as it was just seen.
        :param now: Seconds of a monotonic clock.
        :param server_now: Epoch seconds of the server's clock, for the estimate of the time left.
        :return: The line; ``None`` if nothing is new, or if the last line is too recent.
        """
        # Without the time left, which changes with every look.
        news = (job.status, job.request_counts)
        if self._said is not None:
            same_status = job.status == self._said[0]
            if news == self._said or (same_status and now - self._said_at < QUIET_SECONDS):
                return None
        self._said, self._said_at = news, now
        return describe(job, server_now=server_now)


def describe(job: BatchJobOut, *, server_now: float) -> str:
    """
    Describe a job's state in one line, such as ``in_progress 412/1000 completed, 3 failed, about 6 min left``.

    :param job: The job.
    :param server_now: Epoch seconds of the server's clock.
    """
    counts = job.request_counts
    if not counts.total:
        return job.status
    line = f"{job.status} {counts.completed}/{counts.total} completed, {counts.failed} failed"
    left = seconds_left(job, server_now=server_now)
    return line if left is None else f"{line}, about {rounded(left)} left"


def seconds_left(job: BatchJobOut, *, server_now: float) -> float | None:
    """
    Estimate how long a running job will still take, from its pace so far.

    :return: Seconds, or ``None`` if the job has no pace yet.
    """
    counts = job.request_counts
    done = counts.completed + counts.failed
    if job.status != BatchStatus.IN_PROGRESS or job.in_progress_at is None or not 0 < done < counts.total:
        return None
    running = server_now - job.in_progress_at
    return running / done * (counts.total - done) if running > 0 else None


def rounded(seconds: float) -> str:
    """
    Say how long something takes, as exactly as somebody who reads it cares.

    :param seconds: How many seconds it takes.
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
