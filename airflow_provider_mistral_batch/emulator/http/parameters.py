"""Parameters that several routes have: the server's state, and values within the API's limits."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Request
from pydantic import BeforeValidator, Field, StringConstraints

from airflow_provider_mistral_batch.emulator.state.server_state import ServerState

MAX_TIMEOUT_HOURS = 168

#: Endpoints that a job may have.
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
Metadata = dict[
    Annotated[str, StringConstraints(min_length=1, max_length=32)],
    Annotated[str, StringConstraints(min_length=1, max_length=512)],
]
#: The number of a page in a listing, from 0; far more than there are.
Page = Annotated[int, Query(ge=0, le=1_000_000_000)]
TimeoutHours = Annotated[int, Field(ge=1, le=MAX_TIMEOUT_HOURS)]


def get_state(request: Request) -> ServerState:
    """The state of the server that received the request."""
    state: ServerState = request.app.state.emulator
    return state


def _none_if_empty(value: Any) -> Any:
    return None if value == "" else value


TheState = Annotated[ServerState, Depends(get_state)]
#: For optional parameters: clients send them empty when they are not set.
NoneIfEmpty = BeforeValidator(_none_if_empty)
