"""Many files, one after the other: small ones in object stores are read before their turn."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import IO, Any, cast

from airflow_provider_mistral_batch.api.regular_files import NotAFileError
from airflow_provider_mistral_batch.storage.many import side_by_side
from airflow_provider_mistral_batch.storage.paths import ObjectPath, StoragePath, is_in_store
from airflow_provider_mistral_batch.storage.reading import content_of
from airflow_provider_mistral_batch.storage.trouble import naming

#: Larger files are read at their turn: to send them takes longer than to ask for them. No more than twice ``AT_ONCE``
#: files are ahead, so that they have at most 32 MB.
SMALL_BYTES = 2 << 20


class FileAhead:
    """
    A file that was read before its turn, in place of its path: it is opened as often as needed, and asks nothing.

    :param path: The path that it stands for.
    :param content: Its content, or what reading it raised.
    """

    def __init__(self, path: StoragePath, content: bytes | Exception) -> None:
        self._path = path
        self._content = content

    def __str__(self) -> str:
        return str(self._path)

    @property
    def name(self) -> str:
        """The file's name."""
        return self._path.name

    @property
    def parent(self) -> StoragePath:
        """Its folder."""
        return self._path.parent

    def open(self, mode: str) -> IO[Any]:
        """
        Open the content for reading.

        :param mode: ``rb``; files ahead are only read.
        """
        if isinstance(self._content, Exception):
            raise self._content
        return io.BytesIO(self._content)


def read_ahead(files: Iterable[StoragePath]) -> Iterator[StoragePath]:
    """
    Give files in their order. Small ones in object stores are read before their turn, several at once.

    What goes wrong with a file is raised when it is opened.

    :param files: The files; they are asked for when they are needed, and a few before.
    """
    for can_be_ahead, some in groupby(files, _takes_calls_at_once):
        if can_be_ahead:
            yield from side_by_side(_read_if_small, some)
        else:
            yield from some


def whole_if_small(file: StoragePath) -> StoragePath:
    """
    Read a small file in an object store at once, if it is to be opened more than once.

    :param file: The file.
    """
    return _read_if_small(file) if _takes_calls_at_once(file) else file


def _takes_calls_at_once(path: StoragePath) -> bool:
    """Tell whether a path is in a store whose file system is made for several calls at once: FTP's, say, is not."""
    return is_in_store(path) and getattr(cast("ObjectPath", path).fs, "async_impl", False) is True


def _read_if_small(path: StoragePath) -> StoragePath:
    content: bytes | Exception
    try:
        with naming(path, "read"):
            stored = cast("ObjectPath", path)
            # After a listing, the file system knows this without a call.
            about = stored.fs.info(stored.path)
            if about["type"] == "directory":
                raise NotAFileError(str(path), "a directory")
            if about["size"] is None or about["size"] > SMALL_BYTES:
                return path
            content = content_of(stored)
    except Exception as error:
        content = error
    return cast("StoragePath", FileAhead(path, content))
