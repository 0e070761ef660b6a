"""A batch's request files: uploaded once, and read back on whichever worker the batch continues."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.api.hashing import sha256_of
from airflow_provider_mistral_batch.inference.plan import PlannedJob, content_hash, hash_of_hashes, jobs_of
from airflow_provider_mistral_batch.storage.trouble import naming_disk
from airflow_provider_mistral_batch.submission.files import upload_shard_once

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
    :param owner: For :func:`~airflow_provider_mistral_batch.submission.files.upload_shard_once`.
    """

    def __init__(self, hook: MistralBatchHook, directory: Path, *, owner: str = "") -> None:
        self.hook = hook
        self.directory = directory
        self.owner = owner
        self._paths: dict[str, Path] = {}
        self._numbers = itertools.count()

    def upload(self, shards: Sequence[Shard], model: str | None) -> list[PlannedJob]:
        """
        Upload the files of a round.

        :param shards: The files in order.
        :param model: The model for all requests, if known.
        :return: The round's jobs, which are not submitted yet.
        """
        files_per_job = self.hook.get_conn().dialect.files_per_job
        return [self._upload_job(group, model) for group in jobs_of(shards, files_per_job=files_per_job)]

    def paths(self, jobs: Iterable[PlannedJob]) -> list[Path]:
        """
        Give the local paths of some jobs' request files; files that are not on this disk are downloaded.

        :param jobs: The jobs.
        :raises NotFoundError: When somebody deleted a file.
        :raises InvalidInputError: When a file is not what was uploaded.
        """
        return [path for job in jobs for path in self._paths_of(job)]

    def _paths_of(self, job: PlannedJob) -> list[Path]:
        if all(file_id in self._paths for file_id in job.input_files):
            return [self._paths[file_id] for file_id in job.input_files]
        paths = [self._download(file_id) for file_id in job.input_files]
        # Requests are asked again, and paid, by what these files say, and others may write into the workspace.
        if hash_of_hashes(map(_sha256, paths)) != job.content:
            raise InvalidInputError(
                f"the content of request file {', '.join(job.input_files)} is not what this task uploaded, so "
                "somebody has replaced it: delete the file from the account, and clear the task, which pays anew"
            )
        self._paths.update(zip(job.input_files, paths, strict=True))
        return paths

    def _upload_job(self, shards: Sequence[Shard], model: str | None) -> PlannedJob:
        input_files = []
        for shard in shards:
            file = upload_shard_once(self.hook, shard, owner=self.owner, model=model)
            self._paths[file.id] = shard.path
            input_files.append(file.id)
        return PlannedJob(
            input_files=input_files,
            content=content_hash(shards),
            request_count=sum(shard.request_count for shard in shards),
        )

    def _download(self, file_id: str) -> Path:
        path = self.directory / f"read-back-{next(self._numbers):05d}.jsonl"
        log.info("Downloading request file %s, to account for every request.", file_id)
        with naming_disk(self.directory), path.open("wb") as file:
            for chunk in self.hook.stream_file(file_id):
                file.write(chunk)
        return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return sha256_of(file)[0]
