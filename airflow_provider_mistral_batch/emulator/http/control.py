"""Routes of the control API, for tests: settings, keys, faults, plans, phantom jobs and the record. Needs no key."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response

from airflow_provider_mistral_batch.emulator.http.bodies import StrictRoute
from airflow_provider_mistral_batch.emulator.http.errors import ApiError, InvalidField, not_found
from airflow_provider_mistral_batch.emulator.http.parameters import TheState
from airflow_provider_mistral_batch.emulator.http.phantoms import JobsIn, make_phantoms
from airflow_provider_mistral_batch.emulator.http.responses import json_response
from airflow_provider_mistral_batch.emulator.http.views import file_view, job_view
from airflow_provider_mistral_batch.emulator.state.faults import ActiveFault, Fault
from airflow_provider_mistral_batch.emulator.state.plans import JobPlan, JobRule, plan_text, read_plan
from airflow_provider_mistral_batch.emulator.state.server_state import ServerState
from airflow_provider_mistral_batch.emulator.state.statuses import TerminalStatus
from airflow_provider_mistral_batch.emulator.state.tables import File, Job

router = APIRouter(prefix="/emulator", route_class=StrictRoute)


class KeyIn(BaseModel):
    """An API key."""

    model_config = ConfigDict(extra="forbid")

    key: Annotated[str, Field(min_length=1)]
    same_workspace_as: str | None = None


class EndIn(BaseModel):
    """Which jobs to end, by their ids or their metadata, and with which status."""

    model_config = ConfigDict(extra="forbid")

    ids: list[UUID] | None = None
    metadata: dict[str, str] | None = None
    status: TerminalStatus = "SUCCESS"


@router.get("/health")
async def health() -> Response:
    """Answer that the emulator is up."""
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
        raise _invalid_body(error) from None


@router.post("/keys")
async def add_key(body: KeyIn, state: TheState) -> Response:
    """Make a key valid, in a workspace of its own or, as after a rotation, in another key's."""
    workspace = state.keys.workspace_of(body.same_workspace_as or body.key)
    state.keys.add(body.key, workspace)
    return json_response({"workspace": workspace})


@router.post("/keys/revoke")
async def revoke_key(body: KeyIn, state: TheState) -> Response:
    """Make a key invalid."""
    state.keys.revoke(body.key)
    return json_response({"revoked": True})


@router.get("/faults")
async def list_faults(state: TheState) -> Response:
    """All faults, and what they have done."""
    return json_response([active.as_dict() for active in state.fault_rules.all()])


@router.post("/faults")
async def add_fault(fault: Fault, state: TheState) -> Response:
    """Switch a fault on."""
    return json_response(state.fault_rules.add(fault).as_dict())


@router.delete("/faults")
async def clear_faults(state: TheState) -> Response:
    """Switch all faults off, and all rules that plan new jobs."""
    state.fault_rules.clear()
    state.job_rules.clear()
    return json_response({})


@router.get("/faults/{fault_id}")
async def get_fault(fault_id: str, state: TheState) -> Response:
    """A fault, and what it has done."""
    return json_response(_find_fault(state, fault_id).as_dict())


@router.post("/faults/{fault_id}/release")
async def release_fault(fault_id: str, state: TheState) -> Response:
    """Release the requests that a ``hold`` holds; it holds none from now on."""
    active = _find_fault(state, fault_id)
    active.released.set()
    return json_response(active.as_dict())


@router.delete("/faults/{fault_id}")
async def remove_fault(fault_id: str, state: TheState) -> Response:
    """Switch a fault off."""
    if not state.fault_rules.remove(fault_id):
        raise not_found("Fault", fault_id)
    return json_response({})


@router.post("/job-faults")
async def add_job_fault(rule: JobRule, state: TheState) -> Response:
    """Switch a rule on that plans new jobs."""
    state.job_rules.add(rule)
    return json_response({})


@router.get("/record")
async def get_record(state: TheState, phantoms: bool = False) -> Response:
    """
    All jobs and files that ever were, deleted ones too, and how often each operation was called and answered.

    :param phantoms: Whether phantom jobs are among the jobs.
    """
    jobs = [_job_record(job) for job in state.store.all_jobs() if phantoms or not job.phantom]
    files = [_file_record(file) for file in state.store.all_files()]
    return json_response({"jobs": jobs, "files": files, **state.counters.as_dict()})


@router.post("/record/reset")
async def reset_record(state: TheState) -> Response:
    """Set the counters to 0."""
    state.counters.reset()
    return json_response({})


@router.post("/jobs")
async def make_jobs(body: JobsIn, state: TheState) -> Response:
    """Make phantom jobs."""
    jobs = make_phantoms(body, state)
    with state.store.transaction():
        state.store.add_jobs(jobs)
    state.wake_engine()
    return json_response({"ids": [job.id for job in jobs]})


@router.post("/jobs/end")
async def end_jobs(body: EndIn, state: TheState) -> Response:
    """End active jobs now. Before a job ends as ``SUCCESS``, its remaining rows are executed."""
    if (body.ids is None) == (body.metadata is None):
        raise ApiError(400, "Exactly one of ids and metadata must be given")
    if body.ids is not None:
        seqs = [_find_job(state, job_id).seq for job_id in body.ids]
    else:
        seqs = [job.seq for job in state.store.active_jobs() if _has(job, body.metadata or {})]
    with state.store.transaction():
        state.store.end_jobs(seqs, body.status)
    state.wake_engine()
    return json_response({"count": len(seqs)})


@router.patch("/jobs/{job_id}")
async def plan_job(job_id: UUID, changes: Annotated[dict[str, Any], Body()], state: TheState) -> Response:
    """Change the plan of a job that exists."""
    job = _find_job(state, job_id)
    try:
        plan = JobPlan.model_validate({**read_plan(job.plan).model_dump(), **changes})
    except ValidationError as error:
        raise _invalid_body(error) from None
    state.store.update_plan(job, plan_text(plan))
    state.wake_engine()
    return json_response(job_view(_find_job(state, job_id)))


def _invalid_body(error: ValidationError) -> InvalidField:
    return InvalidField(*((("body", *one["loc"]), one["msg"], one["type"]) for one in error.errors()))


def _find_fault(state: ServerState, fault_id: str) -> ActiveFault:
    active = state.fault_rules.get(fault_id)
    if active is None:
        raise not_found("Fault", fault_id)
    return active


def _find_job(state: ServerState, job_id: UUID) -> Job:
    job = state.store.job_by_id(str(job_id))
    if job is None:
        raise not_found("Batch job", str(job_id))
    return job


def _has(job: Job, metadata: dict[str, str]) -> bool:
    return metadata.items() <= (job.metadata_dict() or {}).items()


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
