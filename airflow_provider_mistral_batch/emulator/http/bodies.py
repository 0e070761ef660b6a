"""JSON bodies of requests, read strictly: what cannot be written as JSON again is refused where it comes in."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from fastapi import Request, Response
from fastapi.routing import APIRoute

#: Levels of a body. Pydantic reads no more of a row, and writes little more of a plan.
MAX_DEPTH = 200


class StrictRoute(APIRoute):
    """A route whose JSON body has no lone surrogates, no numbers that JSON lacks, and no more levels than allowed."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Make the function that answers a request."""
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            return await handler(_StrictRequest(request.scope, request.receive))

        return answer


class _StrictRequest(Request):
    async def json(self) -> Any:
        """
        Read the body.

        :raises json.JSONDecodeError: If it is not strict JSON; FastAPI makes a 422 of it.
        """
        try:
            body = msgspec.json.decode(await self.body())
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise json.JSONDecodeError(str(error), "", 0) from None
        if is_deeper(body, MAX_DEPTH):
            raise json.JSONDecodeError(f"The body has more than {MAX_DEPTH} levels", "", 0)
        return body


def is_deeper(value: Any, limit: int) -> bool:
    """
    Whether a JSON value has more levels of objects and arrays than allowed.

    :param value: The value.
    :param limit: The number of levels.
    """
    level = [value]
    for _ in range(limit + 1):
        level = [
            inner
            for outer in level
            for inner in (
                outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ()
            )
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True
