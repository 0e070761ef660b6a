"""The endpoints that a batch job can target: what their request bodies take, and whether their answers cost tokens.

Source: the OpenAPI description of Mistral's API (``ApiEndpoint`` and the body of each endpoint). A new endpoint is one
entry here, and an answer of its own in the emulator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from airflow_provider_mistral_batch.api.limits import MAX_DOCUMENT_BYTES, MAX_FILE_BYTES

CHAT = "/v1/chat/completions"
CONVERSATIONS = "/v1/conversations"

#: How the names of documents and images end that the API reads, and of recordings.
DOCUMENT_SUFFIXES = frozenset(
    {
        ".pdf",
        ".docx",
        ".pptx",
        ".odt",
        ".rtf",
        ".epub",
        ".png",
        ".jpg",
        ".jpeg",
        ".avif",
        ".webp",
        ".gif",
        ".bmp",
    }
    | {".tif", ".tiff", ".heic", ".heif"}
)
RECORDING_SUFFIXES = frozenset(
    {
        ".mp3",
        ".wav",
        ".flac",
        ".ogg",
        ".oga",
        ".opus",
        ".m4a",
        ".mp4",
        ".mpga",
        ".mpeg",
        ".webm",
        ".aac",
        ".aiff",
    }
)


class UploadedFiles(msgspec.Struct, frozen=True, kw_only=True):
    """
    The uploaded files that requests to an endpoint can name.

    :param purpose: What they are uploaded for.
    :param suffixes: How their names may end.
    :param max_bytes: Most bytes of one.
    :param fields: Makes the body's fields of a file's id; ``None`` if messages name it.
    """

    purpose: str
    suffixes: frozenset[str]
    max_bytes: int = MAX_FILE_BYTES
    fields: Callable[[str], dict[str, Any]] | None = None


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """
    One endpoint.

    :param path: Its path, as users name it.
    :param prompt_fields: Makes the body's fields of a plain prompt.
    :param takes: Which of ``system``, ``max_tokens``, ``temperature``, ``response_format`` its bodies have a place for.
    :param tokens_known: Whether the tokens of a request can be counted before it is sent. Documents and recordings are
        opened by the server.
    :param writes_tokens: Whether its answers have completion tokens. Numbers and labels have none.
    :param files: The uploaded files that its requests can name.
    """

    path: str
    prompt_fields: Callable[[str], dict[str, Any]]
    takes: frozenset[str] = frozenset()
    tokens_known: bool = True
    writes_tokens: bool = True
    files: UploadedFiles | None = None


def _field(name: str) -> Callable[[str], dict[str, Any]]:
    return lambda prompt: {name: prompt}


def _messages(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


_GENERATION = frozenset({"system", "max_tokens", "temperature", "response_format"})

#: The endpoints by their paths.
ENDPOINTS: Mapping[str, Endpoint] = {
    endpoint.path: endpoint
    for endpoint in (
        Endpoint(
            path=CHAT,
            prompt_fields=lambda prompt: {"messages": _messages(prompt)},
            takes=_GENERATION,
            files=UploadedFiles(purpose="ocr", suffixes=DOCUMENT_SUFFIXES, max_bytes=MAX_DOCUMENT_BYTES),
        ),
        Endpoint(path="/v1/embeddings", prompt_fields=_field("input"), writes_tokens=False),
        Endpoint(
            path="/v1/fim/completions",
            prompt_fields=_field("prompt"),
            takes=frozenset({"max_tokens", "temperature"}),
        ),
        Endpoint(path="/v1/moderations", prompt_fields=_field("input"), writes_tokens=False),
        Endpoint(
            path="/v1/chat/moderations",
            prompt_fields=lambda prompt: {"input": _messages(prompt)},
            writes_tokens=False,
        ),
        Endpoint(
            path="/v1/ocr",
            prompt_fields=lambda url: {"document": {"type": "document_url", "document_url": url}},
            tokens_known=False,
            files=UploadedFiles(
                purpose="ocr",
                suffixes=DOCUMENT_SUFFIXES,
                max_bytes=MAX_DOCUMENT_BYTES,
                fields=lambda file_id: {"document": {"type": "file", "file_id": file_id}},
            ),
        ),
        Endpoint(path="/v1/classifications", prompt_fields=_field("input"), writes_tokens=False),
        Endpoint(
            path="/v1/chat/classifications",
            prompt_fields=lambda prompt: {"input": {"messages": _messages(prompt)}},
            writes_tokens=False,
        ),
        Endpoint(path=CONVERSATIONS, prompt_fields=_field("inputs"), takes=_GENERATION),
        Endpoint(
            path="/v1/audio/transcriptions",
            prompt_fields=_field("file_url"),
            takes=frozenset({"temperature"}),
            tokens_known=False,
            files=UploadedFiles(
                purpose="audio", suffixes=RECORDING_SUFFIXES, fields=lambda file_id: {"file_id": file_id}
            ),
        ),
    )
}

DEFAULT_ENDPOINT = CHAT
