"""Rows that are nested too deeply: one limit, since each version of Python's own is another."""

from __future__ import annotations

#: Most arrays and objects within each other in a row. Every Python reads as many, also deep within Airflow.
MAX_LEVELS = 650

# Of each level the beginning and the end take a byte.
_SHORTEST = 2 * MAX_LEVELS

_OTHER_BYTES = bytes(set(range(256)) - set(b"[]{}"))
_OF_ONE_KIND = bytes.maketrans(b"{}", b"[]")


def any_too_deep(lines: list[bytes]) -> bool:
    """Tell whether any of some rows may be nested too deeply. Rows of usual length cost next to nothing."""
    return max(map(len, lines), default=0) > _SHORTEST and any(map(is_too_deep, lines))


def is_too_deep(line: bytes) -> bool:
    """Tell whether a row is nested too deeply."""
    if len(line) <= _SHORTEST or line.count(b"[") + line.count(b"{") <= MAX_LEVELS:
        return False
    brackets = _brackets(line)
    for level in range(MAX_LEVELS):
        # Each turn takes away the innermost level of all branches.
        left = brackets.replace(b"[]", b"")
        if len(left) == len(brackets):
            # Nothing is left; or the row is no JSON, and has brackets without a counterpart.
            return level + left.count(b"[") > MAX_LEVELS
        brackets = left
    return bool(brackets)


def level_after(text: bytes) -> int:
    """Tell how many arrays and objects are open after the beginning of a row."""
    brackets = _brackets(text)
    return brackets.count(b"[") - brackets.count(b"]")


def _brackets(text: bytes) -> bytes:
    """Leave only the brackets outside of strings, all of one kind."""
    without_escapes = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(without_escapes.split(b'"')[::2]).translate(_OF_ONE_KIND, _OTHER_BYTES)
