"""Many small files at once: their calls are mostly waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

#: No more than the connections that a client keeps open to a server.
AT_ONCE = 8


def side_by_side(work: Callable[[ItemT], ResultT], items: Iterable[ItemT]) -> Iterator[ResultT]:
    """
    Do some work on many items, a few at once, with a few of them in memory. The first error ends it.

    :param work: Called in threads.
    :param items: The items.
    :return: The results in the order of the items.
    """
    waiting: deque[Future[ResultT]] = deque()
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="mistral-batch-files") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= 2 * AT_ONCE:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
