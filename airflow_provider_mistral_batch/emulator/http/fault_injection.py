"""Fault injection: when a fault hits a request, the fault decides about the answer."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message

from airflow_provider_mistral_batch.emulator.answers.errors import error_body
from airflow_provider_mistral_batch.emulator.http.exchange import Exchange
from airflow_provider_mistral_batch.emulator.http.responses import json_response
from airflow_provider_mistral_batch.emulator.state.faults import ActiveFault, Fault

_PROXY_PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in</body></html>"

#: ``type`` in the error body of a status code.
_ERROR_KINDS = {
    400: "invalid_request_error",
    401: "unauthorized",
    402: "payment_required",
    403: "forbidden",
    404: "not_found_error",
    413: "payload_too_large",
    429: "rate_limited",
    503: "service_tier_capacity_exceeded",
}


async def inject(active: ActiveFault, app: ASGIApp, exchange: Exchange) -> None:
    """
    Answer a request with a fault.

    :param active: The fault.
    :param app: What would answer the request without the fault.
    :param exchange: The request and its answer.
    """
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
        # The client may be gone when the request is released: what it sent must be read before.
        if is_json(exchange):
            await exchange.read_body()
        await _hold(active)
        await app(exchange.scope, exchange.receive, exchange.send)
    else:
        kept = _KeptAnswer()
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


def is_json(exchange: Exchange) -> bool:
    """Whether a request's body is JSON; if not, it may be a large file."""
    return Headers(scope=exchange.scope).get("content-type", "").startswith("application/json")


async def _answer_instead(fault: Fault, exchange: Exchange) -> None:
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
        body = error_body(fault.message, _ERROR_KINDS.get(fault.status, "internal_error"))
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
    """A JSON object with some fields set; a listing with the fields set in each of its entries."""
    try:
        answer = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError:
        return body
    entries = answer["data"] if isinstance(answer.get("data"), list) else [answer]
    for entry in entries:
        entry.update(fields)
    return msgspec.json.encode(answer)


class _KeptAnswer:
    """An answer that is kept back until it is released."""

    def __init__(self) -> None:
        self._start: Message = {}
        self.body = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
        else:
            self.body += message.get("body", b"")

    def replace(self, body: bytes) -> None:
        self.body = body
        MutableHeaders(scope=self._start)["content-length"] = str(len(body))

    async def release(self, exchange: Exchange) -> None:
        await exchange.send(self._start)
        await exchange.send({"type": "http.response.body", "body": self.body})


class _Cutter:
    """
    Sends the first bytes of an answer's body, and then closes the connection.

    :param allowed: How many bytes.
    """

    def __init__(self, exchange: Exchange, allowed: int) -> None:
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
