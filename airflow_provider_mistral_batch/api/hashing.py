"""The hash of a file's content, which names uploads and tells whether a file is the one that was uploaded."""

from __future__ import annotations

import hashlib
from typing import IO

_CHUNK_BYTES = 1 << 20


def sha256_of(file: IO[bytes], copy: IO[bytes] | None = None) -> tuple[str, int]:
    """
    Hash what is left of an open file, in constant memory.

    :param file: The file, opened for reading.
    :param copy: A file that gets the same bytes.
    :return: The SHA-256 in hex, and the number of bytes.
    """
    sha256, size = hashlib.sha256(), 0
    while chunk := file.read(_CHUNK_BYTES):
        sha256.update(chunk)
        if copy is not None:
            copy.write(chunk)
        size += len(chunk)
    return sha256.hexdigest(), size
