"""
The engine's program: it executes the jobs of a state directory until its standard input ends.

Each byte on standard input says that something in the store changed.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys
from pathlib import Path

import msgspec

from airflow_provider_mistral_batch.emulator.engine.engine import Engine
from airflow_provider_mistral_batch.emulator.engine.options import UPSTREAM_VARIABLE, UpstreamOptions
from airflow_provider_mistral_batch.emulator.engine.upstream import Upstream
from airflow_provider_mistral_batch.emulator.state.store import Store


def main(directory: Path) -> None:
    """
    Execute jobs until standard input ends.

    :param directory: The state directory.
    """
    # Signals to the process group are for the server. When the server ends, so does standard input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with (directory / "engine.lock").open("w") as lock:
        # The engine of a server that was killed may still be in its last step.
        fcntl.flock(lock, fcntl.LOCK_EX)
        text = os.environ.get(UPSTREAM_VARIABLE)
        upstream = Upstream(msgspec.json.decode(text, type=UpstreamOptions)) if text else None
        engine = Engine(Store(directory), upstream)
        while True:
            seconds = engine.round()
            ready, _, _ = select.select([sys.stdin], [], [], seconds)
            if ready and not os.read(sys.stdin.fileno(), 65536):
                return


if __name__ == "__main__":
    main(Path(sys.argv[1]))
