"""Folders in object stores: most stores have none, and some keep them when everything in them is gone."""

from __future__ import annotations

from airflow.sdk.io.store import attach
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_mistral_batch.storage.folders import remove_folder


class StoreWithFolders(MemoryFileSystem):  # type: ignore[misc]
    """As SeaweedFS behind S3: a folder outlives its files, and a search below it finds the folder itself."""

    cachable = False

    def rm(self, path, recursive=False, maxdepth=None):
        for file in super().find(path):
            self.rm_file(file)

    def find(self, path, maxdepth=None, withdirs=False, detail=False, **kwargs):
        return super().find(path, detail=detail) or (
            {path: {"name": path, "type": "directory"}} if detail else [path]
        )


def test_a_folder_that_outlives_its_files_is_no_file_that_stays(bucket, logged):
    attach("memory", fs=StoreWithFolders())
    work = bucket / "work"
    (work / "0").mkdir(parents=True)
    (work / "0" / "file").write_text("content")
    (bucket / "results").write_text("content")
    remove_folder(work)
    assert list(bucket.fs.store) == ["/bucket/folder/results"]
    assert logged() == []
