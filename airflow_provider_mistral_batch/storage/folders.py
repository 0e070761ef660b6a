"""Listing, matching, moving and removing files and folders, also in object stores, which have no real folders."""

from __future__ import annotations

import glob
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from stat import S_ISDIR
from typing import Any, cast

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.storage.atomic import commits_whole
from airflow_provider_mistral_batch.storage.paths import (
    ObjectPath,
    StoragePath,
    connection_of,
    is_in_store,
    local_path,
)
from airflow_provider_mistral_batch.storage.trouble import naming

log = logging.getLogger(__name__)

_GLOB_CHARACTERS = "*?["


def matching_files(path: StoragePath) -> Sequence[StoragePath]:
    """
    List the files that a path or glob stands for, sorted.

    :param path: A path object; a name with ``*``, ``?`` or ``[`` is a glob unless a file has exactly that name.
    :raises InvalidInputError: When nothing matches, or the folder may not be listed.
    """
    with naming(path, "read", field="path", for_good=True):
        return _matching_files(path)


def _matching_files(path: StoragePath) -> Sequence[StoragePath]:
    return _globbed(path) if _has_glob(path) and not path.exists() else [path]


def _has_glob(path: StoragePath) -> bool:
    return any(character in str(path) for character in _GLOB_CHARACTERS)


def _globbed(path: StoragePath) -> Sequence[StoragePath]:
    found: list[Any]
    if isinstance(path, Path) and not hasattr(path, "protocol"):
        found = [Path(name) for name in glob.glob(str(path), recursive=True)]  # noqa: PTH207 - may be absolute
    else:
        base, pattern = path.parent, str(path.name)
        while any(character in str(base) for character in _GLOB_CHARACTERS):
            base, pattern = base.parent, f"{base.name}/{pattern}"
        forget_listings(base)
        found = list(base.glob(pattern))
    files = sorted((file for file in found if file.is_file()), key=str)
    if not files:
        raise InvalidInputError(f"{path}: no file matches; check the path")
    return files


def sized_files(path: StoragePath) -> list[tuple[StoragePath, int]]:
    """
    List the files that a path, a glob or a folder stands for, with their bytes, sorted. Of a folder these are all files
    in it and below it. Hidden ones are left out, unless the path names one itself.

    :param path: A path object.
    :raises InvalidInputError: When there is nothing, or a folder may not be listed.
    """
    with naming(path, "read", field="path", for_good=True):
        forget_listings(path)
        try:
            kind, size = _kind_and_size(path)
        except (FileNotFoundError, NotADirectoryError):
            kind, size = "", 0
        if kind == "directory":
            found = [(path / name, size) for name, size in _below(path) if not _is_hidden(name)]
            return sorted(found, key=lambda file: str(file[0]))
        if kind:
            return [(path, size)]
        if not _has_glob(path):
            raise InvalidInputError(
                f"path={str(path)!r:.300}: there is no such file or folder; check the path"
            )
        return [(file, _kind_and_size(file)[1]) for file in _globbed(path) if not _is_hidden(file.name)]


def _kind_and_size(path: StoragePath) -> tuple[str, int]:
    """Ask once what a path is, ``file`` or ``directory``, and how many bytes it has."""
    if is_in_store(path):
        stored = cast("ObjectPath", path)
        about = stored.fs.info(stored.path)
        return about["type"], about["size"]
    status = cast("Any", path).stat()
    return "directory" if S_ISDIR(status.st_mode) else "file", status.st_size


def _below(folder: StoragePath) -> Iterator[tuple[str, int]]:
    """Name the files below a folder, relative to it, with their bytes."""
    if (local := local_path(folder)) is not None:
        for parent, _, names in os.walk(local, onerror=_raise):
            for name in names:
                file = Path(parent) / name
                if file.is_file():
                    yield str(file.relative_to(local)), file.stat().st_size
        return
    forget_listings(folder)
    prefix = cast("ObjectPath", folder)
    start = len(prefix.path.rstrip("/")) + 1
    # One listing, where asking for each file would be a call each.
    for name, about in prefix.fs.find(prefix.path, detail=True).items():
        if about["type"] == "file" and not name.endswith("/"):
            yield name[start:], about["size"]


def _is_hidden(name: str) -> bool:
    return any(step.startswith(".") for step in name.split("/"))


def _raise(error: OSError) -> None:
    raise error


def entries(folder: StoragePath) -> list[StoragePath]:
    """
    List what is in a folder at this moment; nothing if there is no such folder.

    :param folder: The folder.
    """
    forget_listings(folder)
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    finally:
        forget_listings(folder)


def refuse_link(folder: StoragePath) -> None:
    """
    Refuse a local folder that is a link: what is written to it would land elsewhere.

    :param folder: A folder that only we make.
    :raises InvalidInputError: If it is a link.
    """
    if (local := local_path(folder)) is not None and local.is_symlink():
        raise InvalidInputError(
            f"{local} is a symbolic link, and files of a batch would land behind it: remove it"
        )


def give_name(path: StoragePath, target: StoragePath) -> None:
    """
    Give a file its final name within its store. A file that has that name is replaced.

    :param path: The file. In stores that can only copy, it stays until its folder is removed.
    :param target: Its new path.
    """
    local, local_target = local_path(path), local_path(target)
    if local is not None and local_target is not None:
        local.replace(local_target)
        return
    source = cast("ObjectPath", path)
    give = source.fs.cp_file if commits_whole(path) else source.fs.mv
    give(source.path, cast("ObjectPath", target).path)


def remove(path: StoragePath) -> None:
    """
    Remove a file, if it exists. If the account may not, empty it.

    :param path: The file.
    """
    try:
        if is_in_store(path):
            stored = cast("ObjectPath", path)
            stored.fs.rm_file(stored.path)
        else:
            path.unlink()
    except FileNotFoundError:
        pass
    except PermissionError as error:
        if not is_in_store(path):
            raise
        _empty(path, [cast("ObjectPath", path).path], error)


def remove_folder(folder: StoragePath) -> None:
    """
    Remove a folder with everything in it, if it exists. If the account may not, empty its files, and say so.

    :param folder: The folder.
    """
    if (local := local_path(folder)) is not None:
        shutil.rmtree(local, ignore_errors=True)
        return
    prefix = cast("ObjectPath", folder)
    refusal: Exception | None = None
    try:
        prefix.fs.rm(prefix.path, recursive=True)
    except FileNotFoundError:
        return
    except PermissionError as error:
        refusal = error
    # S3's file system does not tell of objects that could not be removed.
    if not entries(folder):
        return
    # What is left may also be folders: some stores keep them when they are empty.
    found = prefix.fs.find(prefix.path, detail=True)
    if files := [name for name, about in found.items() if about["type"] == "file"]:
        _empty(folder, files, refusal)


def _empty(path: StoragePath, files: Sequence[str], refusal: Exception | None) -> None:
    """Overwrite files that cannot be removed, so that no hidden copy is found instead of the results."""
    store = cast("ObjectPath", path).fs
    for file in files:
        store.pipe_file(file, b"")
    conn_id = connection_of(path)
    log.warning(
        "%s may not be removed%s%s: %d empty file(s) stay there. Allow Delete there to the account, and remove them.",
        path,
        f" with connection {conn_id!r}" if conn_id else "",
        f" ({refusal})" if refusal is not None and str(refusal) else "",
        len(files),
    )


def forget_listings(folder: StoragePath) -> None:
    """
    Look anew at what is in an object store: each process caches listings, and another one may have written since.

    :param folder: A path in the store.
    """
    filesystem = getattr(folder, "fs", None)
    if filesystem is not None:
        filesystem.invalidate_cache()


def remove_folder_if_empty(folder: StoragePath) -> None:
    """
    Remove a folder if nothing is in it.

    In object stores an empty folder does not exist, and universal_pathlib's ``rmdir`` would remove everything below it.

    :param folder: The folder.
    """
    if (local := local_path(folder)) is not None:
        with suppress(OSError):
            local.rmdir()
