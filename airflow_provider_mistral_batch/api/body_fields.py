"""The fields that all request bodies of a batch share: the API would refuse every row for one wrong value."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from numbers import Real
from typing import Any

import msgspec

from airflow_provider_mistral_batch.api.checks import check_choice, check_flag, check_rendered
from airflow_provider_mistral_batch.api.errors import InvalidInputError


class NumberField(msgspec.Struct, frozen=True, kw_only=True):
    """
    A field that is a number in every endpoint that has it.

    :param lowest: The lowest valid number.
    :param highest: The highest valid number; ``None``: there is none.
    :param whole: Whether it is a whole number.
    """

    lowest: float = 0
    highest: float | None = None
    whole: bool = False


NUMBER_FIELDS: Mapping[str, NumberField] = {
    "max_tokens": NumberField(whole=True),
    "min_tokens": NumberField(whole=True),
    "temperature": NumberField(highest=1.5),
    "top_p": NumberField(highest=1),
    "random_seed": NumberField(whole=True),
    "n": NumberField(lowest=1, whole=True),
    "presence_penalty": NumberField(lowest=-2, highest=2),
    "frequency_penalty": NumberField(lowest=-2, highest=2),
    "output_dimension": NumberField(lowest=1, whole=True),
}
FLAG_FIELDS = frozenset({"safe_prompt", "parallel_tool_calls", "include_image_base64"})

_RESPONSE_FORMATS = ("text", "json_object", "json_schema")


def check_body_fields(fields: Any, *, within: str = "") -> None:
    """
    Check the values that each request of a batch gets, as far as the API is known to refuse them.

    :param fields: The fields by name; ``None`` stands for a field that is not set.
    :param within: The parameter that is a dict of these fields, for the errors.
    :raises InvalidInputError: When the fields are not a dict, or a value is wrong.
    """
    _check_dict(within, fields)
    for name, value in fields.items():
        field = f"{within}[{name!r}]" if within else name
        check_rendered(f"a key of {within}", name)
        if value is None:
            continue
        if name in NUMBER_FIELDS:
            _check_number(field, value, NUMBER_FIELDS[name])
        elif name in FLAG_FIELDS:
            check_flag(field, value)
        elif name == "response_format":
            _check_dict(field, value)
            check_choice(f"{field}['type']", value.get("type", "text"), _RESPONSE_FORMATS)
        elif name == "completion_args":
            check_body_fields(value, within=field)


def _check_dict(field: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise InvalidInputError(
            f"{field}={value!r:.80} is not a dict: pass a dict; a template for all of it has to end in "
            "'| tojson }}'"
        )


def _check_number(field: str, value: Any, wanted: NumberField) -> None:
    is_number = isinstance(value, (Real, Decimal)) and not isinstance(value, bool)
    if (
        not is_number
        or not wanted.lowest <= value < float("inf")
        or (wanted.whole and value != int(value))
        or (wanted.highest is not None and value > wanted.highest)
    ):
        kind = "a whole number" if wanted.whole else "a number"
        bounds = f"of {wanted.lowest:g} or more"
        if wanted.highest is not None:
            bounds = f"between {wanted.lowest:g} and {wanted.highest:g}"
        raise InvalidInputError(
            f"{field}={value!r:.80} is not {kind} {bounds}, so the API would refuse every request: pass such a number, "
            "or leave it out"
        )
