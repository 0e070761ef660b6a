"""How many requests a workspace has pending, and so whether there is room for more."""

from __future__ import annotations

from collections.abc import Iterable

from airflow_provider_mistral_batch.api.models import BatchJobOut
from airflow_provider_mistral_batch.policies.ownership import PREFIX, noted_number

#: Metadata key of our own jobs: how many requests they hold. The API says so only when it has validated them.
REQUESTS = f"{PREFIX}requests"


def pending_requests(jobs: Iterable[BatchJobOut]) -> int:
    """
    Count the requests that jobs still have before them.

    :param jobs: Jobs of a workspace; those that are over count nothing.
    """
    return sum(map(_pending, jobs))


def _pending(job: BatchJobOut) -> int:
    if job.is_terminal:
        return 0
    counts = job.request_counts
    # A fresh job is not an empty one: its total is 0 until its validation ends.
    total = counts.total or noted_number(job, REQUESTS) or 0
    return max(0, total - counts.completed - counts.failed)
