"""Who shares a poll loop: all triggers of one kind, through the same connection on the same event loop."""

from __future__ import annotations

import asyncio
import contextvars
import gc
from functools import cache
from typing import Protocol, TypeVar, cast
from weakref import WeakKeyDictionary

from airflow_provider_mistral_batch.triggers.poller import ConnectionPoller


class Poller(Protocol):
    """The poll loop of one connection, which ends when nobody joins it any more."""

    task: asyncio.Task[None] | None

    def __init__(self, mistral_conn_id: str) -> None: ...

    async def run(self) -> None: ...


PollerT = TypeVar("PollerT", bound=Poller)

#: Pollers by event loop, kind and connection. A poller is in here exactly as long as its loop runs.
#: Equal ids are one connection: a triggerer runs the triggers of one team, or those of none.
_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[type[Poller], str], Poller]] = (
    WeakKeyDictionary()
)


def shared_poller(mistral_conn_id: str) -> ConnectionPoller:
    """
    Give the poller of a connection's waits on the running event loop, and start it if there is none.

    Join it before anything is awaited: it ends when nobody watches a job.

    :param mistral_conn_id: The connection's id.
    """
    _freeze_imports()
    return shared(ConnectionPoller, mistral_conn_id)


def shared(kind: type[PollerT], mistral_conn_id: str) -> PollerT:
    """
    Give the poller of a kind and a connection on the running event loop, and start it if there is none.

    Join it before anything is awaited: it ends when nobody has joined.

    :param kind: The poller's class.
    :param mistral_conn_id: The connection's id.
    """
    loop = asyncio.get_running_loop()
    pollers = _pollers.setdefault(loop, {})
    place = kind, mistral_conn_id
    if place in pollers:
        return cast("PollerT", pollers[place])
    poller = kind(mistral_conn_id)
    pollers[place] = poller
    # In a context of its own: what the poller does and logs is not the first trigger's.
    poller.task = contextvars.Context().run(loop.create_task, _run(poller, pollers, place))
    return poller


async def _run(
    poller: Poller, pollers: dict[tuple[type[Poller], str], Poller], place: tuple[type[Poller], str]
) -> None:
    try:
        await poller.run()
    finally:
        # Nothing was awaited since the poller found that it is alone: nobody can have joined it since.
        del pollers[place]


@cache
def _freeze_imports() -> None:
    """
    Hide what a triggerer has imported from the garbage collector, once in a process.

    A full collection stops the event loop while it looks at every object, and thousands of waiting triggers cause one:
    with 10,000 of them it takes 115 ms, a fifth of that for their own objects. The rest is for modules and classes,
    which are never freed; Airflow's executors freeze theirs, too.
    """
    gc.freeze()
