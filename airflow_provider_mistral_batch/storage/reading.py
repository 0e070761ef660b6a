"""Files opened for reading, in any storage: regular ones only, in bounded memory, with errors that name them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import IO, Any, cast

from airflow_provider_mistral_batch.api.regular_files import open_regular
from airflow_provider_mistral_batch.storage.paths import (
    ObjectPath,
    StoragePath,
    as_path,
    is_in_store,
    local_path,
)
from airflow_provider_mistral_batch.storage.trouble import naming

#: What is read at once from an object store. Their own default, 50 MB, is held in memory twice.
_BLOCK_BYTES = 8 << 20


@contextmanager
def reading(path: StoragePath | str, *, field: str = "", in_blocks: bool = True) -> Iterator[IO[Any]]:
    """
    Open a file for reading, and close it afterwards.

    :param path: The file.
    :param field: The parameter that names it, for messages.
    :param in_blocks: Whether each call to an object store reads a whole block: not for readers with their own buffers.
    :raises NotAFileError: If it is no regular file.
    :raises StorageError: If it cannot be read; also when a read in the block fails.
    """
    target = as_path(path)
    with naming(target, "read", field=field), closing(_opened(target, in_blocks=in_blocks)) as file:
        yield file


def read_small(path: StoragePath | str) -> bytes | None:
    """
    Read a small file with one call, as it is at this moment.

    :param path: The file.
    :return: Its content; None if there is no such file.
    :raises NotAFileError: If it is no regular file.
    :raises StorageError: If it cannot be read.
    """
    target = as_path(path)
    try:
        if is_in_store(target):
            with naming(target, "read"):
                return content_of(cast("ObjectPath", target))
        with reading(target) as file:
            return bytes(file.read())
    except (FileNotFoundError, NotADirectoryError):
        return None


def content_of(path: ObjectPath) -> bytes:
    """
    Read a file in an object store with one call. Errors are the file system's own.

    :param path: The file, small enough for the memory.
    """
    read = path.fs.cat_file
    # Several calls at once would need one more before them, for the size.
    return bytes(read(path.path, **known_arguments(read, max_concurrency=1)))


def known_arguments(function: Callable[..., Any], **arguments: Any) -> dict[str, Any]:
    """Give those arguments that a function takes: the file systems of object stores differ."""
    parameters = inspect.signature(function).parameters
    return {name: value for name, value in arguments.items() if name in parameters}


def _opened(path: StoragePath, *, in_blocks: bool) -> IO[Any]:
    if is_in_store(path):
        stored = cast("ObjectPath", path)
        how = {"block_size": _BLOCK_BYTES} if in_blocks else {"cache_type": "none"}
        # Not the path's own `open`: with that, Airflow would report each of our internal files as a dataset.
        return cast("IO[Any]", stored.fs.open(stored.path, "rb", **how))
    local = local_path(path)
    return path.open("rb") if local is None else open_regular(local)
