"""Which files are documents, on the local disk and in an object store."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import ObjectStoragePath

from airflow_provider_mistral_batch.api.endpoints import ENDPOINTS
from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.tables.sources.documents import Documents, Upload

FILES = {"b.pdf": 1, "a.pdf": 2, "below/c.png": 3, ".hidden.pdf": 4, ".git/d.pdf": 5, "_scan.pdf": 6}


@pytest.fixture(params=["local", "file", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    root: Any = tmp_path
    if request.param == "file":
        root = ObjectStoragePath(f"file://{tmp_path}")
    elif request.param == "memory":
        root = request.getfixturevalue("bucket")
    for name, size in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x" * size)
    return root


def rows(source: Any) -> list[tuple[str, int]]:
    bound = source.bound(lambda path: Upload(f"id of {path.name}", "0" * 64), ENDPOINTS["/v1/ocr"].files)
    return [
        (row["path"], row["size"])
        for batch in bound.read(["path", "size", "file_id"])
        for row in batch.to_pylist()
    ]


def test_a_folder_stands_for_all_files_but_hidden_ones(folder):
    expected = [(str(folder / name), FILES[name]) for name in ("_scan.pdf", "a.pdf", "b.pdf", "below/c.png")]
    assert rows(Documents(folder)) == rows(Documents(f"{folder}/")) == expected
    assert rows(Documents(f"{folder}/?.pdf")) == expected[1:3]
    assert rows(Documents([f"{folder}/.hidden.pdf"])) == [(str(folder / ".hidden.pdf"), 4)]
    assert rows(Documents([folder, f"{folder}/*.pdf"])) == expected


def test_parts_have_no_file_in_common(folder):
    # As many as make it sure that they are not all in one part.
    for number in range(20):
        (folder / f"{number}.pdf").write_bytes(b"%PDF-")
    parts = [rows(part) for part in Documents(folder).partitions(3)]
    assert sorted(chain(*parts)) == sorted(rows(Documents(folder)))
    assert sum(map(bool, parts)) > 1
    # Nothing is looked for while a Dag is parsed, and its templates are rendered in each part.
    unread = Documents("/nowhere/{{ ds }}").partitions(9)
    assert repr(unread[8]) == "Documents('/nowhere/{{ ds }}', partition 9 of 9)"
    with pytest.raises(InvalidInputError, match="is a part already"):
        unread[0].partitions(2)


def test_only_a_task_can_read_documents(folder):
    with pytest.raises(InvalidInputError, match="give it to MistralBatchInferenceOperator"):
        next(iter(Documents(folder).read(["path"])))


def test_too_large_a_file_is_named_before_any_is_uploaded(tmp_path):
    with (tmp_path / "film.pdf").open("wb") as file:
        file.truncate(50 * 1024 * 1024 + 1)
    with pytest.raises(InvalidInputError, match="1 of 1 files have more than the 52,428,800 bytes"):
        rows(Documents(tmp_path))


def test_a_folder_that_may_not_be_listed_is_no_empty_folder(tmp_path, monkeypatch):
    def walk(top: Any, onerror: Any) -> Any:
        onerror(PermissionError(13, "Permission denied", str(top)))
        return iter(())

    (tmp_path / "a.pdf").write_bytes(b"x")
    monkeypatch.setattr("os.walk", walk)
    with pytest.raises(InvalidInputError, match="Permission denied"):
        rows(Documents(tmp_path))
