"""Uploads the documents of a batch, each once."""

from __future__ import annotations

import logging
import tempfile
from concurrent.futures import Future
from pathlib import Path
from threading import Lock
from typing import IO, TYPE_CHECKING

from airflow_provider_mistral_batch.api.endpoints import ENDPOINTS
from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.api.hashing import sha256_of
from airflow_provider_mistral_batch.hooks.uploads import kept_suffix, name_prefix, upload_once
from airflow_provider_mistral_batch.storage.reading import reading
from airflow_provider_mistral_batch.storage.trouble import naming_disk
from airflow_provider_mistral_batch.tables.sources.documents import Documents, Upload

if TYPE_CHECKING:
    from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
    from airflow_provider_mistral_batch.storage.paths import StoragePath

log = logging.getLogger(__name__)


def bound_documents(
    source: Documents, hook: MistralBatchHook, *, endpoint: str, directory: Path, owner: str
) -> Documents:
    """
    Make a source that uploads its files for the requests of a batch.

    :param source: The documents.
    :param hook: How to talk to the API.
    :param endpoint: The endpoint of the requests.
    :param directory: Local directory for files on their way.
    :param owner: Part of the uploads' names that keeps other tasks from using them; empty to share them.
    :raises InvalidInputError: When requests to the endpoint name no uploaded files.
    """
    files = ENDPOINTS[endpoint].files
    if files is None:
        raise InvalidInputError(
            f"{source!r}: requests to {endpoint} name no uploaded files: choose another source"
        )
    return source.bound(_Uploads(hook, files.purpose, directory, owner).upload, files)


class _Uploads:
    """The uploads of one source. Files with the same content are uploaded once, also if they come at the same time."""

    def __init__(self, hook: MistralBatchHook, purpose: str, directory: Path, owner: str) -> None:
        self._client = hook.get_conn()
        self._purpose = purpose
        self._directory = directory
        self._owner = owner
        self._lock = Lock()
        self._begun: dict[str, Future[str]] = {}

    def upload(self, path: StoragePath) -> Upload:
        # A copy, so that what is sent is what was hashed, and a store is read once.
        with naming_disk(self._directory), tempfile.TemporaryFile(dir=self._directory) as copy:
            sha256, size = _copied(path, copy)
            name = f"{name_prefix(self._owner)}{sha256}{kept_suffix(path.name)}"
            with self._lock:
                is_first = name not in self._begun
                future = self._begun.setdefault(name, Future())
            if is_first:
                try:
                    future.set_result(
                        upload_once(self._client, copy, self._purpose, filename=name, size=size).id
                    )
                except BaseException as error:
                    log.warning("%s could not be uploaded.", path)
                    future.set_exception(error)
        return Upload(future.result(), sha256)


def _copied(path: StoragePath, copy: IO[bytes]) -> tuple[str, int]:
    try:
        with reading(path, field="path") as file:
            sha256, size = sha256_of(file, copy)
    except FileNotFoundError:
        raise InvalidInputError(f"path={str(path)!r:.300}: the file is gone; check the folder") from None
    copy.flush()
    return sha256, size
