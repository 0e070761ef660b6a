"""The emulator's settings: each can be given at the start and changed while it runs."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """What the emulator can be told about time, limits and answers. Kept in the state directory."""

    model_config = ConfigDict(extra="forbid")

    validation_seconds: float = Field(default=1.0, ge=0, description="how long a new job stays QUEUED")
    job_seconds: float = Field(
        default=5.0, ge=0, description="how long a new job stays RUNNING; its counts grow over that time"
    )
    cancel_seconds: float = Field(default=1.0, ge=0, description="how long a cancellation takes")
    speed: float = Field(
        default=1.0,
        gt=0,
        description="how many seconds of every job's time, its time-out included, pass in a second",
    )
    latency: float = Field(default=0.0, ge=0, description="seconds added to each answer of the API")
    clock_skew: float = Field(
        default=0.0, description="seconds that the emulator's clock is ahead (behind if negative)"
    )
    listing_lag: float = Field(default=0.0, ge=0, description="seconds until a new job shows up in listings")
    max_file_bytes: int = Field(
        default=512_000_000, ge=1, description="largest file that can be uploaded, in bytes"
    )
    max_pending_requests: int = Field(
        default=1_000_000, ge=1, description="requests that may be pending in a workspace"
    )
    embedding_dimension: int = Field(default=1024, ge=1, description="length of an embedding")
    cancel_finished: Literal["unchanged", "error"] = Field(
        default="unchanged", description="cancelling a finished job gives the job unchanged, or a 400"
    )
