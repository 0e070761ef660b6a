"""Making a batch job, in whichever dialect it is asked for."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

from airflow_provider_mistral_batch.emulator.http.auth import Caller
from airflow_provider_mistral_batch.emulator.http.dependencies import State
from airflow_provider_mistral_batch.emulator.http.errors import ApiError, not_found
from airflow_provider_mistral_batch.emulator.state.plans import read_plan
from airflow_provider_mistral_batch.emulator.state.tables import File, Job, json_text

SECONDS_PER_HOUR = 3600

#: What a client is told to wait when the workspace has no room for its job.
_RETRY_AFTER = 60


def create_job(
    state: State,
    caller: Caller,
    *,
    dialect: str,
    endpoint: str,
    input_files: list[str] | None,
    requests: list[Any] | None,
    model: str | None,
    agent_id: str | None,
    metadata: dict[str, str] | None,
    timeout_hours: int,
    completion_window: str | None = None,
) -> Job:
    """Make a job and wake the engine.

    :raises ApiError: 404 if an input file is unknown, 400 if it is no batch file or holds more requests than a
        workspace may have pending at all, 429 if it holds more than there is room for now.
    """
    files = [_input_file(state, caller, file_id) for file_id in input_files or []]
    expected = len(requests) if requests is not None else sum(file.num_lines or 0 for file in files)
    _check_room(state, caller, expected)
    job_id = str(uuid4())
    blobs = [file.blob for file in files]
    if requests is not None:
        blobs = [f"{job_id}-requests"]
        _write_requests(state.store.blob(blobs[0]), requests)
    settings = state.settings
    text = state.job_rules.plan_for(endpoint, metadata)
    plan = read_plan(text)
    now = state.store.clock().now(time.time())
    validation_seconds = (
        settings.validation_seconds if plan.validation_seconds is None else plan.validation_seconds
    )
    job = Job(
        id=job_id,
        workspace=caller.workspace,
        user=caller.user,
        dialect=dialect,
        endpoint=endpoint,
        model=model,
        agent_id=agent_id,
        metadata=None if metadata is None else json_text(metadata),
        timeout_hours=timeout_hours,
        completion_window=completion_window,
        input_files=json_text(input_files or []),
        blobs=json_text(blobs),
        inline=int(requests is not None),
        plan=text,
        created=state.wall(),
        due=now + min(validation_seconds, timeout_hours * SECONDS_PER_HOUR),
        validation_due=now + validation_seconds,
        job_seconds=settings.job_seconds if plan.job_seconds is None else plan.job_seconds,
        deadline=now + timeout_hours * SECONDS_PER_HOUR,
        expected=expected,
    )
    state.store.add_jobs([job])
    state.wake_engine()
    return job


def _input_file(state: State, caller: Caller, file_id: str) -> File:
    file = state.store.find_file(caller.workspace, caller.user, file_id, state.wall())
    if file is None:
        raise not_found("Input file", file_id)
    if file.purpose != "batch":
        message = f"Input file {file_id} has purpose '{file.purpose}', a batch job needs 'batch'"
        raise ApiError(400, message, param="input_files")
    return file


def _check_room(state: State, caller: Caller, expected: int) -> None:
    limit = state.settings.max_pending_requests
    if expected > limit:
        raise ApiError(400, f"The job has {expected} requests, a workspace may have {limit} pending")
    pending = state.store.pending_requests(caller.workspace)
    if pending + expected > limit:
        message = f"The job has {expected} requests, {pending} are pending, a workspace may have {limit}"
        raise ApiError(429, message, "rate_limited", headers={"Retry-After": str(_RETRY_AFTER)})


def _write_requests(path: Path, requests: list[Any]) -> None:
    with path.open("wb") as file:
        for request in requests:
            file.write(msgspec.json.encode(request) + b"\n")
