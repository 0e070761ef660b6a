"""Fields of answers read at once are what each is when it is read by itself."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_mistral_batch.tables.columns import schema_columns
from airflow_provider_mistral_batch.tables.shapes import FieldsShape

DAY = {"type": "string", "format": "date"}
FIELDS = {
    "text": {"type": "string"},
    "whole": {"type": "integer"},
    "number": {"type": "number"},
    "truth": {"type": "boolean"},
    "kind": {"enum": ["a", "b"]},
    "day": DAY,
    "moment": {"type": "string", "format": "date-time"},
    "list": {"type": "array", "items": {"type": "integer"}},
    "object": {"type": "object", "properties": {'a "day"': DAY, "n": {"type": "number"}}},
    "any": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
}
DAYS = st.sampled_from(["2026-01-31", "20260131", "2026-02-31", "2026-01-31T00:00:00", ""])
MOMENTS = ["07:00:00Z", "07:00:00.5+02:00", "07:00:00", "24:00:00Z", "07:00"]
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=3),
    DAYS,
    st.sampled_from(MOMENTS).map(lambda time: f"2026-01-31T{time}"),
    st.lists(st.none() | st.integers(), max_size=2),
    st.fixed_dictionaries({}, optional={'a "day"': DAYS | st.none(), "n": st.integers(), "more": st.text()}),
)


@pytest.mark.parametrize("more", [{}, {'a "name"': {"type": "string"}}], ids=["plain names", "an odd name"])
@given(
    st.lists(
        st.dictionaries(st.sampled_from([*FIELDS, 'a "name"', "unknown"]), VALUES, max_size=3), min_size=1
    )
)
@example([{"whole": 2**63}, {"whole": -(2**63)}, {"whole": 1.0}, {"moment": "2026-01-31T07:00:00.5+02:00"}])
@example([{"day": "2026-01-31", "object": {'a "day"': "2026-01-31", "n": 1}, "list": [1, None], "any": [1]}])
def test_answers_are_what_their_values_are(more, answers):
    columns = schema_columns({"type": "object", "properties": {**FIELDS, **more}})
    assert columns is not None
    texts = [json.dumps(answer) for answer in answers]
    unfit: dict[int, str] = {}

    arrays = FieldsShape(columns).read(pa.record_batch([pa.array(texts)], names=["content"]), unfit)

    expected = [read_one(columns, answer) for answer in answers]
    assert set(unfit) == {number for number, row in enumerate(expected) if row is None}
    for number, (column, array) in enumerate(zip(columns, arrays, strict=True)):
        kind = pa.string() if column.name == "kind" else column.type
        assert array.equals(pa.array([row and row[number] for row in expected], kind))


def read_one(columns, answer):
    try:
        return [
            None if answer.get(column.name) is None else column.read(answer[column.name])
            for column in columns
        ]
    except (ValueError, TypeError, OverflowError):
        return None


@pytest.mark.parametrize("text", ["", "[]", "null", '{"text": "x"', '{"text": "\\ud83d"}', "[" * 5_000])
def test_what_is_no_object_does_not_fit(text):
    columns = schema_columns({"type": "object", "properties": {"text": FIELDS["text"]}})
    assert columns is not None
    unfit: dict[int, str] = {}
    batch = pa.record_batch([pa.array([text, '{"text": "y"}'])], names=["content"])

    (texts,) = FieldsShape(columns).read(batch, unfit)

    assert texts.to_pylist() == [None, "y"]
    assert list(unfit) == [0]
