"""Rows that are nested too deeply: one limit, since each version of Python's own is another."""

from __future__ import annotations

from array import array
from itertools import accumulate

#: Most arrays and objects within each other in a row. Every Python reads as many, also deep within Airflow.
MAX_LEVELS = 650

# Of each level the beginning and the end take a byte.
_SHORTEST = 2 * MAX_LEVELS

# A bracket as a step up or down, in signed bytes.
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_OTHER_BYTES = bytes(set(range(256)) - set(b"[]{}"))


def any_too_deep(lines: list[bytes]) -> bool:
    """Tell whether any of some rows may be nested too deeply. Rows of usual length cost next to nothing."""
    return max(map(len, lines), default=0) > _SHORTEST and any(map(is_too_deep, lines))


def is_too_deep(line: bytes) -> bool:
    """Tell whether a row is nested too deeply."""
    if len(line) <= _SHORTEST or line.count(b"[") + line.count(b"{") <= MAX_LEVELS:
        return False
    return max(accumulate(_steps(line)), default=0) > MAX_LEVELS


def level_after(text: bytes) -> int:
    """Tell how many arrays and objects are open after the beginning of a row."""
    return sum(_steps(text))


def _steps(text: bytes) -> array[int]:
    """Give a step for each bracket outside of strings: 1 where a level begins, and -1 where it ends."""
    without_escapes = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    return array("b", b"".join(without_escapes.split(b'"')[::2]).translate(_STEPS, _OTHER_BYTES))
