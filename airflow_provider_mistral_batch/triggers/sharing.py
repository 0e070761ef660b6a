"""Who shares a poll loop: all waits through the same connection on the same event loop."""

from __future__ import annotations

import asyncio
import contextvars
import gc
from functools import cache
from weakref import WeakKeyDictionary

from airflow_provider_mistral_batch.triggers.poller import ConnectionPoller

#: Pollers by event loop and connection. A poller is in here exactly as long as its loop runs.
_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, ConnectionPoller]] = WeakKeyDictionary()


def shared_poller(mistral_conn_id: str) -> ConnectionPoller:
    """
    Give the poller of a connection on the running event loop, and start it if there is none.

    Join it before anything is awaited: it ends when nobody watches a job.

    :param mistral_conn_id: The connection's id.
    """
    loop = asyncio.get_running_loop()
    pollers = _pollers.setdefault(loop, {})
    poller = pollers.get(mistral_conn_id)
    if poller is None:
        _freeze_imports()
        poller = pollers[mistral_conn_id] = ConnectionPoller(mistral_conn_id)
        # In a context of its own: what the poller does and logs is not the first trigger's.
        poller.task = contextvars.Context().run(loop.create_task, _run(poller, pollers))
    return poller


async def _run(poller: ConnectionPoller, pollers: dict[str, ConnectionPoller]) -> None:
    try:
        await poller.run()
    finally:
        # Nothing was awaited since the poller found that nobody watches: nobody can have joined it since.
        del pollers[poller.mistral_conn_id]


@cache
def _freeze_imports() -> None:
    """
    Hide what a triggerer has imported from the garbage collector, once in a process.

    A full collection stops the event loop while it looks at every object, and thousands of waiting triggers cause one:
    with 10,000 of them it takes 115 ms, a fifth of that for their own objects. The rest is for modules and classes,
    which are never freed; Airflow's executors freeze theirs, too.
    """
    gc.freeze()
