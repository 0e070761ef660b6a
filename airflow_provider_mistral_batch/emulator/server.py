"""The server process: it binds the port, keeps an engine running beside it, and ends with its parent."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import resource
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

from airflow_provider_mistral_batch.emulator.engine.engine import UPSTREAM_VARIABLE
from airflow_provider_mistral_batch.emulator.engine.upstream import UpstreamOptions
from airflow_provider_mistral_batch.emulator.http.app import make_app
from airflow_provider_mistral_batch.emulator.http.auth import Keys
from airflow_provider_mistral_batch.emulator.http.dependencies import State
from airflow_provider_mistral_batch.emulator.state.store import Store

logger = logging.getLogger(__name__)

#: Seconds for which an idle connection is kept, for open requests at the end, and between looks at the parent.
_KEEP_ALIVE = 75
_GRACE = 1
_PARENT_CHECK = 0.5

#: Open files that are enough for thousands of waiting clients.
_CONNECTIONS = 65_536

#: The workspace of the keys that are given at the start.
_MAIN_WORKSPACE = "main"


@dataclass(frozen=True)
class Start:
    """How to start: what cannot be changed while the emulator runs.

    :param state_dir: where to keep jobs and files; a temporary directory that ends with the server if not given.
    :param remove_state_dir: remove it at the end, unless the server is killed.
    :param api_keys: the tokens to let in; any if there are none.
    :param parent_pid: end when the process that started this one is no longer this.
    :param upstream: the OpenAI-compatible server that answers the rows, if one does.
    """

    host: str = "127.0.0.1"
    port: int = 0
    state_dir: Path | None = None
    remove_state_dir: bool = False
    api_keys: Sequence[str] = ()
    parent_pid: int | None = None
    upstream: UpstreamOptions | None = None
    settings: dict[str, Any] = field(default_factory=dict)


def serve(start: Start) -> None:
    """Run the emulator until it is told to stop."""
    _allow_many_connections()
    listener = _bind(start.host, start.port)
    directory = start.state_dir or Path(tempfile.mkdtemp(prefix="mistral-emulator-"))
    with listener, _only_user(directory):
        try:
            asyncio.run(_serve(start, listener, directory))
        finally:
            if start.state_dir is None or start.remove_state_dir:
                shutil.rmtree(directory, ignore_errors=True)


async def _serve(start: Start, listener: socket.socket, directory: Path) -> None:
    store = Store(directory)
    if store.get_meta("secret") is None:
        store.put_meta("secret", secrets.token_hex(32))
    engine = EngineProcess(directory, start.upstream)
    keys = Keys(store, required=bool(start.api_keys))
    for key in start.api_keys:
        keys.add(key, _MAIN_WORKSPACE)
    state = State(store=store, keys=keys, settings=store.settings(), wake_engine=engine.wake)
    state.change_settings(start.settings)
    config = uvicorn.Config(
        make_app(state),
        log_level="warning",
        access_log=False,
        date_header=False,
        proxy_headers=False,
        backlog=4096,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_GRACE,
        lifespan="off",
        ws="none",
    )
    server = uvicorn.Server(config)

    def stop(*_: object) -> None:
        server.should_exit = True

    # Uvicorn ends well after a signal, and then raises it again: that must not kill what is left to do.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    helpers = [
        asyncio.create_task(engine.supervise()),
        asyncio.create_task(_announce(server, listener, directory)),
    ]
    if start.parent_pid is not None:
        helpers.append(asyncio.create_task(_end_with_parent(server, start.parent_pid)))
    try:
        await server.serve(sockets=[listener])
    finally:
        for helper in helpers:
            helper.cancel()
        await engine.stop()
        store.close()


async def _announce(server: uvicorn.Server, listener: socket.socket, directory: Path) -> None:
    while not server.started:  # noqa: ASYNC110 - Uvicorn has no event for it
        await asyncio.sleep(0.005)
    host, port = listener.getsockname()[:2]
    host = f"[{host}]" if ":" in host else host
    sys.stdout.write(f"ready url=http://{host}:{port} pid={os.getpid()} state_dir={directory}\n")
    sys.stdout.flush()


async def _end_with_parent(server: uvicorn.Server, parent_pid: int) -> None:
    while os.getppid() == parent_pid:  # noqa: ASYNC110 - neither has the kernel
        await asyncio.sleep(_PARENT_CHECK)
    server.should_exit = True


class EngineProcess:
    """The engine's process: it is started again if it dies, and ends when its standard input does."""

    def __init__(self, directory: Path, upstream: UpstreamOptions | None) -> None:
        self._directory = directory
        # Not on the command line, which everybody on this machine can read: it may hold a key.
        self._environment = dict(os.environ)
        self._environment.pop(UPSTREAM_VARIABLE, None)
        if upstream is not None:
            self._environment[UPSTREAM_VARIABLE] = msgspec.json.encode(upstream).decode()
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    def wake(self) -> None:
        """Tell the engine that something changed."""
        stdin = self._process.stdin if self._process is not None else None
        # A busy engine looks at the store anyway: it needs no second call.
        if stdin is not None and not stdin.is_closing() and stdin.transport.get_write_buffer_size() == 0:
            stdin.write(b".")

    async def supervise(self) -> None:
        """Keep an engine running."""
        while not self._stopping:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                f"{__package__}.engine.engine",
                str(self._directory),
                stdin=asyncio.subprocess.PIPE,
                env=self._environment,
            )
            status = await self._process.wait()
            if not self._stopping:
                logger.error("The engine ended with status %s; it is started again", status)
                await asyncio.sleep(0.5)

    async def stop(self) -> None:
        """End the engine, at once: the store is right at any moment."""
        self._stopping = True
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@contextmanager
def _only_user(directory: Path) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "server.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OSError(f"another emulator uses the state directory {directory}") from None
        yield


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections inherit it. Without, an answer's body waits 40 ms for the client's kernel to confirm its head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.bind((host, port))
    listener.set_inheritable(False)
    return listener


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _allow_many_connections() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _CONNECTIONS if hard == resource.RLIM_INFINITY else min(hard, _CONNECTIONS)
    # Some systems say that there is no limit, and then refuse.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
