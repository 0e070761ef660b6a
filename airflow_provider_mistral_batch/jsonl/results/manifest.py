"""The manifest: what a landed batch is, in one JSON file beside its results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.storage.atomic import write_whole
from airflow_provider_mistral_batch.storage.paths import StoragePath
from airflow_provider_mistral_batch.storage.reading import read_small


def write_manifest(manifest: Mapping[str, Any], path: StoragePath | str) -> None:
    """
    Write a manifest whole. Do it last: where there is a manifest, the results are complete.

    :param manifest: The manifest.
    :param path: Where it goes.
    """
    write_whole(path, msgspec.json.format(msgspec.json.encode(dict(manifest)), indent=2) + b"\n")


def read_manifest(path: StoragePath | str) -> dict[str, Any]:
    """
    Read a manifest.

    :param path: Where it is.
    :raises InvalidInputError: If the file is no manifest.
    """
    text = read_small(path)
    if text is None:
        raise FileNotFoundError(f"{path} is gone")
    try:
        manifest = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError(f"{path} is not a manifest ({error}): check the path") from error
    if not isinstance(manifest, dict) or "results_path" not in manifest:
        raise InvalidInputError(f"{path} is not a manifest, because it has no results_path: check the path")
    return manifest
