"""Blocking calls beside the event loop."""

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
    Call a blocking function in a thread, while the event loop goes on.

    Not by ``asyncio.to_thread``: before Airflow 3.3, what the SDK asks the triggerer for (connections, XComs) finds the
    way back to the event loop only from a thread that asgiref started. From any other it fails, or reads the answer
    that another trigger waits for (seen in 3.0.6, 3.1.3 and 3.2.0).
    """
    # Imported late: parsing a Dag needs none of it.
    from asgiref.sync import sync_to_async

    call = sync_to_async(function, thread_sensitive=False, executor=executor)(*args, **kwargs)
    # Whoever is cancelled stops waiting, but the call goes on: before Airflow 3.3, a question to Airflow that is
    # broken off leaves its answer to whoever asks next, and the triggerer ends of that.
    return await asyncio.shield(asyncio.ensure_future(call))
