"""Arrow's texts as JSON: whole columns at once, without a Python object for each row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import pyarrow

_encode = msgspec.json.Encoder().encode


def as_json(text: str) -> str:
    """
    Write a text as JSON does, without the quotes around it.

    :param text: The text.
    """
    return _encode(text).decode()[1:-1]


# The backslash comes first: all others become one and something more.
_ESCAPES = {one: as_json(one) for one in ("\\", *map(chr, range(128))) if as_json(one) != one}
_CONTROL_BYTES = 0x20


def all_as_json(texts: pyarrow.StringArray) -> pyarrow.StringArray:
    """
    Write texts as JSON does, without the quotes around each.

    :param texts: The texts, without a null.
    """
    import pyarrow
    from pyarrow import compute

    written = bytes_of(texts)
    numbers = pyarrow.Array.from_buffers(pyarrow.uint8(), len(written), [None, pyarrow.py_buffer(written)])
    least = compute.min(numbers).as_py()
    for one, escape in _ESCAPES.items():
        if (ord(one) >= _CONTROL_BYTES or (least is not None and least < _CONTROL_BYTES)) and (
            one.encode() in written
        ):
            texts = compute.replace_substring(texts, one, escape)
    return texts


def bytes_of(texts: pyarrow.StringArray) -> bytes:
    """
    Give the bytes of texts, one after the other.

    :param texts: The texts; nulls have no bytes.
    """
    _, offsets, written = texts.buffers()
    if not len(texts) or written is None:
        return b""
    places = memoryview(offsets).cast("i")
    start, end = places[texts.offset], places[texts.offset + len(texts)]
    return bytes(memoryview(written)[start:end])


def joined(parts: list[str | pyarrow.StringArray]) -> pyarrow.StringArray:
    """
    Put texts together, row by row.

    :param parts: Columns of texts, and texts that are the same in each row.
    """
    import pyarrow
    from pyarrow import compute

    merged: list[Any] = []
    for part in parts:
        if isinstance(part, str) and merged and isinstance(merged[-1], str):
            merged[-1] += part
        else:
            merged.append(part)
    values = [pyarrow.scalar(part, pyarrow.string()) if isinstance(part, str) else part for part in merged]
    return compute.binary_join_element_wise(*values, pyarrow.scalar("", pyarrow.string()))
