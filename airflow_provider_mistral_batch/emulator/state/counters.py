"""How often each operation of the API was called and answered."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


class Counters:
    """Counts since the start or the last reset. The control API is not counted."""

    def __init__(self) -> None:
        self.reset()
        self.in_flight = 0

    def reset(self) -> None:
        """Set all counts to 0; requests in flight stay counted."""
        self.requests: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.most_in_flight = 0

    def count_request(self, method: str, path: str) -> str:
        """
        Count a request that has arrived.

        :return: Its operation, such as ``GET /v1/files/{id}``.
        """
        operation = f"{method} {_ID.sub('{id}', path)}"
        self.requests[operation] += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        return operation

    def count_answer(self, operation: str, status: int | None) -> None:
        """
        Count the answer to a request.

        :param operation: What :meth:`count_request` returned for the request.
        :param status: Status code of the answer; ``None`` if the connection was dropped instead.
        """
        self.in_flight -= 1
        self.answers[f"{operation} {status or 'dropped'}"] += 1

    def as_dict(self) -> dict[str, Any]:
        """All counts, as the control API shows them."""
        return {
            "requests": dict(self.requests),
            "answers": dict(self.answers),
            "total_requests": sum(self.requests.values()),
            "most_in_flight": self.most_in_flight,
        }
