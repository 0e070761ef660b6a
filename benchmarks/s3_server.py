"""A real S3 server for benchmarks: SeaweedFS in a process of its own, which counts its requests."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import requests

_PORTS = ("master.port", "volume.port", "filer.port", "s3.port")
_OTHER_PORTS = ("s3.port.iceberg", "s3.port.lance", "metricsPort")
_SECONDS_TO_START = 60
_COUNTED = re.compile(r"^SeaweedFS_s3_request_total\{.*\} (\d+)$", re.MULTILINE)


def is_there() -> bool:
    """Tell whether the server is installed."""
    return _program() is not None


class S3Server:
    """
    Serves S3 on free ports of the loopback interface.

    :param directory: Where it keeps its objects.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.url = ""

    def __enter__(self) -> S3Server:
        names = [*_PORTS, *(f"{name}.grpc" for name in _PORTS), *_OTHER_PORTS]
        ports = dict(zip(names, _free_ports(len(names)), strict=True))
        self.url = f"http://127.0.0.1:{ports['s3.port']}"
        self._metrics = f"http://127.0.0.1:{ports['metricsPort']}/metrics"
        self._directory.mkdir()
        options = ["-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={self._directory}"]
        options += [f"-{name}={port}" for name, port in ports.items()]
        self._process = subprocess.Popen(
            [str(_program()), "server", *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + _SECONDS_TO_START
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                self._process.kill()
                raise RuntimeError(f"The S3 server does not start (exit code {self._process.wait()})")
            time.sleep(0.2)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    def requests(self) -> int:
        """Tell how many requests it has had so far."""
        return sum(map(int, _COUNTED.findall(requests.get(self._metrics, timeout=30).text)))

    def _answers(self) -> bool:
        try:
            return requests.get(self.url, timeout=5).ok
        except requests.RequestException:
            return False


def _program() -> str | None:
    return shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
