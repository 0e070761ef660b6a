"""Files that appear whole or not at all, on the local disk and in object stores."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

from airflow_provider_mistral_batch.api.errors import StorageError
from airflow_provider_mistral_batch.api.regular_files import check_regular
from airflow_provider_mistral_batch.storage.paths import (
    ObjectPath,
    StoragePath,
    as_path,
    is_in_store,
    local_path,
)
from airflow_provider_mistral_batch.storage.reading import known_arguments
from airflow_provider_mistral_batch.storage.trouble import full_disk, is_full, naming

# Stores that commit whole. Everywhere else a file is visible while it is being written, and needs a temporary name.
_COMMITTING_PROTOCOLS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "memory"})


#: Uploads of large files go in parts, several at once. All of these are in memory.
_PART_BYTES = 8 << 20
_PARTS_AT_ONCE = 4
#: S3's limit. Larger files get larger parts.
_MAX_PARTS = 10_000


class AtomicFiles:
    """
    Files that are published together.

    Each is written to a local file first: beside its final path if that is local, else in the system's temporary
    directory. :meth:`publish` then renames or uploads them. Leaving the ``with`` block without publishing removes
    everything. fsspec's own writers do not serve here: when they are closed they commit what they have, even after an
    error.
    """

    def __init__(self) -> None:
        self._files: list[tuple[Path, StoragePath]] = []
        self._scratch: list[Path] = []

    def __enter__(self) -> AtomicFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        spools = [*(spool for spool, _ in self._files), *self._scratch]
        for spool in spools:
            spool.unlink(missing_ok=True)
        # Whatever was written meanwhile is on the disk of the spools.
        if spools and error is not None and is_full(error) and not isinstance(error, StorageError):
            raise full_disk(spools[0].parent, error) from error

    def spool(self, path: StoragePath | str) -> Path:
        """
        Make the local file that :meth:`publish` will turn into ``path``.

        :param path: The final path.
        :return: The local file, to be written.
        """
        target = as_path(path)
        spool = self._new_file(target)
        self._files.append((spool, target))
        return spool

    def take(self, file: Path, path: StoragePath | str) -> None:
        """
        Take a local file that is written already, and is on any disk: :meth:`publish` will turn it into ``path``.

        :param file: The file; it is gone afterwards.
        :param path: The final path.
        """
        spool = self.spool(path)
        try:
            file.replace(spool)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            with file.open("rb") as source, open_spool(spool) as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
            file.unlink()

    def scratch(self, path: StoragePath | str) -> Path:
        """
        Make a local file that is not published but removed at the end.

        :param path: A final path: the file is on the same disk as its spool, so that it can be renamed to that.
        """
        scratch = self._new_file(as_path(path))
        self._scratch.append(scratch)
        return scratch

    def publish(self) -> None:
        """Make all files appear at their final paths. If one cannot, none does."""
        done: list[StoragePath] = []
        try:
            for spool, target in self._files:
                _publish(spool, target)
                done.append(target)
        except BaseException:
            for target in done:
                with suppress(Exception):
                    target.unlink()
            raise
        self._files = []

    def _new_file(self, target: StoragePath) -> Path:
        local = local_path(target)
        if local is None:
            handle, name = tempfile.mkstemp(prefix="mistral-batch-", suffix=".part")
        else:
            with naming(local.parent, "written"):
                local.parent.mkdir(parents=True, exist_ok=True)
                handle, name = tempfile.mkstemp(prefix=f".{local.name}.", suffix=".part", dir=local.parent)
        os.close(handle)
        return Path(name)


def write_whole(path: StoragePath | str, content: bytes) -> None:
    """
    Write a small file that appears whole or not at all.

    :param path: Its path.
    :param content: Its content.
    :raises StorageError: If it cannot be written.
    """
    target = as_path(path)
    if commits_whole(target):
        stored = cast("ObjectPath", target)
        with naming(target, "written"):
            stored.fs.pipe_file(stored.path, content)
        return
    with AtomicFiles() as files:
        with open_spool(files.spool(target)) as spool:
            spool.write(content)
        files.publish()


def commits_whole(path: StoragePath) -> bool:
    """
    Tell whether a file appears in its store when its upload is complete, and not before.

    :param path: A path in the store.
    """
    return is_in_store(path) and cast("ObjectPath", path).protocol in _COMMITTING_PROTOCOLS


def open_spool(path: Path) -> BinaryIO:
    """
    Open a file of :class:`AtomicFiles` for writing, but never what somebody has put in its place.

    :param path: The local file.
    :raises OSError: If it is a link, or gone.
    """
    return cast("BinaryIO", open(path, "wb", opener=_open_no_link))


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags & ~os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK)


def check_writable(folder: StoragePath, names: Iterable[str]) -> None:
    """
    Check before the work that files can be written to a local folder, by making and removing an empty one.

    In an object store, the first file that is written shows it.

    :param folder: The folder; made if it is not there.
    :param names: Names that files will get there.
    :raises NotAFileError: If something that is no file has one of the names.
    :raises OSError: If the folder cannot be made or written.
    """
    if (local := local_path(folder)) is None:
        return
    local.mkdir(parents=True, exist_ok=True)
    for name in names:
        check_regular(local / name, may_be_missing=True)
    # A new name each time, so that the probe is never a file or a link of somebody else's.
    probe = local / f".{uuid.uuid4().hex}.probe"
    with probe.open("xb"):
        pass
    probe.unlink(missing_ok=True)


def _publish(spool: Path, target: StoragePath) -> None:
    local = local_path(target)
    if local is not None:
        # Only their owner may read the files that mkstemp makes. Published files get the permissions of any new file.
        with open(spool, "rb", opener=_open_no_link) as file:
            os.fchmod(file.fileno(), 0o666 & ~_umask())
        spool.replace(local)
        return
    if not hasattr(target, "fs"):
        with spool.open("rb") as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
    else:
        with naming(target, "written"):
            _upload(spool, cast("ObjectPath", target))
    spool.unlink()


def _upload(spool: Path, target: ObjectPath) -> None:
    store = target.fs
    bounds = _bounds(store, spool.stat().st_size)
    if commits_whole(target):
        store.put_file(str(spool), target.path, **bounds)
        return
    part = target.parent / f".{target.name}.{uuid.uuid4().hex}.part"
    try:
        store.put_file(str(spool), part.path, **bounds)
        store.mv(part.path, target.path)
    except BaseException:
        with suppress(Exception):
            store.rm_file(part.path)
        raise


def _bounds(store: Any, size: int) -> dict[str, int]:
    """Give the arguments that bound an upload's memory, as far as the store's file system knows them."""
    # A multiple of 256 KiB, as Google wants it.
    pieces = max(1, -(-size // (_MAX_PARTS * _PART_BYTES)))
    return known_arguments(store.put_file, chunksize=pieces * _PART_BYTES, max_concurrency=_PARTS_AT_ONCE)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
