"""Calls blocking functions in threads, so that the event loop goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


async def in_thread(
    function: Callable[..., T], *args: Any, executor: ThreadPoolExecutor | None = None, **kwargs: Any
) -> T:
    """
    Call a blocking function in a thread, and wait for it without blocking the event loop.

    ``asyncio.to_thread`` is not enough: before Airflow 3.3, the SDK can ask the triggerer for connections and XComs
    only from threads that asgiref has started. From any other thread the question fails, or reads the answer to another
    trigger's question (seen in 3.0.6, 3.1.3 and 3.2.0).

    :param function: The function; positional and keyword arguments are passed on to it.
    :param executor: Where to run it; ``None`` is the event loop's default one.
    :return: What the function returns.
    """
    # Imported late: parsing a Dag needs none of it.
    from asgiref.sync import sync_to_async

    call = sync_to_async(function, thread_sensitive=False, executor=executor)(*args, **kwargs)
    # A cancellation ends the waiting, not the call: before Airflow 3.3, the answer to a question that is broken off is
    # read by whoever asks next, and that ends the triggerer.
    return await asyncio.shield(asyncio.ensure_future(call))
