"""Landed answers come back as the instances that the user's model makes of the answers' own JSON."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
from typing import Any, Literal

import pydantic
import pytest

from airflow_provider_mistral_batch.tables.reading import read_models

from .test_answers import Table, chat_row


class Mood(str, enum.Enum):
    happy = "happy"
    angry = "angry"


class Author(pydantic.BaseModel):
    name: str
    city: str | None
    stars: int = 5


class Review(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)

    mood: Mood
    reason: str | None
    price: decimal.Decimal
    day: datetime.date | None
    at: datetime.time
    sort: Literal["letter"] = "letter"
    pages: int = 1
    author: Author
    others: list[Author]
    editor: Author | None
    number_or_text: int | str
    tags: set[str]
    anything: Any
    shelf: int = pydantic.Field(alias="shelf-number")


ANSWER = {
    "mood": "angry",
    "reason": None,
    "price": "1.10",
    "day": None,
    "at": "10:20:00",
    "sort": "letter",
    "pages": 2,
    "author": {"name": "A", "city": None, "stars": 3},
    "others": [{"name": "B", "city": "Lyon", "stars": 4}],
    "editor": None,
    "number_or_text": "7",
    "tags": ["x", "y"],
    "anything": {"a": [None, 2**70]},
    "shelf-number": 4,
}
FULL = {
    "reason": "late",
    "day": "2026-01-31",
    "editor": {"name": "C", "city": "Nice"},
    "number_or_text": 7,
    "anything": None,
}


@pytest.mark.parametrize(
    "answer",
    [
        ANSWER,
        {**ANSWER, **FULL},
        {name: value for name, value in ANSWER.items() if name not in ("sort", "pages")},
        {**ANSWER, "author": {"name": "A", "city": None}, "others": [{"name": "B", "city": None}] * 2},
    ],
    ids=["nulls", "full", "left out", "left out within"],
)
def test_an_instance_is_as_of_the_answers_own_json(tmp_path, answer):
    text = json.dumps(answer)
    schema = Review.model_json_schema()
    found, _ = Table(tmp_path, [{"id": 7}]).land([chat_row("7", text)], schema=schema)
    assert found.num_rows == 1
    manifest = {
        "results_path": str(tmp_path / "results.parquet"),
        "table": {"key": ["id"], "answer": list(schema["properties"])},
    }
    assert list(read_models(manifest, Review)) == [(7, Review.model_validate_json(text))]
