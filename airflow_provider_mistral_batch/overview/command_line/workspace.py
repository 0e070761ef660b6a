"""The connections of a command, and the jobs that they see."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from airflow_provider_mistral_batch.api.errors import MistralBatchError, NotFoundError
from airflow_provider_mistral_batch.api.models import BatchJobOut
from airflow_provider_mistral_batch.api.retries import RetryPolicy
from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
from airflow_provider_mistral_batch.overview.airflow_database import (
    DatabaseUnreachableError,
    connections_in_environment,
    mistral_connections,
)
from airflow_provider_mistral_batch.overview.listing import Listing, Snapshot

#: The connection that is used where none can be found.
_DEFAULT = MistralBatchHook.default_conn_name

#: Seconds between two looks at what has come in.
_LOOK_SECONDS = 0.5

#: Calls before a listing shows how far it is.
_CALLS_AT_ONCE = 10


def connection_ids(named: Sequence[str] | None) -> list[str]:
    """
    Choose the connections of a command.

    :param named: What ``--conn-id`` names.
    """
    if named:
        return list(dict.fromkeys(named))
    try:
        found = mistral_connections()
    except DatabaseUnreachableError:
        found = connections_in_environment()
    return found or [_DEFAULT]


def read_jobs(
    conn_ids: Sequence[str],
    *,
    since: float,
    only_running: bool = False,
    on_look: Callable[[Snapshot], None] = lambda _: None,
) -> tuple[Listing, Snapshot]:
    """
    Read all jobs since some time.

    :param conn_ids: The connections.
    :param since: Epoch seconds.
    :param only_running: Whether to read only those that are not over.
    :param on_look: Called with what has come in so far.
    :return: The listing, for further looks, and all jobs.
    """
    listing = Listing(
        hook_of=_hook,
        days=max(0.0, time.time() - since) / 86_400,
        only_running=only_running,
        calls_at_once=_CALLS_AT_ONCE,
        most_threads=max(1, len(conn_ids)),
    )
    while True:
        snapshot = listing.snapshot(conn_ids, whole=True, time_limit=_LOOK_SECONDS)
        on_look(snapshot)
        if all(state.error is not None or state.is_complete for state in snapshot.connections):
            return listing, snapshot


def find_job(conn_ids: Sequence[str], batch_id: str) -> tuple[MistralBatchHook, BatchJobOut]:
    """
    Find a job through the first connection that sees it.

    :param conn_ids: The connections.
    :param batch_id: The job's id.
    :raises MistralBatchError: When no connection sees it; says so, or which connection could not be asked.
    """
    without: list[str] = []
    failed: list[MistralBatchError] = []
    for hook in hooks(conn_ids):
        try:
            return hook, hook.get(batch_id)
        except MistralBatchError as error:  # noqa: PERF203 - a call is slower
            # What is no id is answered with 422.
            if isinstance(error, NotFoundError) or getattr(error, "status_code", None) == 422:
                without.append(hook.mistral_conn_id)
            else:
                failed.append(error)
    asked = f"no job {batch_id!r:.100} is in the workspace of {', '.join(without)}"
    if failed and without:
        # Where a connection fails, the job may be there all the same.
        raise MistralBatchError(f"{asked}, and this connection could not be asked: {failed[0]}")
    if failed:
        raise failed[0]
    raise MistralBatchError(
        f"{asked}: pass a whole id, as the command 'jobs' lists it, and name its connection"
    )


def hooks(conn_ids: Sequence[str]) -> Iterator[MistralBatchHook]:
    """Make the hooks of connections, one by one."""
    return map(_hook, conn_ids)


def _hook(conn_id: str) -> MistralBatchHook:
    # Whoever waits at a shell can wait for a server that asks to come back in some seconds, but not for minutes.
    patience = RetryPolicy(attempts=3, total_seconds=30.0, longest_wait=5.0)
    return MistralBatchHook(conn_id, retries=patience, longest_timeout=10.0)
