"""How a task ends: which errors no retry can fix, and whether a killed task still needs its batch job.

A kill does not always mean that a user ended the task. Airflow also kills a try whose heartbeats came too late, and
then tries the task again. When it moves triggers from a slow triggerer to another one, it tells the slow one that a
user ended the task (seen in 3.3.2). Only the task's state tells these cases apart.
"""

from __future__ import annotations

import logging
import queue
import re
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from airflow_provider_mistral_batch.api.errors import (
    EmptyPartError,
    InvalidInputError,
    MistralAPIError,
    MistralBatchError,
)
from airflow_provider_mistral_batch.compat import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSkipException,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

#: States in which Airflow starts no further try.
_OVER = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})

#: Seconds that a killed worker waits for Airflow's answer; a few seconds later, Airflow ends it by force.
_WORKER_SECONDS = 3.0

#: Characters of a line that Airflow's log shows without scrolling, about.
_LOG_WIDTH = 120


class LeftRunningError(AirflowFailException):
    """The task fails without retries, and its batch jobs are left running on purpose."""


def is_permanent(error: BaseException) -> bool:
    """
    Tell whether a retry would fail in the same way until somebody fixes the cause.

    :param error: What was raised.
    """
    return isinstance(error, (InvalidInputError, AirflowNotFoundException)) or (
        isinstance(error, MistralAPIError) and not error.transient
    )


@contextmanager
def failing_for_good() -> Iterator[None]:
    """
    Turn permanent errors into ``AirflowFailException``, so that Airflow does not retry them.

    :raises AirflowFailException: For every permanent error raised in the block.
    :raises AirflowSkipException: When a part of a table has no rows.
    """
    try:
        yield
    except EmptyPartError as error:
        raise AirflowSkipException(str(error)) from None
    except Exception as error:
        if is_permanent(error):
            raise AirflowFailException(str(error)) from error
        raise


class ending_briefly(AbstractContextManager[None]):
    """
    Let an error of ours end the task's log with its message alone, where the block is all that a task does.

    The message names the call or the parameter, and says what to do. Airflow would show it once more for each error
    that led to it, with the frames of both between it and the reader, and cut long lines at the right edge of the log.
    A class, because a generator would add frames of its own. What others raise stays as it is, and ``__context__``
    keeps what led to an error.
    """

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not isinstance(error, (MistralBatchError, AirflowException)) or not _was_raised_by_us(traceback):
            return
        log.debug("Where the task failed:", exc_info=error)
        message = str(error)
        if error.args == (message,):
            error.args = (in_lines(message),)
        raise error.with_traceback(None) from None


def in_lines(message: str) -> str:
    """
    Break a message that is too long for the width of a log, so that its end can be seen, which says what to do.

    :param message: The message.
    """
    if len(message) <= _LOG_WIDTH:
        return message
    lines = re.sub(r"""([.!?][)"']?) (?=[A-Z])""", r"\1\n", message).split("\n")
    # Where the last sentence is too long, what to do follows its last colon.
    start, colon, remedy = lines[-1].rpartition(": ")
    if len(lines[-1]) > _LOG_WIDTH and colon and len(remedy) <= _LOG_WIDTH:
        lines[-1:] = [f"{start}:", remedy]
    return "\n".join(lines)


def _was_raised_by_us(traceback: TracebackType | None) -> bool:
    """Tell whether the innermost frame is in this package: a user's function may raise our errors, too."""
    name = ""
    while traceback is not None:
        name, traceback = traceback.tb_frame.f_globals.get("__name__", ""), traceback.tb_next
    return name.partition(".")[0] == __name__.partition(".")[0]


def gives_up(state: str | None, *, another_try: bool) -> bool:
    """
    Tell whether a task instance that is being killed no longer needs its job.

    :param state: The task instance's state; ``None`` after it was cleared.
    :param another_try: Whether Airflow tries the task again if this try fails now.
    """
    return state in _OVER or (state == "running" and not another_try)


def has_another_try(task_instance: Any) -> bool:
    """
    Tell whether Airflow tries a task again if it fails now with an error that may pass.

    :param task_instance: The running task instance.
    """
    return bool(task_instance.try_number <= (getattr(task_instance, "max_tries", None) or 0))


def ends_for_good(error: Exception, context: Context) -> bool:
    """
    Tell whether an error ends the running task, with no further try.

    A retry policy (Airflow 3.3) is evaluated here and again by Airflow.

    :param error: What ``execute`` raises.
    :param context: The task's context.
    """
    ti = context["ti"]
    if isinstance(error, (AirflowFailException, AirflowSkipException)) or not has_another_try(ti):
        return True
    policy = getattr(getattr(ti, "task", None), "retry_policy", None)
    if policy is None:
        return False
    try:
        decision = policy.evaluate(
            exception=error, try_number=ti.try_number, max_tries=ti.max_tries, context=context
        )
    except Exception:
        # Airflow will get the same error, log it, and try the task again.
        return False
    return bool(decision.action.value == "fail")


def abandoned(task_instance: Any, *, another_try: bool = True) -> bool:
    """
    Ask Airflow whether a task instance that is being killed no longer needs its job.

    :param task_instance: The task instance, as a worker or a trigger has it.
    :param another_try: Whether Airflow tries the task again if this try fails now.
    :return: Also true if there is no Airflow to ask. False if Airflow does not answer: its trouble is no reason to lose
        paid work.
    """
    # Imported late: parsing a Dag needs none of it.
    from airflow.sdk.execution_time import task_runner

    if task_instance is None or getattr(task_runner, "SUPERVISOR_COMMS", None) is None:
        log.debug("This task does not run under Airflow, so there is no state to ask for.")
        return True
    try:
        states = _states(task_instance)
    except Exception as error:
        log.warning(
            "Could not read the state of this task from Airflow, so its batch jobs keep running: %s", error
        )
        return False
    return all(gives_up(state, another_try=another_try) for state in states)


def abandoned_on_worker(task_instance: Any) -> bool:
    """
    Do what :func:`abandoned` does in a worker's signal handler, which may have interrupted another call to Airflow.

    :param task_instance: The task instance.
    """
    another_try = has_another_try(task_instance)
    answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
    # A daemon thread: a call that Airflow never answers must not keep the process alive.
    threading.Thread(
        target=lambda: answers.put(abandoned(task_instance, another_try=another_try)), daemon=True
    ).start()
    try:
        return answers.get(timeout=_WORKER_SECONDS)
    except queue.Empty:
        log.warning(
            "Airflow did not report the state of this task within %.0f s, so its batch jobs keep running.",
            _WORKER_SECONDS,
        )
        return False


def _states(task_instance: Any) -> list[str | None]:
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    map_index = task_instance.map_index
    by_run = RuntimeTaskInstance.get_task_states(
        dag_id=task_instance.dag_id,
        task_ids=[task_instance.task_id],
        run_ids=[task_instance.run_id],
        map_index=-1 if map_index is None else map_index,
    )
    return [state for by_task in by_run.values() for state in by_task.values()]
