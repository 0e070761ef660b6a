"""The programs that tests and scripts start end with them, whatever happens to them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from processes import Program, ProgramEnded, session_processes

SCRIPTS = Path(__file__).parents[2] / "scripts"

#: A program with a child in a process group of its own, as Airflow has them; told to be stubborn, it ignores SIGTERM.
FAMILY = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN if "stubborn" in sys.argv else signal.SIG_DFL)
if os.fork() == 0:
    os.setpgid(0, 0)
print("ready", flush=True)
time.sleep(600)
"""


def wait_until(condition: Callable[[], object], what: str) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.02)
    pytest.fail(f"{what}: not so after 20 s")


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Program]:
    with_child = Program("family", [sys.executable, "-c", FAMILY], log_path=tmp_path / "family.log").start()
    wait_until(lambda: with_child.tail().count("ready") == 2, "both processes are ready")
    yield with_child
    with_child.kill()


def test_stop_ends_the_children_too(family: Program) -> None:
    assert len(family.processes) == 2
    family.stop()
    assert not family.running
    assert family.processes == []


def test_stop_ends_what_ignores_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FAMILY, "stubborn"]
    program = Program("stubborn", command, log_path=tmp_path / "stubborn.log").start()
    wait_until(lambda: program.tail().count("ready") == 2, "both processes are ready")
    program.stop(grace=0.1)
    assert program.processes == []


def test_kill_of_only_itself_leaves_the_children(family: Program) -> None:
    family.kill(only_itself=True)
    assert not family.running
    assert [process.pid != family.pid for process in family.processes] == [True]


def test_restart_is_another_process(family: Program) -> None:
    before = family.pid
    family.restart()
    assert family.pid != before
    assert family.running
    assert session_processes([before]) == []


def test_check_shows_why_it_ended(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such dish')"]
    program = Program("cook", command, log_path=tmp_path / "cook.log").start()
    assert program.wait() == 1
    with pytest.raises(ProgramEnded, match=r"(?s)cook ended \(exit code 1\).*no such dish"):
        program.check()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_programs_end_with_whoever_started_them(tmp_path: Path, number: signal.Signals) -> None:
    starter = f"""
import signal, sys, time
from pathlib import Path
from processes import Program
# A shell starts what it puts into the background with SIGINT ignored, and that is inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)
program = Program("family", [sys.executable, "-c", {FAMILY!r}], log_path=Path("family.log")).start()
while program.tail().count("ready") < 2:
    time.sleep(0.02)
print(program.pid, flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", starter],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert parent.stdout is not None
        session = int(parent.stdout.readline())
        guards = [child for child in psutil.Process(parent.pid).children() if child.pid != session]
        assert len(session_processes([session])) == 2
        parent.send_signal(number)
        parent.wait()
        wait_until(lambda: not session_processes([session]), "the family is gone")
        wait_until(lambda: not any(guard.is_running() for guard in guards), "the guard is gone")
    finally:
        parent.kill()
        parent.wait()
