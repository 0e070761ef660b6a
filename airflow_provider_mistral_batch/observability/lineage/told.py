"""What a task tells of itself: its jobs, what it reads and writes, and facts from its job or its manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_mistral_batch.api.models import BatchJobOut


@dataclass(kw_only=True)
class Told:
    """
    What a task tells.

    :param batch_ids: Ids of its jobs.
    :param about: Fields of the run facet: ``model``, ``endpoint``, ``counts``, ``tokens``, ``estimated_cost_usd``,
        ``rounds``. Those that are not known are left out.
    :param inputs: What it reads: whatever ``datasets_of`` in ``datasets.py`` takes.
    :param outputs: What it has written, with the number of rows if that is known.
    """

    batch_ids: Sequence[str] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    inputs: Sequence[Any] = ()
    outputs: Sequence[tuple[Any, int | None]] = ()


def about_job(job: BatchJobOut | None) -> dict[str, Any]:
    """
    Give the run facet's fields that a job tells.

    :param job: The job, if it was seen.
    """
    if job is None:
        return {}
    counts = job.request_counts
    return {
        "model": job.model,
        "endpoint": job.endpoint or None,
        "counts": {"total": counts.total, "succeeded": counts.completed, "failed": counts.failed},
    }


def about_manifest(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """
    Give the run facet's fields that a manifest tells.

    :param manifest: The manifest.
    """
    return {
        "counts": dict(manifest["counts"]),
        "tokens": dict(manifest.get("usage") or {}),
        "estimated_cost_usd": manifest.get("estimated_cost_usd"),
        "rounds": manifest.get("rounds"),
    }


def landed_files(manifest: Mapping[str, Any]) -> list[tuple[Any, int | None]]:
    """
    Give the files that a manifest names, with their rows.

    :param manifest: The manifest.
    """
    counts = manifest["counts"]
    return [
        (manifest["results_path"], counts["succeeded"]),
        (manifest["errors_path"], counts["total"] - counts["succeeded"]),
    ]
