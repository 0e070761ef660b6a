"""The batch jobs API in Mistral's form."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from fastapi import APIRouter, Query, Request
from pydantic import AwareDatetime, BaseModel, Field, NaiveDatetime, StringConstraints, model_validator
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from airflow_provider_mistral_batch.emulator.http.auth import Caller
from airflow_provider_mistral_batch.emulator.http.creation import create_job
from airflow_provider_mistral_batch.emulator.http.dependencies import NoneIfEmpty, State, TheCaller, TheState
from airflow_provider_mistral_batch.emulator.http.errors import ApiError, InvalidField, not_found
from airflow_provider_mistral_batch.emulator.http.responses import json_response
from airflow_provider_mistral_batch.emulator.http.views import job_view
from airflow_provider_mistral_batch.emulator.state.tables import TERMINAL, Job

router = APIRouter()

MAX_INLINE_REQUESTS = 10_000

Endpoint = Literal[
    "/v1/chat/completions",
    "/v1/embeddings",
    "/v1/fim/completions",
    "/v1/moderations",
    "/v1/chat/moderations",
    "/v1/ocr",
    "/v1/classifications",
    "/v1/chat/classifications",
    "/v1/conversations",
    "/v1/audio/transcriptions",
]
Status = Literal[
    "QUEUED", "RUNNING", "SUCCESS", "FAILED", "TIMEOUT_EXCEEDED", "CANCELLATION_REQUESTED", "CANCELLED"
]
Metadata = dict[
    Annotated[str, StringConstraints(min_length=1, max_length=32)],
    Annotated[str, StringConstraints(min_length=1, max_length=512)],
]


class BatchRequest(BaseModel):
    """A request of an inline job."""

    custom_id: str | None = None
    body: dict[str, Any]


class CreateBatchJobRequest(BaseModel):
    """What a job is made of."""

    input_files: list[UUID] | None = None
    requests: Annotated[list[BatchRequest], Field(max_length=MAX_INLINE_REQUESTS)] | None = None
    endpoint: Endpoint
    model: str | None = None
    agent_id: str | None = None
    metadata: Metadata | None = None
    timeout_hours: Annotated[int, Field(ge=1, le=168)] = 24

    @model_validator(mode="after")
    def _one_kind_of_input(self) -> CreateBatchJobRequest:
        if bool(self.input_files) == bool(self.requests):
            message = "Exactly one of input_files and requests must be given, and not be empty"
            raise PydanticCustomError("value_error", message)
        return self


@router.post("/v1/batch/jobs")
async def create_batch_job(body: CreateBatchJobRequest, state: TheState, caller: TheCaller) -> Response:
    """Make a job."""
    job = create_job(
        state,
        caller,
        dialect="mistral",
        endpoint=body.endpoint,
        input_files=None if body.requests else [str(file_id) for file_id in body.input_files or []],
        requests=[one.model_dump() for one in body.requests] if body.requests else None,
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
    page: Annotated[int, Query(ge=0)] = 0,
    page_size: Annotated[int, Query(ge=1, le=1_000)] = 100,
    model: Annotated[str | None, NoneIfEmpty] = None,
    agent_id: Annotated[str | None, NoneIfEmpty] = None,
    created_after: Annotated[AwareDatetime | NaiveDatetime | None, NoneIfEmpty] = None,
    created_by_me: bool = False,
    status: Annotated[list[Status] | None, Query()] = None,
    order_by: Literal["created", "-created"] = "-created",
) -> Response:
    """List jobs by page."""
    where, parameters = listed(state, caller)
    if status:
        where += f" AND status IN ({', '.join('?' * len(status))})"
        parameters += status
    if created_after is not None:
        where += " AND created > ?"
        parameters.append(_epoch(created_after))
    if created_by_me:
        where += " AND user = ?"
        parameters.append(caller.user)
    for column, value in (("model", model), ("agent_id", agent_id)):
        if value is not None:
            where += f" AND {column} = ?"
            parameters.append(value)
    for name, value in _metadata_filter(request).items():
        where += " AND EXISTS (SELECT 1 FROM json_each(metadata) WHERE key = ? AND value = ?)"
        parameters += [name, value]
    jobs = state.store.list_jobs(
        where, parameters, descending=order_by == "-created", limit=page_size, offset=page * page_size
    )
    total = state.store.count_jobs(where, parameters)
    return json_response({"data": [job_view(job) for job in jobs], "object": "list", "total": total})


@router.get("/v1/batch/jobs/{job_id}")
async def get_batch_job(
    job_id: UUID, state: TheState, caller: TheCaller, inline: Annotated[bool | None, NoneIfEmpty] = None
) -> Response:
    """Describe one job; with ``inline`` its results, too, if its requests were inline."""
    job = found_job(state, caller, job_id)
    view = job_view(job)
    if inline and job.inline and not job.active:
        view["outputs"] = _outputs(state, caller, job)
    return json_response(view)


@router.delete("/v1/batch/jobs/{job_id}")
async def delete_batch_job(job_id: UUID, state: TheState, caller: TheCaller) -> Response:
    """Delete one job. If it runs it is stopped, and its results so far are lost."""
    job = found_job(state, caller, job_id)
    state.store.delete_job(job)
    state.wake_engine()
    return json_response({"id": job.id, "object": "batch", "deleted": True})


@router.post("/v1/batch/jobs/{job_id}/cancel")
async def cancel_batch_job(job_id: UUID, state: TheState, caller: TheCaller) -> Response:
    """Ask one job to stop."""
    return json_response(job_view(cancel_job(state, caller, job_id)))


def listed(state: State, caller: Caller) -> tuple[str, list[Any]]:
    """The condition for a job to be in the caller's listings, and its parameters."""
    where, parameters = "workspace = ? AND deleted = 0", [caller.workspace]
    if state.settings.listing_lag:
        return f"{where} AND created <= ?", [*parameters, state.wall() - state.settings.listing_lag]
    return where, [*parameters]


def found_job(state: State, caller: Caller, job_id: UUID) -> Job:
    """The caller's job of that id.

    :raises ApiError: 404.
    """
    job = state.store.find_job(caller.workspace, str(job_id))
    if job is None:
        raise not_found("Batch job", str(job_id))
    return job


def cancel_job(state: State, caller: Caller, job_id: UUID) -> Job:
    """Ask a job to stop, and return it as it is then.

    :raises ApiError: 404; 400 if the job is over and the settings say that this is an error.
    """
    job = found_job(state, caller, job_id)
    if job.status in TERMINAL and state.settings.cancel_finished == "error":
        raise ApiError(400, f"Batch job {job_id} has ended as {job.status} and cannot be cancelled")
    job = state.store.request_cancellation(job, state.wall(), state.cancel_due())
    state.wake_engine()
    return job


def _epoch(time: datetime) -> float:
    return time.timestamp()


def _metadata_filter(request: Request) -> dict[str, str]:
    """The ``metadata`` parameter, in each of the three ways to write an object into a query.

    The API's description gives it the default style, ``form`` exploded, which makes each of its keys a parameter
    of its own; also understood are ``metadata[key]=value`` and ``metadata={"key": "value"}``.

    :raises InvalidField: if it is neither.
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


def _json_object(text: str) -> dict[str, str]:
    try:
        return msgspec.json.decode(text, type=dict[str, str])
    except msgspec.DecodeError:
        message = "Input should be a JSON object of strings"
        raise InvalidField((("query", "metadata"), message, "dict_type")) from None


def _outputs(state: State, caller: Caller, job: Job) -> list[Any]:
    rows: list[Any] = []
    for file_id in filter(None, (job.output_file, job.error_file)):
        file = state.store.find_file(caller.workspace, caller.user, file_id, state.wall())
        if file is not None:
            with state.store.blob(file.blob).open("rb") as lines:
                rows += [msgspec.Raw(line) for line in lines]
    return rows
