"""Decides whether a refusal may pass by itself: the API may not see everywhere at once what has just come to be."""

from __future__ import annotations

import re
from collections.abc import Collection

from airflow_provider_mistral_batch.api.errors import MistralAPIError, MistralCallError

#: What vendors answer while a file is not there yet. A 409 and a 425 are repeated wherever they occur (``api.errors``).
_STATUS_CODES = frozenset({400, 404, 422})

#: Also in ``input_files`` and ``FileNotFound``, but not in ``profile``.
_SPEAKS_OF_A_FILE = re.compile("(?<!pro)file", re.IGNORECASE)


def file_may_appear(error: MistralCallError, file_ids: Collection[str]) -> bool:
    """
    Tell whether a create call was refused for a file that the API may see a moment later.

    What a refusal says differs from vendor to vendor, so any mention of a file counts: a look too many costs seconds, a
    look too few costs the task.

    :param error: The refusal.
    :param file_ids: Ids of the job's request files; none for a job without files.
    """
    if not file_ids or not isinstance(error, MistralAPIError) or error.status_code not in _STATUS_CODES:
        return False
    said = " ".join(text for text in (error.message, error.code, error.type, error.param) if text)
    return any(file_id in said for file_id in file_ids) or _SPEAKS_OF_A_FILE.search(said) is not None


#: Seconds after which what is not to be seen is gone.
_NEW_SECONDS = 600.0


def is_not_to_be_seen(error: MistralCallError) -> bool:
    """
    Tell whether the API answered that there is no such job or file. A 410 says that it is gone.

    :param error: The refusal.
    """
    return isinstance(error, MistralAPIError) and error.status_code == 404


def results_may_appear(error: MistralCallError, *, ended_at: int | None, now: float) -> bool:
    """
    Tell whether a result file that was not found may be seen a moment later, since its job has only just ended.

    :param error: The refusal.
    :param ended_at: When the job ended (epoch seconds of the server); ``None`` if the API does not say.
    :param now: The server's time.
    """
    return is_not_to_be_seen(error) and (ended_at is None or now - ended_at < _NEW_SECONDS)
