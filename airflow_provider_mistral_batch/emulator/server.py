"""The server process: it listens, keeps the engine running, and ends with the process that started it."""

from __future__ import annotations

import asyncio
import fcntl
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
from pathlib import Path
from typing import Any

import uvicorn

from airflow_provider_mistral_batch.emulator.engine.options import UpstreamOptions
from airflow_provider_mistral_batch.emulator.engine.process import EngineProcess
from airflow_provider_mistral_batch.emulator.http.app import make_app
from airflow_provider_mistral_batch.emulator.http.web_pages import is_loopback
from airflow_provider_mistral_batch.emulator.state.keys import Keys
from airflow_provider_mistral_batch.emulator.state.privacy import make_private
from airflow_provider_mistral_batch.emulator.state.server_state import ServerState
from airflow_provider_mistral_batch.emulator.state.store import Store

#: Seconds for which an idle connection is kept open.
_KEEP_ALIVE = 75

#: Seconds that open requests get when the server ends.
_GRACE = 1

#: Seconds between two looks whether the parent process is still there.
_PARENT_CHECK = 0.5

#: Open files: enough for thousands of clients that wait.
_OPEN_FILES = 65_536

#: The workspace of all keys that are given at the start.
_MAIN_WORKSPACE = "main"


@dataclass(frozen=True)
class Start:
    """
    How to start. Only the settings can be changed later.

    :param host: Address to listen on.
    :param port: Port to listen on; a free one if 0.
    :param state_dir: Where jobs and files are kept; a temporary directory, removed at the end, if not given.
    :param remove_state_dir: Whether that directory is removed at the end. It stays if the server is killed.
    :param api_keys: The keys that are valid; any key is if there are none.
    :param parent_pid: End when this process is no longer the parent.
    :param upstream: The upstream server that answers the rows, if one does.
    :param settings: Settings that differ from those in the state directory.
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
    """
    Run the emulator until it gets a signal or its parent ends.

    :param start: How to start.
    :raises OSError: If it cannot listen, or use the state directory.
    :raises ValueError: If a setting is not valid.
    """
    _allow_many_connections()
    # Prompts and answers are nobody else's: what is written from now on, also by the engine, is its owner's alone.
    os.umask(0o077)
    listener = _bind(start.host, start.port)
    directory = start.state_dir or Path(tempfile.mkdtemp(prefix="mistral-emulator-"))
    with listener, _locked(directory):
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
    state = ServerState(store=store, keys=keys, settings=store.settings(), wake_engine=engine.wake)
    state.change_settings(start.settings)
    config = uvicorn.Config(
        make_app(state, local=is_loopback(start.host)),
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

    # Uvicorn shuts down after a signal and then raises it again, which would skip the clean-up below.
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
    while os.getppid() == parent_pid:  # noqa: ASYNC110 - nor has the kernel
        await asyncio.sleep(_PARENT_CHECK)
    server.should_exit = True


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    make_private(directory)
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
    # Connections inherit it. Without it, an answer's body waits 40 ms until the client's kernel confirms the head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.bind((host, port))
    listener.set_inheritable(False)
    return listener


def _allow_many_connections() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    # Some systems report no limit and still refuse.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
