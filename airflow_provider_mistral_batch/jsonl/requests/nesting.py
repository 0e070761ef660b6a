"""Rows that are nested too deeply: one limit, since each version of Python's own is another."""

from __future__ import annotations

import re

#: Most arrays and objects within each other in a row. Every Python reads as many, also deep within Airflow.
MAX_LEVELS = 650

# Of each level the beginning and the end take a byte.
_SHORTEST = 2 * MAX_LEVELS

_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|([\]}])', re.DOTALL)


def any_too_deep(lines: list[bytes]) -> bool:
    """Tell whether any of some rows may be nested too deeply. Rows of usual length cost next to nothing."""
    return max(map(len, lines), default=0) > _SHORTEST and any(map(is_too_deep, lines))


def is_too_deep(line: bytes) -> bool:
    """Tell whether a row is nested too deeply."""
    if len(line) <= _SHORTEST or line.count(b"[") + line.count(b"{") <= MAX_LEVELS:
        return False
    level = 0
    for found in _BRACKETS.finditer(line):
        if found[1]:
            level -= 1
        elif found[0][:1] != b'"':
            level += 1
            if level > MAX_LEVELS:
                return True
    return False
