"""A batch's request files: uploaded once, and read back on whichever worker the batch continues."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_mistral_batch.inference.plan import PlannedJob, content_hash, jobs_of
from airflow_provider_mistral_batch.storage.trouble import naming_disk
from airflow_provider_mistral_batch.submission.files import upload_once

if TYPE_CHECKING:
    from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
    from airflow_provider_mistral_batch.jsonl.requests.shards import Shard

log = logging.getLogger(__name__)


class RequestFiles:
    """
    The request files of one batch.

    The worker that made the files has them on its disk. After a deferral, another worker may continue, and the source
    may have changed. Then the files are read back from the API.

    :param hook: How to talk to the API.
    :param directory: Local directory for files that are read back.
    :param owner: For :func:`~airflow_provider_mistral_batch.submission.files.upload_once`.
    """

    def __init__(self, hook: MistralBatchHook, directory: Path, *, owner: str = "") -> None:
        self.hook = hook
        self.directory = directory
        self.owner = owner
        self._paths: dict[str, Path] = {}

    def upload(self, shards: Sequence[Shard]) -> list[PlannedJob]:
        """
        Upload the files of a round.

        :param shards: The files in order.
        :return: The round's jobs, which are not submitted yet.
        """
        files_per_job = self.hook.get_conn().dialect.files_per_job
        return [self._upload_job(group) for group in jobs_of(shards, files_per_job=files_per_job)]

    def paths(self, jobs: Iterable[PlannedJob]) -> list[Path]:
        """
        Give the local paths of some jobs' request files; files that are not on this disk are downloaded.

        :param jobs: The jobs.
        """
        return [self._path(file_id) for job in jobs for file_id in job.input_files]

    def _upload_job(self, shards: Sequence[Shard]) -> PlannedJob:
        input_files = []
        for shard in shards:
            file = upload_once(self.hook, shard, owner=self.owner)
            self._paths[file.id] = shard.path
            input_files.append(file.id)
        return PlannedJob(
            input_files=input_files,
            content=content_hash(shards),
            request_count=sum(shard.request_count for shard in shards),
        )

    def _path(self, file_id: str) -> Path:
        if file_id not in self._paths:
            path = self.directory / f"read-back-{len(self._paths):05d}.jsonl"
            log.info("Downloading request file %s, to account for every request.", file_id)
            with naming_disk(self.directory), path.open("wb") as file:
                for chunk in self.hook.stream_file(file_id):
                    file.write(chunk)
            self._paths[file_id] = path
        return self._paths[file_id]
