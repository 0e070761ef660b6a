"""Python values as JSON, or the reason why they cannot be written."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from airflow_provider_mistral_batch.jsonl.requests.problems import Problem, shortened

_encode = msgspec.json.Encoder(decimal_format="number").encode


def encoded(value: Any) -> bytes | Problem:
    """
    Write a value as JSON.

    :param value: The value: plain JSON types, and also dataclasses, sets, dates and the like.
    :return: The JSON, or the problem that prevents it.
    """
    try:
        text = _encode(value)
        # msgspec writes NaN as null, which would silently change the request.
        field = _not_a_number(_plain(value)) if b"null" in text else None
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        return Problem(f"cannot be written as JSON: {error}", "Use plain JSON types", value=shortened(value))
    if field is not None:
        return Problem("NaN and Infinity are not JSON", "Use None or leave the field out", field=field)
    return text


def _plain(value: Any) -> Any:
    """Turn a value, which is known to be writable, into dicts, lists and numbers."""
    # Of everything that msgspec can write, only JSON that is written already (Raw) reaches the hook.
    return msgspec.to_builtins(value, str_keys=True, enc_hook=lambda _: None)


def _not_a_number(value: Any) -> str | None:
    """Name the field of a float that JSON cannot express; None if there is none."""
    # A list instead of recursion: msgspec writes values that are nested more deeply than Python recurses.
    fields: list[tuple[str, Any]] = [("", value)]
    while fields:
        field, value = fields.pop()
        if isinstance(value, float) and not math.isfinite(value):
            return field
        if isinstance(value, dict):
            fields += [(f"{field}.{name}" if field else str(name), child) for name, child in value.items()]
        elif isinstance(value, (list, tuple)):
            fields += [(f"{field}[{number}]", child) for number, child in enumerate(value)]
    return None
