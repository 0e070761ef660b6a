"""The frozen input of a batch: what a living source gave before the first job, kept until the task is cleared."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_mistral_batch.api.errors import (
    BadRequestError,
    InvalidInputError,
    MistralCallError,
    NotFoundError,
)
from airflow_provider_mistral_batch.api.regular_files import NotAFileError
from airflow_provider_mistral_batch.api.texts import sentence
from airflow_provider_mistral_batch.inference.plan import BatchPlan, PlannedJob
from airflow_provider_mistral_batch.policies.capacity import REQUESTS
from airflow_provider_mistral_batch.policies.freezing import frozen_batches
from airflow_provider_mistral_batch.policies.ownership import has_work, identity_hash, noted_number
from airflow_provider_mistral_batch.tasks.identity import run_token

if TYPE_CHECKING:
    from airflow_provider_mistral_batch.inference.workplace import Workplace
    from airflow_provider_mistral_batch.policies.freezing import FrozenBatch

log = logging.getLogger(__name__)


class _Frozen(msgspec.Struct, kw_only=True):
    """What ``frozen.json`` says."""

    source: str
    key: str
    model: str | None
    jobs: list[PlannedJob]


def source_key(work: Workplace) -> str:
    """
    Hash everything for which a source is asked once: the task instance, its clear and what shapes requests and jobs.

    :param work: What the worker has at hand.
    """
    options, hook = work.options, work.hook
    asked = {
        "task": identity_hash(work.submission.identity),
        "run_token": run_token(work.context),
        "endpoint": options.endpoint,
        "model": options.model or hook.default_model,
        "agent_id": options.agent_id,
        "window": options.window,
        "template": options.template(hook.model_of_rows(options.model)),
        "form": options.structured.schema if options.structured else None,
        "with_url": hook.rows_have_url,
        "requests_per_job": options.requests_per_job,
        "table": options.question.work if options.is_table else None,
        "source": getattr(options.source, "definition", None),
    }
    content = msgspec.json.encode(asked, order="deterministic", enc_hook=_encoded)
    return hashlib.sha256(content).hexdigest()[:32]


def freeze(work: Workplace, plan: BatchPlan) -> None:
    """
    Write down a batch whose request files are uploaded, before its first job is created.

    :param work: What the worker has at hand.
    :param plan: The batch.
    """
    frozen = _Frozen(source=plan.source, key=plan.key, model=plan.model, jobs=plan.rounds[0])
    work.destination.keep_frozen(msgspec.to_builtins(frozen))


def frozen_plan(work: Workplace, source: str) -> BatchPlan | None:
    """
    Find the batch that an earlier try was about to submit, or submitted; ``None`` if the source has to be asked.

    :param work: What the worker has at hand.
    :param source: What :func:`source_key` gives.
    :raises InvalidInputError: When the batch cannot be completed, and asking the source would pay again for a part.
    """
    plan = _from_destination(work, source) or _from_jobs(work, source)
    if plan is None or not _is_usable(work, plan):
        return None
    log.info(
        "Continuing with the %d requests that an earlier try was given: the source is not asked again until the task "
        "is cleared.",
        sum(job.request_count for job in plan.rounds[0]),
    )
    return plan


def _from_destination(work: Workplace, source: str) -> BatchPlan | None:
    try:
        content = work.destination.frozen()
        if content is None:
            return None
        frozen = msgspec.convert(content, _Frozen)
    # A store that does not answer is another matter: asking the source again could pay twice.
    except (msgspec.MsgspecError, NotAFileError) as error:
        log.warning("The frozen input in the destination cannot be read, so it does not count: %s", error)
        return None
    if frozen.source != source:
        log.info("The task was cleared, or its parameters have changed: the source is asked again.")
        return None
    return _plan(source, frozen.key, frozen.model, frozen.jobs)


def _from_jobs(work: Workplace, source: str) -> BatchPlan | None:
    """Rebuild the plan from the record of the jobs: somebody may have emptied the destination."""
    # A first try has no jobs.
    if not work.submission.may_have_duplicates:
        return None
    batch = next(iter(frozen_batches(work.submission.jobs_on_record(), source)), None)
    if batch is None:
        return None
    if not batch.is_complete:
        log.warning(
            "Of the %d batch jobs that an earlier try was about to submit, only %s are on record, and the rest of its "
            "input is nowhere: the source is asked again. If it gives something else, its requests are new work.",
            batch.note.jobs,
            _named(batch),
        )
        return None
    jobs = [
        PlannedJob(
            input_files=job.input_files, content=content, request_count=noted_number(job, REQUESTS) or 0
        )
        for _, (job, content) in sorted(batch.jobs.items())
    ]
    return _plan(source, batch.note.key, batch.note.model, jobs)


def _plan(source: str, key: str, model: str | None, jobs: Collection[PlannedJob]) -> BatchPlan | None:
    # Only what describes the input is taken over: the jobs themselves are found by their metadata.
    first_round = [
        PlannedJob(input_files=job.input_files, content=job.content, request_count=job.request_count)
        for job in jobs
        if job.input_files
    ]
    return BatchPlan(key=key, model=model, source=source, rounds=[first_round]) if first_round else None


def _is_usable(work: Workplace, plan: BatchPlan) -> bool:
    """
    Tell whether a plan can be carried out, even if somebody has deleted its request files.

    :raises InvalidInputError: When some of its jobs exist, and the others can no longer be submitted.
    """
    gone = [file_id for job in plan.rounds[0] for file_id in job.input_files if _is_gone(work, file_id)]
    if not gone:
        return True
    described = f"request file {', '.join(gone[:5])}{' and others' if gone[5:] else ''}"
    batches = frozen_batches(work.submission.jobs_on_record(), plan.source)
    batch = next((batch for batch in batches if batch.note.key == plan.key), None)
    numbers = () if batch is None else [number for number, (job, _) in batch.jobs.items() if has_work(job)]
    if batch is None or not numbers:
        log.warning(
            "%s of an earlier try is gone, and no batch job has its requests: asking the source again.",
            described.capitalize(),
        )
        return False
    if len(numbers) < len(plan.rounds[0]):
        raise InvalidInputError(
            f"{described} of an earlier try is gone from the account, so only {len(numbers)} of its "
            f"{len(plan.rounds[0])} batch jobs exist ({_named(batch)}) and the others can no longer be submitted. To "
            "ask the source again, and pay for all requests, clear the task"
        )
    log.warning(
        "%s is gone from the account. The batch jobs that had it exist, so their results are landed.",
        described.capitalize(),
    )
    return True


def _is_gone(work: Workplace, file_id: str) -> bool:
    try:
        return work.hook.get_file(file_id).deleted
    except (NotFoundError, BadRequestError, InvalidInputError):
        return True
    except MistralCallError as error:
        log.debug("%s Taking the file for there.", sentence(error))
        return False


def _named(batch: FrozenBatch) -> str:
    return ", ".join(job.id for job, _ in batch.jobs.values())


def _encoded(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(type(value))
