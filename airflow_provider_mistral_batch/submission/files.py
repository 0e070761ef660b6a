"""Uploads a request file once: if a file with the same content is already there, it is used again."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from airflow_provider_mistral_batch.hooks.uploads import name_prefix, upload_once

if TYPE_CHECKING:
    from airflow_provider_mistral_batch.api.models import FileOut
    from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
    from airflow_provider_mistral_batch.jsonl.requests.shards import Shard

log = logging.getLogger(__name__)

#: Seconds between two log lines about an upload's progress.
_QUIET_SECONDS = 15.0


def upload_shard_once(
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
    return upload_once(
        hook.get_conn(),
        shard.path,
        "batch",
        filename=f"{name_prefix(owner)}{shard.sha256}.jsonl",
        size=shard.size,
        model=model,
        on_progress=_Progress(shard.path.name),
    )


class _Progress:
    """Logs the progress of a long upload from time to time."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._said_at = time.monotonic()

    def __call__(self, sent: int, size: int) -> Any:
        if time.monotonic() - self._said_at >= _QUIET_SECONDS:
            self._said_at = time.monotonic()
            log.info("Uploading %s: %d of %d MB sent.", self._name, sent // 1_000_000, size // 1_000_000)
