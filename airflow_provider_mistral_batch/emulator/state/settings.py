"""The emulator's settings: each can be given at the start and changed while the emulator runs."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from airflow_provider_mistral_batch.emulator.state.clock import MAX_SECONDS, Seconds

#: Numbers that an embedding may have.
MAX_DIMENSION = 10_000


class Settings(BaseModel):
    """Times, limits and answers that can be set. They are kept in the state directory."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    validation_seconds: Seconds = Field(default=1.0, description="seconds that a new job stays QUEUED")
    job_seconds: Seconds = Field(
        default=5.0, description="seconds that a job stays RUNNING; its counts grow over that time"
    )
    cancel_seconds: Seconds = Field(default=1.0, description="seconds that a cancellation takes")
    speed: float = Field(
        default=1.0,
        gt=0,
        le=1e6,
        description="seconds of job time that pass in one second; jobs run and time out in job time",
    )
    latency: Seconds = Field(default=0.0, description="seconds added to each answer of the API")
    clock_skew: float = Field(
        default=0.0,
        ge=-MAX_SECONDS,
        le=MAX_SECONDS,
        description="seconds that the emulator's clock is ahead; negative: behind",
    )
    listing_lag: Seconds = Field(default=0.0, description="seconds until a new job appears in listings")
    max_file_bytes: int = Field(
        default=512_000_000, ge=1, le=10**15, description="largest file that can be uploaded, in bytes"
    )
    max_pending_requests: int = Field(
        default=1_000_000, ge=1, le=10**12, description="requests that a workspace may have pending"
    )
    embedding_dimension: int = Field(
        default=1024, ge=1, le=MAX_DIMENSION, description="numbers in an embedding"
    )
    cancel_finished: Literal["unchanged", "error"] = Field(
        default="unchanged",
        description="what cancelling a finished job does: return the job unchanged, or answer 400",
    )
