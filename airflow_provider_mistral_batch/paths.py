"""Where users say files are: local paths and object storage, as one interface."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_mistral_batch.api.errors import InvalidInputError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath


def storage_path(value: Any, *, field: str) -> Path | ObjectStoragePath:
    """
    Read a path as a user writes it.

    :param value: A local path, a URL such as ``s3://conn@bucket/key``, or a path object.
    :param field: How the error names the value.
    :raises InvalidInputError: When it is empty or no path at all.
    """
    if isinstance(value, str) and "://" in value:
        return _object_storage_path(value, field)
    if isinstance(value, str) and value.strip():
        return Path(value)
    if hasattr(value, "open") and hasattr(value, "parent"):
        path: Path | ObjectStoragePath = value
        return path
    if isinstance(value, os.PathLike):
        return Path(value)
    raise InvalidInputError(
        f"{field}={value!r:.200} is not a path: pass a local path or a URL such as s3://bucket/key"
    )


def _object_storage_path(url: str, field: str) -> ObjectStoragePath:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    try:
        path = ObjectStoragePath(url)
        # Made with the first use; a missing one is better told here.
        path.fs  # noqa: B018
    except (ImportError, ValueError) as error:
        raise InvalidInputError(
            f"{field}={url!r:.200} cannot be opened: {error}. Install the Airflow provider of this storage with its "
            "file system, such as apache-airflow-providers-amazon[s3fs] for s3://"
        ) from None
    return path
