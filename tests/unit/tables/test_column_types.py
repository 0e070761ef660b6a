"""Columns whose values come with several types: no value changes, and what has no common type is named."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.tables.rows_beside import RowsWriter, read_rows_beside
from airflow_provider_mistral_batch.tables.sources.files import FileRows
from airflow_provider_mistral_batch.tables.sources.memory import rows_of
from airflow_provider_mistral_batch.tables.sources.values import ColumnValues

DAY = datetime.date(2026, 1, 31)
MOMENT = datetime.datetime.fromisoformat("2026-01-31 05:00")
ZONED = MOMENT.replace(tzinfo=datetime.timezone.utc)


def read(source: Any) -> list[Any]:
    return [row["x"] for batch in source.read(["x"]) for row in batch.to_pylist()]


@pytest.mark.parametrize(
    "values",
    [
        [DAY, MOMENT],
        [MOMENT, DAY],
        [MOMENT, MOMENT.replace(tzinfo=datetime.timezone.utc)],
        [datetime.timedelta(1), 1],
        ["text", b"bytes"],
        [True, 1],
        [2**53 + 1, 2.5],
        [decimal.Decimal("0.1"), 0.1],
    ],
    ids=str,
)
def test_values_of_rows_that_would_change_are_refused(values: list[Any]) -> None:
    with pytest.raises(InvalidInputError, match="column 'x', rows 1 to 2: the values are not of one type"):
        read(rows_of([{"x": value} for value in values]))


#: Two values that have no one type in Arrow, and two that have.
UNLIKE = {
    "day, moment": (DAY, MOMENT),
    "moment, day": (MOMENT, DAY),
    "zone": (MOMENT, ZONED),
    "bytes": ("a", b"a"),
}
ALIKE = {
    "days": (DAY, DAY),
    "moments": (MOMENT, MOMENT),
    "zones": (ZONED, ZONED.astimezone(datetime.timezone(datetime.timedelta(hours=2)))),
    "null": (MOMENT, None),
    "times": (MOMENT.time(), MOMENT.time()),
}
#: Ways to put two values into two rows.
NESTED: dict[str, Callable[[Any, Any], list[Any]]] = {
    "list": lambda first, second: [[first, second], None],
    "lists": lambda first, second: [[first], [second]],
    "struct": lambda first, second: [{"a": first}, {"a": second}],
    "struct in a list": lambda first, second: [[{"a": first}, {"a": second}], []],
    "list in a struct": lambda first, second: [{"a": [first]}, {"a": [None, second]}],
    "struct in a struct": lambda first, second: [{"a": {"b": first}}, {"a": {"b": second, "c": 1}}],
    "list in a list": lambda first, second: [[[first]], [[], [second]]],
}


@pytest.mark.parametrize("nest", NESTED.values(), ids=NESTED)
@pytest.mark.parametrize("pair", UNLIKE.values(), ids=UNLIKE)
def test_nested_values_that_would_change_are_refused(
    pair: tuple[Any, Any], nest: Callable[[Any, Any], list[Any]]
) -> None:
    with pytest.raises(InvalidInputError, match="column 'x', rows 1 to 2: the values are not of one type"):
        read(rows_of([{"x": value} for value in nest(*pair)]))


@pytest.mark.parametrize("nest", NESTED.values(), ids=NESTED)
@pytest.mark.parametrize("pair", ALIKE.values(), ids=ALIKE)
def test_nested_values_are_read_unchanged(
    pair: tuple[Any, Any], nest: Callable[[Any, Any], list[Any]]
) -> None:
    values = nest(*pair)
    found = read(rows_of([{"x": value} for value in values]))
    # A field that a struct lacks becomes a null.
    assert [without_nulls(value) for value in found] == [without_nulls(value) for value in values]


def without_nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [without_nulls(one) for one in value]
    if isinstance(value, dict):
        return {name: without_nulls(one) for name, one in value.items() if one is not None}
    return value


@pytest.mark.parametrize(
    ("first", "later"),
    [
        ([DAY], [MOMENT]),
        ([[DAY]], [[MOMENT]]),
        ([[[DAY]]], [[[MOMENT]]]),
        ([[1]], [[2.5]]),
        ([["a"]], [[b"a"]]),
        ([[0.5]], [[2**60 + 1]]),
    ],
    ids=str,
)
def test_later_rows_of_a_database_that_would_change_are_refused(first: list[Any], later: list[Any]) -> None:
    column = ColumnValues("x")
    assert column.array(first).to_pylist() == first
    with pytest.raises(InvalidInputError, match=r"column 'x' began as .*, and later has"):
        column.array(later)
    assert column.array(first).to_pylist() == first


@pytest.mark.parametrize(
    "values", [[DAY, None], [1, 2.5], [[1], (2,)], [decimal.Decimal("1.1"), 2], [{"a": 1}, {"b": 2}]], ids=str
)
def test_values_of_rows_that_have_room_are_read(values: list[Any]) -> None:
    assert len(read(rows_of([{"x": value} for value in values]))) == 2


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pa.array([1.5], pa.float32()), pa.array([0.1])),
        (pa.array([1]), pa.array([2.5])),
        (pa.array([1], pa.int32()), pa.array([2**40])),
        (pa.array([None]), pa.array(["text"])),
        (pa.array([decimal.Decimal("0.1")]), pa.array([decimal.Decimal("0.12")])),
    ],
    ids=["float", "int and double", "int", "nulls", "decimal"],
)
def test_a_later_file_gets_the_room_that_it_needs(first: pa.Array, second: pa.Array, tmp_path: Path) -> None:
    for number, values in enumerate((first, second)):
        pq.write_table(pa.table({"x": values}), tmp_path / f"{number}.parquet")
    assert read(FileRows(tmp_path)) == [*first.to_pylist(), *second.to_pylist()]


@pytest.mark.parametrize(
    "second", [pa.array([MOMENT]), pa.array([MOMENT], pa.timestamp("us", "UTC"))], ids=["time", "time zone"]
)
def test_a_later_file_whose_values_would_change_is_named(second: pa.Array, tmp_path: Path) -> None:
    first = [DAY] if second.type.tz is None else [MOMENT]
    for number, values in enumerate((pa.array(first), second)):
        pq.write_table(pa.table({"x": values}), tmp_path / f"{number}.parquet")
    with pytest.raises(InvalidInputError, match=r"1\.parquet: column 'x' is timestamp"):
        read(FileRows(tmp_path))


@pytest.mark.parametrize(
    ("batches", "kept"),
    [
        ([[1], [2.5], [3]], [1.0, 2.5, 3.0]),
        ([[2**53 + 1], [2.5]], None),
        ([[2.5], [2**53 + 1]], None),
    ],
    ids=["room", "none before", "none after"],
)
def test_rows_beside_that_have_no_type_with_room_are_refused_before_they_are_asked_about(
    batches: list[Any], kept: list[float] | None, tmp_path: Path
) -> None:
    def write() -> list[Path]:
        with RowsWriter(tmp_path) as writer:
            for values in batches:
                writer.add(pa.record_batch({"x": values}), pa.array([False]))
        return writer.paths

    if kept is None:
        with pytest.raises(InvalidInputError, match="column 'x': no type has room"):
            write()
        return
    assert [value for batch in read_rows_beside(write()) for value in batch.column("x").to_pylist()] == kept
