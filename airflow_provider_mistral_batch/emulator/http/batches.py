"""Routes of batch jobs in the OpenAI-compatible dialect, which LLM gateways speak. The jobs are the same."""

from __future__ import annotations

import re
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel
from starlette.responses import Response

from airflow_provider_mistral_batch.emulator.http.auth import TheCaller
from airflow_provider_mistral_batch.emulator.http.bodies import StrictRoute
from airflow_provider_mistral_batch.emulator.http.errors import ApiError
from airflow_provider_mistral_batch.emulator.http.job_operations import (
    cancel_job,
    create_job,
    find_job,
    listed_jobs,
)
from airflow_provider_mistral_batch.emulator.http.parameters import (
    MAX_TIMEOUT_HOURS,
    Endpoint,
    Metadata,
    TheState,
)
from airflow_provider_mistral_batch.emulator.http.responses import json_response
from airflow_provider_mistral_batch.emulator.http.views import batch_view

router = APIRouter(route_class=StrictRoute)

_WINDOW = re.compile(r"([1-9]\d{0,3})([hd])")
_HOURS = {"h": 1, "d": 24}


class CreateBatchRequest(BaseModel):
    """What a job is created from."""

    input_file_id: UUID
    endpoint: Endpoint
    completion_window: str
    metadata: Metadata | None = None


@router.post("/v1/batches")
async def create_batch(body: CreateBatchRequest, state: TheState, caller: TheCaller) -> Response:
    """Create a job."""
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
    """List jobs, newest first, starting after a given one."""
    cursor = None if after is None else find_job(state, caller, after)
    jobs = state.store.list_jobs(listed_jobs(state, caller), descending=True, limit=limit + 1, after=cursor)
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
    """Describe a job."""
    return json_response(batch_view(find_job(state, caller, batch_id)))


@router.post("/v1/batches/{batch_id}/cancel")
async def cancel_batch(batch_id: UUID, state: TheState, caller: TheCaller) -> Response:
    """Request the cancellation of a job."""
    return json_response(batch_view(cancel_job(state, caller, batch_id)))


def _hours(window: str) -> int:
    found = _WINDOW.fullmatch(window)
    hours = int(found.group(1)) * _HOURS[found.group(2)] if found else 0
    if not 1 <= hours <= MAX_TIMEOUT_HOURS:
        message = (
            "completion_window must be a number of hours or days"
            f" up to {MAX_TIMEOUT_HOURS}h, such as '24h', not {window!r}"
        )
        raise ApiError(400, message, param="completion_window")
    return hours
