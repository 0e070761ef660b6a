"""Opens local files that are files: reading a pipe, a device or a socket may never end."""

from __future__ import annotations

import os
import stat
from functools import partial
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from airflow_provider_mistral_batch.api.errors import InvalidInputError

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a symbolic link",
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


def open_inside(folder: int, path: Path) -> BinaryIO:
    """
    Open a regular file by its name in a folder whose writer is not trusted: no link, and no file with a second name.

    :param folder: The folder's descriptor.
    :param path: The file's path, of which only the name is opened.
    :raises NotAFileError: If it is anything else. Nothing was opened.
    """
    opener = partial(_open_regular, path=path, folder=folder)
    return cast("BinaryIO", open(path.name, "rb", opener=opener))


def check_opened(file: IO[Any]) -> None:
    """
    Check that an open file is a regular one, or none of the operating system's at all.

    :param file: The open file.
    :raises NotAFileError: If it is a pipe, a device or a socket.
    """
    try:
        found = os.fstat(file.fileno())
    except (AttributeError, OSError, ValueError):
        return
    _check(str(getattr(file, "name", "the open file")), found)


def check_regular(path: str | os.PathLike[str], *, may_be_missing: bool = False) -> None:
    """
    Check that a path names a regular file; links to one count.

    :param path: The local path.
    :param may_be_missing: Whether there may be nothing at the path.
    :raises NotAFileError: If it is anything else.
    """
    try:
        _check(path, Path(path).stat())
    except FileNotFoundError:
        if not may_be_missing:
            raise


def _open_regular(name: str, flags: int, *, path: Path | None = None, folder: int | None = None) -> int:
    is_strict, shown = folder is not None, path or name
    # Before it is opened, for to open a device may do something; and after it, for it may have been replaced.
    before = os.stat(name, dir_fd=folder, follow_symlinks=not is_strict)
    _check(shown, before, is_strict=is_strict)
    flags |= os.O_NONBLOCK | (os.O_NOFOLLOW if is_strict else 0)
    descriptor = os.open(name, flags, dir_fd=folder)
    try:
        _check(shown, os.fstat(descriptor), is_strict=is_strict)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check(path: str | os.PathLike[str], found: os.stat_result, *, is_strict: bool = False) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise NotAFileError(path, _KINDS.get(stat.S_IFMT(found.st_mode), "something else"))
    if is_strict and found.st_nlink > 1:
        raise NotAFileError(path, "a file that has another name, too")
