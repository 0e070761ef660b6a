"""Which errors end a task for good: what no retry can mend fails at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowNotFoundException

from airflow_provider_mistral_batch.api.errors import InvalidInputError, MistralAPIError


def is_permanent(error: BaseException) -> bool:
    """
    Whether the same call can only fail the same way until somebody changes something.

    :param error: What was raised.
    """
    return isinstance(error, (InvalidInputError, AirflowNotFoundException)) or (
        isinstance(error, MistralAPIError) and not error.transient
    )


@contextmanager
def failing_for_good() -> Iterator[None]:
    """
    Turn permanent errors into ``AirflowFailException``, so that no retry is spent on them.

    :raises AirflowFailException: For every permanent error raised within.
    """
    try:
        yield
    except Exception as error:
        if is_permanent(error):
            raise AirflowFailException(str(error)) from error
        raise
