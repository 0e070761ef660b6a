"""Authentication: a bearer token says who sent a request."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from airflow_provider_mistral_batch.emulator.http.errors import ApiError
from airflow_provider_mistral_batch.emulator.http.parameters import get_state
from airflow_provider_mistral_batch.emulator.state.keys import Caller


async def get_caller(request: Request) -> Caller:
    """
    Find out who sent a request.

    :raises ApiError: 401 if the header ``Authorization`` is missing, or its token is not valid.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise _unauthorized("No API key was given: send it as a bearer token")
    caller = get_state(request).keys.caller(token)
    if caller is None:
        raise _unauthorized("Invalid API key")
    return caller


def _unauthorized(message: str) -> ApiError:
    return ApiError(401, message, "unauthorized", headers={"WWW-Authenticate": "Bearer"})


TheCaller = Annotated[Caller, Depends(get_caller)]
