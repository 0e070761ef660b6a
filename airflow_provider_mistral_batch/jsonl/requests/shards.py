"""Upload-ready request files of bounded size, each with its content hash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO


@dataclass(frozen=True)
class Shard:
    """
    One request file, ready to upload.

    :param path: Where it is, on the local disk.
    :param request_count: Rows in it.
    :param size: Bytes in it.
    :param sha256: Hexadecimal SHA-256 of its content.
    :param job: Number of the batch job that it belongs to, from 0. The files of one job hold at most as many requests
        as a job may have.
    """

    path: Path
    request_count: int
    size: int
    sha256: str
    job: int


class ShardWriter:
    """
    Writes rows to files, and begins the next one where a limit is reached.

    :param directory: Where the files go; made if it is not there.
    :param max_shard_bytes: Most bytes in a file.
    :param max_job_requests: Most rows in the files of one job.
    """

    def __init__(self, directory: Path, *, max_shard_bytes: int, max_job_requests: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._max_shard_bytes = max_shard_bytes
        self._max_job_requests = max_job_requests
        self._paths: list[Path] = []
        self._shards: list[Shard] = []
        self._file: BinaryIO | None = None
        self._sha256 = hashlib.sha256()
        self._size = 0
        self._rows = 0
        self._job = 0
        self._job_rows = 0

    def write(self, data: bytes, rows: int) -> None:
        """
        Add rows.

        :param data: The rows, joined by newlines. A row that has more than ``max_shard_bytes`` with its newline gets a
            file of its own.
        :param rows: The number of rows.
        """
        if self._fits(data, rows):
            self._append(data, rows)
            return
        for line in data.split(b"\n"):
            if self._job_rows == self._max_job_requests:
                self._end_shard()
                self._job += 1
                self._job_rows = 0
            elif not self._fits(line, 1):
                self._end_shard()
            self._append(line, 1)

    def finish(self) -> tuple[Shard, ...]:
        """Close the last file, and give all of them."""
        self._end_shard()
        return tuple(self._shards)

    def discard(self) -> None:
        """Remove every file that was written."""
        if self._file is not None:
            self._file.close()
            self._file = None
        for path in self._paths:
            path.unlink(missing_ok=True)

    def _fits(self, data: bytes, rows: int) -> bool:
        return (
            self._size + len(data) < self._max_shard_bytes and self._job_rows + rows <= self._max_job_requests
        )

    def _append(self, data: bytes, rows: int) -> None:
        if self._file is None:
            self._paths.append(self._directory / f"requests-{len(self._paths):05d}.jsonl")
            # A new file instead of a truncated one: ext4 flushes truncated files to the disk when they are closed.
            self._paths[-1].unlink(missing_ok=True)
            self._file = self._paths[-1].open("xb")
        data += b"\n"
        self._file.write(data)
        self._sha256.update(data)
        self._size += len(data)
        self._rows += rows
        self._job_rows += rows

    def _end_shard(self) -> None:
        if self._file is None:
            return
        file, self._file = self._file, None
        file.close()
        self._shards.append(
            Shard(self._paths[-1], self._rows, self._size, self._sha256.hexdigest(), self._job)
        )
        self._sha256 = hashlib.sha256()
        self._size = self._rows = 0
