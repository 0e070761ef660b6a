"""Claim: a million requests are uploaded, and their results are split while they download, in constant memory."""

from __future__ import annotations

import json
import os
from pathlib import Path

from jsonl_measuring import compare
from jsonl_steps import CHUNK_BYTES, STORED, URL, client

from airflow_provider_mistral_batch.emulator import Emulator

#: Most bytes in a file, below the API's limit.
_MOST_BYTES = 400 * 10**6


def main() -> None:
    """Measure uploads and downloads beside plain copies of the same files; the server is a separate process."""
    with Emulator() as emulator:
        os.environ[URL] = emulator.url
        compare(
            "Transfer",
            [
                "copy requests",
                "upload requests",
                "copy results",
                "decode results",
                "download results",
                "download and split",
            ],
            limit="decode results",
            sdk="sdk output",
            targets={"download and split": 0.4},
            prepare=_store,
        )


def _store(directory: Path) -> None:
    """Upload the results to the server, in as few files as it accepts."""
    file_ids = []
    part = directory / "part.jsonl"
    with (directory / "results.jsonl").open("rb") as results:
        while chunk := results.read(CHUNK_BYTES):
            with part.open("wb") as file:
                while chunk and file.tell() < _MOST_BYTES:
                    file.write(chunk)
                    chunk = results.read(CHUNK_BYTES)
                file.write(chunk + results.readline())
            with client() as api:
                file_ids.append(api.upload_file(part).id)
    part.unlink()
    (directory / STORED).write_text(json.dumps(file_ids))


if __name__ == "__main__":
    main()
