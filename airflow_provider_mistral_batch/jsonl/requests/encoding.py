"""Python values as JSON, or the reason why they cannot be written."""

from __future__ import annotations

import math
from contextlib import suppress
from decimal import Decimal
from typing import Any

import msgspec

from airflow_provider_mistral_batch.jsonl.requests.problems import Problem, shortened

_encode = msgspec.json.Encoder(decimal_format="number").encode

_UNWRITABLE = (TypeError, ValueError, RecursionError, msgspec.MsgspecError)


def encoded(value: Any) -> bytes | Problem:
    """
    Write a value as JSON.

    :param value: The value: plain JSON types, and also dataclasses, sets, dates and the like.
    :return: The JSON, or the problem that prevents it.
    """
    try:
        text = _encode(value)
        # msgspec writes NaN as null, which would silently change the request, and a decimal's as it is.
        is_odd = any(word in text for word in (b"null", b"NaN", b"Infinity"))
        field = _not_a_number(_plain(value)) if is_odd else None
    except _UNWRITABLE as error:
        field = None
        with suppress(*_UNWRITABLE):
            # A decimal's is refused by msgspec 0.23 and newer, which do not name its field.
            field = _not_a_number(_plain(value))
        if field is None:
            return Problem(
                f"cannot be written as JSON: {error}", "Use plain JSON types", value=shortened(value)
            )
    if field is not None:
        return Problem("NaN and Infinity are not JSON", "Use None or leave the field out", field=field)
    return text


def _plain(value: Any) -> Any:
    """Turn a value, which is known to be writable, into dicts, lists and numbers."""
    # Of everything that msgspec can write, only JSON that is written already (Raw) reaches the hook.
    return msgspec.to_builtins(value, builtin_types=(Decimal,), str_keys=True, enc_hook=lambda _: None)


def _not_a_number(value: Any) -> str | None:
    """Name the field of a number that JSON cannot express; None if there is none."""
    # A list instead of recursion: msgspec writes values that are nested more deeply than Python recurses.
    fields: list[tuple[str, Any]] = [("", value)]
    while fields:
        field, value = fields.pop()
        if isinstance(value, float) and not math.isfinite(value):
            return field
        if isinstance(value, Decimal) and not value.is_finite():
            return field
        if isinstance(value, dict):
            fields += [(f"{field}.{name}" if field else str(name), child) for name, child in value.items()]
        elif isinstance(value, (list, tuple)):
            fields += [(f"{field}[{number}]", child) for number, child in enumerate(value)]
    return None
