"""``make_app``: the FastAPI application behind the page."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from airflow_provider_mistral_batch.api.errors import InvalidInputError, MistralBatchError
from airflow_provider_mistral_batch.api.texts import MESSAGE_LENGTH, excerpt
from airflow_provider_mistral_batch.overview.ui.routes import router


def make_app() -> FastAPI:
    """Build the application. Its own documentation pages are off: they would be open to anyone."""
    app = FastAPI(title="Mistral Batches", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(router)
    app.add_exception_handler(MistralBatchError, _answer)
    return app


def _answer(request: Request, error: Exception) -> JSONResponse:
    status = 422 if isinstance(error, InvalidInputError) else 502
    return JSONResponse({"detail": excerpt(str(error), MESSAGE_LENGTH)}, status)
