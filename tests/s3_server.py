"""A real S3 server for tests: moto behind a door that counts requests, and refuses those that a test chooses."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

_FORBIDDEN = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


class S3Server:
    """
    Serves S3 on a free port of the loopback interface, in this process.

    A request is written ``METHOD /bucket/key?query``.
    """

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self._server.log = lambda *_: None  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.reset()

    def reset(self) -> None:
        """Forget what was asked and what was to be refused."""
        self.requests: list[str] = []
        #: Bytes of each body, in the order of ``requests``.
        self.sizes: list[int] = []
        #: Most uploads of a part that were under way at the same time.
        self.most_parts_at_once = 0
        self._parts = 0
        self._refused: re.Pattern[str] | None = None
        self._broken: re.Pattern[str] | None = None
        #: Most of the requests that `wait_for_each_other` names that were under way at the same time.
        self.most_waiting = 0
        self._waiting = 0
        self._together: tuple[re.Pattern[str], int] | None = None

    def wait_for_each_other(self, pattern: str, number: int) -> None:
        """Hold requests that begin so until this many of them are under way, or some seconds are over."""
        self._together = re.compile(pattern), number

    def refuse(self, pattern: str) -> None:
        """Answer requests that begin so with 403."""
        self._refused = re.compile(pattern)

    def break_down_at(self, pattern: str) -> None:
        """Answer the first request that begins so, and all after it, with 503: the store has gone away."""
        self._broken = re.compile(pattern)

    def count(self, pattern: str) -> int:
        """How many requests began so."""
        return sum(re.match(pattern, request) is not None for request in self.requests)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        query = f"?{environ['QUERY_STRING']}" if environ["QUERY_STRING"] else ""
        request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}{query}"
        is_part = "partNumber=" in query
        with self._lock:
            self.requests.append(request)
            self.sizes.append(int(environ.get("CONTENT_LENGTH") or 0))
            self._parts += is_part
            self.most_parts_at_once = max(self.most_parts_at_once, self._parts)
            if self._broken is not None and self._broken.match(request):
                self._broken = re.compile("")
        try:
            if self._together is not None and self._together[0].match(request):
                self._wait(self._together[1])
            if self._broken is not None and self._broken.pattern == "":
                self._drain(environ)
                start_response("503 Service Unavailable", [("Content-Length", "0")])
                return [b""]
            if self._refused is not None and self._refused.match(request):
                self._drain(environ)
                start_response("403 Forbidden", [("Content-Type", "application/xml")])
                return [] if environ["REQUEST_METHOD"] == "HEAD" else [_FORBIDDEN]
            return list(self._moto(environ, start_response))
        finally:
            with self._lock:
                self._parts -= is_part

    def _wait(self, number: int) -> None:
        with self._arrived:
            self._waiting += 1
            self.most_waiting = max(self.most_waiting, self._waiting)
            self._arrived.notify_all()
            self._arrived.wait_for(lambda: self.most_waiting >= number, timeout=5)
            self._waiting -= 1

    @staticmethod
    def _drain(environ: dict[str, Any]) -> None:
        left = int(environ.get("CONTENT_LENGTH") or 0)
        while left > 0 and (piece := environ["wsgi.input"].read(min(left, 1 << 20))):
            left -= len(piece)
