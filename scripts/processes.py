"""Runs programs, each in its own session, so that exactly the processes that they started can be ended.

Every process below a session's leader keeps the session's id, through forks, new process groups and the leader's death.
So the id identifies all that a program started, and nothing else. A guard process notices when the process that started
the programs is gone, even after a crash or ``kill -9``, and ends the remaining sessions.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import FrameType

import psutil

#: Seconds that programs get between SIGTERM and SIGKILL.
GRACE = 5.0


class ProgramEnded(RuntimeError):
    """A program that should be running has ended; the message ends with its last log lines."""


class Program:
    """
    One program, its log file and its processes.

    :param name: Its name in messages.
    :param command: The command and its arguments.
    :param log_path: File that standard output and error are appended to.
    :param env: The complete environment; by default the caller's.
    :param cwd: Working directory.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log_path: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log_path = log_path
        self.env = env
        self.cwd = cwd
        self._popen: subprocess.Popen[bytes] | None = None

    def start(self) -> Program:
        """Start the program, unless it is running."""
        if not self.running:
            self.log_path.parent.mkdir(parents=True, exist_ok=True)
            with self.log_path.open("ab") as log:
                self._popen = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self.env,
                    cwd=self.cwd,
                    start_new_session=True,
                )
            _tell_guard("+", self._popen.pid)
        return self

    @property
    def pid(self) -> int:
        """Process id of the program itself, which is also its session's id."""
        if self._popen is None:
            raise ProgramEnded(f"{self.name} was never started")
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether the program itself runs; processes below it may outlive it."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def processes(self) -> list[psutil.Process]:
        """Every process of its session, the program itself included."""
        return session_processes([self.pid]) if self._popen is not None else []

    def check(self) -> None:
        """
        Check that the program is running.

        :raises ProgramEnded: When it is not.
        """
        if not self.running:
            code = self._popen.returncode if self._popen is not None else None
            raise ProgramEnded(
                f"{self.name} ended (exit code {code}); the end of {self.log_path}:\n{self.tail()}"
            )

    def kill(self, *, only_itself: bool = False) -> None:
        """
        Kill all of its processes at once (``kill -9``), as if the machine were lost.

        :param only_itself: Kill the program but none of the processes below it, as the OOM killer would.
        """
        if only_itself and self._popen is not None:
            self._popen.kill()
            self._popen.wait()
        else:
            end_programs([self], grace=0)

    def wait(self, timeout: float | None = None) -> int:
        """
        Wait until the program ends by itself, and return its exit code.

        :param timeout: Most seconds to wait.
        :raises subprocess.TimeoutExpired: When it takes longer.
        """
        assert self._popen is not None
        return self._popen.wait(timeout)

    def stop(self, grace: float = GRACE) -> None:
        """Ask the program to end, and kill it after ``grace`` seconds."""
        end_programs([self], grace=grace)

    def restart(self) -> Program:
        """Stop the program, unless it has already ended, and start it again. It appends to the same log file."""
        self.stop()
        return self.start()

    def tail(self, lines: int = 30) -> str:
        """Return the last lines of its log."""
        with contextlib.suppress(FileNotFoundError):
            return "\n".join(self.log_path.read_text("utf-8", "replace").splitlines()[-lines:])
        return ""


def end_programs(programs: Iterable[Program], grace: float = GRACE) -> None:
    """
    End programs and everything below them, as :func:`end_sessions` does.

    :param grace: Seconds that the programs have to end by themselves.
    """
    started = [program for program in programs if program._popen is not None]
    end_sessions([program.pid for program in started], grace=grace)
    for program in started:
        program.wait()
        _tell_guard("-", program.pid)


def session_processes(sessions: Iterable[int]) -> list[psutil.Process]:
    """Find every live process of these sessions."""
    wanted = set(sessions)
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, PermissionError, psutil.Error):
            if pid and os.getsid(pid) in wanted:
                process = psutil.Process(pid)
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
    return found


def end_sessions(sessions: Collection[int], grace: float) -> None:
    """
    End every process of these sessions: SIGTERM to the leaders, then SIGKILL to all that remain.

    SIGTERM goes only to the leaders, because a parent knows in which order to end its children.

    :param grace: Seconds that the leaders have to end by themselves; 0 for none.
    """
    deadline = time.monotonic() + grace
    if grace:
        _signal(
            signal.SIGTERM, (process for process in session_processes(sessions) if process.pid in sessions)
        )
    while left := session_processes(sessions):
        if time.monotonic() >= deadline or not any(process.pid in sessions for process in left):
            _signal(signal.SIGKILL, left)
        time.sleep(0.02)


def _signal(number: signal.Signals, processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


_guard_lock = threading.Lock()
_guard: tuple[int, subprocess.Popen[bytes]] | None = None


def _tell_guard(sign: str, session: int) -> None:
    """Tell the guard that a session began (``+``) or was ended (``-``)."""
    global _guard
    with _guard_lock:
        if _guard is None or _guard[0] != os.getpid():
            process = subprocess.Popen(
                [sys.executable, str(Path(__file__).resolve())],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            _guard = (os.getpid(), process)
        pipe = _guard[1].stdin
        assert pipe is not None
        pipe.write(f"{sign}{session}\n".encode())
        pipe.flush()


def guard() -> None:
    """Read from standard input which sessions exist until the writer is gone, and then end them."""
    # A Ctrl-C or SIGTERM for our parent must not end us before our work is done.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sessions: set[int] = set()
    for line in sys.stdin:
        # An ended session is forgotten: its number may now belong to another program.
        (sessions.add if line[0] == "+" else sessions.discard)(int(line[1:]))
    end_sessions(sessions, grace=GRACE)


def exit_on_sigterm() -> None:
    """Turn SIGTERM into ``SystemExit``, so that ``finally`` and ``with`` blocks run."""

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, leave)


if __name__ == "__main__":
    guard()
