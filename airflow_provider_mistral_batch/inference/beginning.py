"""Begins a batch, again on each try: claims the destination, makes or finds request files, checks the cost, uploads."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_mistral_batch.api.checks import chosen_model
from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.inference.batch import Batch
from airflow_provider_mistral_batch.inference.budget import check_cost
from airflow_provider_mistral_batch.inference.frozen import freeze, frozen_plan, source_key
from airflow_provider_mistral_batch.inference.plan import BatchPlan, content_hash

if TYPE_CHECKING:
    from airflow_provider_mistral_batch.inference.batch import Pause
    from airflow_provider_mistral_batch.inference.workplace import Workplace
    from airflow_provider_mistral_batch.jsonl.requests.prepare import PreparedRequests

log = logging.getLogger(__name__)


def begin(work: Workplace, source: Callable[[], Any], *, alive: bool = False) -> Pause | dict[str, Any]:
    """
    Begin a batch and run it to its first pause or its end.

    :param work: What this worker has at hand.
    :param source: Returns the requests: rows, prompts, or paths of request files. Called after the claim.
    :param alive: Whether the source may give something else each time it is called, as a function that reads a table
        does. Then it is called until the batch is submitted, and not again until the task is cleared.
    :return: What :meth:`~airflow_provider_mistral_batch.inference.batch.Batch.run` returns.
    """
    work.destination.claim(work.options.if_exists)
    try:
        asked_once = source_key(work) if alive else ""
        plan = frozen_plan(work, asked_once) if alive else None
        prepared = None
        if plan is not None and (manifest := Batch(work, plan).finished_by_another_try()) is not None:
            return manifest
        if plan is None or (work.table is not None and not work.table.has_rows(plan.key)):
            frozen = plan
            requests = source() if work.table is None else work.table.requests(source())
            prepared = _prepare(work, requests)
            content = (None if work.table is None else requests.content) or content_hash(prepared.shards)
            plan = _plan(work, prepared, content, source=asked_once)
            if frozen is not None and frozen.key != plan.key:
                raise InvalidInputError(
                    f"destination={str(work.destination.folder)!r:.200} was emptied. The rows that an earlier try "
                    "asked about are gone, and the source gives others now. The answers stay in the account: land them "
                    "with MistralDownloadBatchResultsOperator; or clear the task, which asks about the new "
                    "rows, and pays for them"
                )
        batch = Batch(work, plan)
        if prepared is not None:
            if (manifest := batch.finished_by_another_try()) is not None:
                return manifest
            check_cost(prepared.paths, work.options, plan.model)
            if work.table is not None:
                work.table.keep_rows(requests, plan.key)
            plan.rounds.append(work.files.upload(prepared.shards, plan.model))
            if alive:
                freeze(work, plan)
        return batch.run()
    except Exception:
        # No job was submitted, so no results will come: other tasks may have the destination.
        if not work.submission.batch_ids and not work.submission.answer_lost:
            work.destination.withdraw()
        raise


def _prepare(work: Workplace, source: Any) -> PreparedRequests:
    # Imported late: parsing a Dag needs none of it.
    from airflow_provider_mistral_batch.jsonl.requests.prepare import prepare_requests

    options, hook = work.options, work.hook
    return prepare_requests(
        source,
        endpoint=options.endpoint,
        directory=work.directory / "round-0",
        with_url=hook.rows_have_url,
        template=options.template(hook.model_of_rows(options.model)),
        max_job_requests=options.requests_per_job,
    )


def _plan(work: Workplace, prepared: PreparedRequests, content: str, *, source: str) -> BatchPlan:
    options = work.options
    model = chosen_model(
        options.model,
        options.agent_id,
        named=prepared.model,
        named_agent=prepared.agent,
        default=work.hook.default_model,
    )
    # Two batches that agree on all of this are the same work.
    asked = {
        "content": content,
        "endpoint": options.endpoint,
        "model": model,
        "agent_id": options.agent_id,
        "window": options.window,
        "form": options.structured.schema if options.structured else None,
        "run_token": work.submission.run_token,
    }
    key = hashlib.sha256(msgspec.json.encode(asked, order="deterministic")).hexdigest()
    return BatchPlan(key=key, model=model, rounds=[], source=source)
