"""Which columns a JSON schema's answers become."""

from __future__ import annotations

import datetime
import enum
from decimal import Decimal
from typing import Any, Literal

import pyarrow as pa
import pydantic
import pytest

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.tables.columns import IS_JSON, check_names, schema_columns

WORDS = pa.dictionary(pa.int32(), pa.string())


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Place(pydantic.BaseModel):
    city: str
    since: datetime.date | None = None


class Node(pydantic.BaseModel):
    children: list[Node] = []


class Everything(pydantic.BaseModel):
    text: str
    whole: int
    number: float
    truth: bool
    day: datetime.date
    moment: datetime.datetime
    maybe: int | None
    colour: Colour
    sentiment: Literal["good", "bad"]
    topics: list[str]
    colours: list[Colour]
    place: Place
    places: list[Place]
    union: int | str
    anything: Any
    amount: Decimal
    free: dict[str, int]
    tree: Node


PLACE = pa.struct([("city", pa.string()), ("since", pa.date32())])

EXPECTED = {
    "text": pa.string(),
    "whole": pa.int64(),
    "number": pa.float64(),
    "truth": pa.bool_(),
    "day": pa.date32(),
    "moment": pa.timestamp("us", tz="UTC"),
    "maybe": pa.int64(),
    "colour": WORDS,
    "sentiment": WORDS,
    "topics": pa.list_(pa.string()),
    "colours": pa.list_(pa.string()),
    "place": PLACE,
    "places": pa.list_(PLACE),
}
JSON = ("union", "anything", "amount", "free", "tree")


def test_each_field_of_a_model_becomes_a_column_of_its_type():
    columns = schema_columns(Everything.model_json_schema())
    assert columns is not None
    assert {column.name: column.type for column in columns} == {
        **EXPECTED,
        **dict.fromkeys(JSON, pa.string()),
    }
    assert [column.name for column in columns if IS_JSON in (column.field().metadata or {})] == list(JSON)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
        {},
    ],
)
def test_answers_without_named_fields_have_no_columns_of_their_own(schema):
    assert schema_columns(schema) is None


ABOUT = ["raw", "model", "finish_reason", "prompt_tokens", "completion_tokens", "status", "error"]


@pytest.mark.parametrize(
    ("kept", "answer", "said"),
    [
        (["id", "sentiment"], ["sentiment"], "column 'sentiment' has the name of a column of the answers"),
        (["model"], ["answer"], "column 'model'"),
        (["id"], ["status"], "response_model: the field 'status'"),
        (["id", "answer"], ["sentiment"], "column 'answer' has the name of a column of the answers"),
        (["id", "raw"], ["sentiment"], "column 'raw'"),
        (["id"], ["raw"], "response_model: the field 'raw'"),
    ],
)
def test_two_columns_of_one_name_are_refused(kept, answer, said):
    with pytest.raises(InvalidInputError, match=said):
        check_names(kept, answer, ABOUT)
