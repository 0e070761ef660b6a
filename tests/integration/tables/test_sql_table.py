"""``SqlTable`` against real databases: one row a key, all or nothing, and what it finds before a batch is paid for."""

from __future__ import annotations

import datetime
import json
import logging
import os
import uuid
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import pyarrow
import pytest
from packaging.version import Version

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.tables.databases import database as databases
from airflow_provider_mistral_batch.tables.databases.database import DatabaseError
from airflow_provider_mistral_batch.tables.sources.sql import SqlRows
from airflow_provider_mistral_batch.tables.targets import sql
from airflow_provider_mistral_batch.tables.targets.sql import SqlTable

from .conftest import TestDatabase

RUN = {"run_id": "scheduled__2026-01-31", "batch_id": "batch-1"}
ANSWERS = pyarrow.schema([("id", pyarrow.int64()), ("label", pyarrow.string()), ("score", pyarrow.float64())])


def answers(ids: Sequence[int], label: str | None, schema: pyarrow.Schema = ANSWERS) -> pyarrow.RecordBatch:
    columns = [pyarrow.array(ids), pyarrow.array([label] * len(ids), pyarrow.string())]
    return pyarrow.record_batch([*columns, pyarrow.array([one / 2 for one in ids])], schema=schema)


def write(target: SqlTable, *batches: pyarrow.RecordBatch, key: Sequence[str] = ("id",)) -> int:
    target.check(batches[0].schema, key)
    return target.write(iter(batches), key, RUN)


@pytest.mark.parametrize("unique", ["primary key", "unique", "nothing"])
def test_one_row_a_key_however_often(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, unique: str
) -> None:
    monkeypatch.setattr(sql, "_MOST_ROWS", 7)
    caplog.set_level(logging.WARNING)
    database.run(
        f"create table answers (id integer {'' if unique == 'nothing' else unique}, label varchar(20), "
        "score double precision, note varchar(20))",
        "insert into answers values (1, 'old', 0.0, 'mine'), (1000, 'other', 0.0, 'mine')",
    )
    target = SqlTable("answers", conn_id="warehouse")

    assert write(target, answers(range(20), "first")) == 20
    assert write(target, answers(range(10), "second"), answers(range(10, 30), None)) == 30

    rows = database.run("select id, label, score, note from answers order by id")
    assert [row[0] for row in rows] == [*range(30), 1000]
    assert rows[9][1:3] == ("second", 4.5)
    assert rows[10][1:3] == (None, 5.0)
    assert rows[30] == (1000, "other", 0.0, "mine")
    # What is not written stays, where one statement updates.
    assert rows[1][3] == (None if unique == "nothing" else "mine")
    assert ("no primary key or unique index on id" in caplog.text) == (unique == "nothing")


def test_a_key_of_several_columns(database: TestDatabase) -> None:
    schema = pyarrow.schema([("day", pyarrow.string()), ("n", pyarrow.int32()), ("label", pyarrow.string())])

    def rows(label: str) -> pyarrow.RecordBatch:
        columns = [["a", "a", "b"], [1, 2, 1], [label] * 3]
        return pyarrow.record_batch(
            [pyarrow.array(one, kind) for one, kind in zip(columns, schema.types, strict=False)],
            schema=schema,
        )

    target = SqlTable("answers", conn_id="warehouse", create=True)
    for label in ("first", "second"):
        assert write(target, rows(label), key=["day", "n"]) == 3
    expected = [("a", 1, "second"), ("a", 2, "second"), ("b", 1, "second")]
    assert sorted(database.run("select day, n, label from answers")) == expected

    # Nothing but a key, too.
    only_key = rows("x").select(["day", "n"])
    assert write(target, only_key, key=["day", "n"]) == 3
    assert sorted(database.run("select day, n, label from answers")) == expected


NOON = datetime.datetime(2026, 1, 31, 12, 30, 15, tzinfo=datetime.timezone.utc)
KEY = uuid.UUID("0190a1b2-0000-7000-8000-000000000001")
READ_KEY: object = KEY if Version(pyarrow.__version__) >= Version("24") else str(KEY)

#: Arrow type, value, and what is read back; by database where they differ.
VALUES: list[tuple[pyarrow.DataType, Any, Any]] = [
    (pyarrow.int8(), 5, 5),
    (pyarrow.uint64(), 2**64 - 1, {"sqlite": None, "": Decimal(2**64 - 1)}),
    (pyarrow.bool_(), True, True),
    (pyarrow.float32(), 0.5, 0.5),
    (pyarrow.string(), "é 😀 'x'; \\ %s", "é 😀 'x'; \\ %s"),
    (pyarrow.large_string(), "", ""),
    (pyarrow.binary(), b"\x00\xff", b"\x00\xff"),
    (pyarrow.date32(), NOON.date(), {"sqlite": "2026-01-31", "": NOON.date()}),
    (
        pyarrow.timestamp("us", "UTC"),
        NOON,
        {"sqlite": "2026-01-31 12:30:15+00:00", "mysql": NOON.replace(tzinfo=None), "": NOON},
    ),
    (pyarrow.decimal128(10, 2), Decimal("1.50"), {"sqlite": 1.5, "": Decimal("1.50")}),
    (pyarrow.dictionary(pyarrow.int32(), pyarrow.string()), "good", "good"),
    (pyarrow.uuid(), KEY.bytes, {"sqlite": str(KEY), "mysql": str(KEY), "": READ_KEY}),
    (
        pyarrow.list_(pyarrow.string()),
        ["a", None, 'b"'],
        {"sqlite": '["a", null, "b\\""]', "mysql": '["a", null, "b\\""]', "": ["a", None, 'b"']},
    ),
    (
        pyarrow.list_(pyarrow.float32()),
        [0.5, 1.0],
        {"sqlite": "[0.5, 1.0]", "mysql": "[0.5, 1.0]", "": [0.5, 1.0]},
    ),
    (
        pyarrow.list_(pyarrow.float32(), 2),
        [0.5, 1.0],
        {"sqlite": "[0.5, 1.0]", "mysql": "[0.5, 1.0]", "": [0.5, 1.0]},
    ),
    (
        pyarrow.map_(pyarrow.string(), pyarrow.map_(pyarrow.string(), pyarrow.float64())),
        {"tone": {"warm": 0.5}},
        "json",
    ),
    (
        pyarrow.struct([("a", pyarrow.int64()), ("day", pyarrow.date32())]),
        {"a": 1, "day": NOON.date()},
        "json",
    ),
    (pyarrow.list_(pyarrow.struct([("a", pyarrow.string())])), [{"a": "é"}], "json"),
    (pyarrow.null(), None, None),
]


def test_types_of_a_table_that_is_made(database: TestDatabase) -> None:
    cases = [one for one in VALUES if not (database.kind == "sqlite" and one[0] == pyarrow.uint64())]
    names = [f"c{index}" for index in range(len(cases))]
    schema = pyarrow.schema(
        [("id", pyarrow.string()), *zip(names, (kind for kind, _, _ in cases), strict=False)]
    )
    batch = pyarrow.Table.from_pylist(
        [{"id": "full", **dict(zip(names, (value for _, value, _ in cases), strict=False))}, {"id": "empty"}],
        schema=schema,
    ).to_batches()[0]
    target = SqlTable("answers", conn_id="warehouse", create=True, add_run_columns=True)

    for _ in range(2):
        assert write(target, batch) == 2

    rows = [
        row
        for one in SqlRows(table="answers", conn_id="warehouse").read([*names, "id", "run_id", "batch_id"])
        for row in one.to_pylist()
    ]
    full, empty = sorted(rows, key=lambda row: row["id"], reverse=True)
    assert (full["run_id"], full["batch_id"]) == (RUN["run_id"], RUN["batch_id"])
    for name, (kind, value, expected) in zip(names, cases, strict=False):
        found = full[name]
        if expected == "json":
            expected, found = json.loads(json.dumps(value, default=str)), json.loads(found)
        elif isinstance(expected, dict):
            expected = expected.get(database.kind, expected[""])
        assert found == expected, kind
        assert empty[name] is None, kind


def test_a_value_that_python_cannot_hold_is_named(sqlite: TestDatabase) -> None:
    rows = pyarrow.record_batch({"id": [1], "at": pyarrow.array([10**18], pyarrow.timestamp("us"))})
    with pytest.raises(InvalidInputError, match="target: column 'at' has a value that Python cannot hold"):
        write(SqlTable("answers", conn_id="warehouse", create=True), rows)


def test_a_character_that_postgresql_has_not(postgresql: TestDatabase) -> None:
    schema = pyarrow.schema(
        [("id", pyarrow.int64()), ("t", pyarrow.string()), ("s", pyarrow.struct([("a", pyarrow.string())]))]
    )
    batch = pyarrow.record_batch([[1], ["a\x00b"], [{"a": "\x00"}]], schema=schema)
    write(SqlTable("answers", conn_id="warehouse", create=True), batch)
    assert postgresql.run("select t, s ->> 'a' from answers") == [("a\ufffdb", "\ufffd")]


def test_columns_that_the_user_made(postgresql: TestDatabase) -> None:
    postgresql.run(
        "create type mood as enum ('good', 'bad')",
        'create table answers (id bigint primary key, label mood, "Score" numeric, tags jsonb, vector real[])',
    )
    schema = pyarrow.schema(
        [("id", pyarrow.string()), ("label", pyarrow.string()), ("score", pyarrow.float64()),
         ("tags", pyarrow.list_(pyarrow.string())), ("vector", pyarrow.list_(pyarrow.float64()))]
    )  # fmt: skip
    batch = pyarrow.record_batch([["1"], ["good"], [0.5], [["a"]], [[0.5, 2.0]]], schema=schema)
    with pytest.raises(InvalidInputError, match="column 'id' is bigint, and the answers have string there"):
        write(SqlTable("answers", conn_id="warehouse"), batch)
    batch = batch.set_column(0, "id", pyarrow.array([1]))
    write(SqlTable("answers", conn_id="warehouse"), batch)
    assert postgresql.run("select * from answers") == [(1, "good", Decimal("0.5"), ["a"], [0.5, 2.0])]


def test_hostile_names(database: TestDatabase) -> None:
    schema = pyarrow.schema(
        [("a key%s", pyarrow.int64()), ('x"`); drop', pyarrow.string()), ("order", pyarrow.float64())]
    )
    target = SqlTable('t "`%d; x', conn_id="warehouse", create=True)
    for label in ("first", "second"):
        assert write(target, answers([1, 2], label, schema), key=["a key%s"]) == 2
    read = SqlRows(table='t "`%d; x', conn_id="warehouse").read(schema.names)
    rows = sorted((row for one in read for row in one.to_pylist()), key=lambda row: row["order"])
    assert rows == answers([1, 2], "second", schema).to_pylist()


def test_a_database_that_is_not_known(sqlite: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(databases._KINDS, "sqlite3")
    sqlite.run("create table answers (id integer primary key, label varchar(20), score double precision)")
    target = SqlTable("answers", conn_id="warehouse")
    for label in ("first", "second"):
        assert write(target, answers(range(3), label)) == 3
    assert sqlite.run("select id, label from answers") == [(0, "second"), (1, "second"), (2, "second")]
    source = SqlRows(table="answers", conn_id="warehouse", partition_key="id")
    assert sum(batch.num_rows for batch in source.read(["id"])) == 3


def test_all_or_nothing(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "_MOST_ROWS", 5)
    database.run(
        "create table answers (id integer primary key, label varchar(20), score double precision check (score < 10))",
        "insert into answers values (1, 'old', 0.0)",
    )
    target = SqlTable("answers", conn_id="warehouse")

    # The 21st row breaks the table's own rule.
    with pytest.raises(
        (InvalidInputError, DatabaseError), match="took no row after 20, and nothing was kept"
    ):
        write(target, answers(range(30), "new"))
    assert database.run("select id, label from answers") == [(1, "old")]

    def broken() -> Iterator[pyarrow.RecordBatch]:
        yield answers(range(10), "new")
        raise OSError("the results cannot be read")

    with pytest.raises(OSError, match="the results cannot be read"):
        target.write(broken(), ["id"], RUN)
    assert database.run("select id, label from answers") == [(1, "old")]

    assert write(target, answers(range(10), "new")) == 10
    assert len(database.run("select * from answers where label = 'new'")) == 10


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ("id integer, label varchar(9)", "has no column 'score': it has id, label"),
        ("id integer, labels varchar(9), score double precision", "no column 'label': did you mean 'labels'"),
        ("id integer", "has no columns 'label', 'score': add them to the table; create=True makes a table"),
        (
            "id integer, label varchar(9), score double precision, owner varchar(9) not null",
            "'owner' must not be null",
        ),
        ("id integer, label integer, score double precision", "column 'label' is "),
        ("id integer, label varchar(9), score integer", "column 'score' is "),
    ],
)
def test_what_does_not_fit_is_found_before(database: TestDatabase, columns: str, told: str) -> None:
    database.run(f"create table answers ({columns})")
    target = SqlTable("answers", conn_id="warehouse", create=True)
    if database.kind == "sqlite" and "column '" in told and "is " in told[-3:]:
        target.check(ANSWERS, ["id"])  # SQLite takes anything.
        return
    with pytest.raises(InvalidInputError) as caught:
        target.check(ANSWERS, ["id"])
    assert told in str(caught.value)
    assert str(caught.value).startswith("SqlTable('answers', conn_id='warehouse')")


def test_two_columns_are_never_written_into_one(database: TestDatabase) -> None:
    database.run("create table answers (id integer, label varchar(9), score double precision)")
    schema = ANSWERS.append(pyarrow.field("Label", pyarrow.string()))
    with pytest.raises(
        InvalidInputError, match="'label' and 'Label' would both be written into the column 'label'"
    ):
        SqlTable("answers", conn_id="warehouse").check(schema, ["id"])


def test_a_column_that_takes_no_null_is_found_before(database: TestDatabase) -> None:
    database.run("create table answers (id integer, label varchar(9) not null, score double precision)")
    target = SqlTable("answers", conn_id="warehouse")
    target.check(ANSWERS, ["id"], nulls=["score"])
    with pytest.raises(
        InvalidInputError, match=r"answers.*'label' must not be null, and the answers have nulls"
    ):
        target.check(ANSWERS, ["id"], nulls=["label", "score"])


def test_columns_that_the_database_fills(database: TestDatabase) -> None:
    own = {
        "sqlite": "n integer not null primary key, made varchar(40) not null default 'now'",
        "duckdb": "n integer not null default 7, made varchar(40) not null default 'now'",
        "mysql": "n integer not null auto_increment primary key, made varchar(40) not null default 'now'",
    }.get(database.kind, "n integer generated always as identity, made varchar(40) not null default 'now'")
    database.run(f"create table answers ({own}, id integer unique, label varchar(9), score double precision)")
    write(SqlTable("answers", conn_id="warehouse"), answers([3], "x"))
    assert database.run("select id, label, made from answers") == [(3, "x", "now")]


def test_a_missing_table(database: TestDatabase) -> None:
    with pytest.raises(InvalidInputError, match=r"answers.* Create the table, or pass create=True"):
        SqlTable("answers", conn_id="warehouse").check(ANSWERS, ["id"])

    target = SqlTable("answers", conn_id="warehouse", create=True)
    target.check(ANSWERS, ["id"])
    with pytest.raises(InvalidInputError, match="has no column 'idd': did you mean 'id'"):
        target.check(ANSWERS, ["idd"])
    # A check makes nothing.
    with pytest.raises(InvalidInputError, match="Create the table"):
        SqlTable("answers", conn_id="warehouse").check(ANSWERS, ["id"])
    assert target.write(iter(()), ["id"], RUN) == 0


TEXT_KEYS = pyarrow.schema([("id", pyarrow.string()), ("label", pyarrow.string())])


def test_keys_that_differ_in_case_or_accents_are_different_rows(database: TestDatabase) -> None:
    ids = ["aB", "Ab", "é", "e", "ß", "ss"]
    target = SqlTable("answers", conn_id="warehouse", create=True)
    for label in ("first", "second"):
        columns = [pyarrow.array(ids), pyarrow.array([f"{label} {one}" for one in ids])]
        assert write(target, pyarrow.record_batch(columns, schema=TEXT_KEYS)) == len(ids)
    assert dict(database.run("select id, label from answers")) == {one: f"second {one}" for one in ids}


@pytest.mark.parametrize("collation", ["utf8mb4_general_ci", "utf8mb4_bin"])
def test_a_key_for_which_case_does_not_count_is_named(
    mysql: TestDatabase, caplog: pytest.LogCaptureFixture, collation: str
) -> None:
    caplog.set_level(logging.WARNING)
    mysql.run(f"create table answers (ID varchar(40) collate {collation} primary key, label longtext)")
    SqlTable("answers", conn_id="warehouse").check(TEXT_KEYS, ["id"])
    assert (f"column 'id' of the key has the collation {collation}" in caplog.text) == (
        collation != "utf8mb4_bin"
    )


def test_a_table_that_may_not_be_read_is_not_taken_for_a_missing_one(
    postgresql: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = f"r_{uuid.uuid4().hex[:12]}"
    postgresql.run(
        "create table answers (id integer primary key, label text, score double precision)",
        f"create role {role} login",
        f"do $$ begin execute format('grant all on schema %I to {role}', current_schema()); end $$",
    )
    fields = json.loads(os.environ["AIRFLOW_CONN_WAREHOUSE"]) | {"login": role}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(fields))
    try:
        with pytest.raises(
            InvalidInputError,
            match=r"cannot be read: permission denied for table answers.*grant the connection",
        ):
            SqlTable("answers", conn_id="warehouse", create=True).check(ANSWERS, ["id"])
    finally:
        postgresql.run(f"drop owned by {role}", f"drop role {role}")


def test_run_columns_that_are_taken(sqlite: TestDatabase) -> None:
    schema = ANSWERS.append(pyarrow.field("run_id", pyarrow.string()))
    with pytest.raises(InvalidInputError, match="the answers have a column 'run_id' already"):
        SqlTable("answers", conn_id="warehouse", create=True, add_run_columns=True).check(schema, ["id"])


@pytest.mark.parametrize("granted", ["select", "select, insert", "select, insert, update"])
def test_permissions_are_found_before(
    postgresql: TestDatabase, monkeypatch: pytest.MonkeyPatch, granted: str
) -> None:
    role = f"r_{uuid.uuid4().hex[:12]}"
    postgresql.run(
        "create table answers (id integer primary key, label text, score double precision)",
        f"create role {role} login",
        f"grant {granted} on answers to {role}",
        f"do $$ begin execute format('grant usage on schema %I to {role}', current_schema()); end $$",
    )
    fields = json.loads(os.environ["AIRFLOW_CONN_WAREHOUSE"]) | {"login": role}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(fields))
    target = SqlTable("answers", conn_id="warehouse")
    try:
        if granted == "select, insert, update":
            assert write(target, answers([1], "x")) == 1
        else:
            with pytest.raises(
                InvalidInputError, match="cannot be written: permission denied for table answers"
            ):
                target.check(ANSWERS, ["id"])
        missing = SqlTable("others", conn_id="warehouse", create=True)
        with pytest.raises(InvalidInputError, match="cannot be made: permission denied for schema"):
            missing.check(ANSWERS, ["id"])
    finally:
        postgresql.run(f"drop owned by {role}", f"drop role {role}")


def test_schemas(postgresql: TestDatabase) -> None:
    ((schema,),) = postgresql.run("select current_schema()")
    target = SqlTable(f"{schema}.answers", conn_id="warehouse", create=True)
    for label in ("first", "second"):
        write(target, answers([1], label))
    assert postgresql.run("select label from answers") == [("second",)]
    with pytest.raises(InvalidInputError, match='cannot be made: schema "nowhere" does not exist'):
        SqlTable("nowhere.answers", conn_id="warehouse", create=True).check(ANSWERS, ["id"])


def test_arguments_are_checked_at_once() -> None:
    with pytest.raises(InvalidInputError, match="name='' is not a string, or is empty"):
        SqlTable("", conn_id="warehouse")
    assert repr(SqlTable("t", conn_id="warehouse", create=True)) == "SqlTable('t', conn_id='warehouse')"
