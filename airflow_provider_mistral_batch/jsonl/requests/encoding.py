"""Python values as JSON, or what speaks against it."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from airflow_provider_mistral_batch.jsonl.requests.problems import Problem, shortened

_encode = msgspec.json.Encoder(decimal_format="number").encode


def encoded(value: Any) -> bytes | Problem:
    """
    Write a value as JSON.

    :param value: The value; dataclasses, sets, dates and the like are taken, too.
    :return: The JSON, or why there is none.
    """
    try:
        text = _encode(value)
        # msgspec writes NaN as null, which would change the request without a word.
        field = _not_a_number(_plain(value)) if b"null" in text else None
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        return Problem(f"cannot be written as JSON: {error}", "Use plain JSON types", value=shortened(value))
    if field is not None:
        return Problem("NaN and Infinity are not JSON", "Use None or leave the field out", field=field)
    return text


def _plain(value: Any) -> Any:
    """Give the dicts, lists and numbers that a value is made of; it was written as JSON before."""
    # Of all that msgspec writes, only JSON that is written already (Raw) comes to the hook.
    return msgspec.to_builtins(value, str_keys=True, enc_hook=lambda _: None)


def _not_a_number(value: Any) -> str | None:
    """Name the field of a float that JSON has no number for; None if there is none."""
    # A list instead of recursion: values may be nested as deeply as msgspec writes them.
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
