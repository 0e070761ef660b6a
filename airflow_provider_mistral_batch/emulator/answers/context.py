"""What an answer depends on, besides the request's body."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Context:
    """
    The circumstances of one request.

    :param model: The model that is asked.
    :param agent_id: The agent that is asked, if one is.
    :param id: 32 hex digits, made of the body: everything that looks random is made of them.
    :param created: Epoch seconds of now.
    :param dimension: How many numbers an embedding has, unless the body says so.
    """

    model: str
    agent_id: str | None
    id: str
    created: int
    dimension: int

    def share(self, number: int) -> float:
        """
        A number from 0 to 1 that looks random, and is the same for the same body.

        :param number: Which of these numbers; there are 14.
        """
        start = 2 * (number % 14)
        return int(self.id[start : start + 4], 16) / 0xFFFF
