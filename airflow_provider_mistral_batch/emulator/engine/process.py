"""The engine's process, as the server sees it: started, woken, restarted when it dies, and stopped."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path

import msgspec

from airflow_provider_mistral_batch.emulator.engine.options import UPSTREAM_VARIABLE, UpstreamOptions

log = logging.getLogger(__name__)

#: Seconds before an engine that died is restarted.
_PAUSE = 0.5


class EngineProcess:
    """
    The process that executes the jobs of a state directory. It ends by itself when its standard input ends.

    :param directory: The state directory.
    :param upstream: The upstream server that answers the rows, if one does.
    """

    def __init__(self, directory: Path, upstream: UpstreamOptions | None) -> None:
        self._directory = directory
        self._environment = dict(os.environ)
        self._environment.pop(UPSTREAM_VARIABLE, None)
        if upstream is not None:
            self._environment[UPSTREAM_VARIABLE] = msgspec.json.encode(upstream).decode()
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    def wake(self) -> None:
        """Tell the engine that something in the store changed."""
        stdin = self._process.stdin if self._process is not None else None
        # An engine that has not read the last byte yet looks at the store anyway.
        if stdin is not None and not stdin.is_closing() and stdin.transport.get_write_buffer_size() == 0:
            stdin.write(b".")

    async def supervise(self) -> None:
        """Start the engine, and restart it whenever it ends, until :meth:`stop` is called."""
        while not self._stopping:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                __package__,
                str(self._directory),
                stdin=asyncio.subprocess.PIPE,
                env=self._environment,
            )
            status = await self._process.wait()
            if not self._stopping:
                log.error("The engine ended with status %s. It is restarted.", status)
                await asyncio.sleep(_PAUSE)

    async def stop(self) -> None:
        """Kill the engine. The store is consistent at any moment."""
        self._stopping = True
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
