"""``looking_hook``: the hook of whatever looks again and again."""

from __future__ import annotations

from airflow_provider_mistral_batch.api.retries import RetryPolicy
from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook

#: Seconds to wait for an answer at most: others wait with it.
_TIMEOUT_SECONDS = 30.0


def looking_hook(mistral_conn_id: str) -> MistralBatchHook:
    """
    Make a hook that holds up nobody for long. A failed call is not repeated on the spot: the next look comes anyway.

    :param mistral_conn_id: The connection's id.
    """
    return MistralBatchHook(
        mistral_conn_id, retries=RetryPolicy(attempts=1), longest_timeout=_TIMEOUT_SECONDS
    )
