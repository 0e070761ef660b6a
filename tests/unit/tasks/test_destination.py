"""Whose a destination is: one task instance claims it, and others touch nothing in it."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import msgspec
import pytest
from airflow.sdk import ObjectStoragePath

from airflow_provider_mistral_batch.api.errors import InvalidInputError, StorageError
from airflow_provider_mistral_batch.policies.ownership import TaskIdentity
from airflow_provider_mistral_batch.storage.atomic import write_whole
from airflow_provider_mistral_batch.tasks.destination import Destination


def destination_of(run_id: str, folder: Any) -> Destination:
    return Destination(folder, TaskIdentity(dag_id="d", task_id="t", run_id=run_id), "jsonl")


def test_of_two_at_the_same_moment_one_goes_on_at_most(tmp_path: Path) -> None:
    first, second = (destination_of(run_id, tmp_path) for run_id in ("first", "second"))
    first.claim("fail")
    # As if both had looked before either wrote.
    second._occupant = lambda: None  # type: ignore[method-assign]
    with pytest.raises(InvalidInputError, match="unfinished results of task 't' of Dag 'd', run 'first'"):
        second.claim("fail")
    first.check_claim()
    del second._occupant
    with pytest.raises(InvalidInputError):
        second.check_claim()


def test_a_task_of_the_same_name_in_another_deployment_is_another_task(tmp_path: Path) -> None:
    identity = TaskIdentity(dag_id="d", task_id="t", run_id="r")
    staging = Destination(tmp_path, msgspec.structs.replace(identity, deployment="staging"), "jsonl")
    staging.claim("fail")
    staging.write_manifest({"key": "k"})
    production = Destination(tmp_path, msgspec.structs.replace(identity, deployment="production"), "jsonl")
    assert production.own_manifest() is None
    with pytest.raises(InvalidInputError, match="run 'r', deployment 'staging'"):
        production.claim("fail")
    staging.claim("fail")


def test_who_leaves_an_object_store_takes_nothing_of_others_along(bucket: ObjectStoragePath) -> None:
    leaving = destination_of("leaving", bucket / "run")
    leaving.claim("fail")
    others = bucket / "run" / "details" / "results.jsonl"
    others.write_text("paid")
    leaving.withdraw()
    assert others.read_text() == "paid"
    assert [path.name for path in (bucket / "run").iterdir()] == ["details"]


def test_a_claim_in_an_object_store_outlives_who_is_turned_away(bucket: ObjectStoragePath) -> None:
    first, second, third = (destination_of(run_id, bucket) for run_id in ("first", "second", "third"))
    first.claim("fail")
    # As if both had looked before either wrote.
    second._occupant = lambda: None  # type: ignore[method-assign]
    for late in (second, third):
        with pytest.raises(InvalidInputError, match="run 'first'"):
            late.claim("fail")


@pytest.mark.parametrize("kind", ["local", "store"])
def test_the_frozen_input_outlives_the_rounds_between_two_tries(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder: Any = tmp_path if kind == "local" else request.getfixturevalue("bucket") / "run"
    destination = destination_of("run", folder)
    destination.claim("fail")
    destination.keep_frozen({"key": "k"})
    kept = destination.work_path("rows", "name", "rows-0.parquet")
    rounds = [*destination.round_paths(0), destination.work_path("table", "markdown-begun")]
    for path in (kept, *rounds):
        write_whole(path, b"x")
    destination.release_rounds()
    assert kept.exists()
    assert destination.frozen() == {"key": "k"}
    assert not any(path.exists() for path in rounds)
    with pytest.raises(InvalidInputError, match="unfinished results"):
        destination_of("other", folder).claim("fail")
    destination.release()
    destination_of("other", folder).claim("fail")


@pytest.mark.parametrize("gone", ["results.jsonl", "errors.jsonl"])
def test_what_is_published_stays_when_there_is_nothing_to_replace_it(gone: str, tmp_path: Path) -> None:
    destination = destination_of("run", tmp_path)
    destination.claim("fail")
    for _ in range(2):
        for path in (Path(str(path)) for path in destination.round_paths(0)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")
        if not destination.manifest_path.exists():
            destination.publish(destination.round_paths(0))
            destination.write_manifest({})
    destination.round_path(0, gone).unlink()
    with pytest.raises(FileNotFoundError, match=gone):
        destination.publish(destination.round_paths(0))
    assert destination.own_manifest() is not None


@pytest.mark.parametrize("torn", [b"", b'{"dag_id":"d","task', b"[]", b"{}"])
def test_a_torn_claim_keeps_nobody_out(torn: bytes, tmp_path: Path) -> None:
    # As on a full disk.
    for run_id in ("other", "ours"):
        work = destination_of(run_id, tmp_path)._work
        Path(str(work)).mkdir(parents=True)
        (work / "owner.json").open("wb").write(torn)
    ours = destination_of("ours", tmp_path)
    ours.claim("fail")
    ours.check_claim()
    with pytest.raises(InvalidInputError, match="unfinished results of task 't' of Dag 'd', run 'ours'"):
        destination_of("third", tmp_path).claim("fail")


@pytest.mark.parametrize("place", [".rounds", ".rounds/{}", ".rounds/{}/0"])
def test_no_folder_of_ours_is_a_link(place: str, tmp_path: Path) -> None:
    destination = destination_of("run", tmp_path / "folder")
    link = tmp_path / "folder" / place.format(destination._name)
    link.parent.mkdir(parents=True)
    (tmp_path / "theirs").mkdir()
    link.symlink_to(tmp_path / "theirs")
    with pytest.raises(InvalidInputError, match=f"{link} is a symbolic link"):
        destination.claim("fail")
    assert list((tmp_path / "theirs").iterdir()) == []


def test_who_cannot_write_a_claim_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Any, content: bytes) -> None:
        Path(str(path)).parent.mkdir(parents=True)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("airflow_provider_mistral_batch.tasks.destination.write_whole", full)
    with pytest.raises(StorageError, match=r"^destination='.*/new' cannot be written \(No space left"):
        destination_of("run", tmp_path / "new").claim("fail")
    assert list(tmp_path.iterdir()) == []
