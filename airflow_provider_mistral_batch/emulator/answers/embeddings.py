"""``/v1/embeddings``: vectors that depend on the text alone."""

from __future__ import annotations

import base64
import math
import struct
from hashlib import shake_256
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import NotRequired, TypedDict

from airflow_provider_mistral_batch.emulator.answers.context import Context
from airflow_provider_mistral_batch.emulator.answers.errors import TooLarge
from airflow_provider_mistral_batch.emulator.answers.tokens import count_tokens, usage

#: Numbers that an embedding may have, and all embeddings of an answer together.
_LONGEST = 10_000
_MOST_NUMBERS = 4_000_000


class Embeddings(TypedDict):
    """Body of ``/v1/embeddings``."""

    model: NotRequired[str | None]
    input: str | list[str]
    output_dimension: NotRequired[Annotated[int, Field(ge=1, le=_LONGEST)] | None]
    output_dtype: NotRequired[Literal["float", "int8", "uint8", "binary", "ubinary"] | None]
    encoding_format: NotRequired[Literal["float", "base64"] | None]


def answer_embeddings(body: Any, context: Context) -> dict[str, Any]:
    """Answer a body of ``/v1/embeddings``."""
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    dimension = body.get("output_dimension") or context.dimension
    dtype = body.get("output_dtype") or "float"
    if len(texts) * dimension > _MOST_NUMBERS:
        raise TooLarge
    return {
        "id": context.id,
        "object": "list",
        "model": context.model,
        "usage": usage(sum(count_tokens(text) for text in texts), 0),
        "data": [
            {
                "object": "embedding",
                "embedding": _encoded(embedding(text, dimension, dtype), dtype, body.get("encoding_format")),
                "index": index,
            }
            for index, text in enumerate(texts)
        ],
    }


def embedding(text: str, dimension: int, dtype: str = "float") -> list[float] | list[int]:
    """
    The vector of a text.

    :param dimension: How many numbers it has. With a binary type, it has one number for every eight.
    :param dtype: The numbers' type, as in ``output_dtype``. A vector of type ``float`` has length 1.
    """
    numbers = shake_256(text.encode("utf-8", "surrogatepass")).digest(dimension)
    if dtype == "uint8":
        return list(numbers)
    if dtype == "int8":
        return [number - 128 for number in numbers]
    if dtype in ("binary", "ubinary"):
        shift = 128 if dtype == "binary" else 0
        return [number - shift for number in numbers[: math.ceil(dimension / 8)]]
    length = math.sqrt(sum((number - 127.5) ** 2 for number in numbers))
    return [(number - 127.5) / length for number in numbers]


def _encoded(
    vector: list[float] | list[int], dtype: str, encoding: str | None
) -> list[float] | list[int] | str:
    if encoding != "base64":
        return vector
    kind = {"float": "f", "int8": "b", "binary": "b"}.get(dtype, "B")
    return base64.b64encode(struct.pack(f"<{len(vector)}{kind}", *vector)).decode()
