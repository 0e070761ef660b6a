"""Files of plain records: every format gives the same rows, and no value changes on its way."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import zstandard

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.tables.sources.base import RowSource
from airflow_provider_mistral_batch.tables.sources.files import FileRows

ROWS: list[dict[str, Any]] = [
    {"id": 7, "body": 'Größe, "zitiert"\nzwei Zeilen', "day": "2026-01-31"},
    {"id": 8, "body": None, "day": "x"},
]
AS_TEXT = [{**row, "id": str(row["id"])} for row in ROWS]


def write(path: Path, rows=ROWS) -> Path:
    table = pa.Table.from_pylist(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = path
    for ending in (".gz", ".zst"):
        plain = Path(str(plain).removesuffix(ending))
    match plain.suffix:
        case ".parquet":
            pq.write_table(table, plain)
        case ".csv":
            pyarrow.csv.write_csv(table, plain)
        case ".jsonl":
            plain.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case ".arrow":
            pyarrow.feather.write_feather(table, str(plain))
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(plain.read_bytes()))
    if path.suffix == ".zst":
        path.write_bytes(zstandard.compress(plain.read_bytes()))
    if plain != path:
        plain.unlink()
    return path


def read(source: RowSource, columns=None) -> list[dict]:
    columns = columns or source.columns()
    return [row for batch in source.read(columns) for row in batch.to_pylist()]


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("rows.parquet", ROWS),
        ("rows.arrow", ROWS),
        ("rows.jsonl", ROWS),
        ("rows.jsonl.gz", ROWS),
        ("rows.jsonl.zst", ROWS),
        ("rows.csv", AS_TEXT),
        ("rows.csv.gz", AS_TEXT),
        ("rows.csv.zst", AS_TEXT),
    ],
)
@pytest.mark.parametrize("storage", ["local", "memory"])
def test_each_format_gives_the_rows_as_they_are(tmp_path, bucket, name, rows, storage):
    path = write(tmp_path / name)
    if storage == "memory":
        stored = bucket / name
        stored.write_bytes(path.read_bytes())
        path = stored
    source = FileRows(str(path))
    assert source.columns() == ["id", "body", "day"]
    assert read(source) == rows
    assert read(source, ["day", "id"]) == [{"day": row["day"], "id": row["id"]} for row in rows]


def test_only_the_columns_that_are_named_are_read(tmp_path):
    path = write(tmp_path / "rows.parquet")
    # The pages of the other columns are destroyed; whoever reads them fails.
    data = bytearray(path.read_bytes())
    column = pq.ParquetFile(path).metadata.row_group(0).column(1)
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    path.write_bytes(data)
    assert read(FileRows(path), ["id"]) == [{"id": 7}, {"id": 8}]


def test_csv_has_no_numbers(tmp_path):
    (tmp_path / "a.csv").write_text("id,x\n007,1.50\n8,NA\n")
    assert read(FileRows(tmp_path / "a.csv")) == [{"id": "007", "x": "1.50"}, {"id": "8", "x": "NA"}]


def test_a_folder_stands_for_all_files_below_it_and_its_names_for_columns(tmp_path):
    for day in ("2026-01-30", "2026-01-31"):
        write(tmp_path / f"day={day}" / "part-0.parquet", [{"id": int(day[-2:])}])
    write(tmp_path / "day=2026-01-31" / "_temporary.parquet", [{"id": 99}])
    found = read(FileRows(tmp_path))
    assert [(row["id"], str(row["day"])) for row in found] == [(30, "2026-01-30"), (31, "2026-01-31")]


def test_a_glob_and_a_list_name_files(tmp_path):
    paths = [write(tmp_path / f"{name}.parquet", [{"id": name}]) for name in "ab"]
    assert (
        read(FileRows(f"{tmp_path}/*.parquet"))
        == read(FileRows([str(path) for path in paths]))
        == [{"id": "a"}, {"id": "b"}]
    )


def test_partitions_are_disjoint_and_complete(tmp_path):
    for name in range(5):
        write(tmp_path / f"{name}.parquet", [{"id": name}])
    parts = FileRows(f"{tmp_path}/*.parquet").partitions(3)
    assert len(parts) == 3
    assert sorted(row["id"] for part in parts for row in read(part)) == list(range(5))
    # Nothing is looked for while a Dag is parsed.
    assert len(FileRows("/nowhere/*.parquet").partitions(99)) == 99
    before = [read(part) for part in parts]
    write(tmp_path / "0a.parquet", [{"id": 5}])
    after = [read(part) for part in parts]
    assert all(set(map(str, old)) <= set(map(str, new)) for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"id,x\n1,2\n1,2,3\n", "a.csv, line 3: the row has 3 fields, and the header 2"),
        ("a.jsonl", b'{"id": 1}\n{"id": \n', "a.jsonl, line 2 is not valid JSON"),
        ("a.jsonl", b'{"id": 1}\n[1]\n', "a.jsonl, line 2 is no"),
        ("a.jsonl", b'{"id": 1}\n{"id": "x"}\n', "a.jsonl: column 'id', rows 1 to 2: the values are not of"),
        ("a.csv", b'id,x\n1,"2\n', "a.csv, line 2 is no CSV: unexpected end of data. .* close them"),
        ("a.csv", b"id,x\n1,\xff\n", "a.csv, line 2 is not UTF-8"),
        ("a.csv", b"id,id\n1,2\n", "is no header"),
        ("a.parquet", b"PAR1nonsense", "a.parquet"),
        ("a.txt", b"x", "pass file_format, one of parquet, csv, jsonl, arrow"),
        ("a.csv", b"", "a.csv: the first line is missing"),
        (
            "a.parquet.gz",
            b"x",
            "path='a.parquet.gz' is compressed as a whole, .*: decompress it; parquet compresses",
        ),
        (
            "a.arrow.zst",
            b"x",
            "path='a.arrow.zst' is compressed as a whole, .*: decompress it; arrow compresses",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInputError, match=said):
        read(FileRows(tmp_path / name))


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_a_column_of_a_file_that_its_folder_names_otherwise_is_told(tmp_path, name):
    write(tmp_path / "shop=1" / name, [{"id": 1, "shop": "Lyon"}])
    with pytest.raises(
        InvalidInputError, match=rf"{name}: a column has the name that a folder gives .* Field shop has"
    ):
        read(FileRows(tmp_path), ["id"])


def test_an_arrow_stream_is_told_from_a_file(tmp_path):
    with pa.ipc.new_stream(str(tmp_path / "a.arrow"), pa.schema([("id", pa.int64())])) as stream:
        stream.write_batch(pa.RecordBatch.from_pylist([{"id": 1}]))
    with pytest.raises(
        InvalidInputError, match=r"a\.arrow cannot be read: .*make a file with pyarrow\.ipc\.new_file"
    ):
        read(FileRows(tmp_path))


def test_a_file_that_is_cut_at_its_end_is_refused(tmp_path):
    path = write(tmp_path / "a.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    said = r"^[^']*a\.parquet cannot be read: Parquet magic bytes not found in footer.*\. Write or copy the file again$"
    with pytest.raises(InvalidInputError, match=said):
        read(FileRows(path))


def test_a_parquet_file_that_is_damaged_in_its_middle_is_named(tmp_path):
    path = write(tmp_path / "a.parquet", [{"id": number, "x": f"text {number}"} for number in range(5000)])
    content = bytearray(path.read_bytes())
    content[100:2000] = bytes(1900)
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"a\.parquet cannot be read: .*Write or copy the file again"):
        read(FileRows(path))


def test_files_of_several_formats_are_named(tmp_path):
    write(tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text("id,x\n1,2\n")
    with pytest.raises(
        InvalidInputError, match=r"b\.csv is csv, and .*a\.parquet is parquet: .*'\*\.parquet'"
    ):
        read(FileRows(tmp_path))


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_names_of_folders_are_read_as_they_were_written(tmp_path, name):
    for folder in ("shop=New%20York", "shop=__HIVE_DEFAULT_PARTITION__"):
        write(tmp_path / folder / name, [{"id": 1}])
    assert {row["shop"] for row in read(FileRows(tmp_path))} == {"New York", None}


def test_a_column_whose_type_changes_between_files_is_named(tmp_path):
    write(tmp_path / "a.parquet", [{"id": 1, "x": "t"}])
    write(tmp_path / "b.parquet", [{"id": "1", "x": "t"}])
    with pytest.raises(InvalidInputError, match=r"b\.parquet: column 'id' is string, and int64 in"):
        read(FileRows(f"{tmp_path}/*.parquet"), ["id"])
    assert read(FileRows(f"{tmp_path}/*.parquet"), ["x"]) == [{"x": "t"}] * 2


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_a_value_without_room_names_its_file_and_column(tmp_path, ending):
    for number, value in enumerate([0.5, 2**60 + 1]):
        table = pa.table({"id": [number], "n": [value]})
        if ending == "parquet":
            pq.write_table(table, tmp_path / f"{number}.parquet")
        else:
            pyarrow.feather.write_feather(table, str(tmp_path / f"{number}.arrow"))
    said = rf"1\.{ending}: column 'n': no type has room for the values of all rows \(Integer value .*\); give it one"
    with pytest.raises(InvalidInputError, match=said):
        read(FileRows(tmp_path))


def test_whole_numbers_and_decimals_are_one_column(tmp_path):
    for number, value in enumerate([2**62, Decimal("1.5")]):
        pq.write_table(pa.table({"id": [value]}), tmp_path / f"{number}.parquet")
    first, second = FileRows(tmp_path).read(["id"])
    assert first.column("id").to_pylist() == [2**62]
    assert second.schema.field("id").type == pa.decimal128(21, 1)


def test_wide_rows_come_in_small_batches(tmp_path):
    rows = {"id": range(64), "body": ["x" * (1 << 20)] * 64}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet", use_dictionary=False, compression="none")
    batches = list(FileRows(tmp_path).read(["body", "id"]))
    assert max(batch.num_rows for batch in batches) <= 8
    assert sum(batch.num_rows for batch in batches) == 64
    assert next(FileRows(tmp_path).read(["id"])).num_rows == 64


@pytest.mark.parametrize("path", ["/nowhere/a.parquet", "/nowhere/*.parquet"])
def test_there_is_no_such_file(path):
    with pytest.raises(InvalidInputError, match="/nowhere/"):
        FileRows(path).columns()


def test_an_empty_folder_has_no_files(tmp_path):
    with pytest.raises(InvalidInputError, match="there are no files"):
        FileRows(str(tmp_path)).columns()


def test_what_stands_in_a_dag_is_short_and_always_the_same(tmp_path):
    assert repr(FileRows("s3://conn@bucket/{{ ds }}/")) == "FileRows('s3://conn@bucket/{{ ds }}/')"


def test_a_parquet_file_that_lacks_a_column_has_nulls_there(tmp_path):
    write(tmp_path / "a.parquet")
    write(tmp_path / "b.parquet", [{"id": 9}])

    assert read(FileRows(tmp_path), ["id", "body"])[-1] == {"id": 9, "body": None}


def test_wide_rows_of_parquet_come_few_at_a_time(tmp_path):
    pq.write_table(
        pa.table({"id": range(2_000), "body": [f"{number}" * 10_000 for number in range(1_000)] * 2}),
        tmp_path / "rows.parquet",
    )

    batches = list(FileRows(tmp_path / "rows.parquet").read(["id", "body"]))

    assert sum(batch.num_rows for batch in batches) == 2_000
    assert max(batch.nbytes for batch in batches) < 40 * 1000 * 1000
    assert [batch.num_rows for batch in FileRows(tmp_path / "rows.parquet").read(["id"])] == [2_000]
