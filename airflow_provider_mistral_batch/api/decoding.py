"""Where msgspec departs from JSON, or servers do: bytes that are not UTF-8, lone surrogates, odd numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

#: What msgspec raises on bytes that are not JSON of the expected shape.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

# Matches every escape, so that the second backslash of "\\ud83d" does not count as the start of one.
_ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")

#: Digits of the longest whole number that is decoded as one.
_MAX_DIGITS = 300

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


def decoded_leniently(text: bytes) -> Any:
    """
    Decode what Python's json writes: JSON that may also have ``NaN``, ``Infinity`` and numbers of any size.

    Many times slower than msgspec, so it is for what msgspec refused. A lone surrogate becomes a replacement character.

    :param text: The JSON.
    :raises ValueError: If it is not even that.
    :raises RecursionError: If it is nested too deeply.
    """
    return json.loads(_ESCAPES.sub(_replaced, text), parse_int=_whole_number)


def _whole_number(digits: str) -> int | float:
    # Python refuses to read 4,300 digits and more, and then the whole text.
    return int(digits) if len(digits) <= _MAX_DIGITS else float(digits)


def _replaced(escape: re.Match[bytes]) -> bytes:
    return rb"\ufffd" if escape[1] else escape[0]
