"""The application: all routes, and the answers to errors."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

from airflow_provider_mistral_batch.emulator.answers.errors import invalid_body
from airflow_provider_mistral_batch.emulator.http import batches, control, files, jobs
from airflow_provider_mistral_batch.emulator.http.errors import ApiError, InvalidField
from airflow_provider_mistral_batch.emulator.http.front import Front
from airflow_provider_mistral_batch.emulator.http.responses import json_response
from airflow_provider_mistral_batch.emulator.state.server_state import ServerState


def make_app(state: ServerState, *, local: bool) -> ASGIApp:
    """
    Make the emulator's ASGI application.

    :param state: What its routes share.
    :param local: Whether the emulator listens to this machine alone.
    """
    app = FastAPI(
        title="Mistral Batch API emulator",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.emulator = state
    for router in (files.router, jobs.router, batches.router, control.router):
        app.include_router(router)
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(InvalidField, _invalid_field)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)
    return Front(app, state, local=local)


def _speaks_openai(request: Request) -> bool:
    return request.url.path.startswith("/v1/batches")


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    body = error.openai_body() if _speaks_openai(request) else error.body()
    return json_response(body, error.status, error.headers)


async def _invalid_field(request: Request, error: Exception) -> Response:
    assert isinstance(error, InvalidField)
    return json_response(error.body(), 422)


async def _invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = error.errors()
    if _speaks_openai(request):
        first = problems[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return await _api_error(request, ApiError(400, f"{where}: {first['msg']}", param=where or None))
    return json_response(invalid_body(*((one["loc"], one["msg"], one["type"]) for one in problems)), 422)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = "not_found_error" if error.status_code == 404 else "invalid_request_error"
    return await _api_error(
        request, ApiError(error.status_code, str(error.detail), kind, headers=error.headers)
    )


async def _unexpected(request: Request, error: Exception) -> Response:
    return await _api_error(request, ApiError(500, "Internal server error", "internal_error"))
