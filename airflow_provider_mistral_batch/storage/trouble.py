"""Errors of disks and object stores that say which path it is, through which connection, and what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow_provider_mistral_batch.api.errors import (
    InvalidInputError,
    MistralBatchError,
    StorageError,
    StoragePermissionError,
)
from airflow_provider_mistral_batch.api.texts import excerpt
from airflow_provider_mistral_batch.storage.paths import connection_of, is_in_store

#: Most characters of what a store says.
_SAID = 300

#: No retry mends these: somebody has to change the path, its permissions or the connection.
_PERMANENT_NUMBERS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP})
_FULL_NUMBERS = frozenset({errno.ENOSPC, errno.EDQUOT})
#: Of the clients of object stores, which are not installed here: known by name.
_PERMANENT_NAMES = frozenset(
    {
        "ClientAuthenticationError",
        "DefaultCredentialsError",
        "NoCredentialsError",
        "NoSuchBucket",
        "PartialCredentialsError",
        "ProfileNotFound",
        "ResourceNotFoundError",
    }
)

_PERMISSIONS = {
    "read": "Get and List",
    "written": "Put, Get, List and Delete",
}


@contextmanager
def naming(path: Any, verb: str, *, field: str = "", for_good: bool = False) -> Iterator[None]:
    """
    Let the errors of a disk or an object store name the path, the connection and the remedy.

    ``FileNotFoundError`` and our own errors stay as they are.

    :param path: A path object or text.
    :param verb: What is being done to the path: ``read`` or ``written``.
    :param field: The parameter that the path comes from.
    :param for_good: Whether an error that no retry mends is to fail the task for good. Not while paid results land.
    :raises StorageError: For errors that a retry may mend.
    :raises InvalidInputError: For others, if ``for_good``.
    """
    named = f"{field}={str(path)!r:.300}" if field else f"{path!s:.300}"
    in_store = is_in_store(path)
    try:
        yield
    except StorageError as error:
        # Of a file in a folder that the user named.
        failure = type(error)(named, error.failing, refused=error.refused) if field else error
    except (MistralBatchError, FileNotFoundError):
        raise
    except Exception as error:
        if not in_store and not isinstance(error, OSError):
            raise
        kind = StoragePermissionError if isinstance(error, PermissionError) else StorageError
        failure = kind(named, _failing(path, verb, error), refused=is_permanent(error))
        # Not chained for a store: what their clients raise is a hundred lines long, and says no more.
        failure.__cause__ = None if in_store else error
    else:
        return
    if failure.refused and for_good:
        raise InvalidInputError(str(failure)) from failure.__cause__
    raise failure from failure.__cause__


@contextmanager
def naming_disk(folder: str | os.PathLike[str]) -> Iterator[None]:
    """
    Let the error of a full disk name the folder, for errors of writing do not say where.

    :param folder: A local folder that all files of the block are in.
    :raises StorageError: When its disk is full.
    """
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        if is_full(error):
            raise full_disk(folder, error) from error
        raise


def full_disk(folder: str | os.PathLike[str], error: BaseException) -> StorageError:
    """
    Make the error of a full disk, with its folder.

    :param folder: A local folder on that disk.
    :param error: What was raised.
    """
    return StorageError(
        str(folder),
        f"is on a full disk ({_said(error)}): free space there; if it is the scratch disk, TMPDIR can name a folder on "
        "another one",
    )


def is_full(error: BaseException) -> bool:
    """
    Tell whether an error says that a disk, or a quota on it, is full.

    :param error: The error.
    """
    # SQLite says it in words only.
    return getattr(error, "errno", None) in _FULL_NUMBERS or "database or disk is full" in str(error)


def is_permanent(error: BaseException) -> bool:
    """
    Tell whether the same call fails until somebody changes something. Other errors of object stores may pass.

    :param error: The error.
    """
    return (
        isinstance(
            error, (FileExistsError, FileNotFoundError, NotADirectoryError, PermissionError, ValueError)
        )
        or getattr(error, "errno", None) in _PERMANENT_NUMBERS
        or type(error).__name__ in _PERMANENT_NAMES
    )


def _failing(path: Any, verb: str, error: Exception) -> str:
    if not is_in_store(path):
        remedy = "free space there" if is_full(error) else "choose another one, or fix its permissions"
        return f"cannot be {verb} ({_said(error)}): {remedy}"
    connection = connection_of(path)
    with_what = f"with connection {connection!r}" if connection else "without a connection"
    if not is_permanent(error):
        remedy = "check that the store can be reached and answers; a retry may help"
    elif connection:
        remedy = f"check the fields of that connection, and allow its account {_PERMISSIONS[verb]} there"
    else:
        remedy = (
            f"name a connection, as in s3://my_conn@bucket/key, whose account may {_PERMISSIONS[verb]} there"
        )
    return f"cannot be {verb} {with_what} ({type(error).__name__}: {_said(error)}): {remedy}"


def _said(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return excerpt(str(text), _SAID)
