"""What is read is a file, and errors name it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import ObjectStoragePath

from airflow_provider_mistral_batch.api.client import MistralBatchClient
from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.hooks.uploads import upload_content_once
from airflow_provider_mistral_batch.jsonl.requests.prepare import prepare_requests
from airflow_provider_mistral_batch.jsonl.results.manifest import read_manifest
from airflow_provider_mistral_batch.policies.ownership import TaskIdentity
from airflow_provider_mistral_batch.results import read_results
from airflow_provider_mistral_batch.storage.paths import storage_path
from airflow_provider_mistral_batch.tasks.destination import Destination

CHAT = "/v1/chat/completions"


def a_socket(path: Path) -> None:
    # Its path may have 107 characters at most.
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


KINDS: dict[str, Callable[[Path], Any]] = {
    "a named pipe": os.mkfifo,
    "a socket": a_socket,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a directory": Path.mkdir,
}


@pytest.fixture(params=KINDS)
def thing(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    path = tmp_path / "thing"
    KINDS[request.param](path)
    return request.param, path


def upload(path: Path, scratch: Path) -> Any:
    with MistralBatchClient("key", "http://127.0.0.1:9") as client:
        return client.upload_file(path)


def upload_once(path: Path, scratch: Path) -> Any:
    with MistralBatchClient("key", "http://127.0.0.1:9") as client:
        return upload_content_once(client, path, "ocr")


READERS: dict[str, Callable[[Path, Path], Any]] = {
    "requests": lambda path, scratch: prepare_requests(path, endpoint=CHAT, directory=scratch),
    "requests by URL": lambda path, scratch: prepare_requests(
        ObjectStoragePath(f"file://{path}"), endpoint=CHAT, directory=scratch
    ),
    "results": lambda path, scratch: list(read_results(str(path))),
    "manifest": lambda path, scratch: read_manifest(path),
    "upload": upload,
    "upload once": upload_once,
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("reader", READERS)
def test_only_files_are_read(reader: str, thing: tuple[str, Path], tmp_path: Path) -> None:
    kind, path = thing
    with pytest.raises(InvalidInputError, match=f"{path}.* is {kind}"):
        READERS[reader](path, tmp_path / "scratch")


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "name", ["results.jsonl", "errors.jsonl", "manifest.json", ".rounds/{}/owner.json", ""]
)
def test_a_destination_has_files_only(name: str, thing: tuple[str, Path], tmp_path: Path) -> None:
    kind, path = thing
    folder = tmp_path / "folder"
    destination = Destination(folder, TaskIdentity(dag_id="d", task_id="t", run_id="r"), "jsonl")
    if not name:
        if kind == "a directory":
            pytest.skip("that is what a destination is")
        destination = Destination(path, TaskIdentity(dag_id="d", task_id="t", run_id="r"), "jsonl")
        with pytest.raises(InvalidInputError, match=r"^destination=.*/thing' cannot be written"):
            destination.claim("fail")
        return
    place = folder / name.format(destination._name)
    place.parent.mkdir(parents=True)
    path.rename(place)
    with pytest.raises(
        InvalidInputError, match=f"{kind} {place.name}, and|{place} is ({kind}|a symbolic link)"
    ):
        destination.claim("fail")


@pytest.mark.parametrize(
    "path", ["s3://nowhere@bucket/key", "memory://nowhere@bucket/key", "file://nowhere@x/y"]
)
@pytest.mark.parametrize("as_object", [False, True])
def test_a_connection_in_a_path_must_exist(path: str, as_object: bool) -> None:
    value: Any = ObjectStoragePath(path) if as_object else path
    with pytest.raises(
        InvalidInputError, match=r"^destination=.* names connection 'nowhere', which does not exist"
    ):
        storage_path(value, field="destination")
