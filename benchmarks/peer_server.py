"""A stand-in for the batch APIs of Anthropic and OpenAI, just enough for other providers to wait for a batch.

It does as little as possible, so that the benchmark measures the providers and not the server.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import socket
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import uvicorn

#: A batch is over if its id begins with this; any other unknown batch keeps running.
OVER = "over"


class PeerServer:
    """
    The ASGI application.

    :param latency: Seconds added to each answer.
    :param job_seconds: How long a batch created here lasts.
    """

    def __init__(self, latency: float, job_seconds: float) -> None:
        self._latency = latency
        self._job_seconds = job_seconds
        self._begun = time.time()
        self._created: dict[str, tuple[float, int]] = {}
        self._numbers = itertools.count(1)
        self._requests = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        method, path = scope["method"], scope["path"]
        if path == "/requests":
            await _answer(send, 200, self._requests)
            return
        self._requests += 1
        content = b""
        while (message := await receive()).get("more_body"):
            content += message.get("body", b"")
        content += message.get("body", b"")
        await asyncio.sleep(self._latency)
        *_, last = path.split("/")
        if method == "POST" and path == "/v1/messages/batches":
            batch_id = f"msgbatch_{next(self._numbers):06d}"
            self._created[batch_id] = (time.time(), len(json.loads(content)["requests"]))
            await _answer(send, 200, self._message_batch(batch_id))
        elif method == "GET" and path.startswith("/v1/messages/batches/"):
            await _answer(send, 200, self._message_batch(last))
        elif method == "GET" and path.startswith("/v1/batches/"):
            await _answer(send, 200, self._batch(last))
        else:
            await _answer(send, 404, {"error": {"type": "not_found_error", "message": f"{method} {path}"}})

    def _state(self, batch_id: str) -> tuple[float, int, bool]:
        """Return when a batch was created, how many requests it has, and whether it is over."""
        created, requests = self._created.get(batch_id, (self._begun, 1000))
        over = batch_id.startswith(OVER) or (
            batch_id in self._created and time.time() >= created + self._job_seconds
        )
        return created, requests, over

    def _message_batch(self, batch_id: str) -> dict[str, Any]:
        created, requests, over = self._state(batch_id)
        return {
            "id": batch_id,
            "type": "message_batch",
            "processing_status": "ended" if over else "in_progress",
            "request_counts": {
                "processing": 0 if over else requests,
                "succeeded": requests if over else 0,
                "errored": 0,
                "canceled": 0,
                "expired": 0,
            },
            "created_at": _iso(created),
            "expires_at": _iso(created + timedelta(days=1).total_seconds()),
            "ended_at": _iso(created + self._job_seconds) if over else None,
            "archived_at": None,
            "cancel_initiated_at": None,
            "results_url": None,
        }

    def _batch(self, batch_id: str) -> dict[str, Any]:
        created, requests, over = self._state(batch_id)
        return {
            "id": batch_id,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "errors": None,
            "input_file_id": "file-1",
            "completion_window": "24h",
            "status": "completed" if over else "in_progress",
            "output_file_id": "file-2" if over else None,
            "error_file_id": None,
            "created_at": int(created),
            "in_progress_at": int(created),
            "expires_at": int(created) + 24 * 3600,
            "completed_at": int(created) if over else None,
            "request_counts": {
                "total": requests,
                # Grows every second, like a real batch's.
                "completed": requests if over else min(requests - 1, int(time.time() - created)),
                "failed": 0,
            },
            "metadata": None,
        }


def _iso(epoch_seconds: float) -> str:
    return datetime.fromtimestamp(epoch_seconds, tz=timezone.utc).isoformat().replace("+00:00", "Z")


async def _answer(send: Any, status: int, body: Any) -> None:
    content = json.dumps(body).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def main() -> None:
    """Serve on a free port of the loopback interface until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds added to each answer")
    parser.add_argument("--job-seconds", type=float, default=30.0, help="how long a created batch lasts")
    options = parser.parse_args()
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    server = uvicorn.Server(
        uvicorn.Config(PeerServer(options.latency, options.job_seconds), log_level="warning", lifespan="off")
    )

    def stop_with_parent() -> None:
        sys.stdin.read()
        server.should_exit = True

    threading.Thread(target=stop_with_parent, daemon=True).start()
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
