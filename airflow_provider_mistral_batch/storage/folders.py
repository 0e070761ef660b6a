"""Listing, matching, moving and removing files and folders, also in object stores, which have no real folders."""

from __future__ import annotations

import glob
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.storage.paths import ObjectPath, StoragePath, local_path

_GLOB_CHARACTERS = "*?["


def matching_files(path: StoragePath) -> Sequence[StoragePath]:
    """
    List the files that a path or glob stands for, sorted.

    :param path: A path object; a name with ``*``, ``?`` or ``[`` is a glob unless a file has exactly that name.
    :raises InvalidInputError: When nothing matches.
    """
    text = str(path)
    if not any(character in text for character in _GLOB_CHARACTERS) or path.exists():
        return [path]
    found: list[Any]
    if isinstance(path, Path) and not hasattr(path, "protocol"):
        found = [Path(name) for name in glob.glob(text, recursive=True)]  # noqa: PTH207 - patterns may be absolute
    else:
        base, pattern = path.parent, str(path.name)
        while any(character in str(base) for character in _GLOB_CHARACTERS):
            base, pattern = base.parent, f"{base.name}/{pattern}"
        found = list(base.glob(pattern))
    files = sorted((file for file in found if file.is_file()), key=str)
    if not files:
        raise InvalidInputError(f"{text}: no file matches; check the path")
    return files


def entries(folder: StoragePath) -> list[StoragePath]:
    """
    List what is in a folder at this moment; nothing if there is no such folder.

    :param folder: The folder.
    """
    filesystem = getattr(folder, "fs", None)
    if filesystem is not None:
        # Each process caches listings of object stores, and another one may have written since.
        filesystem.invalidate_cache()
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def move(path: StoragePath, target: StoragePath) -> None:
    """
    Move a file within its store. A file that is at the new path is replaced.

    :param path: The file.
    :param target: Its new path.
    """
    local, local_target = local_path(path), local_path(target)
    if local is not None and local_target is not None:
        local.replace(local_target)
    else:
        source = cast("ObjectPath", path)
        source.fs.mv(source.path, cast("ObjectPath", target).path)


def remove(path: StoragePath) -> None:
    """
    Remove a file, if it exists.

    :param path: The file.
    """
    with suppress(FileNotFoundError):
        path.unlink()


def remove_folder(folder: StoragePath) -> None:
    """
    Remove a folder with everything in it, if it exists.

    :param folder: The folder.
    """
    if (local := local_path(folder)) is not None:
        shutil.rmtree(local, ignore_errors=True)
    elif folder.exists():
        prefix = cast("ObjectPath", folder)
        prefix.fs.rm(prefix.path, recursive=True)


def remove_folder_if_empty(folder: StoragePath) -> None:
    """
    Remove a folder if nothing is in it.

    In object stores an empty folder does not exist, and universal_pathlib's ``rmdir`` would remove everything below it.

    :param folder: The folder.
    """
    if (local := local_path(folder)) is not None:
        with suppress(OSError):
            local.rmdir()
