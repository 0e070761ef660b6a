"""The emulator as a context manager, for tests: a server process on a free port."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any
from uuid import uuid4

from airflow_provider_mistral_batch.emulator.client import Control

_VARIABLES = {"api_key": "MISTRAL_EMULATOR_API_KEY", "upstream_key": "MISTRAL_EMULATOR_UPSTREAM_KEY"}

#: Default settings: jobs take no time.
_QUICK = {"validation_seconds": 0.0, "job_seconds": 0.0, "cancel_seconds": 0.0}


class Emulator:
    """
    A running emulator: ``with Emulator() as emulator: requests.get(emulator.url + "/v1/batch/jobs", ...)``.

    The process ends with the block, and by itself when the process that started it is gone.

    :param api_key: The only valid key. If not given any key is valid, and the attribute ``api_key`` is one to use.
    :param state_dir: Where jobs and files are kept; a temporary directory, removed at the end, if not given.
    :param port: Port to listen on; a free one if 0.
    :param options: Further options of the command line, such as ``{"upstream": "http://..."}``.
    :param settings: Settings, such as ``job_seconds=2``. Jobs take no time unless a setting says so.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        state_dir: str | Path | None = None,
        port: int = 0,
        options: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.api_key = api_key or "emulator-key"
        self._requires_key = api_key is not None
        self._owned_dir = state_dir is None
        self.state_dir = Path(state_dir or Path(tempfile.gettempdir()) / f"mistral-emulator-{uuid4().hex}")
        self._port = port
        self._options = {**_QUICK, **settings, **(options or {})}
        self._process: subprocess.Popen[str] | None = None
        self._control: Control | None = None
        self._log_file: IO[bytes] | None = None
        self.url = ""

    def __enter__(self) -> Emulator:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def control(self) -> Control:
        """The client of the control API."""
        if self._control is None:
            raise RuntimeError("The emulator is not running")
        return self._control

    @property
    def pid(self) -> int:
        """The server's process id."""
        if self._process is None:
            raise RuntimeError("The emulator is not running")
        return self._process.pid

    @property
    def log(self) -> str:
        """What the server has written to standard error."""
        if self._log_file is None:
            return ""
        # Read through the open file: a server that could not start may have removed the directory.
        size = os.fstat(self._log_file.fileno()).st_size
        return os.pread(self._log_file.fileno(), size, 0).decode("utf-8", "replace")

    def start(self) -> Emulator:
        """
        Start the server, and wait until it listens.

        :raises RuntimeError: If it does not start. The message has its log.
        """
        self._launch(self._options)
        return self

    def kill(self) -> None:
        """Kill the server with ``kill -9``. What it has acknowledged is in the state directory."""
        if self._process is not None:
            self._process.kill()
        self._reap()

    def restart(self) -> Emulator:
        """Kill the server if it runs, and start it again: on the same port, with its state and settings."""
        self.kill()
        self._launch({name: value for name, value in self._options.items() if name.startswith("upstream")})
        return self

    def stop(self) -> None:
        """End the server, and remove the state directory if none was given."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
            self.kill()
        if self._log_file is not None:
            self._log_file.close()
            self._log_file = None
        if self._owned_dir:
            shutil.rmtree(self.state_dir, ignore_errors=True)

    def _launch(self, options: Mapping[str, Any]) -> None:
        if self._process is not None:
            raise RuntimeError("The emulator is already running")
        self.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = [
            sys.executable,
            "-m",
            __package__,
            "--port",
            str(self._port),
            "--state-dir",
            str(self.state_dir),
        ]
        command += ["--parent-pid", str(os.getpid())]
        if self._owned_dir:
            command.append("--remove-state-dir")
        # Everybody on this machine can read a command line, so keys go into the environment.
        secrets = {"api_key": self.api_key if self._requires_key else None, "upstream_key": None}
        environment = dict(os.environ)
        for name, value in {**secrets, **options}.items():
            if name not in secrets:
                command += [f"--{name.replace('_', '-')}", str(value)]
            elif value is None:
                environment.pop(_VARIABLES[name], None)
            else:
                environment[_VARIABLES[name]] = str(value)
        if self._log_file is None:
            self._log_file = open(self.state_dir / "emulator.log", "a+b", opener=_open_private)  # noqa: SIM115
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log_file,
            text=True,
            env=environment,
        )
        self.url = self._ready_url()
        self._port = int(self.url.rsplit(":", 1)[1])
        self._control = Control(self.url, self.api_key)

    def _ready_url(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        watchdog = threading.Timer(60, self._process.kill)
        watchdog.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watchdog.cancel()
        if not line.startswith("ready "):
            error = RuntimeError(f"The emulator did not start:\n{self.log}")
            self.stop()
            raise error
        return line.split("url=", 1)[1].split()[0]

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None
        if self._control is not None:
            self._control.close()
            self._control = None


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
