"""Uploads a file once: if a file with the same content was uploaded before, it is used again."""

from __future__ import annotations

import logging
import re
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from airflow_provider_mistral_batch.api.errors import MistralAPIError, MistralCallError
from airflow_provider_mistral_batch.api.hashing import sha256_of
from airflow_provider_mistral_batch.api.once import look_repeatedly, send_once
from airflow_provider_mistral_batch.api.regular_files import check_opened, open_regular
from airflow_provider_mistral_batch.api.texts import sentence

if TYPE_CHECKING:
    import os

    from airflow_provider_mistral_batch.api.client import MistralBatchClient
    from airflow_provider_mistral_batch.api.models import FileOut

log = logging.getLogger(__name__)

#: Most files that one look goes through.
_FILES_SEARCHED = 1000

#: Seconds between looks for a file after the answer to its upload was lost.
_RECHECKS = (1.0, 2.0, 4.0)

#: A file that expires sooner than this is not used again: a job may wait and run for days.
_SECONDS_NEEDED = 8 * 24 * 3600

#: What the end of a file's name may be; the API tells a document's kind by it.
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,16}")


def upload_content_once(
    client: MistralBatchClient, file: str | os.PathLike[str] | IO[bytes], purpose: str, **options: Any
) -> FileOut:
    """
    Upload a file, or find it by its content among the files uploaded before.

    :param client: How to talk to the API.
    :param file: Path of a local file, or an open, seekable binary file.
    :param purpose: Only files uploaded for the same purpose count.
    :param options: As for :meth:`~airflow_provider_mistral_batch.api.client.MistralBatchClient.upload_file`.
    """
    with ExitStack() as stack:
        given = options.pop("filename", None) or str(getattr(file, "name", file))
        if hasattr(file, "read"):
            opened: IO[bytes] = file  # type: ignore[assignment]
            check_opened(opened)
        else:
            opened = stack.enter_context(open_regular(file))
        opened.seek(0)
        sha256, size = sha256_of(opened)
        name = f"{name_prefix('')}{sha256}{kept_suffix(given)}"
        return upload_once(client, opened, purpose, filename=name, size=size, **options)


def name_prefix(owner: str) -> str:
    """
    Give the begin of the names that uploads get.

    :param owner: What keeps other tasks from using them; empty to share them.
    """
    return f"airflow-{owner}-" if owner else "airflow-"


def kept_suffix(name: str) -> str:
    """
    Give the end that a file keeps when its name is made of its content's hash, such as ``.pdf``.

    :param name: The file's own name.
    """
    suffix = Path(name).suffix
    return suffix.lower() if _SUFFIX.fullmatch(suffix) else ""


def upload_once(
    client: MistralBatchClient,
    file: str | os.PathLike[str] | IO[bytes],
    purpose: str,
    *,
    filename: str,
    size: int,
    **options: Any,
) -> FileOut:
    """
    Upload a file whose name contains the hash of its content, or find it among the files uploaded before.

    :param client: How to talk to the API.
    :param file: Path of a local file, or an open, seekable binary file.
    :param purpose: Only files uploaded for the same purpose count.
    :param filename: The file's name in the workspace.
    :param size: Bytes in it.
    :param options: As for :meth:`~airflow_provider_mistral_batch.api.client.MistralBatchClient.upload_file`.
    :raises MistralCallError: When the file can neither be found nor uploaded.
    """
    find = partial(_find, client, filename, size, purpose)
    if (known := find(lasting=True)) is not None:
        log.info("%s was uploaded before, as file %s: using that file.", filename, known.id)
        return known

    def send() -> FileOut:
        uploaded = client.upload_file(file, purpose, filename=filename, **options)
        log.info("Uploaded file %s: %s, %d bytes.", uploaded.id, filename, size)
        return _oldest(client, uploaded, find(lasting=True))

    return send_once(send, partial(_look_again, find), what="uploaded file")


def _oldest(client: MistralBatchClient, uploaded: FileOut, oldest: FileOut | None) -> FileOut:
    """
    Keep the oldest of equal files, and delete the one just uploaded if it is not that.

    Two tasks may upload the same content at the same moment. Both take the file that a search finds, because the ids of
    the files are part of what identifies a job.
    """
    if oldest is None or oldest.id == uploaded.id:
        return uploaded
    log.info(
        "File %s has the same content and is older: using that file, and deleting %s.", oldest.id, uploaded.id
    )
    try:
        client.delete_file(uploaded.id)
    except MistralCallError as error:
        log.warning("%s File %s stays in the account.", sentence(error), uploaded.id)
    return oldest


def _look_again(find: partial[FileOut | None]) -> FileOut | None:
    found = look_repeatedly(find, is_found=lambda file: file is not None, pauses=_RECHECKS)
    if found is not None:
        log.info("The file was uploaded after all: it is file %s.", found.id)
    return found


def _find(
    client: MistralBatchClient, name: str, size: int, purpose: str, *, lasting: bool = False
) -> FileOut | None:
    """Find the oldest file with a name; ``lasting`` excludes files that expire before a job may need them."""
    # If the API cannot search by name, only the newest files are considered.
    by_name = {"search": name} if client.dialect.searches_files else {}
    try:
        files = client.list_files(_FILES_SEARCHED, purpose=purpose, **by_name).data
    except MistralAPIError as error:
        if not error.no_listing:
            raise
        log.info("%s So a file that was uploaded before cannot be found.", sentence(error))
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
