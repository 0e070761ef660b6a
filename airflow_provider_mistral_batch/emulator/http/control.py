"""The control API under ``/emulator``: settings, faults, the record, and jobs out of thin air. It needs no token."""

from __future__ import annotations

import time
from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import APIRouter, Body
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response

from airflow_provider_mistral_batch.emulator.http.dependencies import State, TheState
from airflow_provider_mistral_batch.emulator.http.errors import ApiError, InvalidField, not_found
from airflow_provider_mistral_batch.emulator.http.jobs import Endpoint, Status
from airflow_provider_mistral_batch.emulator.http.responses import json_response
from airflow_provider_mistral_batch.emulator.http.views import file_view, job_view
from airflow_provider_mistral_batch.emulator.state.faults import Fault, JobRule
from airflow_provider_mistral_batch.emulator.state.plans import End, JobPlan, read_plan
from airflow_provider_mistral_batch.emulator.state.tables import TERMINAL, File, Job, json_text

router = APIRouter(prefix="/emulator")

#: Job seconds after which nothing ends.
_NEVER = 1e12


class KeyIn(BaseModel):
    """An API key to let in."""

    model_config = ConfigDict(extra="forbid")

    key: Annotated[str, Field(min_length=1)]
    same_workspace_as: str | None = None


class JobsIn(BaseModel):
    """Jobs without input, made all at once: they only exist, and end when their time has come or when told to."""

    model_config = ConfigDict(extra="forbid")

    count: Annotated[int, Field(ge=1, le=1_000_000)]
    key: Annotated[str, Field(min_length=1)]
    status: Status = "RUNNING"
    endpoint: Endpoint = "/v1/chat/completions"
    model: str | None = "mistral-small-latest"
    metadata: dict[str, str] | None = None
    timeout_hours: Annotated[int, Field(ge=1, le=168)] = 24
    total_requests: Annotated[int, Field(ge=0)] = 1
    age_seconds: Annotated[float, Field(ge=0)] = 0.0
    ends_after: Annotated[list[float] | None, Field(min_length=1)] = None
    plan: JobPlan | None = None


class EndIn(BaseModel):
    """Which jobs to end now, and how."""

    model_config = ConfigDict(extra="forbid")

    ids: list[UUID] | None = None
    metadata: dict[str, str] | None = None
    status: End = "SUCCESS"


@router.get("/health")
async def health() -> Response:
    """Say that the emulator is up."""
    return json_response({"status": "ok"})


@router.get("/settings")
async def get_settings(state: TheState) -> Response:
    """All settings."""
    return json_response(state.settings.model_dump())


@router.patch("/settings")
async def change_settings(changes: Annotated[dict[str, Any], Body()], state: TheState) -> Response:
    """Change some settings."""
    try:
        return json_response(state.change_settings(changes).model_dump())
    except ValidationError as error:
        problems = ((("body", *one["loc"]), one["msg"], one["type"]) for one in error.errors())
        raise InvalidField(*problems) from None


@router.post("/keys")
async def add_key(body: KeyIn, state: TheState) -> Response:
    """Let a key in: to a workspace of its own, or to that of another key, as after a rotation."""
    workspace = state.keys.workspace_of(body.same_workspace_as or body.key)
    state.keys.add(body.key, workspace)
    return json_response({"workspace": workspace})


@router.post("/keys/revoke")
async def revoke_key(body: KeyIn, state: TheState) -> Response:
    """Answer 401 to a key from now on."""
    state.keys.revoke(body.key)
    return json_response({"revoked": True})


@router.get("/faults")
async def list_faults(state: TheState) -> Response:
    """All fault rules and what they have done."""
    return json_response([active.as_dict() for active in state.rules.all()])


@router.post("/faults")
async def add_fault(fault: Fault, state: TheState) -> Response:
    """Switch a fault rule on."""
    return json_response(state.rules.add(fault).as_dict())


@router.delete("/faults")
async def clear_faults(state: TheState) -> Response:
    """Switch all fault rules and all plans for coming jobs off."""
    state.rules.clear()
    state.job_rules.clear()
    return json_response({})


@router.get("/faults/{fault_id}")
async def get_fault(fault_id: str, state: TheState) -> Response:
    """One fault rule and what it has done."""
    active = state.rules.get(fault_id)
    if active is None:
        raise not_found("Fault", fault_id)
    return json_response(active.as_dict())


@router.post("/faults/{fault_id}/release")
async def release_fault(fault_id: str, state: TheState) -> Response:
    """Let go what a ``hold`` holds, and hold nothing more."""
    active = state.rules.get(fault_id)
    if active is None:
        raise not_found("Fault", fault_id)
    active.released.set()
    return json_response(active.as_dict())


@router.delete("/faults/{fault_id}")
async def remove_fault(fault_id: str, state: TheState) -> Response:
    """Switch one fault rule off."""
    if not state.rules.remove(fault_id):
        raise not_found("Fault", fault_id)
    return json_response({})


@router.post("/job-faults")
async def add_job_fault(rule: JobRule, state: TheState) -> Response:
    """Plan something for jobs that are yet to be created."""
    state.job_rules.add(rule)
    return json_response({})


@router.get("/record")
async def get_record(state: TheState, phantoms: bool = False) -> Response:
    """All jobs ever created and all files ever stored, deleted ones too, and the number of requests.

    :param phantoms: also the jobs that were made by ``POST /emulator/jobs``.
    """
    jobs = [_job_record(job) for job in state.store.all_jobs() if phantoms or not job.phantom]
    files = [_file_record(file) for file in state.store.all_files()]
    return json_response({"jobs": jobs, "files": files, **state.counters.as_dict()})


@router.post("/record/reset")
async def reset_record(state: TheState) -> Response:
    """Count requests anew."""
    state.counters.reset()
    return json_response({})


@router.post("/jobs")
async def make_jobs(body: JobsIn, state: TheState) -> Response:
    """Make jobs out of thin air."""
    jobs = _phantoms(body, state)
    with state.store.transaction():
        state.store.add_jobs(jobs)
    state.wake_engine()
    return json_response({"ids": [job.id for job in jobs]})


@router.post("/jobs/end")
async def end_jobs(body: EndIn, state: TheState) -> Response:
    """End active jobs now. For ``SUCCESS`` the rows that are left are executed first."""
    if (body.ids is None) == (body.metadata is None):
        raise ApiError(400, "Exactly one of ids and metadata must be given")
    if body.ids is not None:
        seqs = [_job(state, job_id).seq for job_id in body.ids]
    else:
        seqs = [job.seq for job in state.store.active_jobs() if _has(job, body.metadata or {})]
    with state.store.transaction():
        state.store.end_jobs(seqs, body.status)
    state.wake_engine()
    return json_response({"count": len(seqs)})


@router.patch("/jobs/{job_id}")
async def plan_job(job_id: UUID, changes: Annotated[dict[str, Any], Body()], state: TheState) -> Response:
    """Change the plan of a job that exists: how it is shown, what becomes of its rows, how it ends."""
    job = _job(state, job_id)
    try:
        plan = JobPlan.model_validate({**read_plan(job.plan).model_dump(), **changes})
    except ValidationError as error:
        problems = ((("body", *one["loc"]), one["msg"], one["type"]) for one in error.errors())
        raise InvalidField(*problems) from None
    state.store.update_plan(job, plan.model_dump_json(exclude_defaults=True))
    state.wake_engine()
    return json_response(job_view(_job(state, job_id)))


def _job(state: State, job_id: UUID) -> Job:
    job = state.store.job_by_id(str(job_id))
    if job is None:
        raise not_found("Batch job", str(job_id))
    return job


def _has(job: Job, metadata: dict[str, str]) -> bool:
    return metadata.items() <= (job.metadata_dict() or {}).items()


def _phantoms(body: JobsIn, state: State) -> list[Job]:
    now = state.store.clock().now(time.time())
    wall = state.wall() - body.age_seconds
    is_over = body.status in TERMINAL
    workspace = state.keys.workspace_of(body.key)
    jobs = []
    for number in range(body.count):
        lasts = body.ends_after[number % len(body.ends_after)] if body.ends_after else _NEVER
        is_cancelled = body.status == "CANCELLATION_REQUESTED"
        deadline = now + body.timeout_hours * 3600 - body.age_seconds * state.settings.speed
        jobs.append(
            Job(
                id=str(uuid4()),
                workspace=workspace,
                user=workspace,
                dialect="mistral",
                status=body.status,
                phantom=1,
                endpoint=body.endpoint,
                model=body.model,
                metadata=None if body.metadata is None else json_text(body.metadata),
                timeout_hours=body.timeout_hours,
                plan=None if body.plan is None else body.plan.model_dump_json(exclude_defaults=True),
                created=wall,
                started=None if body.status == "QUEUED" else wall,
                ended=wall if is_over else None,
                cancelling=wall if is_cancelled else None,
                cancel_due=now + lasts if is_cancelled else None,
                begin=now,
                job_seconds=lasts,
                due=None if is_over else min(now + lasts, deadline),
                deadline=deadline,
                expected=body.total_requests,
                total=0 if body.status == "QUEUED" else body.total_requests,
                done=body.total_requests if is_over else 0,
                succeeded=body.total_requests if body.status == "SUCCESS" else 0,
            )
        )
    return jobs


def _job_record(job: Job) -> dict[str, Any]:
    return {
        **job_view(job),
        "workspace": job.workspace,
        "dialect": job.dialect,
        "deleted": bool(job.deleted),
        "phantom": bool(job.phantom),
        "created": job.created,
        "started": job.started,
        "ended": job.ended,
    }


def _file_record(file: File) -> dict[str, Any]:
    return {**file_view(file), "workspace": file.workspace, "deleted": bool(file.deleted)}
