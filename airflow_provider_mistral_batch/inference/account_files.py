"""Deletes the files of a batch from the account once its results have landed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from airflow_provider_mistral_batch.api.endpoints import ENDPOINTS
from airflow_provider_mistral_batch.api.errors import MistralCallError, NotFoundError
from airflow_provider_mistral_batch.api.texts import sentence
from airflow_provider_mistral_batch.hooks.uploads import name_prefix
from airflow_provider_mistral_batch.storage.many import side_by_side

if TYPE_CHECKING:
    from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook

log = logging.getLogger(__name__)


def delete_account_files(
    hook: MistralBatchHook, batch_ids: Iterable[str], documents: Iterable[str] = ()
) -> None:
    """
    Delete the input and output files of jobs, and documents; a failure is logged, not raised.

    :param hook: How to talk to the API.
    :param batch_ids: The jobs' ids.
    :param documents: Ids of uploads that the jobs' requests name.
    """
    # Listed to the end first: a listing shifts when files go.
    file_ids = dict.fromkeys([*documents, *_files_of(hook, batch_ids)])
    for _ in side_by_side(partial(_delete, hook), file_ids):
        pass


def document_ids(hook: MistralBatchHook, *, endpoint: str, owner: str) -> Iterator[str]:
    """
    Find the documents that a task has uploaded for itself, on whichever worker and in whichever try.

    :param hook: How to talk to the API.
    :param endpoint: The endpoint of the requests.
    :param owner: What the task has put into the names of its uploads.
    """
    files = ENDPOINTS[endpoint].files
    if files is None or not owner:
        return
    prefix = name_prefix(owner)
    by_name = {"search": prefix} if hook.get_conn().dialect.searches_files else {}
    try:
        for file in hook.iter_files(purpose=files.purpose, **by_name):
            if file.filename.startswith(prefix) and file.purpose == files.purpose:
                yield file.id
    except MistralCallError as error:
        log.warning(
            "%s Uploaded documents, whose names begin with %s, may stay in the account.",
            sentence(error),
            prefix,
        )


def _delete(hook: MistralBatchHook, file_id: str) -> None:
    try:
        hook.delete_file(file_id)
    except NotFoundError:
        log.debug("File %s is already deleted.", file_id)
    except MistralCallError as error:
        log.warning("%s File %s stays in the account.", sentence(error), file_id)


def _files_of(hook: MistralBatchHook, batch_ids: Iterable[str]) -> Iterator[str]:
    for batch_id in batch_ids:
        try:
            job = hook.get(batch_id)
        except MistralCallError as error:
            log.warning("%s The files of batch job %s stay in the account.", sentence(error), batch_id)
            continue
        yield from job.input_files
        yield from (file_id for file_id in (job.output_file_id, job.error_file_id) if file_id)
