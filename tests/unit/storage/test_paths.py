"""Paths as users write them."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from airflow.sdk import ObjectStoragePath

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.storage.paths import is_path, storage_path


class AnyPath(os.PathLike[str]):
    def __fspath__(self) -> str:
        return "a/b"


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("a/b.jsonl", Path("a/b.jsonl")),
        ("/a b/ü.jsonl", Path("/a b/ü.jsonl")),
        (Path("a"), Path("a")),
        (PurePosixPath("a/b"), Path("a/b")),
        (AnyPath(), Path("a/b")),
        ("file:///a/b", ObjectStoragePath("file:///a/b")),
        (ObjectStoragePath("file:///a/b"), ObjectStoragePath("file:///a/b")),
    ],
)
def test_paths(value: Any, path: Any) -> None:
    found = storage_path(value, field="path")
    assert (type(found), found) == (type(path), path)


def test_a_path_that_can_only_be_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("rows.jsonl", "{}")
    path: Any = zipfile.Path(tmp_path / "a.zip", "rows.jsonl")
    assert is_path(path)
    assert storage_path(path, field="path") is path


@pytest.mark.parametrize("value", ["", "  ", None, 7, b"a", ["a"], {"a": "b"}, True])
def test_what_is_no_path(value: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"destination=.* is not a path: pass a local path or a URL"):
        storage_path(value, field="destination")


@pytest.mark.parametrize("url", ["weird://bucket/key", "s4://bucket/key"])
def test_a_storage_that_is_not_installed(url: str) -> None:
    with pytest.raises(
        InvalidInputError, match=rf"path='{url}' cannot be opened: .*Install the Airflow provider"
    ):
        storage_path(url, field="path")
