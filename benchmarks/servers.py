"""Servers for the benchmarks: runs the stand-in for other providers' APIs, and counts requests."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import requests

#: Seconds between a request and its answer, as with a remote server.
LATENCY = 0.05

_SCRIPT = Path(__file__).with_name("peer_server.py")


class Peers:
    """
    A running stand-in for other providers' APIs.

    :param latency: Seconds added to each answer.
    :param job_seconds: How long a batch created there lasts.
    """

    def __init__(self, *, latency: float = LATENCY, job_seconds: float = 30.0) -> None:
        self._command = [
            sys.executable,
            str(_SCRIPT),
            "--latency",
            str(latency),
            "--job-seconds",
            str(job_seconds),
        ]
        self.url = ""

    def __enter__(self) -> Peers:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError(f"The stand-in server ended with exit code {self._process.wait()}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def requests(self) -> int:
        """Return how many requests the server has had so far."""
        return int(requests.get(f"{self.url}/requests", timeout=30).json())


class RequestRounds:
    """
    Counts requests in bursts: a pause longer than ``GAP`` seconds separates two bursts.

    :param count: Returns how many requests a server has had so far.
    """

    GAP = 3.0
    _EVERY = 0.25

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count
        self._rounds: list[int] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> list[int]:
        self._thread.start()
        return self._rounds

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        seen, quiet = self._count(), self.GAP
        while not self._done.wait(self._EVERY):
            new = self._count() - seen
            seen += new
            if not new:
                quiet += self._EVERY
            elif quiet >= self.GAP:
                self._rounds.append(new)
                quiet = 0.0
            else:
                self._rounds[-1] += new
                quiet = 0.0
