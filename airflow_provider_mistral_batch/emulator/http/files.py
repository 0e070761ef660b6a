"""Routes of files, in Mistral's form, which clients of the OpenAI-compatible dialect understand."""

from __future__ import annotations

import hashlib
import hmac
import re
from mimetypes import guess_type
from typing import Annotated, Literal, get_args
from uuid import UUID, uuid4

from fastapi import APIRouter, Query, Request
from starlette.responses import FileResponse, Response

from airflow_provider_mistral_batch.emulator.http.auth import TheCaller
from airflow_provider_mistral_batch.emulator.http.errors import (
    ApiError,
    InvalidField,
    missing_field,
    not_found,
)
from airflow_provider_mistral_batch.emulator.http.parameters import NoneIfEmpty, Page, TheState
from airflow_provider_mistral_batch.emulator.http.responses import json_response
from airflow_provider_mistral_batch.emulator.http.uploads import UploadedFile, read_form
from airflow_provider_mistral_batch.emulator.http.views import file_view
from airflow_provider_mistral_batch.emulator.state.filters import FileFilter
from airflow_provider_mistral_batch.emulator.state.keys import Caller
from airflow_provider_mistral_batch.emulator.state.server_state import ServerState
from airflow_provider_mistral_batch.emulator.state.tables import File

router = APIRouter()

_HOURS = re.compile(r"[0-9]{1,9}")
#: Hours until an uploaded file expires: a hundred years.
_MAX_EXPIRY = 876_000
_SAMPLE_TYPES = {"batch": "batch_request"}
#: Parameters that only a listing in Mistral's form has.
_PAGE_PARAMETERS = {"page", "page_size", "include_total", "sample_type", "source", "search", "mimetypes"}

SampleType = Literal["pretrain", "instruct", "batch_request", "batch_result", "batch_error"]
Source = Literal["upload", "repository", "mistral"]
Purpose = Literal["fine-tune", "batch", "ocr", "audio"]
_PURPOSES: tuple[str, ...] = get_args(Purpose)


@router.post("/v1/files")
async def upload_file(request: Request, state: TheState, caller: TheCaller) -> Response:
    """Upload a file."""
    blob = str(uuid4())
    path = state.store.blob(blob)
    content_type = request.headers.get("content-type", "")
    try:
        form = await read_form(content_type, request.stream(), path, state.settings.max_file_bytes)
        file = _new_file(state, caller, blob, form.fields, form.file)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    state.store.add_file(file)
    return json_response(file_view(file))


@router.get("/v1/files")
async def list_files(
    request: Request,
    state: TheState,
    caller: TheCaller,
    page: Page = 0,
    page_size: Annotated[int, Query(ge=1, le=10_000)] = 100,
    include_total: bool = True,
    sample_type: Annotated[list[SampleType] | None, Query()] = None,
    source: Annotated[list[Source] | None, Query()] = None,
    search: Annotated[str | None, NoneIfEmpty, Query()] = None,
    purpose: Annotated[Purpose | None, NoneIfEmpty, Query()] = None,
    mimetypes: Annotated[list[str] | None, Query()] = None,
    after: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
) -> Response:
    """List files, newest first: page by page, or from a cursor on as in the OpenAI-compatible dialect."""
    wanted = FileFilter(
        workspace=caller.workspace,
        user=caller.user,
        wall=state.wall(),
        sample_types=sample_type or (),
        sources=source or (),
        mimetypes=mimetypes or (),
        purpose=purpose,
        search=search,
    )
    if _PAGE_PARAMETERS & request.query_params.keys():
        files = state.store.list_files(wanted, descending=True, limit=page_size, offset=page * page_size)
        total = state.store.count_files(wanted) if include_total else None
        return json_response({"data": [file_view(file) for file in files], "object": "list", "total": total})
    cursor = None if after is None else _find_file(state, caller, after)
    files = state.store.list_files(wanted, descending=order == "desc", limit=limit + 1, after=cursor)
    shown = files[:limit]
    return json_response(
        {
            "object": "list",
            "total": state.store.count_files(wanted),
            "data": [file_view(file) for file in shown],
            "has_more": len(files) > limit,
            "first_id": shown[0].id if shown else None,
            "last_id": shown[-1].id if shown else None,
        }
    )


@router.get("/v1/files/{file_id}")
async def retrieve_file(file_id: UUID, state: TheState, caller: TheCaller) -> Response:
    """Describe a file."""
    return json_response({**file_view(_find_file(state, caller, file_id)), "deleted": False})


@router.delete("/v1/files/{file_id}")
async def delete_file(file_id: UUID, state: TheState, caller: TheCaller) -> Response:
    """Delete a file. An active job can read it to its end."""
    file = _find_file(state, caller, file_id)
    state.store.delete_file(file)
    return json_response({"id": file.id, "object": "file", "deleted": True})


@router.get("/v1/files/{file_id}/content")
async def download_file(file_id: UUID, state: TheState, caller: TheCaller) -> Response:
    """Download a file, or a range of it."""
    return _content(state, _find_file(state, caller, file_id))


@router.get("/v1/files/{file_id}/url")
async def get_signed_url(
    request: Request,
    file_id: UUID,
    state: TheState,
    caller: TheCaller,
    expiry: Annotated[int, Query(ge=1, le=168)] = 24,
) -> Response:
    """Make a URL that downloads a file without a key, for some hours."""
    file = _find_file(state, caller, file_id)
    expires = int(state.wall()) + 3600 * expiry
    query = f"expires={expires}&signature={_signature(state, file.id, expires)}"
    return json_response({"url": f"{request.base_url}signed/{file.id}?{query}"})


@router.get("/signed/{file_id}")
async def download_signed(file_id: UUID, expires: int, signature: str, state: TheState) -> Response:
    """
    Download a file by its signed URL.

    :raises ApiError: 403 if the URL was changed or has expired, 404 if the file was deleted or has expired.
    """
    if not hmac.compare_digest(signature.encode(), _signature(state, str(file_id), expires).encode()):
        raise ApiError(403, "The signature does not match", "forbidden")
    if state.wall() >= expires:
        raise ApiError(403, "The signed URL has expired", "forbidden")
    file = state.store.file_by_id(str(file_id), state.wall())
    if file is None:
        raise not_found("File", str(file_id))
    return _content(state, file)


class _BlobResponse(FileResponse):
    """A blob, sent in pieces that are large enough to be fast."""

    chunk_size = 1 << 20


def _content(state: ServerState, file: File) -> Response:
    return _BlobResponse(
        state.store.blob(file.blob), media_type="application/octet-stream", filename=file.filename
    )


def _find_file(state: ServerState, caller: Caller, file_id: UUID) -> File:
    file = state.store.find_file(caller.workspace, caller.user, str(file_id), state.wall())
    if file is None:
        raise not_found("File", str(file_id))
    return file


def _signature(state: ServerState, file_id: str, expires: int) -> str:
    secret = state.store.get_meta("secret") or ""
    return hmac.new(secret.encode(), f"{file_id}/{expires}".encode(), hashlib.sha256).hexdigest()


def _new_file(
    state: ServerState, caller: Caller, blob: str, fields: dict[str, str], uploaded: UploadedFile | None
) -> File:
    if uploaded is None:
        raise missing_field("body", "file")
    purpose = fields.get("purpose") or "fine-tune"
    if purpose not in _PURPOSES:
        raise _not_one_of("purpose", _PURPOSES)
    visibility = fields.get("visibility") or "workspace"
    if visibility not in ("workspace", "user"):
        raise _not_one_of("visibility", ("workspace", "user"))
    hours = _expiry(fields.get("expiry"))
    is_jsonl = purpose == "batch" or uploaded.filename.endswith(".jsonl")
    now = state.wall()
    return File(
        id=str(uuid4()),
        workspace=caller.workspace,
        user=caller.user,
        created=now,
        filename=uploaded.filename,
        bytes=uploaded.size,
        purpose=purpose,
        sample_type=_SAMPLE_TYPES.get(purpose, "instruct"),
        source="upload",
        num_lines=uploaded.lines if is_jsonl else None,
        mimetype="application/jsonl" if is_jsonl else _mimetype(uploaded),
        signature=uploaded.signature,
        expires=None if hours is None else now + 3600 * hours,
        visibility=visibility,
        blob=blob,
    )


def _mimetype(uploaded: UploadedFile) -> str | None:
    try:
        return guess_type(uploaded.filename)[0] or uploaded.content_type
    except ValueError:
        # Python reads the name as a URL, and some are not valid ones.
        return uploaded.content_type


def _expiry(text: str | None) -> int | None:
    if not text:
        return None
    hours = int(text) if _HOURS.fullmatch(text) else 0
    if not 1 <= hours <= _MAX_EXPIRY:
        message = f"Input should be a valid number of hours, from 1 to {_MAX_EXPIRY}"
        raise InvalidField((("body", "expiry"), message, "int_parsing"))
    return hours


def _not_one_of(name: str, values: tuple[str, ...]) -> InvalidField:
    listed = ", ".join(f"'{value}'" for value in values[:-1]) + f" or '{values[-1]}'"
    return InvalidField((("body", name), f"Input should be {listed}", "enum"))
