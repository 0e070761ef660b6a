"""What happens to every request before it reaches a route: refused, counted, delayed, or hit by a fault."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from airflow_provider_mistral_batch.emulator.answers.errors import error_body
from airflow_provider_mistral_batch.emulator.http.exchange import Exchange
from airflow_provider_mistral_batch.emulator.http.fault_injection import inject, is_json
from airflow_provider_mistral_batch.emulator.http.responses import json_response
from airflow_provider_mistral_batch.emulator.http.web_pages import CONTROL_HEADER, refusal
from airflow_provider_mistral_batch.emulator.state.faults import ActiveFault
from airflow_provider_mistral_batch.emulator.state.server_state import ServerState


class Front:
    """
    The ASGI application around the routes.

    :param app: The routes.
    :param state: The server's state.
    :param local: Whether the emulator listens to this machine alone.
    """

    def __init__(self, app: ASGIApp, state: ServerState, *, local: bool) -> None:
        self._app = app
        self._local = local
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Requests to the control API are not counted or delayed, and no fault hits them."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange(self._state, scope, receive, send)
        headers = Headers(scope=scope)
        reason = refusal(scope["path"], headers.get("host"), headers.get(CONTROL_HEADER), local=self._local)
        if reason is not None:
            response = json_response(error_body(reason, "forbidden"), 403)
            await response(scope, receive, exchange.send)
            return
        if scope["path"].startswith("/emulator"):
            await self._app(scope, receive, exchange.send)
            return
        operation = self._state.counters.count_request(scope["method"], scope["path"])
        try:
            if self._state.settings.latency:
                await asyncio.sleep(self._state.settings.latency)
            fault = await self._find_fault(exchange)
            if fault is None:
                await self._app(scope, exchange.receive, exchange.send)
            else:
                await inject(fault, self._app, exchange)
        finally:
            self._state.counters.count_answer(operation, None if exchange.dropped else exchange.status)

    async def _find_fault(self, exchange: Exchange) -> ActiveFault | None:
        rules, scope = self._state.fault_rules, exchange.scope
        method, path = scope["method"], scope["path"]
        text = scope["query_string"].decode("latin-1")
        if rules.needs_body(method, path) and is_json(exchange):
            text += "\n" + await exchange.read_body()
        key = Headers(scope=scope).get("authorization", "").partition(" ")[2].strip() or None
        return rules.find(method, path, key, text)
