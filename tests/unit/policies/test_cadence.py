"""How often a job is looked at."""

from __future__ import annotations

import pytest

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.policies.cadence import Cadence


@pytest.mark.parametrize(
    ("age", "shortest", "longest", "interval"),
    [
        (0, 2, 60, 2),
        (-100, 2, 60, 2),
        (40, 2, 60, 2),
        (100, 2, 60, 5),
        (1200, 2, 60, 60),
        (1e9, 2, 60, 60),
        # The ceiling wins over the floor.
        (0, 30, 10, 10),
        (1000, 30, 10, 10),
        (10, 0.01, 0.1, 0.1),
    ],
)
def test_five_percent_of_the_age_within_bounds(age, shortest, longest, interval):
    assert Cadence(shortest=shortest, longest=longest).interval(age) == interval


@pytest.mark.parametrize("value", [0, -1, "5", None, True, float("nan"), float("inf")])
@pytest.mark.parametrize(("field", "name"), [("shortest", "poll_interval_min"), ("longest", "poll_interval")])
def test_bad_intervals_are_named_as_the_user_knows_them(value, field, name):
    with pytest.raises(InvalidInputError, match=f"^{name}={value!r} is not .*: pass a number of seconds$"):
        Cadence(**{field: value})
