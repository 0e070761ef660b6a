"""``read_detail``: one job with all that helps to understand it, of bounded size, whatever the results hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import msgspec

from airflow_provider_mistral_batch.api.models import BatchJobOut, BatchStatus
from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
from airflow_provider_mistral_batch.overview.costs import amounts, scaled, with_share
from airflow_provider_mistral_batch.overview.heads import HEAD_BYTES, Head, read_head
from airflow_provider_mistral_batch.overview.jobs import JobView, clean, job_view
from airflow_provider_mistral_batch.overview.landed import Landed
from airflow_provider_mistral_batch.policies.ownership import PART

#: Paths may be long.
_PATH_LENGTH = 1000

#: Most jobs of a batch that are shown.
_MOST_JOBS = 100


class Moment(msgspec.Struct, frozen=True):
    """
    Something that happened to a job.

    :param at: Epoch seconds of the server's clock.
    """

    what: str
    at: int


class Detail(msgspec.Struct, frozen=True, kw_only=True):
    """
    One job with all that is known about it.

    :param job: The job. Its usage and cost are filled in if they are known or estimated.
    :param is_estimate: Whether they are estimated from the first rows.
    :param timeline: What happened, in order.
    :param answers: The first rows that succeeded; ``None`` if there is no such file.
    :param failures: The first rows that failed; ``None`` if there is no such file.
    :param has_landed_rows: Whether they are of the whole batch, from its destination. If not, they are of this job.
    :param manifest: The main fields of the batch's manifest, if it has landed.
    :param landing_problem: Why the destination could not be read, if it could not.
    :param console_url: The job's page in Mistral's console; empty if there is none.
    :param now: The time by the API's clock (epoch seconds).
    """

    job: JobView
    is_estimate: bool
    timeline: list[Moment]
    answers: Head | None
    failures: Head | None
    has_landed_rows: bool
    manifest: dict[str, Any] | None
    landing_problem: str | None
    console_url: str
    now: float


def read_detail(
    hook: MistralBatchHook,
    batch_id: str,
    *,
    manifest: Mapping[str, Any] | None = None,
    landed: Landed | None = None,
) -> Detail:
    """
    Read one job and the first rows of its results. What cannot be read says why, and the rest is there.

    :param hook: The connection.
    :param batch_id: The job's id.
    :param manifest: The manifest of the job's batch as its task returned it, if its results have landed.
    :param landed: What was found where they landed. Where nothing was, rows are read from the API's files.
    :raises NotFoundError: When the workspace has no such job.
    :raises MistralCallError: When the job cannot be read.
    """
    # Imported late, with all that it needs.
    from airflow_provider_mistral_batch.links.mistral_batch import console_url

    client = hook.get_conn()
    job = client.get(batch_id)
    is_landed = landed is not None and landed.manifest is not None
    if landed is not None and landed.manifest is not None:
        manifest, answers, failures = landed.manifest, landed.answers, landed.failures
    else:
        answers, failures = (
            None if file_id is None else read_head(client.stream_file, file_id, client.without_secrets)
            for file_id in (job.output_file_id, job.error_file_id)
        )
    view, is_estimate = _with_usage(
        job_view(job, hook.mistral_conn_id), answers, manifest, has_landed_rows=is_landed
    )
    return Detail(
        job=view,
        is_estimate=is_estimate,
        timeline=timeline(job),
        answers=answers,
        failures=failures,
        has_landed_rows=is_landed,
        manifest=None if manifest is None else shown_manifest(manifest),
        landing_problem=None if landed is None else landed.problem,
        console_url=console_url(job.id, client.base_url),
        now=hook.server_now,
    )


def jobs_of_batch(job: JobView, jobs: Iterable[JobView]) -> list[JobView]:
    """
    Choose the jobs of a job's batch, which may have several rounds: by round, and not too many.

    :param job: The job.
    :param jobs: The jobs to choose from.
    """
    batch = _batch_of(job)
    if not batch or job.task is None:
        return [job]
    found = [one for one in jobs if one.task == job.task and _batch_of(one) == batch]
    return sorted(found, key=lambda one: (one.round or 0, one.part or 0, one.created_at))[:_MOST_JOBS]


def _batch_of(job: JobView) -> str:
    """Read the batch of ``<batch>/<round>/<part>``; empty if the job is part of none."""
    return job.metadata.get(PART, "").partition("/")[0]


def timeline(job: BatchJobOut) -> list[Moment]:
    """
    Tell what happened to a job, in order, as far as the API says.

    :param job: The job.
    """
    moments = [
        ("created", job.created_at or None),
        ("started", job.in_progress_at),
        ("finalizing", job.finalizing_at),
        ("cancellation requested", job.cancelling_at),
        (BatchStatus.COMPLETED, job.completed_at),
        (BatchStatus.FAILED, job.failed_at),
        (BatchStatus.EXPIRED, job.expired_at),
        (BatchStatus.CANCELLED, job.cancelled_at),
        ("expires", None if job.is_terminal else job.expires_at),
    ]
    return [Moment(what, at) for what, at in moments if at is not None]


def shown_manifest(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """
    Give the main fields of a manifest, of bounded size: whoever can write XComs may have written it.

    :param manifest: The manifest.
    """
    shown: dict[str, Any] = {}
    for name in ("results_path", "errors_path"):
        if isinstance(manifest.get(name), str):
            shown[name] = clean(manifest[name], _PATH_LENGTH)
    if isinstance(manifest.get("batch_ids"), list):
        shown["batch_ids"] = [clean(str(batch_id)) for batch_id in manifest["batch_ids"][:100]]
    for name in ("started_at", "completed_at", "estimated_cost_usd"):
        if isinstance(manifest.get(name), (int, float)):
            shown[name] = manifest[name]
    for name in ("counts", "usage"):
        shown[name] = amounts(manifest.get(name))
    counts = manifest.get("counts")
    if isinstance(counts, Mapping):
        shown["counts"]["by_status"] = amounts(counts.get("by_status"))
    errors = manifest.get("errors")
    shown["errors"] = [
        {
            clean(str(name)): clean(str(value), 500)
            for name, value in islice(error.items(), 10)
            if value is not None
        }
        for error in (errors if isinstance(errors, list) else [])[:20]
        if isinstance(error, Mapping)
    ]
    return shown


def _with_usage(
    job: JobView, answers: Head | None, manifest: Mapping[str, Any] | None, *, has_landed_rows: bool = False
) -> tuple[JobView, bool]:
    """Fill in usage and cost: the job's share of what the manifest says of its batch, or from the job's first rows."""
    from airflow_provider_mistral_batch.inference.budget import estimated_cost

    if manifest is not None and amounts(manifest.get("usage")):
        succeeded = amounts(manifest.get("counts")).get("succeeded", 0)
        return with_share(job, manifest, completed=succeeded), False
    if answers is None or not answers.rows_read or has_landed_rows:
        return job, False
    is_estimate = not answers.is_whole
    completed = job.completed or answers.rows_read
    usage = scaled(answers.usage, answers.rows_read, completed) if is_estimate else answers.usage
    cost = estimated_cost(job.model, usage)
    return msgspec.structs.replace(job, usage=dict(usage), cost_usd=cost), is_estimate


def sampled_costs(
    jobs: Iterable[JobView], hooks: Mapping[str, MistralBatchHook], *, head_bytes: int = HEAD_BYTES // 4
) -> Iterator[JobView]:
    """
    Estimate what jobs used and cost from the first rows of their results, with one call for each job.

    :param jobs: The jobs.
    :param hooks: Hooks by connection.
    :param head_bytes: Bytes of each result file to read.
    :return: The jobs, lazily; as they came where nothing can be estimated.
    """
    for job in jobs:
        hook = next((hooks[conn_id] for conn_id in job.connections if conn_id in hooks), None)
        if hook is None or job.output_file_id is None:
            yield job
            continue
        client = hook.get_conn()
        head = read_head(client.stream_file, job.output_file_id, client.without_secrets, max_bytes=head_bytes)
        yield _with_usage(job, head, None)[0]
