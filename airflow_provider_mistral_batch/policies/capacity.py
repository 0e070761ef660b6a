"""How many requests are pending in a workspace, which decides whether there is room for more."""

from __future__ import annotations

from collections.abc import Iterable

from airflow_provider_mistral_batch.api.models import BatchJobOut
from airflow_provider_mistral_batch.policies.ownership import PREFIX, noted_number

#: Metadata key of our own jobs: how many requests they hold. The API reports the number only after validation.
REQUESTS = f"{PREFIX}requests"


def pending_requests(jobs: Iterable[BatchJobOut]) -> int:
    """
    Count the requests that jobs have yet to process.

    :param jobs: Jobs of a workspace; a job that is over counts as 0.
    """
    return sum(map(_pending, jobs))


def _pending(job: BatchJobOut) -> int:
    if job.is_terminal:
        return 0
    counts = job.request_counts
    # A total of 0 does not mean an empty job: the API reports 0 until validation ends.
    total = counts.total or noted_number(job, REQUESTS) or 0
    return max(0, total - counts.completed - counts.failed)
