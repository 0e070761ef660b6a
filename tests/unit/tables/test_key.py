"""The ``custom_id`` of a row's key: one exact text for each value."""

from __future__ import annotations

import datetime
import uuid
from decimal import Decimal

import pyarrow as pa
import pytest

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.tables.key import custom_ids, key_columns

DAY = datetime.date(2026, 1, 31)
UUID = uuid.UUID("12345678-1234-5678-1234-567812345678")


@pytest.mark.parametrize(
    ("array", "ids"),
    [
        (pa.array([7, -1]), ["7", "-1"]),
        (pa.array(["007", "ä"]), ["007", "ä"]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pa.array([DAY]), ["2026-01-31"]),
        (pa.array([Decimal("1.50"), Decimal("2.00")]), ["1.50", "2.00"]),
        (pa.array([UUID.bytes], pa.uuid()), [str(UUID)]),
        (pa.array([True, False]), ["true", "false"]),
        (
            pa.array([datetime.datetime(2026, 1, 31, 7, 0, 0, 5, tzinfo=datetime.timezone.utc)]),
            ["2026-01-31 07:00:00.000005Z"],
        ),
    ],
)
def test_each_type_has_one_text_for_a_value(array, ids):
    assert custom_ids(pa.record_batch([array], names=["id"]), ["id"]).to_pylist() == ids


def test_several_columns_cannot_be_confused():
    batch = pa.record_batch([pa.array(["a", 'a","b']), pa.array(["b", "c"])], names=["x", "y"])
    assert custom_ids(batch, ["x", "y"]).to_pylist() == ['["a","b"]', '["a\\",\\"b","c"]']


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (pa.array([1, None]), "column 'id' has a null, in the row with title='B'"),
        (pa.nulls(2), "column 'id' has a null, in the row with title='A'"),
        (pa.array(["x", ""]), "has an empty text, in the row with title='B'"),
        (pa.array([0.1, 0.2]), "is double, of which two values may have one text"),
        (pa.array([[1], [2]]), "is list<"),
    ],
)
def test_what_cannot_be_a_key_is_named(array, said):
    batch = pa.record_batch([array, pa.array(["A", "B"])], names=["id", "title"])
    with pytest.raises(InvalidInputError, match=said):
        custom_ids(batch, ["id"])


@pytest.mark.parametrize(("key", "columns"), [("id", ("id",)), (["a", "b"], ("a", "b"))])
def test_a_key_is_one_column_or_several(key, columns):
    assert key_columns(key) == columns


@pytest.mark.parametrize("key", [None, "", [], ["a", "a"], [1]])
def test_a_key_names_columns(key):
    with pytest.raises(InvalidInputError, match=r"^key="):
        key_columns(key)
