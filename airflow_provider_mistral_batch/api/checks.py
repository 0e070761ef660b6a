"""Checks of the values that users pass: one rule for each kind of value, without I/O.

Every error names the field, the value and, last, the remedy.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow_provider_mistral_batch.api import limits
from airflow_provider_mistral_batch.api.errors import InvalidInputError

# Numbers


def check_positive(field: str, value: Any, *, unit: str = "seconds", or_none: bool = False) -> None:
    """
    Check a number above 0.

    :param field: The field's name.
    :param value: The number.
    :param unit: What it counts.
    :param or_none: Whether ``None`` is a valid value, too.
    :raises InvalidInputError: When it is not an int or a float, not above 0, or not finite.
    """
    if value is None and or_none:
        return
    remedy = f"pass a number of {unit}"
    _check_is_number(field, value, remedy)
    if not 0 < value <= sys.float_info.max:
        raise InvalidInputError(f"{field}={value!r} is not a finite number above 0: {remedy}")


def check_not_negative(field: str, value: Any, *, unit: str = "seconds") -> None:
    """
    Check a number of 0 or more.

    :param field: The field's name.
    :param value: The number.
    :param unit: What it counts.
    :raises InvalidInputError: When it is not an int or a float, negative, or not finite.
    """
    remedy = f"pass a number of {unit}"
    _check_is_number(field, value, remedy)
    if not 0 <= value <= sys.float_info.max:
        raise InvalidInputError(f"{field}={value!r} is not a finite number of 0 or more: {remedy}")


def check_ratio(field: str, value: Any) -> None:
    """
    Check a number from 0 to 1.

    :param field: The field's name.
    :param value: The number.
    :raises InvalidInputError: When it is not an int or a float from 0 to 1.
    """
    remedy = "pass 0 for none, 1 for all, or a share such as 0.05"
    _check_is_number(field, value, remedy)
    if not 0 <= value <= 1:
        raise InvalidInputError(f"{field}={value!r} is not between 0 and 1: {remedy}")


def check_whole(field: str, value: Any, *, at_least: int, at_most: int | None = None, unit: str) -> None:
    """
    Check a whole number.

    :param field: The field's name.
    :param value: The number.
    :param at_least: The smallest valid number.
    :param at_most: The largest valid number; ``None``: there is none.
    :param unit: What it counts.
    :raises InvalidInputError: When it is not an int, or out of range.
    """
    remedy = f"pass a whole number of {unit}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInputError(f"{field}={value!r} is not an int: {remedy}")
    if value < at_least or (at_most is not None and value > at_most):
        allowed = f"{at_least} or more" if at_most is None else f"between {at_least} and {at_most}"
        raise InvalidInputError(f"{field}={value!r} is not {allowed}: {remedy}")


def _check_is_number(field: str, value: Any, remedy: str) -> None:
    """
    Refuse what is not an int or a float, such as ``Decimal`` and most of numpy's numbers.

    Those would fail only after the job was created: ``timedelta`` refuses ``numpy.int64``, a ``Decimal`` cannot be
    added to a time, and a time plus ``numpy.float32`` is up to a minute off. ``numpy.float64`` is a float.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidInputError(f"{field}={value!r} is not an int or a float: {remedy}")


def check_flag(field: str, value: Any) -> None:
    """
    Check a switch.

    :param field: The field's name.
    :param value: The value.
    :raises InvalidInputError: When it is neither ``True`` nor ``False``: Python counts the text ``"no"`` as true.
    """
    if not isinstance(value, bool):
        raise InvalidInputError(f"{field}={value!r:.80} is not a bool: pass True or False")


# Words


def check_no_table(**given: object) -> None:
    """
    Refuse parameters that belong to a table where there is no prompt over its columns.

    :param given: The parameters' values.
    :raises InvalidInputError: When there is one.
    """
    for name, value in given.items():
        # Not all values can be told true or false.
        if value is not None and value != ():
            raise InvalidInputError(
                f"{name}={value!r:.80} belongs to a table, whose requests are made from a prompt over its columns: "
                "pass prompt, such as prompt='Summarise: {body}'"
            )


def check_rendered(field: str, value: object) -> None:
    """
    Refuse a Jinja template where only a rendered one makes sense.

    :param field: The field's name.
    :param value: Text, a path, or anything else, which passes.
    :raises InvalidInputError: When the text or the path has ``{{`` or ``{%`` in it.
    """
    text = str(value) if isinstance(value, (str, os.PathLike)) or hasattr(value, "parent") else ""
    if _has_braces(text):
        raise InvalidInputError(
            f"{field}={text!r:.200} is a template that was not rendered: Airflow renders only strings that are written "
            "into the Dag, not path objects and not other tasks' output; pass such a string, or the value itself"
        )


def _has_braces(text: str) -> bool:
    return "{{" in text or "{%" in text


def check_choice(field: str, value: Any, choices: Iterable[str]) -> None:
    """
    Check a value that is one of a few words.

    :param field: The field's name.
    :param value: The value.
    :param choices: The valid words.
    :raises InvalidInputError: When it is something else.
    """
    words = tuple(choices)
    if value not in words:
        raise InvalidInputError(f"{field}={value!r} is not known: use one of {', '.join(words)}")


def check_id(value: object, *, field: str) -> str:
    """
    Check that a value can be the id of a job or a file.

    Ids come from XComs and from users' code, and become part of a URL's path. An empty id and one with a dot segment
    would address another resource, even when escaped, since some gateways unescape; so would one with control
    characters.

    :param value: The id.
    :param field: The field's name.
    :return: The id.
    :raises InvalidInputError: When it cannot be an id.
    """
    if (
        not isinstance(value, str)
        or not value.strip()
        or not value.isprintable()
        or not {".", ".."}.isdisjoint(re.split(r"[/\\]", value))
    ):
        raise InvalidInputError(f"{field}={value!r:.80} is not an id: pass the id as the API returned it")
    return value


# Fields of a job


def check_metadata(metadata: Mapping[str, str] | None) -> None:
    """
    Check a job's metadata against the API's limits.

    :param metadata: The metadata; ``None``: the job has none.
    :raises InvalidInputError: When a key or a value is not a string, or not as long as the API allows.
    """
    if metadata is None:
        return
    if not isinstance(metadata, Mapping):
        raise InvalidInputError(
            f"metadata={metadata!r:.80} is not a mapping: pass a dict of strings to strings"
        )
    for key, value in metadata.items():
        check_rendered("metadata key", key)
        if not isinstance(key, str) or not 1 <= len(key) <= limits.MAX_METADATA_KEY_LENGTH:
            raise InvalidInputError(
                f"metadata key {key!r:.80} is not a string of 1 to {limits.MAX_METADATA_KEY_LENGTH} characters: rename "
                "it"
            )
        if not isinstance(value, str) or not 1 <= len(value) <= limits.MAX_METADATA_VALUE_LENGTH:
            length = f" ({len(value):,} characters)" if isinstance(value, str) else ""
            raise InvalidInputError(
                f"metadata[{key!r}]={value!r:.80}{length} is not a string of 1 to {limits.MAX_METADATA_VALUE_LENGTH} "
                "characters: convert it, shorten it or leave it out"
            )


def check_input_files(input_files: Sequence[str]) -> None:
    """
    Check a job's input files.

    :param input_files: Ids of files.
    :raises InvalidInputError: When they are not a list, empty, or one of them cannot be an id.
    """
    if isinstance(input_files, str) or not isinstance(input_files, Sequence):
        raise InvalidInputError(f"input_files={input_files!r:.80} is not a list: pass a list of file ids")
    if not input_files:
        raise InvalidInputError("input_files is empty: pass at least one file id")
    for file_id in input_files:
        check_id(file_id, field="input_files")


def check_inline_requests(requests: Sequence[Mapping[str, Any]]) -> None:
    """
    Check the shape and the number of inline requests. What is in a body is checked elsewhere.

    :param requests: Rows with a ``body``.
    :raises InvalidInputError: When they are not a list of rows, or not as many as the API takes.
    """
    check_is_list_of_rows(requests)
    check_inline_count(len(requests))
    for number, row in enumerate(requests):
        if not isinstance(row, Mapping) or not isinstance(row.get("body"), Mapping):
            raise InvalidInputError(
                f'requests[{number}]={row!r:.80} is not a row: write {{"custom_id": "…", "body": {{…}}}}'
            )


def check_is_list_of_rows(requests: Any) -> None:
    """
    Check that inline requests are a list, whatever is in it.

    :param requests: The value.
    :raises InvalidInputError: When they are anything else.
    """
    if isinstance(requests, (str, bytes)) or not isinstance(requests, Sequence):
        raise InvalidInputError(f"requests={requests!r:.80} is not a list: pass a list of rows")


def check_inline_count(count: int) -> None:
    """
    Check the number of a job's inline requests.

    :param count: The number.
    :raises InvalidInputError: When there are none, or more than 10,000.
    """
    if count == 0:
        raise InvalidInputError("requests is empty: a batch job needs at least one request")
    if count > limits.MAX_INLINE_REQUESTS:
        raise InvalidInputError(
            f"requests has {count:,} rows, and a job takes at most {limits.MAX_INLINE_REQUESTS:,} inline: upload them "
            "as a file and pass input_files"
        )


def check_exactly_one(**values: object) -> None:
    """
    Check fields of which a user passes one.

    :param values: The fields; ``None`` stands for one that is not passed.
    :raises InvalidInputError: When several are passed, or none.
    """
    given = [name for name, value in values.items() if value is not None]
    if len(given) > 1:
        together = "both" if len(given) == 2 else "all"
        raise InvalidInputError(f"{' and '.join(given)} are {together} given: pass exactly one of them")
    if not given:
        *others, last = values
        raise InvalidInputError(
            f"{', '.join(others)} and {last} are {'both' if len(others) == 1 else 'all'} missing: pass exactly one of "
            "them"
        )


_WINDOW = re.compile(r"([0-9]{1,6})([hd])")


def completion_window_hours(completion_window: str) -> int:
    """
    Read a completion window such as ``"24h"`` or ``"7d"``.

    :param completion_window: ``"<n>h"`` or ``"<n>d"``.
    :return: Hours, 1 to 168.
    :raises InvalidInputError: When it has another form, or is out of range.
    """
    match = _WINDOW.fullmatch(completion_window) if isinstance(completion_window, str) else None
    if match is None:
        raise InvalidInputError(
            f"completion_window={completion_window!r:.80} is not of the form '<n>h' or '<n>d': write for example '24h'"
        )
    hours = int(match[1]) * (24 if match[2] == "d" else 1)
    if not limits.MIN_TIMEOUT_HOURS <= hours <= limits.MAX_TIMEOUT_HOURS:
        raise InvalidInputError(
            f"completion_window={completion_window!r} is not between {limits.MIN_TIMEOUT_HOURS} and "
            f"{limits.MAX_TIMEOUT_HOURS} hours: write for example '24h'"
        )
    return hours


def chosen_window(completion_window: str | None, timeout_hours: int | None) -> str:
    """
    Read the two fields that say how long a job may take.

    :param completion_window: ``"<n>h"`` or ``"<n>d"``.
    :param timeout_hours: The same as a number of hours.
    :return: The completion window; the default if neither is given.
    :raises InvalidInputError: When both are given, or the hours are out of range.
    """
    if timeout_hours is None:
        return limits.DEFAULT_COMPLETION_WINDOW if completion_window is None else completion_window
    if completion_window is not None:
        raise InvalidInputError(
            f"completion_window={completion_window!r} and timeout_hours={timeout_hours!r} are both given, and they "
            "mean the same: pass one of them"
        )
    check_whole(
        "timeout_hours",
        timeout_hours,
        at_least=limits.MIN_TIMEOUT_HOURS,
        at_most=limits.MAX_TIMEOUT_HOURS,
        unit="hours",
    )
    return f"{timeout_hours}h"


def chosen_model(
    model: str | None,
    agent_id: str | None,
    *,
    named: str | None = None,
    named_agent: str | None = None,
    default: str | None = None,
) -> str | None:
    """
    Choose the one model of a job.

    :param model: The model that the job names.
    :param agent_id: An agent instead of a model.
    :param named: The model that the requests name, if that is known.
    :param named_agent: The agent that the requests name, if that is known.
    :param default: The model if neither names a model or an agent.
    :return: The model; ``None`` for a job of an agent.
    :raises InvalidInputError: When job and requests name different models, or a model and an agent.
    """
    if agent_id is not None:
        return None
    if model is not None and named not in (None, model):
        raise InvalidInputError(
            f"model={model!r}, but the requests name {named!r}, and a batch job runs one model: name the same in both "
            "places, or only in one"
        )
    if model is not None and named_agent is not None:
        raise InvalidInputError(
            f"model={model!r}, but the requests name the agent {named_agent!r:.80}, which has a model of its own: "
            "leave model out, or agent_id in the requests"
        )
    return model or named or (None if named_agent else default)
