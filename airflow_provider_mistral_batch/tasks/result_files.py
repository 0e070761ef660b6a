"""Opens the result files of a job that is over; the API may not see them everywhere at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from airflow_provider_mistral_batch.api.errors import NotFoundError
from airflow_provider_mistral_batch.api.once import send_until_there
from airflow_provider_mistral_batch.policies.refusals import results_may_appear

if TYPE_CHECKING:
    from airflow_provider_mistral_batch.api.models import BatchJobOut
    from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook

#: Seconds before each further try to open a file that was not found right after its job's end.
_PAUSES = (1.0, 2.0, 4.0, 8.0)


def stream_results(
    hook: MistralBatchHook, job: BatchJobOut, *, is_gone: Callable[[str, NotFoundError], None]
) -> Iterator[Iterator[bytes]]:
    """
    Open a job's result files, one by one as they are read.

    :param hook: How to read them.
    :param job: The job, which is over.
    :param is_gone: Called with the id of a file that is not in the account any more, and the error; unless it raises
        that, the other file is read all the same.
    """
    for file_id in (job.output_file_id, job.error_file_id):
        if file_id:
            yield _while_there(_stream(hook, job, file_id), partial(is_gone, file_id))


def _while_there(stream: Iterator[bytes], is_gone: Callable[[NotFoundError], None]) -> Iterator[bytes]:
    try:
        yield from stream
    except NotFoundError as error:
        is_gone(error)


def _stream(hook: MistralBatchHook, job: BatchJobOut, file_id: str) -> Iterator[bytes]:
    def begin() -> tuple[bytes, Iterator[bytes]]:
        stream = hook.stream_file(file_id)
        # The call is only made for the first bytes; an empty file has none.
        return next(stream, b""), stream

    first, rest = send_until_there(
        begin,
        may_appear=partial(results_may_appear, ended_at=job.ended_at, now=hook.server_now),
        pauses=_PAUSES,
        what="the results of a job that has just ended",
    )
    yield first
    yield from rest
