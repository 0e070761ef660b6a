"""A prompt over columns: Python's format rules, and nothing that reaches behind a value."""

from __future__ import annotations

import datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.tables.json_texts import joined
from airflow_provider_mistral_batch.tables.prompt import Prompt, PromptFile, check_columns

DAY = datetime.date(2026, 1, 31)


@pytest.mark.parametrize(
    ("template", "row", "text"),
    [
        ("Title: {title}\n\n{body}", {"title": "A", "body": "B"}, "Title: A\n\nB"),
        ("{a}{a}", {"a": "x"}, "xx"),
        ("{{json}} 100% {a}", {"a": "x"}, "{json} 100% x"),
        ("{price:.2f} {name!r:>6}", {"price": 1.5, "name": "x"}, "1.50    'x'"),
        (
            "{n} {d} {f} {b} {t}",
            {"n": 7, "d": DAY, "f": 0.1, "b": True, "t": Decimal("1.50")},
            "7 2026-01-31 0.1 True 1.50",
        ),
        ("{day:%d.%m.}", {"day": DAY}, "31.01."),
        ("{first name}", {"first name": "Ann"}, "Ann"),
        ("{a}", {"a": "{b} %s {{"}, "{b} %s {{"),
    ],
)
def test_a_template_is_filled_as_python_would(template, row, text):
    rows = pa.RecordBatch.from_pylist([row])
    assert joined(Prompt(template).parts(rows)).to_pylist() == [text]


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{x.__class__}", "attributes and items"),
        ("{x[0]}", "attributes and items"),
        ("{}", "names no column"),
        ("{0}", "names no column"),
        ("{x:{width}}", "has braces"),
        ("{x!z}", "no conversion !z: use !s"),
        ("{x", "is not a valid template"),
        ('{"a": 1}', "names no column|is not a valid template|does not fit|attributes"),
        (7, "is not a string"),
    ],
)
def test_what_is_no_template_over_columns_is_refused(template, said):
    with pytest.raises(InvalidInputError, match=said) as error:
        Prompt(template).parts(pa.RecordBatch.from_pylist([{"x": "x", '"a"': "x"}]))
    assert str(error.value).count("prompt=") <= 1


def test_a_value_that_does_not_fit_its_format_names_the_column():
    said = r"prompt: 'cheap' of column 'price' does not fit its format: .*; change the format"
    with pytest.raises(InvalidInputError, match=said):
        Prompt("{price:.2f}").parts(pa.RecordBatch.from_pylist([{"price": "cheap"}]))


def test_a_moment_with_nanoseconds_is_named():
    rows = pa.record_batch([pa.array([None, 1_001], pa.timestamp("ns"))], names=["at"])
    try:
        rows.column("at").to_pylist()
    except ValueError:
        with pytest.raises(
            InvalidInputError, match=r"^prompt: column 'at' has nanoseconds, .*: install pandas, or"
        ):
            Prompt("{at}").parts(rows)
        with pytest.raises(InvalidInputError, match=r"^prompt_file: column 'at' has nanoseconds"):
            PromptFile("{{ at }}", name="x.jinja").parts(rows)


@pytest.mark.parametrize(
    ("wanted", "hint"),
    [
        ("titel", "did you mean 'title'"),
        ("TITLE", "did you mean 'title'"),
        ("xyz", "there are 'title', 'body'"),
    ],
)
def test_a_missing_column_names_the_nearest(wanted, hint):
    with pytest.raises(InvalidInputError, match=rf"prompt: the source has no column '{wanted}': {hint}"):
        check_columns([wanted], ["title", "body"], field="prompt")
