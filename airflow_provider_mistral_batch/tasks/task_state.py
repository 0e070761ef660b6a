"""Batch ids and counts in Airflow's task state (3.3 and newer): the UI's Storage tab shows them over all tries.

They are for people only: no task reads them to continue. So nothing here can fail a task, or hold it up for long.
"""

from __future__ import annotations

import logging
import queue
import threading
import weakref
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_mistral_batch.api.models import BatchJobOut

log = logging.getLogger(__name__)

BATCH_IDS = "batch_ids"
COUNTS = "counts"

#: Seconds that a task waits for Airflow to keep something. A deployment may keep task state in a store of its own.
_SECONDS = 5.0

#: About as many ids as Airflow keeps without a warning about their size.
_MOST_IDS = 1_000

#: The stores that failed once: their tasks do not try, wait and complain again.
_given_up: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


def keep(context: Context, *, batch_ids: Iterable[str] = (), counts: Mapping[str, int] | None = None) -> None:
    """
    Keep what a task knows of its batch; older versions of Airflow have nowhere to keep it.

    :param context: The context of a task on a worker.
    :param batch_ids: Ids of jobs. Those that earlier tries have kept stay, in front of them.
    :param counts: Counts of requests, which replace those of earlier tries.
    """
    store: Any = context.get("task_state_store")
    if store is None or _given_up.get(id(store)) is store:
        return
    try:
        _keep_briefly(store, list(batch_ids), counts)
    except Exception as error:
        with suppress(TypeError):
            _given_up[id(store)] = store
        log.warning(
            "The Storage tab of this task lacks batch ids and counts, which changes nothing else: %s", error
        )


def keep_job(context: Context, job: BatchJobOut) -> None:
    """
    Keep what a task knows of the one job that it is about.

    :param context: The context of a task on a worker.
    :param job: The job, which is over.
    """
    keep(context, batch_ids=[job.id], counts=msgspec.to_builtins(job.request_counts))


def _keep_briefly(store: Any, batch_ids: list[str], counts: Mapping[str, int] | None) -> None:
    outcome: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def write() -> None:
        try:
            _write(store, batch_ids, counts)
        except Exception as error:
            outcome.put(error)
        else:
            outcome.put(None)

    # A daemon thread: a store that never answers must not keep the process alive.
    threading.Thread(target=write, daemon=True).start()
    try:
        trouble = outcome.get(timeout=_SECONDS)
    except queue.Empty:
        raise TimeoutError(f"it was not kept within {_SECONDS:g} s") from None
    if trouble is not None:
        raise trouble


def _write(store: Any, batch_ids: list[str], counts: Mapping[str, int] | None) -> None:
    if batch_ids:
        kept = store.get(BATCH_IDS)
        # Whoever may edit the task may also edit what it keeps.
        earlier = [one for one in kept if isinstance(one, str)] if isinstance(kept, list) else []
        ids = list(dict.fromkeys([*earlier, *batch_ids]))[-_MOST_IDS:]
        if ids != kept:
            store.set(BATCH_IDS, ids)
    if counts is not None:
        store.set(COUNTS, dict(counts))
