"""Files appear whole or not at all, on the local disk and in object stores."""

from __future__ import annotations

import errno
import os
import pickle
import sqlite3

import pytest

from airflow_provider_mistral_batch.api.errors import StorageError
from airflow_provider_mistral_batch.api.regular_files import NotAFileError
from airflow_provider_mistral_batch.storage import atomic
from airflow_provider_mistral_batch.storage.atomic import (
    AtomicFiles,
    check_writable,
    open_spool,
    write_whole,
)
from airflow_provider_mistral_batch.storage.trouble import naming_disk


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


def test_a_file_of_any_disk_is_published(tmp_path, other_disk):
    (tmp_path / "near.txt").write_text("near")
    (other_disk / "far.txt").write_text("far")
    with AtomicFiles() as files:
        files.take(tmp_path / "near.txt", tmp_path / "out" / "near.txt")
        files.take(other_disk / "far.txt", tmp_path / "out" / "far.txt")
        files.publish()
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {
        "near.txt": "near",
        "far.txt": "far",
    }
    assert not (tmp_path / "near.txt").exists()
    assert not list(other_disk.iterdir())


def test_leaving_without_publishing_removes_everything(tmp_path):
    with AtomicFiles() as files:
        files.spool(tmp_path / "a").write_text("x")
        files.scratch(tmp_path / "a").write_text("x")
    assert list(tmp_path.iterdir()) == []


def test_check_writable(tmp_path):
    check_writable(tmp_path / "new" / "folder", ["results.jsonl"])
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        check_writable(tmp_path / "file", ["results.jsonl"])
    with pytest.raises(NotAFileError, match="/new is a directory"):
        check_writable(tmp_path, ["new"])


def test_no_planted_link_is_followed(tmp_path):
    theirs = tmp_path / "theirs"
    theirs.write_text("keep")
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("results.jsonl", ".results.jsonl.probe", ".probe"):
        (folder / name).symlink_to(theirs)
    check_writable(folder, ["results.jsonl"])
    publish(folder / "results.jsonl")
    write_whole(folder / ".probe", b"ours")
    assert (folder / "results.jsonl").read_text() == "content"
    with AtomicFiles() as files:
        spool = files.spool(folder / "results.jsonl")
        spool.unlink()
        spool.symlink_to(theirs)
        with pytest.raises(OSError, match="symbolic links"):
            open_spool(spool)
        with pytest.raises(OSError, match="symbolic links"):
            files.publish()
    assert theirs.read_text() == "keep"


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EDQUOT, "Quota")]
)
def test_a_full_disk_is_named(error, tmp_path):
    def fill():
        with AtomicFiles() as files:
            files.spool(tmp_path / "folder" / "results")
            raise error

    said = rf"^{tmp_path}/folder is on a full disk \({error.strerror}\): free space"
    with pytest.raises(StorageError, match=said) as full:
        fill()
    assert not full.value.refused
    assert str(pickle.loads(pickle.dumps(full.value))) == str(full.value)
    assert list((tmp_path / "folder").iterdir()) == []


def test_a_full_scratch_disk_is_named(tmp_path):
    with pytest.raises(StorageError, match=f"^{tmp_path} is on a full disk"), naming_disk(tmp_path):
        raise sqlite3.OperationalError("database or disk is full")


@pytest.mark.parametrize(("size", "part"), [(1, 8), (80 << 30, 16), (70 << 30, 8)])
def test_the_memory_of_an_upload_is_bounded(size, part):
    class Store:
        def put_file(self, local, remote, chunksize=None, max_concurrency=None): ...

    class Plain:
        def put_file(self, local, remote): ...

    assert atomic._bounds(Store(), size) == {"chunksize": part << 20, "max_concurrency": 4}
    assert atomic._bounds(Plain(), size) == {}
