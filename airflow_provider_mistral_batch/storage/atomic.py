"""Files that appear whole or not at all, on the local disk and in object stores."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import cast

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.storage.paths import ObjectPath, StoragePath, as_path, local_path

# Stores in which an object appears when its upload is complete, and not before. Everywhere else a file is visible
# while it is being written, and needs a temporary name.
_COMMITTING_PROTOCOLS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "memory"})


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
        for spool in [*(spool for spool, _ in self._files), *self._scratch]:
            spool.unlink(missing_ok=True)

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
            local.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=f".{local.name}.", suffix=".part", dir=local.parent)
        os.close(handle)
        return Path(name)


def write_whole(path: StoragePath | str, content: bytes) -> None:
    """
    Write a small file that appears whole or not at all.

    :param path: Its path.
    :param content: Its content.
    """
    if getattr(path, "protocol", None) in _COMMITTING_PROTOCOLS:
        stored = cast("ObjectPath", path)
        stored.fs.pipe_file(stored.path, content)
        return
    with AtomicFiles() as files:
        files.spool(path).write_bytes(content)
        files.publish()


def check_writable(path: StoragePath | str, *, field: str) -> None:
    """
    Check before the work that a file can be written at a path, by writing and removing an empty one beside it.

    :param path: The path.
    :param field: How the error names its folder.
    :raises InvalidInputError: If it cannot be written, and no retry would help.
    """
    target = as_path(path)
    if target.is_dir():
        raise InvalidInputError(
            f"{field}={str(target.parent)!r} has a directory {target.name}, and the file needs that name: choose "
            "another one"
        )
    # Always the same name, so that the next check removes what a killed worker left.
    probe = target.parent / f".{target.name}.probe"
    try:
        local = local_path(target)
        if local is not None:
            local.parent.mkdir(parents=True, exist_ok=True)
        with probe.open("wb"):
            pass
    except Exception as error:
        if not _is_permanent(error):
            raise
        raise InvalidInputError(
            f"{field}={str(target.parent)!r} cannot be written ({error}): choose another one, or fix its permissions"
        ) from error
    # Some accounts may write but not delete: an empty object left behind does less harm than refusing them.
    with suppress(Exception):
        probe.unlink()


def _is_permanent(error: Exception) -> bool:
    """Tell whether writing will fail until somebody changes something. Other errors of object stores may pass."""
    return isinstance(
        error, (FileExistsError, FileNotFoundError, NotADirectoryError, PermissionError, ValueError)
    ) or (isinstance(error, OSError) and error.errno in (errno.EROFS, errno.ENAMETOOLONG))


def _publish(spool: Path, target: StoragePath) -> None:
    # Only their owner may read the files that mkstemp makes. Published files get the same permissions as any new file.
    spool.chmod(0o666 & ~_umask())
    local = local_path(target)
    if local is not None:
        spool.replace(local)
        return
    if not hasattr(target, "fs"):
        with spool.open("rb") as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
    else:
        _upload(spool, cast("ObjectPath", target))
    spool.unlink()


def _upload(spool: Path, target: ObjectPath) -> None:
    if target.protocol in _COMMITTING_PROTOCOLS:
        target.fs.put_file(str(spool), target.path)
        return
    part = target.parent / f".{target.name}.{uuid.uuid4().hex}.part"
    try:
        target.fs.put_file(str(spool), part.path)
        target.fs.mv(part.path, target.path)
    except BaseException:
        with suppress(Exception):
            target.fs.rm_file(part.path)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
