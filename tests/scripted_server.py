"""A small HTTP server that does what a test says, also what no decent server does: for both ends of every fault."""

from __future__ import annotations

import contextlib
import email.policy
import json
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple


class Received(NamedTuple):
    """A request that arrived: ``path`` with its query, ``headers`` with names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def parts(self) -> dict[str, tuple[str | None, str, bytes]]:
        """Parts of a multipart form by name: file name, content type, content."""
        head = f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode()
        message: Any = email.message_from_bytes(head + self.body, policy=email.policy.HTTP)
        return {
            part.get_param("name", header="content-disposition"): (
                part.get_filename(),
                part.get_content_type(),
                part.get_payload(decode=True),
            )
            for part in message.iter_parts()
        }


class Answer(NamedTuple):
    """
    What the server sends.

    :param headers: Sent besides ``Content-Length``; a value of ``None`` leaves a header out.
    :param sends: Bytes of the body that are sent before the connection is cut; all when ``None``.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str | None] = {}
    sends: int | None = None


class Raw(NamedTuple):
    """Bytes that are sent as they are, whatever HTTP says; then the connection is closed."""

    content: bytes


class Stream(NamedTuple):
    """Bytes that are sent piece by piece, as they come, until the client goes away; then the connection is closed."""

    pieces: Iterable[bytes]


#: The connection is closed, or reset, when the request has been read.
CLOSE, RESET = object(), object()

Step = Any  # Answer, Raw, Stream, CLOSE, RESET, or a function from Received to one of them


def as_json(value: object, status: int = 200, **headers: str) -> Answer:
    """Answer with JSON."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json", **named})


class ScriptedServer:
    """
    Answers the first request with the first step, and so on; the last step stays.

    :param steps: What to do.
    :param tls: Speaks TLS with this.
    :param reads_bodies: Whether requests are read to their end.
    """

    def __init__(self, *steps: Step, tls: ssl.SSLContext | None = None, reads_bodies: bool = True) -> None:
        self.steps = list(steps)
        self.requests: list[Received] = []
        self.connections = 0
        self.reads_bodies = reads_bodies
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.script = self
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.005,), daemon=True)

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def next_step(self, received: Received) -> Step:
        with self._lock:
            self.requests.append(received)
            step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        return step(received) if isinstance(step, Callable) else step  # type: ignore[arg-type]


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    # A client that goes away is what these tests are about.
    block_on_close = False
    script: ScriptedServer

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: broken connections are meant."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        self.server.script.connections += 1
        super().setup()

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if self.server.script.reads_bodies else b""
        headers = {name.lower(): value for name, value in self.headers.items()}
        step = self.server.script.next_step(Received(self.command, self.path, headers, body))
        if isinstance(step, Answer):
            self._send(step)
        else:
            if isinstance(step, Raw):
                self.wfile.write(step.content)
            elif isinstance(step, Stream):
                for piece in step.pieces:
                    self.wfile.write(piece)
            elif step is RESET:
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True

    do_GET = do_POST = do_DELETE = do_CONNECT = _serve

    def _send(self, answer: Answer) -> None:
        headers = {"Content-Length": str(len(answer.body)), **answer.headers}
        self.send_response_only(answer.status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body[: answer.sends])
        if answer.sends is not None or headers["Content-Length"] is None:
            self.close_connection = True

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """A port on which nobody listens as long as the context lasts."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]
