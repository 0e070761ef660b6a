"""Paths as users write them, and one interface for paths on the local disk and in object stores."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

from airflow_provider_mistral_batch.api.errors import InvalidInputError

if TYPE_CHECKING:
    from typing_extensions import Self

#: The connection in a URL, as Airflow writes it.
_CONNECTION = re.compile(r"(?<=://)[^/@]*@")


class StoragePath(Protocol):
    """
    What our code needs of a path; ``pathlib.Path`` and Airflow's ``ObjectStoragePath`` have all of it.

    A file is read from less: a ``zipfile.Path``, for example, can be opened but not removed.
    """

    @property
    def name(self) -> str: ...

    @property
    def parent(self) -> Self: ...

    def __truediv__(self, name: str, /) -> Self: ...

    def open(self, mode: str) -> IO[Any]: ...

    def exists(self) -> bool: ...

    def is_file(self) -> bool: ...

    def is_dir(self) -> bool: ...

    def iterdir(self) -> Iterator[Self]: ...

    def glob(self, pattern: str) -> Iterator[Self]: ...

    def unlink(self) -> None: ...


class ObjectPath(StoragePath, Protocol):
    """A path in an object store, with the fsspec file system behind it: Airflow's ``ObjectStoragePath``."""

    protocol: str
    path: str
    fs: Any


def storage_path(value: Any, *, field: str) -> StoragePath:
    """
    Read a path as a user writes it.

    :param value: A local path, a URL such as ``s3://conn@bucket/key``, or a path object.
    :param field: How the error names the value.
    :raises InvalidInputError: When it is empty or no path at all, or names a connection that does not exist.
    """
    if isinstance(value, str) and "://" in value:
        return _object_storage_path(value, field)
    if isinstance(value, str) and value.strip():
        return Path(value)
    if _can_be_opened(value):
        _check_connection(value, field)
        return cast("StoragePath", value)
    if isinstance(value, os.PathLike):
        return Path(value)
    raise InvalidInputError(
        f"{field}={value!r:.200} is not a path: pass a local path or a URL such as s3://bucket/key"
    )


def absolute_path(value: Any, *, field: str) -> StoragePath:
    """
    Read a path that every worker must understand alike.

    :param value: As in :func:`storage_path`.
    :param field: How the error names the value.
    :raises InvalidInputError: Also when it is a local path that is relative: each worker has its own current folder.
    """
    path = storage_path(value, field=field)
    if isinstance(path, Path) and (local := local_path(path)) is not None and not local.is_absolute():
        raise InvalidInputError(
            f"{field}={str(value)!r:.200} is a relative path, which each worker reads from its own current folder: "
            "pass an absolute path or a URL such as s3://bucket/key"
        )
    return path


def as_path(path: StoragePath | str) -> StoragePath:
    """
    Make a path object of a local path that is given as text. A path object is returned as it is.

    :param path: A local path or a path object.
    :raises InvalidInputError: When a string is a URL: only an ``ObjectStoragePath`` knows its connection.
    """
    if not isinstance(path, str):
        return path
    if "://" in path:
        raise InvalidInputError(f"{path} is a URL: pass it as an ObjectStoragePath")
    return Path(path)


def is_path(value: object) -> bool:
    """Tell whether a value is a path object: pathlib's, an ``ObjectStoragePath`` or another one of that kind."""
    return isinstance(value, os.PathLike) or _can_be_opened(value)


def _can_be_opened(value: object) -> bool:
    return hasattr(value, "open") and hasattr(value, "parent")


def local_path(path: StoragePath) -> Path | None:
    """
    Give the local path behind a path object; ``None`` if it is in an object store.

    :param path: The path object.
    """
    # Before Airflow 3.2, an ObjectStoragePath is a Path, too: its protocol decides.
    protocol = getattr(path, "protocol", None)
    if protocol is None:
        return path if isinstance(path, Path) else None
    return Path(cast("ObjectPath", path).path) if protocol in ("", "file", "local") else None


def without_connection(path: Any) -> str:
    """
    Write a path without the connection that reads it.

    :param path: A path as users write it, or a path object.
    """
    return _CONNECTION.sub("", str(path))


def is_in_store(path: object) -> bool:
    """Tell whether a path is in an object store, or another file system that is not the local disk."""
    return hasattr(path, "fs") and local_path(cast("StoragePath", path)) is None


def connection_of(path: object) -> Any:
    """Give the id of the connection that a path in an object store names; ``None`` if it names none."""
    # Before Airflow 3.2, it is among the file system's options.
    options = getattr(path, "storage_options", None) or {}
    return getattr(path, "conn_id", None) or options.get("conn_id")


def _object_storage_path(url: str, field: str) -> StoragePath:
    from airflow.sdk import ObjectStoragePath

    # First of all: making the path would try the connection.
    _check_connection_id(url.partition("://")[2].partition("/")[0].rpartition("@")[0], url, field)
    try:
        path = ObjectStoragePath(url)
        # The file system is made on first use. If its package is missing, fail here, where the field is known.
        path.fs  # noqa: B018
    except (ImportError, ValueError) as error:
        raise InvalidInputError(
            f"{field}={url!r:.200} cannot be opened: {error}. Install the Airflow provider of this storage with its "
            "file system, such as apache-airflow-providers-amazon[s3fs] for s3://"
        ) from None
    return cast("StoragePath", path)


def _check_connection(path: Any, field: str) -> None:
    _check_connection_id(connection_of(path), path, field)


def _check_connection_id(conn_id: Any, path: object, field: str) -> None:
    """
    Check that the connection in a path exists.

    Airflow's file systems go on without one, as nobody, to the public cloud.
    """
    if not isinstance(conn_id, str) or not conn_id:
        return
    from airflow_provider_mistral_batch.compat import AirflowNotFoundException, BaseHook

    try:
        BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise InvalidInputError(
            f"{field}={str(path)!r:.200} names connection {conn_id!r:.100}, which does not exist: correct the part "
            "before the @, or add the connection in Airflow"
        ) from None
