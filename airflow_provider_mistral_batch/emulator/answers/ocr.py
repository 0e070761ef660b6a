"""``/v1/ocr``: made-up pages, with the annotations that were asked for."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, NonNegativeInt
from typing_extensions import NotRequired, TypedDict

from airflow_provider_mistral_batch.emulator.answers.context import Context
from airflow_provider_mistral_batch.emulator.answers.response_format import ResponseFormat, json_by_schema

_TINY_IMAGE = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGD4DwABBAEAwS2OUAAAAABJRU5ErkJggg=="
)


class ImageUrl(TypedDict):
    """An image by its URL."""

    url: str


class Document(TypedDict, total=False):
    """What to read: a document or an image by its URL, or an uploaded file."""

    type: str
    document_url: str
    document_name: str | None
    image_url: str | ImageUrl
    file_id: str


def _check_source(document: Document) -> Document:
    if not any(name in document for name in ("document_url", "image_url", "file_id")):
        raise ValueError("one of document_url, image_url and file_id is required")
    return document


class Ocr(TypedDict):
    """Body of ``/v1/ocr``."""

    model: NotRequired[str | None]
    document: Annotated[Document, AfterValidator(_check_source)]
    pages: NotRequired[list[NonNegativeInt] | str | None]
    include_image_base64: NotRequired[bool | None]
    image_limit: NotRequired[NonNegativeInt | None]
    bbox_annotation_format: NotRequired[ResponseFormat | None]
    document_annotation_format: NotRequired[ResponseFormat | None]


def answer_ocr(body: Any, context: Context) -> dict[str, Any]:
    """Answer a body of ``/v1/ocr``: an image has one page, a document two to five."""
    name, is_image = _source(body["document"])
    count = 1 if is_image else 2 + int(context.share(0) * 3.99)
    wanted = [number for number in _wanted(body.get("pages"), count) if number < count]
    pages = [_page(number, name, is_image, body, context) for number in wanted]
    annotation = body.get("document_annotation_format")
    return {
        "pages": pages,
        "model": context.model,
        "usage_info": {"pages_processed": len(pages), "doc_size_bytes": 50_000 + int(context.share(1) * 1e6)},
        "document_annotation": json_by_schema(annotation, pages[0]["markdown"] if pages else name),
    }


def _source(document: Any) -> tuple[str, bool]:
    """The name of a document, and whether it is an image."""
    if "image_url" in document:
        url = (
            document["image_url"] if isinstance(document["image_url"], str) else document["image_url"]["url"]
        )
        return ("image" if url.startswith("data:") else _last_part(url)), True
    if "document_url" in document:
        url = document["document_url"]
        is_image = re.search(r"\.(png|jpe?g|gif|webp|avif|tiff?)$", url.split("?")[0], re.IGNORECASE)
        return ("document" if url.startswith("data:") else _last_part(url)), is_image is not None
    return f"file {document['file_id']}", False


def _last_part(url: str) -> str:
    return url.split("?")[0].rstrip("/").rsplit("/", 1)[-1] or url


def _wanted(pages: Any, count: int) -> list[int]:
    """
    The numbers of the pages to read.

    :param pages: A list of them, or a text such as ``"0,2-4"``; all pages if not given.
    :param count: How many pages the document has.
    """
    if isinstance(pages, list):
        return sorted(set(pages))
    wanted: set[int] = set()
    for first, last in re.findall(r"(\d+)(?:\s*-\s*(\d+))?", pages or ""):
        wanted.update(range(int(first), min(int(last or first), count) + 1))
    return sorted(wanted) if pages else list(range(count))


def _page(number: int, name: str, is_image: bool, body: Any, context: Context) -> dict[str, Any]:
    figure = f"img-{number}.jpeg"
    markdown = f"# {name}\n\nThis is page {number + 1} of {name}, as the emulator imagines it.\n\n![{figure}]({figure})"
    wants_images = (body.get("bbox_annotation_format") or body.get("include_image_base64")) and (
        body.get("image_limit") != 0
    )
    image = {
        "id": figure,
        "top_left_x": 426,
        "top_left_y": 565,
        "bottom_right_x": 1276,
        "bottom_right_y": 860,
        "image_base64": _TINY_IMAGE if body.get("include_image_base64") else None,
        "image_annotation": json_by_schema(
            body.get("bbox_annotation_format"), f"An image on page {number + 1} of {name}"
        ),
    }
    return {
        "index": number,
        "markdown": markdown,
        "images": [image] if wants_images else [],
        "dimensions": {"dpi": 200, "height": 490, "width": 1200}
        if is_image
        else {"dpi": 200, "height": 2200, "width": 1700},
    }
