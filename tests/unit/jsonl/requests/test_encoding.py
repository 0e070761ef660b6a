"""Python values in rows become JSON."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

import msgspec

from .request_rows import row, rows_of


def test_bodies_of_python_values(prepare):
    body = {
        "when": datetime.date(2026, 1, 2),
        "t": decimal.Decimal("0.20"),
        "n": 10**30,
        "s": "\u2028",
        "none": None,
    }
    prepared = prepare([row("a", body)])
    assert rows_of(prepared)[0]["body"] == {
        "when": "2026-01-02",
        "t": 0.2,
        "n": 10**30,
        "s": "\u2028",
        "none": None,
    }


def test_json_that_is_written_already(prepare):
    raw = msgspec.Raw(b'{"a": null}')
    (found,) = rows_of(prepare([{"custom_id": "a", "body": raw}]))
    assert found["body"] == {"a": None}


def test_a_body_that_is_nested_deeply(prepare):
    deep: Any = None
    for _ in range(600):
        deep = [deep]
    (found,) = rows_of(prepare([row("a", {"x": deep})]))
    assert found["body"]["x"] == deep
