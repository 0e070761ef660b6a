"""Files inside one folder, for a reader who does not trust its writer: regular ones, no links, and a bounded part."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, NamedTuple, cast

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.api.regular_files import open_inside
from airflow_provider_mistral_batch.storage.folders import forget_listings
from airflow_provider_mistral_batch.storage.paths import ObjectPath, StoragePath, local_path
from airflow_provider_mistral_batch.storage.reading import known_arguments
from airflow_provider_mistral_batch.storage.trouble import naming

#: What is read at once where a file is read in several places.
_BLOCK_BYTES = 1 << 18


class Beginning(NamedTuple):
    """
    The beginning of a file.

    :param size: Bytes of the whole file.
    """

    content: bytes
    size: int


class Inside:
    """
    A folder whose files are read by their names.

    On a local disk it is opened once: what comes into its place afterwards is not read.

    :param folder: The folder.
    """

    def __init__(self, folder: StoragePath) -> None:
        self.folder = folder
        self._local = local_path(folder)
        self._descriptor = -1
        if self._local is not None:
            with naming(folder, "read"):
                self._descriptor = os.open(self._local, os.O_RDONLY | os.O_DIRECTORY)

    def __enter__(self) -> Inside:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def beginning(self, name: str, most_bytes: int) -> Beginning:
        """
        Read the beginning of a file, with at most two calls to an object store.

        :param name: The file's name.
        :param most_bytes: Most bytes to read.
        :raises FileNotFoundError: When there is no such file.
        :raises NotAFileError: When it is a link, or another name of a file elsewhere, or no regular file.
        :raises StorageError: When it cannot be read.
        """
        path = self.folder / _plain(name)
        if self._local is not None:
            with self.opened(name) as file:
                return Beginning(file.read(most_bytes), os.fstat(file.fileno()).st_size)
        stored = cast("ObjectPath", path)
        with naming(path, "read"):
            forget_listings(path)
            size = int(stored.fs.info(stored.path).get("size") or 0)
            if size == 0:
                # Stores refuse a range of nothing.
                return Beginning(b"", 0)
            read = stored.fs.cat_file
            content = read(
                stored.path, start=0, end=min(size, most_bytes), **known_arguments(read, max_concurrency=1)
            )
            return Beginning(bytes(content), size)

    @contextmanager
    def opened(self, name: str) -> Iterator[IO[Any]]:
        """
        Open a file to read it in several places.

        :param name: The file's name.
        :raises FileNotFoundError: When there is no such file.
        :raises NotAFileError: When it is a link, or another name of a file elsewhere, or no regular file.
        :raises StorageError: When it cannot be read.
        """
        path = self.folder / _plain(name)
        with naming(path, "read"):
            if self._local is None:
                stored = cast("ObjectPath", path)
                opened = stored.fs.open(stored.path, "rb", block_size=_BLOCK_BYTES)
            else:
                opened = open_inside(self._descriptor, self._local / name)
            with opened as file:
                yield file


def _plain(name: str) -> str:
    if not name or "/" in name or "\\" in name or name in (".", ".."):
        raise InvalidInputError(f"{name!r:.100} is not the name of a file inside the folder")
    return name
