"""The rows of an inline job within its answer, as bytes: no row that is nested too deeply spoils the others."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping

import msgspec

from airflow_provider_mistral_batch.api.decoding import decoded

#: Most levels of a row that the decoder gets to see; fewer than each Python reads, whatever calls it.
_LEVELS = 400

#: The level at which a row begins: within the list of rows, within the answer.
_ROW_LEVEL = 3

_TOKENS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)


class _Outputs(msgspec.Struct):
    outputs: list[msgspec.Raw] | None = None


def rows_in(content: bytes) -> list[bytes]:
    """
    Give the rows in ``outputs`` of a job, each in one line and otherwise as it came.

    :param content: The answer.
    :raises msgspec.MsgspecError: When it is no job.
    """
    shallow, deep = without_deep_parts(content)
    outputs = decoded(lambda text: msgspec.json.decode(text, type=_Outputs), shallow).outputs or []
    rows = (deep.get(bytes(row), bytes(row)) for row in outputs)
    # Line breaks are in no text of JSON, only between its parts.
    return [row.replace(b"\n", b" ").replace(b"\r", b" ") for row in rows]


def without_deep_parts(content: bytes) -> tuple[bytes, Mapping[bytes, bytes]]:
    """
    Put a short text into the place of each part of an answer that is nested too deeply.

    :param content: JSON.
    :return: The rest, and these parts by the text in their place.
    """
    if content.count(b"[") + content.count(b"{") <= _LEVELS:
        return content, {}
    level = deepest = start = 0
    mark, end = secrets.token_hex(16), 0
    kept: list[bytes] = []
    deep: dict[bytes, bytes] = {}
    for token in _TOKENS.finditer(content):
        bracket = token[0]
        if bracket in (b"[", b"{"):
            level += 1
            if level == _ROW_LEVEL:
                start, deepest = token.start(), level
            deepest = max(deepest, level)
        elif bracket in (b"]", b"}"):
            if level == _ROW_LEVEL and deepest > _LEVELS:
                text = f'"{mark}-{len(deep)}"'.encode()
                kept += [content[end:start], text]
                end = token.end()
                deep[text] = content[start:end]
            level -= 1
    return b"".join([*kept, content[end:]]), deep
