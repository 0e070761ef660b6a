"""What both dialects do with batch jobs: create, find, list and cancel them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec

from airflow_provider_mistral_batch.emulator.http.errors import ApiError, not_found
from airflow_provider_mistral_batch.emulator.state.filters import JobFilter
from airflow_provider_mistral_batch.emulator.state.keys import Caller
from airflow_provider_mistral_batch.emulator.state.plans import read_plan
from airflow_provider_mistral_batch.emulator.state.server_state import ServerState
from airflow_provider_mistral_batch.emulator.state.statuses import TERMINAL
from airflow_provider_mistral_batch.emulator.state.tables import File, Job, json_text

_SECONDS_PER_HOUR = 3600

#: Seconds that a client is told to wait when its workspace has too many requests pending.
_RETRY_AFTER = 60


def create_job(
    state: ServerState,
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
    """
    Create a job, and wake the engine.

    :param state: The server's state.
    :param caller: Who creates the job.
    :param dialect: The API that was called: ``mistral`` or ``openai``.
    :param endpoint: The endpoint that answers the requests.
    :param input_files: Ids of the files with the requests.
    :param requests: The requests, if they come without a file.
    :param model: The model for requests that name none.
    :param agent_id: The agent for requests that name none.
    :param metadata: The caller's own notes on the job.
    :param timeout_hours: Hours after which the job times out.
    :param completion_window: The same in the OpenAI-compatible dialect's words, such as ``24h``.
    :raises ApiError: 404 if an input file does not exist, 400 if its purpose is not ``batch`` or the job has more
        requests than a workspace may have pending, 429 if it has more than the workspace has room for at the moment.
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
    now = state.job_time()
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
        due=now + min(validation_seconds, timeout_hours * _SECONDS_PER_HOUR),
        validation_due=now + validation_seconds,
        job_seconds=settings.job_seconds if plan.job_seconds is None else plan.job_seconds,
        deadline=now + timeout_hours * _SECONDS_PER_HOUR,
        expected=expected,
    )
    state.store.add_jobs([job])
    state.wake_engine()
    return job


def find_job(state: ServerState, caller: Caller, job_id: UUID) -> Job:
    """
    Find a job of the caller's workspace.

    :raises ApiError: 404 if there is none with this id.
    """
    job = state.store.find_job(caller.workspace, str(job_id))
    if job is None:
        raise not_found("Batch job", str(job_id))
    return job


def listed_jobs(state: ServerState, caller: Caller) -> JobFilter:
    """The filter for the jobs in the caller's listings."""
    lag = state.settings.listing_lag
    return JobFilter(workspace=caller.workspace, created_until=state.wall() - lag if lag else None)


def cancel_job(state: ServerState, caller: Caller, job_id: UUID) -> Job:
    """
    Request the cancellation of a job, and wake the engine.

    :return: The job as it is then.
    :raises ApiError: 404 if there is none with this id, 400 if it is over and ``cancel_finished`` is ``error``.
    """
    job = find_job(state, caller, job_id)
    if job.status in TERMINAL and state.settings.cancel_finished == "error":
        raise ApiError(400, f"Batch job {job_id} has ended as {job.status} and cannot be cancelled")
    cancel_due = state.job_time() + state.settings.cancel_seconds
    job = state.store.request_cancellation(job, state.wall(), cancel_due)
    state.wake_engine()
    return job


def _input_file(state: ServerState, caller: Caller, file_id: str) -> File:
    file = state.store.find_file(caller.workspace, caller.user, file_id, state.wall())
    if file is None:
        raise not_found("Input file", file_id)
    if file.purpose != "batch":
        message = f"Input file {file_id} has purpose '{file.purpose}', a batch job needs 'batch'"
        raise ApiError(400, message, param="input_files")
    return file


def _check_room(state: ServerState, caller: Caller, expected: int) -> None:
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
