"""Uploads a request file once: if a file with the same content is already there, it is used again."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_mistral_batch.api.errors import MistralAPIError
from airflow_provider_mistral_batch.submission.once import look_repeatedly, send_once

if TYPE_CHECKING:
    from airflow_provider_mistral_batch.api.models import FileOut
    from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
    from airflow_provider_mistral_batch.jsonl.requests.shards import Shard

log = logging.getLogger(__name__)

#: Most files that one look goes through.
_FILES_SEARCHED = 1000

#: Seconds between looks for a file after the answer to its upload was lost.
_RECHECKS = (1.0, 2.0, 4.0)

#: A file that expires sooner than this is not used again: a job may wait and run for days.
_SECONDS_NEEDED = 8 * 24 * 3600

#: Seconds between two log lines about an upload's progress.
_QUIET_SECONDS = 15.0


def upload_once(
    hook: MistralBatchHook, shard: Shard, *, owner: str = "", model: str | None = None
) -> FileOut:
    """
    Upload a request file, or find it among the files uploaded before.

    The file's name in the workspace contains the hash of its content. So a try finds the files of earlier tries, and
    after a lost answer the file is found instead of uploaded again.

    :param hook: How to talk to the API.
    :param shard: The file.
    :param owner: Part of the file's name that keeps other tasks from using the file; empty to share it.
    :param model: The model of its requests, if known.
    :raises MistralCallError: When the file can neither be found nor uploaded.
    """
    name = f"airflow-{owner}{'-' if owner else ''}{shard.sha256}.jsonl"
    if (known := _find(hook, name, shard.size, lasting=True)) is not None:
        log.info("%s was uploaded before, as file %s: using that file.", shard.path.name, known.id)
        return known
    return send_once(
        partial(_upload, hook, shard, name, model),
        partial(_look_again, hook, name, shard.size),
        what="request file",
    )


def _upload(hook: MistralBatchHook, shard: Shard, name: str, model: str | None) -> FileOut:
    progress = _Progress(shard.path.name)
    file = hook.upload_file(shard.path, filename=name, model=model, on_progress=progress)
    log.info(
        "Uploaded %s as file %s: %d requests, %d bytes.",
        shard.path.name,
        file.id,
        shard.request_count,
        shard.size,
    )
    # Two tasks may have uploaded the same content at the same moment. Both take the file that a search finds, because
    # the ids of the files are part of what identifies a job.
    return _find(hook, name, shard.size, lasting=True) or file


def _look_again(hook: MistralBatchHook, name: str, size: int) -> FileOut | None:
    found = look_repeatedly(
        partial(_find, hook, name, size), is_found=lambda file: file is not None, pauses=_RECHECKS
    )
    if found is not None:
        log.info("The request file was uploaded after all: it is file %s.", found.id)
    return found


def _find(hook: MistralBatchHook, name: str, size: int, *, lasting: bool = False) -> FileOut | None:
    """Find the oldest file with a name; ``lasting`` excludes files that expire before a job may need them."""
    # If the API cannot search by name, only the newest files are considered.
    by_name = {"search": name} if hook.get_conn().dialect.searches_files else {}
    try:
        files = hook.list_files(_FILES_SEARCHED, purpose="batch", **by_name).data
    except MistralAPIError as error:
        if not error.no_listing:
            raise
        log.info("%s So a request file that was uploaded before cannot be found.", error)
        return None
    same = [
        file
        for file in files
        if file.filename == name
        # 0 means that the API reports no size, as in all of its published examples; the name identifies the content.
        and file.bytes in (size, 0)
        and not file.deleted
        and (not lasting or _lasts(file))
    ]
    return min(same, key=lambda file: (file.created_at, file.id), default=None)


def _lasts(file: FileOut) -> bool:
    return file.expires_at is None or file.expires_at - time.time() > _SECONDS_NEEDED


class _Progress:
    """Logs the progress of a long upload from time to time."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._said_at = time.monotonic()

    def __call__(self, sent: int, size: int) -> Any:
        if time.monotonic() - self._said_at >= _QUIET_SECONDS:
            self._said_at = time.monotonic()
            log.info("Uploading %s: %d of %d MB sent.", self._name, sent // 1_000_000, size // 1_000_000)
