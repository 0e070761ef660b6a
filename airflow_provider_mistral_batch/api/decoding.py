"""Where msgspec departs from JSON: it skips over bytes that are not UTF-8, and refuses lone surrogates."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

import msgspec

#: What msgspec raises on bytes that are not JSON of the expected shape.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

# Matches every escape, so that the second backslash of "\\ud83d" does not count as the start of one.
_ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")

_Decoded = TypeVar("_Decoded")


def is_utf8(data: bytes) -> bool:
    """Tell whether bytes are UTF-8. msgspec does not check the parts that it skips."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def lone_surrogate(text: bytes) -> int | None:
    r"""
    Find the escape of half a character, such as ``\ud83d``, in JSON.

    JSON allows it, and Python's json writes it for an emoji that was cut in two, but UTF-8 cannot encode it.

    :return: Index of its first byte; None if there is none.
    """
    if _SURROGATE.search(text) is None:
        return None
    return next((escape.start() for escape in _ESCAPES.finditer(text) if escape[1]), None)


def decoded(decode: Callable[[bytes], _Decoded], text: bytes) -> _Decoded:
    """
    Decode JSON; a lone surrogate becomes a replacement character (U+FFFD).

    :param decode: ``decode`` of a msgspec decoder.
    :param text: The JSON.
    """
    try:
        return decode(text)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        if lone_surrogate(text) is None:
            raise
        return decode(_ESCAPES.sub(_replaced, text))


def _replaced(escape: re.Match[bytes]) -> bytes:
    return rb"\ufffd" if escape[1] else escape[0]
