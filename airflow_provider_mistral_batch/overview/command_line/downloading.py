"""Downloads a job's result files as the API has them: resumed where they break off, and published whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_mistral_batch.api.errors import InvalidInputError, MistralCallError
from airflow_provider_mistral_batch.api.models import BatchJobOut
from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
from airflow_provider_mistral_batch.storage.atomic import AtomicFiles
from airflow_provider_mistral_batch.storage.paths import StoragePath, storage_path
from airflow_provider_mistral_batch.storage.trouble import naming

if TYPE_CHECKING:
    from rich.console import Console


def download_results(
    hook: MistralBatchHook, job: BatchJobOut, destination: str, *, force: bool, errors: Console
) -> dict[str, int]:
    """
    Download a job's result files into a folder.

    :param hook: The connection.
    :param job: The job.
    :param destination: The folder: a local path, or a URL of an object store.
    :param force: Whether to replace files that are there.
    :param errors: Where the progress bar goes.
    :return: Bytes by path.
    :raises InvalidInputError: When there is nothing to download, or files are there already.
    """
    if not job.is_terminal:
        raise InvalidInputError(
            f"batch job {job.id} is {job.status}, so it has no results yet: wait for its end"
        )
    named = {"results.jsonl": job.output_file_id, "errors.jsonl": job.error_file_id}
    file_ids = {name: file_id for name, file_id in named.items() if file_id}
    rows = [] if file_ids or job.input_files else hook.inline_rows(job.id)
    if not file_ids and not rows:
        raise InvalidInputError(
            f"batch job {job.id} ended as {job.status} without results: nothing to download"
        )
    folder = storage_path(destination, field="DEST")
    names = list(file_ids or ["results.jsonl"])
    with naming(folder, "read", field="DEST"):
        there = [] if force else [name for name in names if (folder / name).exists()]
    if there:
        raise InvalidInputError(f"{folder / there[0]} exists already: choose another folder, or pass --force")
    if not file_ids:
        return _write_rows(folder / names[0], [row + b"\n" for row in rows])
    return _stream(hook, file_ids, folder, errors)


def _stream(
    hook: MistralBatchHook, file_ids: dict[str, str], folder: StoragePath, errors: Console
) -> dict[str, int]:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    sizes: dict[str, int] = {}
    with (
        AtomicFiles() as files,
        Progress(*columns, console=errors, disable=not errors.is_terminal) as progress,
    ):
        for name, file_id in file_ids.items():
            bar = progress.add_task(name, total=_size(hook, file_id))
            size = 0
            with files.spool(folder / name).open("wb") as spool:
                for chunk in hook.stream_file(file_id):
                    spool.write(chunk)
                    size += len(chunk)
                    progress.update(bar, completed=size)
            progress.update(bar, total=size)
            sizes[str(folder / name)] = size
        files.publish()
    return sizes


def _write_rows(path: StoragePath, rows: list[bytes]) -> dict[str, int]:
    with AtomicFiles() as files:
        with files.spool(path).open("wb") as spool:
            spool.writelines(rows)
        files.publish()
    return {str(path): sum(map(len, rows))}


def _size(hook: MistralBatchHook, file_id: str) -> int | None:
    """Ask for a file's size, for the bar alone."""
    try:
        return hook.get_file(file_id).bytes or None
    except MistralCallError:
        return None
