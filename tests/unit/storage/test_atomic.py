"""Files appear whole or not at all, on the local disk and in object stores."""

from __future__ import annotations

import os

import pytest

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.storage import atomic
from airflow_provider_mistral_batch.storage.atomic import AtomicFiles, check_writable


class RefusingStore:
    """A path in a store that refuses to take files."""

    protocol = "memory"

    def __init__(self, path):
        self.path = path
        self.parent = path.parent
        self.name = path.name
        self.fs = self

    def put_file(self, source, target):
        raise PermissionError("no room")

    def is_dir(self):
        return False


def publish(*paths):
    with AtomicFiles() as files:
        for path in paths:
            files.spool(path).write_text("content")
        files.publish()


def test_both_files_appear_or_none(bucket):
    with pytest.raises(PermissionError):
        publish(bucket / "results", RefusingStore(bucket / "errors"))
    assert not (bucket / "results").exists()


def test_a_store_without_atomic_uploads_gets_a_temporary_name(bucket, monkeypatch, tmp_path):
    monkeypatch.setattr(atomic, "_COMMITTING_PROTOCOLS", frozenset())
    moved = []
    store = bucket.fs
    real = type(store).mv
    monkeypatch.setattr(
        type(store), "mv", lambda self, *paths, **kw: (moved.append(paths), real(self, *paths, **kw))[1]
    )
    publish(bucket / "results", bucket / "errors")
    assert [target for _, target in moved] == ["/bucket/folder/results", "/bucket/folder/errors"]
    assert {path.name for path in bucket.iterdir()} == {"results", "errors"}


def test_published_files_are_readable_by_others(tmp_path):
    old = os.umask(0o022)
    try:
        publish(tmp_path / "results")
    finally:
        os.umask(old)
    assert (tmp_path / "results").stat().st_mode & 0o777 == 0o644


def test_leaving_without_publishing_removes_everything(tmp_path):
    with AtomicFiles() as files:
        files.spool(tmp_path / "a").write_text("x")
        files.scratch(tmp_path / "a").write_text("x")
    assert list(tmp_path.iterdir()) == []


def test_check_writable(tmp_path, bucket):
    check_writable(tmp_path / "new" / "folder" / "results.jsonl", field="to")
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    check_writable(bucket / "results.jsonl", field="to")
    assert bucket.fs.find(bucket.path) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInputError, match=r"^to='.*/file' cannot be written"):
        check_writable(tmp_path / "file" / "results.jsonl", field="to")
    with pytest.raises(InvalidInputError, match=r"^to='.*' has a directory new"):
        check_writable(tmp_path / "new", field="to")
