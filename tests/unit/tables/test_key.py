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
NIGHT = datetime.datetime(2026, 1, 30, 23, tzinfo=datetime.timezone.utc)
UUID = uuid.UUID("12345678-1234-5678-1234-567812345678")


@pytest.mark.parametrize(
    ("array", "ids"),
    [
        (pa.array([7, -1]), ["7", "-1"]),
        (pa.array(["007", "ä"]), ["007", "ä"]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pa.array([DAY]), ["2026-01-31"]),
        (pa.array([Decimal("1.50"), Decimal("2.00"), Decimal("300.00")]), ["1.5", "2", "300"]),
        (
            pa.array([Decimal("0.00000001"), Decimal(0), Decimal("-0.5")], pa.decimal128(20, 8)),
            ["0.00000001", "0", "-0.5"],
        ),
        (pa.array([Decimal(100)], pa.decimal128(20, 0)), ["100"]),
        (pa.array([UUID.bytes], pa.uuid()), [str(UUID)]),
        (pa.array([True, False]), ["true", "false"]),
        (
            pa.array([datetime.datetime(2026, 1, 31, 7, 0, 0, 5, tzinfo=datetime.timezone.utc)]),
            ["2026-01-31 07:00:00.000005Z"],
        ),
        (
            pa.array([NIGHT], pa.timestamp("us", "+01:00")),
            ["2026-01-30 23:00:00Z"],
        ),
        (
            pa.array([NIGHT], pa.timestamp("ns", "-05:30")).dictionary_encode(),
            ["2026-01-30 23:00:00Z"],
        ),
    ],
)
def test_each_type_has_one_text_for_a_value(array, ids):
    assert custom_ids(pa.record_batch([array], names=["id"]), ["id"]).to_pylist() == ids


MOMENT = datetime.datetime(2026, 1, 31, 10, 20, 30, 500_000, datetime.timezone.utc)


@pytest.mark.parametrize(
    ("value", "narrow", "wide"),
    [
        (Decimal("1.5"), pa.decimal128(5, 1), pa.decimal128(9, 4)),
        (Decimal(20), pa.decimal128(5, 0), pa.decimal256(60, 9)),
        (7, pa.int32(), pa.decimal128(25, 2)),
        (MOMENT.replace(tzinfo=None), pa.timestamp("ms"), pa.timestamp("ns")),
        (MOMENT, pa.timestamp("ms", "Europe/Paris"), pa.timestamp("us", "Europe/Paris")),
        (MOMENT.replace(microsecond=0), pa.timestamp("s", "UTC"), pa.timestamp("us", "UTC")),
        (MOMENT.time(), pa.time32("ms"), pa.time64("us")),
        (datetime.time(10), pa.time32("s"), pa.time64("ns")),
        (datetime.timedelta(seconds=3), pa.duration("s"), pa.duration("us")),
        (DAY, pa.date32(), pa.date64()),
        ("a", pa.string(), pa.large_string()),
    ],
)
def test_a_value_has_one_text_in_all_types_that_its_column_may_get(value, narrow, wide):
    texts = [
        custom_ids(pa.record_batch([array], names=["id"]), ["id"]).to_pylist()
        for kind in (narrow, wide)
        for array in (pa.array([value], kind), pa.array([value], kind).dictionary_encode())
    ]
    assert texts == [texts[0]] * 4


def test_several_columns_cannot_be_confused():
    batch = pa.record_batch([pa.array(["a", 'a","b']), pa.array(["b", "c"])], names=["x", "y"])
    assert custom_ids(batch, ["x", "y"]).to_pylist() == ['["a","b"]', '["a\\",\\"b","c"]']


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (pa.array([1, None]), "column 'id' has a null, in the row with title='B'"),
        (pa.nulls(2), "column 'id' has a null, in the row with title='A'"),
        (pa.array(["x", ""]), "has an empty text, in the row with title='B'"),
        (pa.array([None, 1], pa.timestamp("ns")), "column 'id' has a null, in the row with title='A'"),
        (pa.array([0.1, 0.2]), "is double, of which two values may have one text"),
        (pa.array([[1], [2]]), "is list<"),
        (pa.array([(1, 2, 3), (1, 2, 4)], pa.month_day_nano_interval()), "is month_day_nano"),
    ],
)
def test_what_cannot_be_a_key_is_named(array, said):
    batch = pa.record_batch([array, pa.array(["A", "B"])], names=["id", "title"])
    with pytest.raises(InvalidInputError, match=said):
        custom_ids(batch, ["id"])


def test_a_zone_that_is_not_known_is_named():
    array = pa.array([NIGHT], pa.timestamp("us", "Mars/Olympus"))
    with pytest.raises(
        InvalidInputError, match=r"^key: column 'id' is .*Mars/Olympus.*, to UTC in the source$"
    ):
        custom_ids(pa.record_batch([array], names=["id"]), ["id"])


def test_a_row_is_shown_by_a_moment_with_nanoseconds():
    batch = pa.record_batch([pa.nulls(1), pa.array([1_001], pa.timestamp("ns"))], names=["id", "at"])
    with pytest.raises(InvalidInputError, match=r"in the row with at=(1001 ns|Timestamp\()"):
        custom_ids(batch, ["id"])


@pytest.mark.parametrize(("key", "columns"), [("id", ("id",)), (["a", "b"], ("a", "b"))])
def test_a_key_is_one_column_or_several(key, columns):
    assert key_columns(key) == columns


@pytest.mark.parametrize("key", [None, "", [], ["a", "a"], [1]])
def test_a_key_names_columns(key):
    with pytest.raises(InvalidInputError, match=r"^key="):
        key_columns(key)
