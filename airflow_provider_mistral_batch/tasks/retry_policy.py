"""``MistralRetryPolicy``: when Airflow (3.3 or newer) tries a task again whose call to the API failed."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_mistral_batch.api.checks import check_positive
from airflow_provider_mistral_batch.api.errors import MistralBatchError, MistralCallError
from airflow_provider_mistral_batch.tasks.endings import is_permanent

try:
    from airflow.sdk import RetryDecision, RetryPolicy
except ImportError:  # Before Airflow 3.3, which has none.
    RetryDecision, RetryPolicy = None, object  # type: ignore[misc, assignment]

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["MistralRetryPolicy"]

#: Where common-ai's errors are, if one of its operators runs.
_COMMON_AI_ERRORS = "airflow.providers.common.ai.exceptions"


class MistralRetryPolicy(RetryPolicy):  # type: ignore[misc, unused-ignore]
    """
    Tries a task again when its error can pass, and not before the server allows it.

    For ``retry_policy=`` of any task that calls the API: tasks of yours with :class:`MistralBatchHook`, common-ai's
    operators, and ours. An error that no retry can mend fails the task at once. If the server asked for a wait
    (``Retry-After``) that is longer than the task's ``retry_delay``, the next try begins after it. All else is left to
    ``retries`` and ``retry_delay``.

    :param longest_delay: Longest wait that a server can ask for.
    :raises RuntimeError: Before Airflow 3.3.
    """

    def __init__(self, *, longest_delay: timedelta = timedelta(hours=1)) -> None:
        if RetryDecision is None:
            raise RuntimeError("MistralRetryPolicy needs Airflow 3.3 or newer: leave retry_policy out")
        check_positive("longest_delay", longest_delay.total_seconds())
        self.longest_delay = longest_delay

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> Any:
        """
        Decide what follows an error.

        :param exception: The error; also one that was raised from an error of ours.
        :param try_number: Not used.
        :param max_tries: Not used.
        :param context: The task's context, for its ``retry_delay``.
        :return: Airflow's ``RetryDecision``.
        """
        error = _ours(exception)
        if error is None:
            return RetryDecision.default()
        if _never_passes(error):
            return RetryDecision.fail(f"no retry can mend this: {error}")
        retry_after = error.retry_after if isinstance(error, MistralCallError) else None
        delay = timedelta(seconds=min(retry_after or 0.0, self.longest_delay.total_seconds()))
        if delay <= _retry_delay(context):
            # The task waits longer by itself. A server that is overloaded for long may ask for seconds.
            return RetryDecision.default()
        return RetryDecision.retry(delay, f"the server asked for a wait of {retry_after:g} s")

    def serialize(self) -> dict[str, Any]:
        """Give the policy as JSON."""
        return {"longest_delay": self.longest_delay.total_seconds()}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> MistralRetryPolicy:
        """
        Make the policy of its JSON.

        :param data: What :meth:`serialize` gave.
        """
        return cls(longest_delay=timedelta(seconds=data["longest_delay"]))


def _ours(exception: BaseException | None) -> BaseException | None:
    """Give the first error, from the last raised to its cause, that we know; ``None`` if there is none."""
    seen: set[int] = set()
    # `raise error from error` makes a circle.
    while exception is not None and id(exception) not in seen:
        if isinstance(exception, MistralBatchError) or _is_bad_input_of_common_ai(exception):
            return exception
        seen.add(id(exception))
        exception = exception.__cause__
    return None


def _retry_delay(context: Context | None) -> timedelta:
    """Give the task's own delay, without the growth of ``retry_exponential_backoff``."""
    delay = getattr((context or {}).get("task"), "retry_delay", None)
    return delay if isinstance(delay, timedelta) else timedelta(0)


def _never_passes(error: BaseException) -> bool:
    return is_permanent(error) or _is_bad_input_of_common_ai(error)


def _is_bad_input_of_common_ai(error: BaseException) -> bool:
    # An error of that module was raised only if it was imported.
    bad_input = getattr(sys.modules.get(_COMMON_AI_ERRORS), "LLMBatchInputError", ())
    return isinstance(error, bad_input)
