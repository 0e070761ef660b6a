"""What every request passes before it reaches a route: counting, latency, request ids, the clock, and faults."""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from typing import Any
from uuid import uuid4

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airflow_provider_mistral_batch.emulator.http.dependencies import State
from airflow_provider_mistral_batch.emulator.http.errors import error_body
from airflow_provider_mistral_batch.emulator.http.responses import json_response
from airflow_provider_mistral_batch.emulator.state.faults import ActiveFault, Fault

_PROXY_PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in</body></html>"

_KINDS = {
    400: "invalid_request_error",
    401: "unauthorized",
    402: "payment_required",
    403: "forbidden",
    404: "not_found_error",
    413: "payload_too_large",
    429: "rate_limited",
    503: "service_tier_capacity_exceeded",
}


class Front:
    """The ASGI application that wraps the routes."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(self._state, scope, receive, send)
        if scope["path"].startswith("/emulator"):
            await self._app(scope, receive, exchange.send)
            return
        operation = self._state.counters.came(scope["method"], scope["path"])
        try:
            if self._state.settings.latency:
                await asyncio.sleep(self._state.settings.latency)
            fault = await self._fault(exchange)
            if fault is None:
                await self._app(scope, exchange.receive, exchange.send)
            else:
                await _suffer(self._app, fault, exchange)
        finally:
            self._state.counters.went(operation, None if exchange.dropped else exchange.status)

    async def _fault(self, exchange: _Exchange) -> ActiveFault | None:
        rules, scope = self._state.rules, exchange.scope
        method, path = scope["method"], scope["path"]
        text = scope["query_string"].decode("latin-1")
        headers = Headers(scope=scope)
        if rules.wants_text(method, path) and headers.get("content-type", "").startswith("application/json"):
            text += "\n" + await exchange.read_body()
        key = headers.get("authorization", "").partition(" ")[2].strip() or None
        return rules.find(method, path, key, text)


class _Exchange:
    """A request and its answer, both of which faults may tamper with."""

    def __init__(self, state: State, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.status: int | None = None
        self.dropped = False
        self._state = state
        self._receive = receive
        self._send = send
        self._id = uuid4().hex
        self._body: bytes | None = None

    async def read_body(self) -> str:
        """The request's body, which stays readable for the route."""
        if self._body is None:
            self._body = await Request(self.scope, self._receive).body()
        return self._body.decode("utf-8", "replace")

    async def receive(self) -> Message:
        """What the route receives."""
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        """Send a part of the answer, the first with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["date"] = formatdate(self._state.wall(), usegmt=True)
            headers["mistral-correlation-id"] = headers["x-request-id"] = self._id
        await self._send(message)

    async def drop(self, *, flush: bool = False) -> None:
        """Break the connection.

        :param flush: only after what was sent is through.
        """
        # ASGI has no word for this. Uvicorn hands its own bound method down to here.
        transport = self._send.__self__.transport  # type: ignore[attr-defined]
        self.dropped = True
        if flush:
            transport.close()
        else:
            transport.abort()
        while (await self._receive())["type"] != "http.disconnect":
            pass


async def _suffer(app: ASGIApp, active: ActiveFault, exchange: _Exchange) -> None:
    fault = active.fault
    if fault.kind in ("status", "html", "redirect"):
        await _answer_instead(fault, exchange)
    elif fault.kind == "slow":
        await asyncio.sleep(fault.seconds or 0.0)
        await app(exchange.scope, exchange.receive, exchange.send)
    elif fault.kind == "cut":
        await app(exchange.scope, exchange.receive, _Cutter(exchange, fault.bytes).send)
    elif fault.when == "before" and fault.kind == "drop":
        await exchange.drop()
    elif fault.when == "before" and fault.kind == "hold":
        # The client may be gone when the request is released: what it sent must be here by then.
        if Headers(scope=exchange.scope).get("content-type", "").startswith("application/json"):
            await exchange.read_body()
        await _hold(active)
        await app(exchange.scope, exchange.receive, exchange.send)
    else:
        kept = _Kept()
        await app(exchange.scope, exchange.receive, kept.send)
        if fault.kind == "drop":
            await exchange.drop()
            return
        if fault.kind == "hold":
            await _hold(active)
        elif fault.kind == "truncate":
            kept.replace(kept.body[: len(kept.body) // 2])
        elif fault.kind == "alter":
            kept.replace(_altered(kept.body, fault.fields))
        await kept.release(exchange)


async def _answer_instead(fault: Fault, exchange: _Exchange) -> None:
    headers: dict[str, str] = {}
    if fault.kind == "html":
        start = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]}
        await exchange.send(start)
        await exchange.send({"type": "http.response.body", "body": _PROXY_PAGE})
        return
    if fault.kind == "redirect":
        query = exchange.scope["query_string"].decode("latin-1")
        headers["location"] = (
            fault.location.rstrip("/") + exchange.scope["path"] + (f"?{query}" if query else "")
        )
        response = json_response({}, 307, headers)
    else:
        if fault.retry_after is not None:
            headers["retry-after"] = str(fault.retry_after)
        body = error_body(fault.message, _KINDS.get(fault.status, "internal_error"))
        response = json_response(body if fault.body is None else fault.body, fault.status, headers)
    await response(exchange.scope, exchange.receive, exchange.send)


async def _hold(active: ActiveFault) -> None:
    active.held += 1
    try:
        await asyncio.wait_for(active.released.wait(), active.fault.seconds)
    except asyncio.TimeoutError:
        pass
    finally:
        active.held -= 1


def _altered(body: bytes, fields: dict[str, Any]) -> bytes:
    """The JSON object with some of its fields set; in a listing, those of each of its entries."""
    try:
        answer = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError:
        return body
    entries = answer["data"] if isinstance(answer.get("data"), list) else [answer]
    for entry in entries:
        entry.update(fields)
    return msgspec.json.encode(answer)


class _Kept:
    """An answer that was made and not sent."""

    def __init__(self) -> None:
        self._start: Message = {}
        self.body = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
        else:
            self.body += message.get("body", b"")

    def replace(self, body: bytes) -> None:
        """Let another body be sent."""
        self.body = body
        MutableHeaders(scope=self._start)["content-length"] = str(len(body))

    async def release(self, exchange: _Exchange) -> None:
        """Send it after all."""
        await exchange.send(self._start)
        await exchange.send({"type": "http.response.body", "body": self.body})


class _Cutter:
    """Lets some bytes of an answer's body through, and breaks the connection."""

    def __init__(self, exchange: _Exchange, allowed: int) -> None:
        self._exchange = exchange
        self._allowed = allowed

    async def send(self, message: Message) -> None:
        if self._exchange.dropped:
            return
        if message["type"] == "http.response.start":
            await self._exchange.send(message)
            return
        body = message.get("body", b"")
        if len(body) < self._allowed or not (body or message.get("more_body")):
            self._allowed -= len(body)
            await self._exchange.send(message)
            return
        await self._exchange.send({**message, "body": body[: self._allowed], "more_body": True})
        await self._exchange.drop(flush=True)
