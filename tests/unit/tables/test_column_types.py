"""Columns whose values come with several types: no value changes, and what has no common type is named."""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.tables.rows_beside import RowsWriter, read_rows_beside
from airflow_provider_mistral_batch.tables.sources.files import FileRows
from airflow_provider_mistral_batch.tables.sources.memory import rows_of

DAY = datetime.date(2026, 1, 31)
MOMENT = datetime.datetime.fromisoformat("2026-01-31 05:00")


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
