"""Opens local files that are files: reading a pipe, a device or a socket may never end."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from airflow_provider_mistral_batch.api.errors import InvalidInputError

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotAFileError(InvalidInputError):
    """
    A path is there, but what it names is no regular file.

    :param path: The path.
    :param kind: What it is, such as ``a named pipe``.
    """

    def __init__(self, path: str | os.PathLike[str], kind: str) -> None:
        self.path = Path(path)
        self.kind = kind
        super().__init__(f"{path} is {kind}, not a regular file: name a file")

    def __reduce__(self) -> tuple[type, tuple[Path, str]]:
        return type(self), (self.path, self.kind)


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """
    Open a regular file for reading; links to one count.

    :param path: The local path.
    :raises NotAFileError: If it is anything else. Nothing was opened.
    """
    return cast("BinaryIO", open(path, "rb", opener=_open_regular))


def check_opened(file: IO[Any]) -> None:
    """
    Check that an open file is a regular one, or none of the operating system's at all.

    :param file: The open file.
    :raises NotAFileError: If it is a pipe, a device or a socket.
    """
    try:
        mode = os.fstat(file.fileno()).st_mode
    except (AttributeError, OSError, ValueError):
        return
    _check(str(getattr(file, "name", "the open file")), mode)


def check_regular(path: str | os.PathLike[str], *, may_be_missing: bool = False) -> None:
    """
    Check that a path names a regular file; links to one count.

    :param path: The local path.
    :param may_be_missing: Whether there may be nothing at the path.
    :raises NotAFileError: If it is anything else.
    """
    try:
        _check(path, Path(path).stat().st_mode)
    except FileNotFoundError:
        if not may_be_missing:
            raise


def _open_regular(path: str, flags: int) -> int:
    # Before it is opened, for to open a device may do something; and after it, for it may have been replaced.
    _check(path, os.stat(path).st_mode)  # noqa: PTH116
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    try:
        _check(path, os.fstat(descriptor).st_mode)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check(path: str | os.PathLike[str], mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise NotAFileError(path, _KINDS.get(stat.S_IFMT(mode), "something else"))
