"""Checks of values that users give."""

from __future__ import annotations

from airflow_provider_mistral_batch.api.errors import InvalidInputError


def check_positive(field: str, value: float | None) -> None:
    """
    Check a number that need not be given.

    :raises InvalidInputError: When it is given and not a number above 0.
    """
    if value is not None and (
        isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf")
    ):
        raise InvalidInputError(f"{field}={value!r} is not a finite number above 0")
