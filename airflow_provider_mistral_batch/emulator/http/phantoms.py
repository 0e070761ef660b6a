"""Phantom jobs: jobs without input for tests of listings, whose rows are never executed."""

from __future__ import annotations

from typing import Annotated
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field

from airflow_provider_mistral_batch.emulator.http.parameters import Endpoint, TimeoutHours
from airflow_provider_mistral_batch.emulator.state.clock import Seconds
from airflow_provider_mistral_batch.emulator.state.plans import NO_PLAN, JobPlan, plan_text
from airflow_provider_mistral_batch.emulator.state.server_state import ServerState
from airflow_provider_mistral_batch.emulator.state.statuses import TERMINAL, Status
from airflow_provider_mistral_batch.emulator.state.tables import Job, json_text

#: Seconds of job time that never pass.
_NEVER = 1e12


class JobsIn(BaseModel):
    """Phantom jobs to make. They end after ``ends_after`` seconds of job time, in turn, or when they are told to."""

    model_config = ConfigDict(extra="forbid")

    count: Annotated[int, Field(ge=1, le=1_000_000)]
    key: Annotated[str, Field(min_length=1)]
    status: Status = "RUNNING"
    endpoint: Endpoint = "/v1/chat/completions"
    model: str | None = "mistral-small-latest"
    metadata: dict[str, str] | None = None
    timeout_hours: TimeoutHours = 24
    total_requests: Annotated[int, Field(ge=0, le=1_000_000_000)] = 1
    age_seconds: Seconds = 0.0
    ends_after: Annotated[list[Seconds] | None, Field(min_length=1)] = None
    plan: JobPlan | None = None


def make_phantoms(wanted: JobsIn, state: ServerState) -> list[Job]:
    """
    Make phantom jobs, without storing them.

    :param wanted: How many, and how they look.
    :param state: The server's state.
    """
    now = state.job_time()
    wall = state.wall() - wanted.age_seconds
    is_over = wanted.status in TERMINAL
    workspace = state.keys.workspace_of(wanted.key)
    jobs = []
    for number in range(wanted.count):
        lasts = wanted.ends_after[number % len(wanted.ends_after)] if wanted.ends_after else _NEVER
        is_cancelled = wanted.status == "CANCELLATION_REQUESTED"
        deadline = now + wanted.timeout_hours * 3600 - wanted.age_seconds * state.settings.speed
        jobs.append(
            Job(
                id=str(uuid4()),
                workspace=workspace,
                user=workspace,
                dialect="mistral",
                status=wanted.status,
                phantom=1,
                endpoint=wanted.endpoint,
                model=wanted.model,
                metadata=None if wanted.metadata is None else json_text(wanted.metadata),
                timeout_hours=wanted.timeout_hours,
                plan=None if wanted.plan is None else plan_text(wanted.plan),
                created=wall,
                started=None if wanted.status == "QUEUED" else wall,
                ended=wall if is_over else None,
                cancelling=wall if is_cancelled else None,
                cancel_due=now + lasts if is_cancelled else None,
                begin=now,
                job_seconds=lasts,
                due=None if is_over else min(now + lasts, deadline),
                deadline=deadline,
                expected=wanted.total_requests,
                total=0 if wanted.status == "QUEUED" else wanted.total_requests,
                done=wanted.total_requests if is_over else 0,
                errors=json_text((wanted.plan or NO_PLAN).job_errors if wanted.status == "FAILED" else []),
                succeeded=wanted.total_requests if wanted.status == "SUCCESS" else 0,
            )
        )
    return jobs
