"""``SqlRows`` against real databases: what it reads, in which types, how much at a time, and its words in trouble."""

from __future__ import annotations

import copy
import datetime
import json
import pickle
import subprocess
import sys
import time
import uuid
from collections.abc import Generator
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pyarrow
import pytest
from airflow.sdk import BaseOperator, Connection
from packaging.version import Version

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.tables.databases.database import DatabaseError, _told
from airflow_provider_mistral_batch.tables.sources import sql
from airflow_provider_mistral_batch.tables.sources.base import ROWS_IN_BATCH, RowSource
from airflow_provider_mistral_batch.tables.sources.sql import SqlRows

from .conftest import PASSWORD, TestDatabase

REVIEWS = (
    "create table reviews (id integer, title varchar(40), body varchar(100))",
    "insert into reviews values (1, 'one', 'first'), (2, 'two', null), (3, 'three %', 'third')",
)


def table_of(source: RowSource, *columns: str) -> pyarrow.Table:
    return pyarrow.Table.from_batches(source.read(columns or source.columns()))


def test_table_and_query(database: TestDatabase) -> None:
    database.run(*REVIEWS)
    table = SqlRows(table="reviews", conn_id="warehouse")
    query = SqlRows(
        "with all_of_it as (select * from reviews where title like '%')\n"
        "select id, upper(title) as loud from all_of_it order by id -- the newest last",
        conn_id="warehouse",
    )

    assert table.columns() == ["id", "title", "body"]
    assert query.columns() == ["id", "loud"]
    assert table_of(table, "body", "id").to_pydict() == {"body": ["first", None, "third"], "id": [1, 2, 3]}
    assert table_of(query, "loud").to_pydict() == {"loud": ["ONE", "TWO", "THREE %"]}


def test_parameters_are_bound(database: TestDatabase) -> None:
    database.run(*REVIEWS)
    place = "?" if database.kind in ("sqlite", "duckdb") else "%s"
    source = SqlRows(
        f"select id from reviews where title = {place};", conn_id="warehouse", parameters=["x' or '1' = '1"]
    )

    assert source.columns() == ["id"]
    assert list(source.read(["id"])) == []
    source.parameters = ["two"]
    assert table_of(source).to_pydict() == {"id": [2]}


def test_hostile_names(database: TestDatabase) -> None:
    quote = "`" if database.kind == "mysql" else '"'
    table, column = (
        f'a b%s {quote * 2}; drop table x"'.replace('"', '""' if quote == '"' else '"'),
        "Select %d",
    )
    database.run(
        f"create table {quote}{table}{quote} ({quote}{column}{quote} integer)",
        f"insert into {quote}{table}{quote} values (5)",
    )
    source = SqlRows(table=table.replace(quote * 2, quote), conn_id="warehouse", partition_key=column)

    assert source.columns() == [column]
    assert table_of(source).to_pydict() == {column: [5]}
    assert (
        sum(table_of(part, column).num_rows for part in source.partitions(2) if list(part.read([column])))
        == 1
    )


NOON = datetime.datetime.fromisoformat("2026-01-31 12:30:15.123456")
KEY = uuid.UUID("0190a1b2-0000-7000-8000-000000000001")
#: What a UUID becomes, and its type.
UUIDS: tuple[object, str] = (
    (KEY, "extension<arrow.uuid>") if Version(pyarrow.__version__) >= Version("24") else (str(KEY), "string")
)

TYPES: dict[str, list[tuple[str, Any, str]]] = {
    "sqlite": [
        ("5", 5, "int64"),
        ("1.5", 1.5, "double"),
        ("'x'", "x", "string"),
        ("x'00ff'", b"\x00\xff", "binary"),
    ],
    "duckdb": [
        ("5::integer", 5, "int64"),
        ("12345678901234567890::hugeint", Decimal("12345678901234567890"), "decimal128(38, 0)"),
        ("1.50::decimal(10, 2)", Decimal("1.50"), "decimal128(10, 2)"),
        ("true", True, "bool"),
        ("'\\x00\\xFF'::blob", b"\x00\xff", "binary"),
        ("date '2026-01-31'", NOON.date(), "date32[day]"),
        (f"timestamp '{NOON}'", NOON, "timestamp[us]"),
        (f"'{KEY}'::uuid", *UUIDS),
        ("[1, 2]", [1, 2], "list<item: int64>"),
        ("{'a': [1]}", '{"a": [1]}', "string"),
        ("'{\"a\": 1.0}'::json", '{"a": 1.0}', "string"),
    ],
    "postgresql": [
        ("5", 5, "int64"),
        ("5::bigint", 5, "int64"),
        ("1.5::float8", 1.5, "double"),
        ("1.50::numeric(10, 2)", Decimal("1.50"), "decimal128(10, 2)"),
        ("1.505::numeric", Decimal("1.505"), "decimal128(38, 3)"),
        ("true", True, "bool"),
        ("'x'::text", "x", "string"),
        ("'\\x00ff'::bytea", b"\x00\xff", "binary"),
        ("date '2026-01-31'", NOON.date(), "date32[day]"),
        (f"timestamp '{NOON}'", NOON, "timestamp[us]"),
        (
            f"timestamptz '{NOON}+00'",
            NOON.replace(tzinfo=datetime.timezone.utc),
            "timestamp[us, tz=…]",
        ),
        (f"'{KEY}'::uuid", *UUIDS),
        ("array[1, 2]", [1, 2], "list<item: int64>"),
        ("array[0.5::float8, null]", [0.5, None], "list<item: double>"),
        # Exactly as it is stored, in all rows alike.
        ('\'{"b": 1.0,  "a": []}\'::json', '{"b": 1.0,  "a": []}', "string"),
        ("'\"text\"'::jsonb", '"text"', "string"),
        ("'10.0.0.1'::inet", "10.0.0.1", "string"),
    ],
    "mysql": [
        ("5", 5, "int64"),
        ("cast(1.5 as double)", 1.5, "double"),
        ("cast(1.50 as decimal(10, 2))", Decimal("1.50"), "decimal128(38, 2)"),
        ("'x'", "x", "string"),
        ("date '2026-01-31'", NOON.date(), "date32[day]"),
        (f"timestamp '{NOON}'", NOON, "timestamp[us]"),
        ("cast(18446744073709551615 as unsigned)", Decimal(18446744073709551615), "decimal128(38, 0)"),
    ],
}


def test_types(database: TestDatabase) -> None:
    cases = TYPES[database.kind.partition("-")[0]]
    query = "select " + ", ".join(f"{text} as c{index}" for index, (text, _, _) in enumerate(cases))
    table = table_of(SqlRows(query, conn_id="warehouse"))

    for index, (text, value, kind) in enumerate(cases):
        column = table.column(index)
        assert column.to_pylist() == [value], text
        assert str(column.type).startswith(kind.removesuffix("…]")), text


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("bigint", "int64"),
        ("boolean", "bool"),
        ("date", "date32[day]"),
        ("double precision", "double"),
        ("numeric(8, 3)", "decimal128(8, 3)"),
        ("text", "string"),
        ("timestamp", "timestamp[us]"),
        ("timestamptz", "timestamp[us, tz=UTC]"),
        ("uuid", UUIDS[1]),
    ],
)
def test_nulls_at_first_have_the_columns_type(postgresql: TestDatabase, name: str, kind: str) -> None:
    source = SqlRows(f"select null::{name} as c from generate_series(1, 3)", conn_id="warehouse")
    assert str(table_of(source).schema.field("c").type) == kind


def test_nulls_at_first_keep_one_schema(sqlite: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "ROWS_IN_BATCH", 2)
    sqlite.run("create table t (c)", "insert into t values (null), (null), (5), ('x')")
    assert table_of(SqlRows(table="t", conn_id="warehouse")).to_pydict() == {"c": [None, None, "5", "x"]}


@pytest.mark.parametrize(
    ("first", "later", "shown"),
    [
        ("1", "2.5", "began as int64, and later has 2.5 (float)"),
        ("1", "'two'", "began as int64, and later has 'two' (str)"),
        ("1.5", "'two'", "began as double, and later has 'two' (str)"),
        ("x'00'", "7", "began as binary, and later has 7 (int)"),
    ],
)
def test_another_type_later_is_named(
    sqlite: TestDatabase, monkeypatch: pytest.MonkeyPatch, first: str, later: str, shown: str
) -> None:
    monkeypatch.setattr(sql, "ROWS_IN_BATCH", 2)
    sqlite.run("create table t (c)", f"insert into t values ({first}), (null), ({later})")
    with pytest.raises(InvalidInputError) as caught:
        table_of(SqlRows(table="t", conn_id="warehouse"))
    assert f"column 'c' {shown}" in str(caught.value)


def test_another_type_later_without_loss(sqlite: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "ROWS_IN_BATCH", 2)
    sqlite.run("create table t (a, b)", "insert into t values (1, 1.5), (2, 2.5), (3.0, 3)")
    table = table_of(SqlRows(table="t", conn_id="warehouse"))
    assert table.to_pydict() == {"a": [1, 2, 3], "b": [1.5, 2.5, 3.0]}


def test_decimals_of_more_places_later_are_named(
    postgresql: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "ROWS_IN_BATCH", 2)
    source = SqlRows("select unnest(array[1.5, 2.5, 2.555]) as c", conn_id="warehouse")
    with pytest.raises(
        InvalidInputError, match=r"began as decimal128\(38, 1\), and later has Decimal\('2.555'\)"
    ):
        table_of(source)


def test_batches_are_bounded(postgresql: TestDatabase) -> None:
    narrow = SqlRows("select g as id from generate_series(1, 12345) g", conn_id="warehouse")
    sizes = [batch.num_rows for batch in narrow.read(["id"])]
    assert sum(sizes) == 12345
    assert max(sizes) == ROWS_IN_BATCH

    wide = SqlRows("select repeat('x', 1000000) as body from generate_series(1, 40)", conn_id="warehouse")
    batches = list(wide.read(["body"]))
    assert sum(batch.num_rows for batch in batches) == 40
    assert max(batch.nbytes for batch in batches) < 12_000_000


#: Runs in a process of its own: peaks of memory are never undone.
MEMORY = """
import resource, sys
from airflow_provider_mistral_batch.tables.sources.sql import SqlRows
for _ in SqlRows("select 1 as id, 'x' as body", conn_id="warehouse").read(["id", "body"]): pass
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
query = "select g as id, repeat('x', 500) as body from generate_series(1, 300000) g"
rows = sum(batch.num_rows for batch in SqlRows(query, conn_id="warehouse").read(["id", "body"]))
print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_is_constant(postgresql: TestDatabase) -> None:
    if postgresql.kind != "postgresql":
        pytest.skip("a new process takes psycopg 3")
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    rows, growth = map(int, done.stdout.split()[-2:])
    assert rows == 300_000
    assert growth < 60_000, f"{growth} kB for 150 MB of rows"


def test_one_state_of_the_table(database: TestDatabase) -> None:
    if database.kind in ("sqlite", "duckdb"):
        pytest.skip(
            "a reader of SQLite's default journal keeps writers out; DuckDB's file belongs to one process"
        )
    database.run("create table t (id integer)")
    for start in range(0, 12_000, 2_000):
        values = ", ".join(f"({start + number})" for number in range(2_000))
        database.run(f"insert into t values {values}")
    batches = SqlRows(table="t", conn_id="warehouse").read(["id"])
    first = next(batches)
    if database.is_postgresql:
        database.run("update t set id = 0", "delete from t where ctid in (select ctid from t limit 6000)")
    else:
        # MySQL's reader holds a lock on the table's definition only.
        database.run("update t set id = 0", "delete from t limit 6000")
    ids = first.column(0).to_pylist() + [value for batch in batches for value in batch.column(0).to_pylist()]
    assert sorted(ids) == list(range(12_000))


def test_a_database_that_goes_away(database: TestDatabase) -> None:
    if database.kind in ("sqlite", "duckdb"):
        pytest.skip("SQLite and DuckDB are libraries")
    # Any tables of that many rows, which both have.
    many = "information_schema.columns a, information_schema.columns b limit 200000"
    source = SqlRows(f"select 1 as id, repeat('x', 1000) as body from {many}", conn_id="warehouse")
    batches = source.read(["id", "body"])
    next(batches)
    if database.is_postgresql:
        database.run(
            "select pg_terminate_backend(pid) from pg_stat_activity where query like 'FETCH%' and "
            "pid <> pg_backend_pid() and datname = current_database()"
        )
    else:
        ((session,),) = database.run(
            "select id from information_schema.processlist where db = database() and info like '%limit 200000%' and "
            "id <> connection_id()"
        )
        database.run(f"kill {session}")
    with pytest.raises(
        DatabaseError, match=r"connection 'warehouse': .* broke off after [\d,]+ rows; a new try"
    ) as caught:
        list(batches)
    assert PASSWORD not in str(caught.value)


def test_a_reader_that_stops_leaves_nothing(postgresql: TestDatabase) -> None:
    source = SqlRows("select generate_series(1, 100000) as id", conn_id="warehouse")
    batches = cast("Generator[pyarrow.RecordBatch]", source.read(["id"]))
    next(batches)
    sessions = (
        "select count(*) from pg_stat_activity where query like 'FETCH%' and pid <> pg_backend_pid() "
        "and datname = current_database()"
    )
    assert postgresql.run(sessions) == [(1,)]
    batches.close()
    # The server needs a moment to notice.
    assert any(postgresql.run(sessions) == [(0,)] or time.sleep(0.1) for _ in range(100))


def test_a_query_changes_nothing(database: TestDatabase) -> None:
    database.run(*REVIEWS)
    for statement in ("delete from reviews", "delete from reviews returning id"):
        source = SqlRows(statement, conn_id="warehouse")
        if database.kind == "mysql":
            continue
        try:
            source.columns()
            list(source.read(["id"]))
        except InvalidInputError:
            pass
        assert database.run("select count(*) from reviews") == [(3,)]


@pytest.mark.parametrize("column", ["id", "name"])
def test_partitions(database: TestDatabase, column: str) -> None:
    rows = ", ".join(f"({number}, 'n{number}')" for number in range(-50, 50))
    database.run(
        "create table t (id integer, name varchar(9))",
        f"insert into t values {rows}, (null, null), (null, null)",
    )
    for source in (
        SqlRows(table="t", conn_id="warehouse", partition_key=column),
        SqlRows("select * from t where 1 = 1 or name like '%s'", conn_id="warehouse", partition_key=column),
    ):
        parts = [
            [row for batch in part.read(["id", "name"]) for row in batch.to_pylist()]
            for part in source.partitions(3)
        ]
        together = sorted((row["id"] or 0, row["name"] or "") for part in parts for row in part)
        assert together == sorted([(number, f"n{number}") for number in range(-50, 50)] + [(0, "")] * 2)
        if database.kind != "sqlite" or column == "id":
            assert all(len(part) > 15 for part in parts)


def test_partitions_ask_no_database() -> None:
    source = SqlRows(table="t", conn_id="nowhere", partition_key="id")
    assert [repr(part) for part in source.partitions(2)] == [
        "SqlRows(table='t', conn_id='nowhere', partition 1 of 2)",
        "SqlRows(table='t', conn_id='nowhere', partition 2 of 2)",
    ]
    with pytest.raises(InvalidInputError, match="has no partition_key: pass the column"):
        SqlRows(table="t", conn_id="nowhere").partitions(2)
    with pytest.raises(InvalidInputError, match="is a part already"):
        source.partitions(2)[0].partitions(2)


def test_an_unknown_column_is_named(database: TestDatabase) -> None:
    database.run(*REVIEWS)
    for source in (
        SqlRows(table="reviews", conn_id="warehouse"),
        SqlRows("select * from reviews", conn_id="warehouse"),
    ):
        with pytest.raises(InvalidInputError, match="has no column 'titel': did you mean 'title'"):
            list(source.read(["titel"]))
        with pytest.raises(InvalidInputError, match="has no column 'price': it has id, title, body"):
            list(source.read(["price"]))


def test_two_columns_of_one_name(database: TestDatabase) -> None:
    database.run(*REVIEWS)
    source = SqlRows("select a.id, b.id from reviews a join reviews b on a.id = b.id", conn_id="warehouse")
    with pytest.raises(InvalidInputError, match="has two columns 'id': name them apart"):
        list(source.read(["id"]))
    if database.kind not in ("sqlite", "duckdb"):  # They rename the second one in a query about the query.
        with pytest.raises(InvalidInputError, match=r"has two columns 'id'|Duplicate column name 'id'"):
            source.columns()


@pytest.mark.parametrize("wrong", [{"sql": "selct id from reviews"}, {"table": "reviws"}])
def test_a_wrong_statement_is_the_users_own(database: TestDatabase, wrong: dict[str, str]) -> None:
    database.run(*REVIEWS)
    source = SqlRows(**wrong, conn_id="warehouse")
    for attempt in (source.columns, lambda: list(source.read(["id"]))):
        with pytest.raises(InvalidInputError) as caught:
            attempt()
        text = str(caught.value)
        assert text.startswith("connection 'warehouse': SqlRows(")
        assert "selct" in text or "reviws" in text
        assert PASSWORD not in text
        assert caught.value.__cause__ is None


@pytest.mark.parametrize("parameters", [[1], [1, 2, 3], {"id": 1}])
def test_parameters_that_do_not_fit_are_the_users_own(database: TestDatabase, parameters: Any) -> None:
    database.run(*REVIEWS)
    value = "?" if database.kind in ("sqlite", "duckdb") else "%s"
    source = SqlRows(
        f"select id from reviews where id in ({value}, {value})", conn_id="warehouse", parameters=parameters
    )
    for attempt in (source.columns, lambda: list(source.read(["id"]))):
        with pytest.raises(InvalidInputError, match="cannot be read: "):
            attempt()


def test_a_database_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("airflow.providers.postgres.hooks.postgres")
    fields = {"conn_type": "postgres", "host": "127.0.0.1", "port": 1, "login": "me", "password": PASSWORD}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(fields))
    with pytest.raises(
        DatabaseError, match=r"connection 'warehouse': the database cannot be opened: .*Check the"
    ) as caught:
        SqlRows(table="t", conn_id="warehouse").columns()
    assert PASSWORD not in str(caught.value)


def test_secrets_in_a_drivers_text() -> None:
    extra = {"private_key_passphrase": "hush", "nested": {"api_token": "psst"}, "role": "reader"}
    connection = Connection(conn_id="c", conn_type="postgres", password=PASSWORD, extra=json.dumps(extra))
    error = RuntimeError(f"dsn postgres://me:{PASSWORD}@h\n pass%2Fword%2B1 hush psst as reader")
    assert _told(error, connection) == "dsn postgres://me:***@h *** *** *** as reader"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (None, "conn_id='warehous': there is no such connection: create it in Airflow"),
        ({"conn_type": "mistral"}, "type 'mistral' is no SQL database"),
        ({"conn_type": "warehouse9"}, "type 'warehouse9' has no hook here"),
    ],
)
def test_a_connection_that_leads_nowhere(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, str] | None, told: str
) -> None:
    if fields is not None:
        monkeypatch.setenv("AIRFLOW_CONN_WAREHOUS", json.dumps(fields))
    with pytest.raises(InvalidInputError) as caught:
        SqlRows(table="t", conn_id="warehous").columns()
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "sql and table are both missing"),
        ({"sql": "select 1", "table": "t"}, "sql and table are both given"),
        ({"sql": " "}, "sql=' ' is not a string, or is empty"),
        ({"table": "t", "conn_id": None}, "conn_id=None is not a string, or is empty"),
        ({"table": "t", "parameters": ["x"]}, "parameters are for the placeholders of a query"),
        ({"sql": "select 1", "parameters": "x"}, "parameters is a str, not a list or a dict: pass a list"),
    ],
)
def test_arguments_are_checked_at_once(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        SqlRows(**{"conn_id": "warehouse", **arguments})
    assert told in str(caught.value)


@pytest.mark.parametrize("table", ["", "a..b", "a.b.c.d", "."])
def test_names_of_tables(sqlite: TestDatabase, table: str) -> None:
    with pytest.raises(InvalidInputError):
        SqlRows(table=table, conn_id="warehouse").columns()


def test_airflow_renders_it(sqlite: TestDatabase) -> None:
    class Reader(BaseOperator):
        template_fields = ("source",)

        def __init__(self, source: SqlRows, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.source = source

    reader = Reader(
        task_id="read",
        source=SqlRows("select '{{ ds }}' as day", conn_id="{{ conn }}", parameters=["{{ ds }}"]),
    )
    reader.render_template_fields({"ds": "2026-01-31", "conn": "warehouse"})
    assert (reader.source.sql, reader.source.conn_id) == ("select '2026-01-31' as day", "warehouse")
    assert reader.source.parameters == ["2026-01-31"]


def test_nothing_of_a_reading_stays(sqlite: TestDatabase) -> None:
    sqlite.run(*REVIEWS)
    source = SqlRows("select *\n  from reviews", conn_id="warehouse")
    batches = source.read(["id"])
    next(batches)
    for copied in (copy.deepcopy(source), pickle.loads(pickle.dumps(source))):
        assert repr(copied) == repr(source) == "SqlRows('select * from reviews', conn_id='warehouse')"
        assert table_of(copied, "id").num_rows == 3


def test_parsing_a_dag_imports_no_driver(tmp_path: Path) -> None:
    code = (
        "import sys, airflow.sdk.bases.decorator\n"
        # Airflow 3.0 itself imports drivers.
        "before = set(sys.modules)\n"
        "from airflow_provider_mistral_batch.tables.sources.sql import SqlRows\n"
        "from airflow_provider_mistral_batch.tables.targets.sql import SqlTable\n"
        "SqlRows('select 1', conn_id='w', partition_key='id').partitions(2), SqlTable('t', conn_id='w')\n"
        "print([name for name in ('pyarrow', 'sqlite3', 'psycopg2', 'psycopg', 'duckdb', 'MySQLdb',\n"
        "       'airflow.providers.common.sql.hooks.sql') if name in sys.modules and name not in before])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
