"""Routes of batch jobs, in Mistral's form."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from fastapi import APIRouter, Query, Request
from pydantic import AwareDatetime, BaseModel, Field, NaiveDatetime, model_validator
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from airflow_provider_mistral_batch.emulator.http.auth import TheCaller
from airflow_provider_mistral_batch.emulator.http.bodies import StrictRoute
from airflow_provider_mistral_batch.emulator.http.errors import InvalidField
from airflow_provider_mistral_batch.emulator.http.job_operations import (
    cancel_job,
    create_job,
    find_job,
    listed_jobs,
)
from airflow_provider_mistral_batch.emulator.http.parameters import (
    Endpoint,
    Metadata,
    NoneIfEmpty,
    Page,
    TheState,
    TimeoutHours,
)
from airflow_provider_mistral_batch.emulator.http.responses import json_response
from airflow_provider_mistral_batch.emulator.http.views import job_view
from airflow_provider_mistral_batch.emulator.state.keys import Caller
from airflow_provider_mistral_batch.emulator.state.server_state import ServerState
from airflow_provider_mistral_batch.emulator.state.statuses import Status
from airflow_provider_mistral_batch.emulator.state.tables import Job

router = APIRouter(route_class=StrictRoute)

_MAX_INLINE_REQUESTS = 10_000

#: Parameters of a listing. All others are metadata, see :func:`_metadata_filter`.
_LIST_PARAMETERS = {
    "page",
    "page_size",
    "model",
    "agent_id",
    "created_after",
    "created_by_me",
    "status",
    "order_by",
}


class BatchRequest(BaseModel):
    """A request that is sent together with its job."""

    custom_id: str | None = None
    body: dict[str, Any]


class CreateBatchJobRequest(BaseModel):
    """What a job is created from."""

    input_files: list[UUID] | None = None
    requests: Annotated[list[BatchRequest], Field(max_length=_MAX_INLINE_REQUESTS)] | None = None
    endpoint: Endpoint
    model: str | None = None
    agent_id: str | None = None
    metadata: Metadata | None = None
    timeout_hours: TimeoutHours = 24

    @model_validator(mode="after")
    def _one_kind_of_input(self) -> CreateBatchJobRequest:
        if bool(self.input_files) == bool(self.requests):
            message = "Exactly one of input_files and requests must be given, and not be empty"
            raise PydanticCustomError("value_error", message)
        return self


@router.post("/v1/batch/jobs")
async def create_batch_job(body: CreateBatchJobRequest, state: TheState, caller: TheCaller) -> Response:
    """Create a job."""
    job = create_job(
        state,
        caller,
        dialect="mistral",
        endpoint=body.endpoint,
        input_files=None if body.requests else [str(file_id) for file_id in body.input_files or []],
        requests=[{"custom_id": one.custom_id, "body": one.body} for one in body.requests]
        if body.requests
        else None,
        model=body.model,
        agent_id=body.agent_id,
        metadata=body.metadata,
        timeout_hours=body.timeout_hours,
    )
    return json_response(job_view(job))


@router.get("/v1/batch/jobs")
async def list_batch_jobs(
    request: Request,
    state: TheState,
    caller: TheCaller,
    page: Page = 0,
    page_size: Annotated[int, Query(ge=1, le=1_000)] = 100,
    model: Annotated[str | None, NoneIfEmpty] = None,
    agent_id: Annotated[str | None, NoneIfEmpty] = None,
    created_after: Annotated[AwareDatetime | NaiveDatetime | None, NoneIfEmpty] = None,
    created_by_me: bool = False,
    status: Annotated[list[Status] | None, Query()] = None,
    order_by: Literal["created", "-created"] = "-created",
) -> Response:
    """List jobs, page by page."""
    wanted = replace(
        listed_jobs(state, caller),
        statuses=status or (),
        created_after=None if created_after is None else _epoch_seconds(created_after),
        user=caller.user if created_by_me else None,
        model=model,
        agent_id=agent_id,
        metadata=_metadata_filter(request),
    )
    jobs = state.store.list_jobs(
        wanted, descending=order_by == "-created", limit=page_size, offset=page * page_size
    )
    total = state.store.count_jobs(wanted)
    return json_response({"data": [job_view(job) for job in jobs], "object": "list", "total": total})


@router.get("/v1/batch/jobs/{job_id}")
async def get_batch_job(
    job_id: UUID, state: TheState, caller: TheCaller, inline: Annotated[bool | None, NoneIfEmpty] = None
) -> Response:
    """Describe a job. With ``inline``, results are included if the job's requests were inline and it is over."""
    job = find_job(state, caller, job_id)
    view = job_view(job)
    if inline and job.inline and not job.active:
        view["outputs"] = _outputs(state, caller, job)
    return json_response(view)


@router.delete("/v1/batch/jobs/{job_id}")
async def delete_batch_job(job_id: UUID, state: TheState, caller: TheCaller) -> Response:
    """Delete a job. If it is active, it stops and its results are lost."""
    job = find_job(state, caller, job_id)
    state.store.delete_job(job)
    state.wake_engine()
    return json_response({"id": job.id, "object": "batch", "deleted": True})


@router.post("/v1/batch/jobs/{job_id}/cancel")
async def cancel_batch_job(job_id: UUID, state: TheState, caller: TheCaller) -> Response:
    """Request the cancellation of a job."""
    return json_response(job_view(cancel_job(state, caller, job_id)))


def _metadata_filter(request: Request) -> dict[str, str]:
    """
    Read the parameter ``metadata``, in each of the three ways to write an object into a query.

    The API's description gives it the default style, ``form`` exploded, which makes each of its keys a parameter
    of its own. ``metadata[key]=value`` and ``metadata={"key": "value"}`` are understood, too.

    :raises InvalidField: If the value of ``metadata`` is not a JSON object of strings.
    """
    wanted: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name == "metadata":
            if value:
                wanted.update(_json_object(value))
        elif name.startswith("metadata[") and name.endswith("]"):
            wanted[name[len("metadata[") : -1]] = value
        elif name not in _LIST_PARAMETERS:
            wanted[name] = value
    return wanted


def _epoch_seconds(time: datetime) -> float:
    """Seconds of a time, also of the first and the last day of the calendar; without a zone it is in the local one."""
    try:
        return time.timestamp()
    except (OverflowError, ValueError, OSError):
        return time.replace(tzinfo=timezone.utc).timestamp()


def _json_object(text: str) -> dict[str, str]:
    try:
        return msgspec.json.decode(text, type=dict[str, str])
    except (msgspec.DecodeError, RecursionError):
        message = "Input should be a JSON object of strings"
        raise InvalidField((("query", "metadata"), message, "dict_type")) from None


def _outputs(state: ServerState, caller: Caller, job: Job) -> list[Any]:
    rows: list[Any] = []
    for file_id in filter(None, (job.output_file, job.error_file)):
        file = state.store.find_file(caller.workspace, caller.user, file_id, state.wall())
        if file is not None:
            with state.store.blob(file.blob).open("rb") as lines:
                rows += [msgspec.Raw(line) for line in lines]
    return rows
