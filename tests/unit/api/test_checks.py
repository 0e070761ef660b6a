"""One rule for each kind of value: what passes, what does not, and the words of the error."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest

from airflow_provider_mistral_batch.api.checks import (
    check_choice,
    check_exactly_one,
    check_id,
    check_inline_count,
    check_not_negative,
    check_positive,
    check_ratio,
    check_whole,
    chosen_model,
    chosen_window,
)
from airflow_provider_mistral_batch.api.errors import InvalidInputError

INF, NAN = float("inf"), float("nan")

#: Values, and which checks accept them: of a number above 0, of 0 or more, of a ratio, of a whole number from 0 to 168.
NUMBERS = [
    (1, "positive, not negative, ratio, whole"),
    (0, "not negative, ratio, whole"),
    (168, "positive, not negative, whole"),
    (169, "positive, not negative"),
    (0.5, "positive, not negative, ratio"),
    (1.0, "positive, not negative, ratio"),
    (0.0, "not negative, ratio"),
    (-0.0, "not negative, ratio"),
    (5e-324, "positive, not negative, ratio"),
    (1e300, "positive, not negative"),
    (-1, ""),
    (-1e-9, ""),
    (INF, ""),
    (-INF, ""),
    (NAN, ""),
    (10**400, ""),
    (True, ""),
    (False, ""),
    (None, ""),
    ("1", ""),
    ("", ""),
    ([1], ""),
    (1j, ""),
    (Decimal(1), ""),
    (Fraction(1, 2), ""),
]
CHECKS = {
    "positive": check_positive,
    "not negative": check_not_negative,
    "ratio": check_ratio,
    "whole": lambda field, value: check_whole(field, value, at_least=0, at_most=168, unit="hours"),
}


@pytest.mark.parametrize("kind", CHECKS)
@pytest.mark.parametrize(("value", "accepted_as"), NUMBERS, ids=lambda value: f"{value!r:.20}")
def test_numbers(kind, value, accepted_as):
    if kind in accepted_as.split(", "):
        CHECKS[kind]("field", value)
        return
    with pytest.raises(InvalidInputError) as caught:
        CHECKS[kind]("field", value)
    problem, _, remedy = str(caught.value).partition(": ")
    assert problem.startswith(f"field={value!r} is not ")
    assert remedy.startswith("pass ")


def test_of_numpys_numbers_the_one_that_is_a_float():
    numpy = pytest.importorskip("numpy")
    check_positive("field", numpy.float64(0.5))
    for value in (numpy.float64("nan"), numpy.float32(0.5), numpy.int64(1), numpy.bool_(True)):
        with pytest.raises(InvalidInputError, match=r"^field=.* is not .*: pass a number of seconds$"):
            check_positive("field", value)


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (lambda: check_positive("t", 0), "t=0 is not a finite number above 0: pass a number of seconds"),
        (lambda: check_positive("t", INF), "t=inf is not a finite number above 0: pass a number of seconds"),
        (
            lambda: check_positive("t", "5", unit="US dollars"),
            "t='5' is not an int or a float: pass a number of US dollars",
        ),
        (
            lambda: check_not_negative("t", -1),
            "t=-1 is not a finite number of 0 or more: pass a number of seconds",
        ),
        (
            lambda: check_ratio("r", 1.5),
            "r=1.5 is not between 0 and 1: pass 0 for none, 1 for all, or a share such as 0.05",
        ),
        (
            lambda: check_whole("n", 2.0, at_least=1, unit="attempts"),
            "n=2.0 is not an int: pass a whole number of attempts",
        ),
        (
            lambda: check_whole("n", 0, at_least=1, unit="attempts"),
            "n=0 is not 1 or more: pass a whole number of attempts",
        ),
        (
            lambda: check_whole("n", 9, at_least=1, at_most=3, unit="attempts"),
            "n=9 is not between 1 and 3: pass a whole number of attempts",
        ),
        (lambda: check_choice("c", "x", ("a", "b")), "c='x' is not known: use one of a, b"),
        (lambda: check_choice("c", ["a"], {"a": 1}), "c=['a'] is not known: use one of a"),
        (lambda: check_inline_count(0), "requests is empty: a batch job needs at least one request"),
        (
            lambda: check_exactly_one(requests=1, path=2),
            "requests and path are both given: pass exactly one of them",
        ),
        (
            lambda: check_exactly_one(requests=1, path=2, source=3),
            "requests and path and source are all given: pass exactly one of them",
        ),
        (
            lambda: check_exactly_one(requests=None, path=None),
            "requests and path are both missing: pass exactly one of them",
        ),
        (
            lambda: chosen_window("1h", 2),
            "completion_window='1h' and timeout_hours=2 are both given, and they mean the same: pass one of them",
        ),
        (
            lambda: chosen_model("m", None, named="n"),
            (
                "model='m', but the requests name 'n', and a batch job runs one model: name the same in both places, "
                "or only in one"
            ),
        ),
    ],
)
def test_words(check, words):
    with pytest.raises(InvalidInputError) as caught:
        check()
    assert str(caught.value) == words


def test_a_number_that_need_not_be_given():
    check_positive("field", None, or_none=True)
    with pytest.raises(InvalidInputError):
        check_positive("field", 0, or_none=True)


@pytest.mark.parametrize("fields", [{"requests": [], "path": None}, {"requests": None, "path": ""}])
def test_an_empty_value_is_given(fields):
    check_exactly_one(**fields)


@pytest.mark.parametrize("count", [1, 10_000])
def test_inline_requests_at_the_limits(count):
    check_inline_count(count)


@pytest.mark.parametrize("hours", [0, 169, -1, 24.0, "24", True])
def test_timeout_hours_out_of_range(hours):
    with pytest.raises(
        InvalidInputError, match=r"^timeout_hours=.* is not .*: pass a whole number of hours$"
    ):
        chosen_window(None, hours)


@pytest.mark.parametrize(
    ("fields", "window"), [((None, None), "24h"), ((None, 168), "168h"), (("7d", None), "7d")]
)
def test_how_long_a_job_may_take(fields, window):
    assert chosen_window(*fields) == window


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        ({"model": "m", "agent_id": None}, "m"),
        ({"model": "m", "agent_id": None, "named": "m", "default": "d"}, "m"),
        ({"model": None, "agent_id": None, "named": "n", "default": "d"}, "n"),
        ({"model": None, "agent_id": None, "default": "d"}, "d"),
        ({"model": None, "agent_id": "a", "named": "n", "default": "d"}, None),
        ({"model": None, "agent_id": None}, None),
    ],
)
def test_the_model_of_a_job(given, chosen):
    assert chosen_model(**given) == chosen


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "\n",
        ".",
        "..",
        "../x",
        "x/..",
        "x/../y",
        "..\\x",
        "./x",
        "a\nb",
        "a\x00b",
        "a\r\nX: y",
        "\ud800",
        None,
        5,
        b"id",
    ],
)
def test_ids_that_would_address_something_else(value):
    with pytest.raises(InvalidInputError, match=r"^batch_id=.* is not an id"):
        check_id(value, field="batch_id")


@pytest.mark.parametrize(
    "value", ["0f4c0bd6-6f2c-4d28-8b2d-1c0e0e8a7d10", "batch_abc", "a/b", "a..b", "...", "ä", "a?b#c%2F"]
)
def test_ids_of_any_other_form_pass(value):
    assert check_id(value, field="batch_id") == value
