"""Rows that we write into the errors file ourselves, where the API gave none or one that cannot be kept as it is."""

from __future__ import annotations

import json
import re
from itertools import islice

import msgspec

from airflow_provider_mistral_batch.api.decoding import UNREADABLE, decoded, decoded_leniently
from airflow_provider_mistral_batch.jsonl.lines import MAX_RESULT_ROW_BYTES
from airflow_provider_mistral_batch.jsonl.requests.nesting import MAX_LEVELS, level_after
from airflow_provider_mistral_batch.jsonl.results.outcomes import (
    MALFORMED_ROW,
    MISSING_ROW,
    ROW_TOO_DEEP,
    ROW_TOO_LONG,
)

#: The error message of a missing row.
MISSING_MESSAGE = "the job's files have no row for this request"

_MAX_MALFORMED_BYTES = 10_000

_encode = msgspec.json.Encoder().encode
_decode_text = msgspec.json.Decoder(str).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

_MISSING_TAIL = (
    b',"response":null,"error":' + _encode({"code": MISSING_ROW, "message": MISSING_MESSAGE}) + b"}"
)

# This null is followed by the last brace of the row, so it is the row's own error and not a field of the answer.
_NO_ERROR = re.compile(rb'(?<=[{,])(\s*"error"\s*:\s*)null(?=\s*\}\s*\Z)')

_ID = re.compile(rb'"custom_id"\s*:\s*("[^"\\]*(?:\\.[^"\\]*)*")', re.DOTALL)

#: How many fields named ``custom_id`` are looked at: an answer may have some, too.
_MOST_IDS = 20


def malformed_row(line: bytes, number: int) -> bytes:
    """
    Make a row of a line that is none, so that the errors file stays JSONL.

    :param line: The line.
    :param number: Its number, from 1.
    """
    text = line[:_MAX_MALFORMED_BYTES].decode("utf-8", "replace")
    error = {"code": MALFORMED_ROW, "message": f"line {number} is not a result row", "line": text}
    return _encode({"id": None, "custom_id": None, "response": None, "error": error})


def too_long_row(line: bytes, number: int) -> bytes:
    """
    Make a row in place of one that is too long to be held in memory.

    Its request is paid for, and another answer would be as long: the row names the request, which is not asked again.

    :param line: The beginning of the line.
    :param number: Its number, from 1.
    """
    error = {
        "code": ROW_TOO_LONG,
        "message": f"line {number} of the job's file has more than {MAX_RESULT_ROW_BYTES:,} bytes",
    }
    return _encode({"id": None, "custom_id": id_of_unread(line), "response": None, "error": error})


def too_deep_row(line: bytes, number: int) -> bytes:
    """
    Make a row in place of one that is nested too deeply, which only some versions of Python could read.

    Its request is paid for, and another answer may be nested as deeply: the row names the request, which is not asked
    again.

    :param line: The line.
    :param number: Its number, from 1.
    """
    error = {
        "code": ROW_TOO_DEEP,
        "message": f"line {number} of the job's file is nested more than {MAX_LEVELS} levels deep",
        "line": line[:_MAX_MALFORMED_BYTES].decode("utf-8", "replace"),
    }
    return _encode({"id": None, "custom_id": id_of_unread(line), "response": None, "error": error})


def id_of_unread(line: bytes) -> str | None:
    """
    Find the id of a row that is not decoded.

    :param line: The row, or its beginning.
    """
    for found in islice(_ID.finditer(line), _MOST_IDS):
        if level_after(line[: found.start()]) == 1:
            try:
                return decoded(_decode_text, found[1])
            except UNREADABLE:
                return None
    return None


def missing_row(custom_id: str) -> bytes:
    """Make the row that says that a request has none."""
    return b'{"id":null,"custom_id":' + _encode(custom_id) + _MISSING_TAIL


def is_missing_row(line: bytes) -> bool:
    """Tell whether a row of an errors file is a :func:`missing_row`."""
    return line.endswith(_MISSING_TAIL)


def with_error(line: bytes, code: str, message: str) -> bytes:
    """
    Give a row an error; all else stays byte for byte.

    :param line: A row whose error is null or not there.
    :param code: The error's code.
    :param message: The error's message.
    """
    error = _encode({"code": code, "message": message})
    spliced, count = _NO_ERROR.subn(lambda null: null[1] + error, line, count=1)
    if count:
        return spliced
    try:
        return _encode({**decoded(_decode_fields, line), "error": msgspec.Raw(error)})
    except UNREADABLE:
        # It has numbers that are no JSON.
        fields = {**decoded_leniently(line), "error": {"code": code, "message": message}}
        return json.dumps(fields, ensure_ascii=False).encode()
