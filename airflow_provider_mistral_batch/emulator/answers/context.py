"""What an answer needs beside the request's body."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Context:
    """The circumstances of one request.

    :param id: 32 hex digits made of the body, from which everything that looks random is made.
    :param created: epoch seconds of now.
    :param dimension: length of an embedding.
    """

    model: str
    agent_id: str | None
    id: str
    created: int
    dimension: int

    def share(self, number: int) -> float:
        """A number from 0 to 1, of the body's making."""
        start = 2 * (number % 14)
        return int(self.id[start : start + 4], 16) / 0xFFFF
