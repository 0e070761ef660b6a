"""One request and its answer, on their way between the client and a route."""

from __future__ import annotations

from email.utils import formatdate
from uuid import uuid4

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from airflow_provider_mistral_batch.emulator.state.server_state import ServerState


class Exchange:
    """
    A request and its answer.

    ``status`` is the answer's status code, once its start was sent. ``dropped`` says whether the connection was closed
    before the whole answer was sent.

    :param state: The server's state.
    :param scope: The request's ASGI scope.
    :param receive: Receives from the client.
    :param send: Sends to the client.
    """

    def __init__(self, state: ServerState, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.status: int | None = None
        self.dropped = False
        self._state = state
        self._receive = receive
        self._send = send
        self._id = uuid4().hex
        self._body: bytes | None = None

    async def read_body(self) -> str:
        """The request's body. The route can still read it."""
        if self._body is None:
            self._body = await Request(self.scope, self._receive).body()
        return self._body.decode("utf-8", "replace")

    async def receive(self) -> Message:
        """Receive a part of the request: what a route reads."""
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        """Send a part of the answer; its start with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["date"] = formatdate(self._state.wall(), usegmt=True)
            headers["mistral-correlation-id"] = headers["x-request-id"] = self._id
        await self._send(message)

    async def drop(self, *, flush: bool = False) -> None:
        """
        Close the connection.

        :param flush: Whether the client receives first what was sent.
        """
        # ASGI has no such message. Uvicorn's `send` is a method of an object that has the transport.
        transport = self._send.__self__.transport  # type: ignore[attr-defined]
        self.dropped = True
        if flush:
            transport.close()
        else:
            transport.abort()
        while (await self._receive())["type"] != "http.disconnect":
            pass
