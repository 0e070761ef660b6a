"""How soon after its deferral a task may be resumed on a worker."""

from __future__ import annotations

#: Least seconds between a task's deferral and its resumption on a worker. The executor reports the end of the first
#: worker by a way of its own. If that report comes after the resumption, the scheduler takes it for the end of the
#: second worker and fails the task (apache/airflow#67287, #72716; seen in 3.3.2 when a busy scheduler's loop took
#: seconds).
RESUMPTION_SECONDS = 10.0


def seconds_to_resumption(deferred_at: float, now: float) -> float:
    """
    Tell how long to wait before a task is resumed.

    :param deferred_at: When the task was deferred, by the worker's clock (epoch seconds).
    :param now: Epoch seconds of our own clock.
    :return: Seconds, within bounds even if the worker's clock is ahead of ours.
    """
    return min(RESUMPTION_SECONDS, max(0.0, deferred_at + RESUMPTION_SECONDS - now))
