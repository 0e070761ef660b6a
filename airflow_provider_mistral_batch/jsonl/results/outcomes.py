"""What a result row says: did its request succeed, why not, and may another try pass?"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from airflow_provider_mistral_batch.api.error_bodies import read_error
from airflow_provider_mistral_batch.api.texts import WORD_LENGTH, kept
from airflow_provider_mistral_batch.jsonl.requests.nesting import MAX_LEVELS, is_too_deep
from airflow_provider_mistral_batch.jsonl.results.api_rows import (
    ApiRow,
    Costs,
    odd_costs,
    read_status,
    row_fields,
)

#: ``error.code`` of rows that we fail ourselves: the API answered, but the answer is not what was asked for.
INVALID_OUTPUT = "invalid_output"

#: ``error.code`` of such rows whose requests were asked again, which the API refused for good.
ASKED_AGAIN_IN_VAIN = "invalid_output_asked_again"

#: Code of failures whose answer ended with ``finish_reason`` ``error``. The rows themselves stay as they are.
BROKEN_OFF = "finish_reason_error"

#: ``error.code`` of lines that are no result row at all. Which requests they answer is not known: those are missing.
MALFORMED_ROW = "malformed_row"

#: ``error.code`` of rows that we write for requests that have none.
MISSING_ROW = "missing_row"

#: ``error.code`` of rows that we write in place of rows that are too long to be held in memory.
ROW_TOO_LONG = "row_too_long"

#: ``error.code`` of rows that we write in place of rows that are nested too deeply to be read by every Python.
ROW_TOO_DEEP = "row_too_deep"

#: Codes of rows that we write in place of others: what those cost is not known.
REPLACED = frozenset({MALFORMED_ROW, ROW_TOO_LONG, ROW_TOO_DEEP})

#: Status codes of failures that can pass, beside all of 5xx. 0 is what gateways write when they got no answer.
_PASSING_STATUS_CODES = frozenset({0, 408, 409, 429})

_EXPIRED = re.compile(r"expired|timed?[ _-]?out", re.IGNORECASE)

_MAX_MESSAGE_LENGTH = 300


def succeeded(row: ApiRow[Costs]) -> bool:
    """
    Tell whether a row's request succeeded: no error, a status code of 2xx, and an answer.

    Status 200 with a null body is no answer, nor is one that ended with ``finish_reason`` ``error``.
    """
    response = row.response
    return (
        response is not None
        and not _is_said(row.error)
        and response.body is not None
        and response.status_code is not None
        and 200 <= response.status_code < 300
        and not ended_in_error(response.body)
    )


def ended_in_error(body: Costs) -> bool:
    """Tell whether a model broke off: what there is of its answer, as its first choice, is not whole."""
    reason: str | None = body.choices[0].finish_reason if body.choices else None
    return reason == "error"


def _is_said(error: Any) -> bool:
    """Tell whether an error says anything: some servers write an object of nulls where there is none."""
    # A list instead of recursion, since an error may have more levels than Python has frames left.
    values = [error]
    while values:
        value = values.pop()
        if isinstance(value, dict):
            values += value.values()
        elif value:
            return True
    return False


def may_pass(status_code: int | None, error_code: str | None, message: str) -> bool:
    """
    Tell whether a failed request is worth another try.

    Time-outs, conflicts, rate limits, server errors and expired jobs may pass. What the API refused (400, 422 and the
    other 4xx) never does, nor does an answer that did not validate: that request has to change first.

    :param status_code: HTTP status code of the row; None if there was no response.
    :param error_code: ``error.code`` of the row.
    :param message: The row's error message.
    """
    if error_code in (INVALID_OUTPUT, ASKED_AGAIN_IN_VAIN):
        return False
    if status_code is None and error_code is not None and re.fullmatch(r"[1-5][0-9][0-9]", error_code):
        # Without a response, the error's code is the status that the request would have had.
        status_code = int(error_code)
    if status_code is not None and status_code >= 300:
        return status_code in _PASSING_STATUS_CODES or 500 <= status_code <= 599
    if status_code == 0 or error_code in (MALFORMED_ROW, MISSING_ROW):
        return True
    # No status, or 2xx without an answer: worth another try, unless the API gave a reason other than expiry.
    return not (error_code or message) or bool(_EXPIRED.search(f"{error_code} {message}"))


class Failure(msgspec.Struct, gc=False):
    """
    Why a row failed.

    :param status_code: HTTP status code of the row; None if there was no response.
    :param code: The API's code of the error, if it gave one.
    :param message: The error's text, cut after 300 characters.
    :param may_pass: Whether another try can succeed.
    """

    status_code: int | None
    code: str | None
    message: str
    may_pass: bool


def failure(line: bytes, without_secrets: Callable[[str], str] = str) -> Failure:
    """
    Find out why a row failed, wherever the API or a gateway put the reason.

    :param line: The result row.
    :param without_secrets: Removes secrets from a text, for what goes anywhere but into the row.
    """
    row = row_fields(line)
    if row is None and is_too_deep(line):
        return Failure(None, ROW_TOO_DEEP, f"the row is nested more than {MAX_LEVELS} levels deep", False)
    if row is None:
        return Failure(None, MALFORMED_ROW, "the row is not a JSON object", True)
    response = row.get("response")
    status_code, body = None, None
    if isinstance(response, dict):
        body = response.get("body")
        status_code = read_status(response.get("status_code"))
    error = row.get("error")
    said = read_error(error if _is_said(error) else None)
    code, message = said.code, said.message
    if not message and ended_in_error(odd_costs(body)):
        return Failure(status_code, code or BROKEN_OFF, "the model broke off (finish_reason: error)", True)
    if not message and not (status_code is not None and 200 <= status_code < 300):
        said = read_error(body)
        code, message = code or said.code, said.message
    # The text may be a whole answer.
    message = kept(message, without_secrets, _MAX_MESSAGE_LENGTH)
    code = None if code is None else kept(code, without_secrets, WORD_LENGTH)
    return Failure(status_code, code, message, may_pass(status_code, code, message))
