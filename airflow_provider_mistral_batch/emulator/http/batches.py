"""Batch jobs in the OpenAI-compatible dialect, which LLM gateways speak. The jobs are the same."""

from __future__ import annotations

import re
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel
from starlette.responses import Response

from airflow_provider_mistral_batch.emulator.http.creation import create_job
from airflow_provider_mistral_batch.emulator.http.dependencies import TheCaller, TheState
from airflow_provider_mistral_batch.emulator.http.errors import ApiError
from airflow_provider_mistral_batch.emulator.http.jobs import (
    Endpoint,
    Metadata,
    cancel_job,
    found_job,
    listed,
)
from airflow_provider_mistral_batch.emulator.http.responses import json_response
from airflow_provider_mistral_batch.emulator.http.views import batch_view

router = APIRouter()

_WINDOW = re.compile(r"([1-9]\d{0,3})([hd])")
_HOURS = {"h": 1, "d": 24}
_LONGEST_WINDOW = 168


class CreateBatchRequest(BaseModel):
    """What a batch is made of."""

    input_file_id: UUID
    endpoint: Endpoint
    completion_window: str
    metadata: Metadata | None = None


@router.post("/v1/batches")
async def create_batch(body: CreateBatchRequest, state: TheState, caller: TheCaller) -> Response:
    """Make a batch."""
    try:
        job = create_job(
            state,
            caller,
            dialect="openai",
            endpoint=body.endpoint,
            input_files=[str(body.input_file_id)],
            requests=None,
            model=None,
            agent_id=None,
            metadata=body.metadata,
            timeout_hours=_hours(body.completion_window),
            completion_window=body.completion_window,
        )
    except ApiError as error:
        if error.status == 404:
            raise ApiError(400, error.message, param="input_file_id") from None
        raise
    return json_response(batch_view(job))


@router.get("/v1/batches")
async def list_batches(
    state: TheState,
    caller: TheCaller,
    after: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    """List batches from a cursor on, newest first."""
    where, parameters = listed(state, caller)
    if after is not None:
        cursor = found_job(state, caller, after)
        where += " AND (created, seq) < (?, ?)"
        parameters += [cursor.created, cursor.seq]
    jobs = state.store.list_jobs(where, parameters, descending=True, limit=limit + 1)
    shown = jobs[:limit]
    return json_response(
        {
            "object": "list",
            "data": [batch_view(job) for job in shown],
            "first_id": shown[0].id if shown else None,
            "last_id": shown[-1].id if shown else None,
            "has_more": len(jobs) > limit,
        }
    )


@router.get("/v1/batches/{batch_id}")
async def retrieve_batch(batch_id: UUID, state: TheState, caller: TheCaller) -> Response:
    """Describe one batch."""
    return json_response(batch_view(found_job(state, caller, batch_id)))


@router.post("/v1/batches/{batch_id}/cancel")
async def cancel_batch(batch_id: UUID, state: TheState, caller: TheCaller) -> Response:
    """Ask one batch to stop."""
    return json_response(batch_view(cancel_job(state, caller, batch_id)))


def _hours(window: str) -> int:
    found = _WINDOW.fullmatch(window)
    hours = int(found.group(1)) * _HOURS[found.group(2)] if found else 0
    if not 1 <= hours <= _LONGEST_WINDOW:
        message = (
            f"completion_window must be a number of hours or days up to 168h, such as '24h', not {window!r}"
        )
        raise ApiError(400, message, param="completion_window")
    return hours
