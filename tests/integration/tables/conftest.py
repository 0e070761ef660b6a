"""Real databases (SQLite and DuckDB in files, PostgreSQL and MySQL where a server answers), and batches in a hurry."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from airflow.sdk import DAG
from sqlalchemy.engine import URL, make_url

from airflow_provider_mistral_batch.operators.inference import MistralBatchInferenceOperator

#: Where a PostgreSQL may run; as for the distributed tests.
POSTGRESQL = os.environ.get(
    "MISTRAL_BATCH_TEST_DATABASE_URL", "postgresql://postgres@127.0.0.1:5432/postgres"
)
#: Where a MySQL or MariaDB may run. Its provider needs system libraries, so it is not installed by `make install`.
MYSQL = os.environ.get(
    "MISTRAL_BATCH_TEST_MYSQL_URL", "mysql://root@localhost/mysql?unix_socket=/run/mysqld/mysqld.sock"
)

PASSWORD = "pass/word+1"

KINDS = ("sqlite", "duckdb", "postgresql", "postgresql-psycopg2", "mysql")


@dataclass
class TestDatabase:
    """A database with a connection for us, and another way to look into it."""

    __test__ = False

    kind: str
    conn_id: str
    _run: Callable[[str], list[tuple]]

    def run(self, *statements: str) -> list[tuple]:
        """Run statements one after the other, each committed; the rows of the last."""
        rows: list[tuple] = []
        for statement in statements:
            rows = self._run(statement)
        return rows

    @property
    def is_postgresql(self) -> bool:
        return self.kind.startswith("postgresql")


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[URL]:
    yield from _own_database(make_url(POSTGRESQL).set(drivername="postgresql+psycopg2"), "psycopg2")


@pytest.fixture(scope="session")
def mysql_server() -> Iterator[URL]:
    yield from _own_database(make_url(MYSQL).set(drivername="mysql+mysqldb"), "MySQLdb")


def _own_database(server: URL, driver: str) -> Iterator[URL]:
    pytest.importorskip(driver, reason=f"{driver} is not installed")
    name = f"mistral_batch_test_{uuid.uuid4().hex[:12]}"
    try:
        _execute(server, f"CREATE DATABASE {name}")
    except sqlalchemy.exc.OperationalError as error:
        pytest.skip(f"no server answers at {server.render_as_string(hide_password=True)}: {error.orig}")
    yield server.set(database=name)
    _execute(server, f"DROP DATABASE {name}{' WITH (FORCE)' if driver == 'psycopg2' else ''}")


def _execute(url: URL, statement: str) -> list[tuple]:
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.pool.NullPool)
    with engine.connect() as connection:
        result = connection.exec_driver_sql(statement)
        return [tuple(row) for row in result] if result.returns_rows else []


@pytest.fixture(params=KINDS)
def database(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestDatabase]:
    """Each kind of database, empty, behind the connection ``warehouse``."""
    with contextlib.ExitStack() as stack:
        yield make_database(request, tmp_path, monkeypatch, stack)


@pytest.fixture
def run_batch(airflow: Any, hook: Any, tmp_path: Path) -> Callable[..., Any]:
    """Runs an inference task in a hurry, and gives its outcome."""

    def run_batch(ti: Any = None, **options: Any) -> Any:
        given = {
            "destination": str(tmp_path / "out"),
            "row_retries": 0,
            "poll_interval": 0.05,
            "poll_interval_min": 0.02,
            **options,
        }

        def make() -> Any:
            with DAG("dag", schedule=None):
                return MistralBatchInferenceOperator(task_id="task", **given)

        return airflow.run(make, ti)

    return run_batch


@pytest.fixture
def sqlite(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestDatabase]:
    """A database that is always there."""
    with contextlib.ExitStack() as stack:
        request.param = "sqlite"
        yield make_database(request, tmp_path, monkeypatch, stack)


@pytest.fixture(params=["postgresql", "postgresql-psycopg2"])
def postgresql(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestDatabase]:
    """PostgreSQL, with both drivers."""
    with contextlib.ExitStack() as stack:
        yield make_database(request, tmp_path, monkeypatch, stack)


@pytest.fixture
def mysql(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestDatabase]:
    """MySQL or MariaDB."""
    with contextlib.ExitStack() as stack:
        request.param = "mysql"
        yield make_database(request, tmp_path, monkeypatch, stack)


def make_database(
    request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stack: contextlib.ExitStack
) -> TestDatabase:
    kind: str = request.param
    if kind == "sqlite":
        fields, run = _sqlite(tmp_path / "warehouse.sqlite")
    elif kind == "duckdb":
        fields, run = _duckdb(tmp_path / "warehouse.duckdb")
    elif kind == "mysql":
        fields, run = _mysql(request.getfixturevalue("mysql_server"), stack)
    else:
        fields, run = _postgresql(request.getfixturevalue("postgresql_server"), kind, monkeypatch, stack)
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(fields))
    return TestDatabase(kind, "warehouse", run)


def _sqlite(path: Path) -> tuple[dict, Callable[[str], list[tuple]]]:
    url = URL.create("sqlite", database=str(path))
    return {"conn_type": "sqlite", "host": str(path)}, lambda statement: _execute(url, statement)


def _duckdb(path: Path) -> tuple[dict, Callable[[str], list[tuple]]]:
    duckdb = pytest.importorskip("duckdb", reason="DuckDB's provider needs Python 3.11")
    pytest.importorskip("airflow.providers.duckdb", reason="DuckDB's provider needs Python 3.11")
    settings = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": True,
        "allow_community_extensions": False,
    }

    def run(statement: str) -> list[tuple]:
        with contextlib.closing(duckdb.connect(str(path), config=settings)) as connection:
            return connection.execute(statement).fetchall()

    return {"conn_type": "duckdb", "host": str(path)}, run


def _postgresql(
    server: URL, kind: str, monkeypatch: pytest.MonkeyPatch, stack: contextlib.ExitStack
) -> tuple[dict, Callable[[str], list[tuple]]]:
    hooks = pytest.importorskip("airflow.providers.postgres.hooks.postgres")
    if kind == "postgresql-psycopg2":
        monkeypatch.setattr(hooks, "USE_PSYCOPG3", False)
    elif not hooks.USE_PSYCOPG3:
        pytest.skip("psycopg 3 is not installed")
    schema = f"s_{uuid.uuid4().hex[:12]}"
    _execute(server, f"CREATE SCHEMA {schema}")
    stack.callback(_execute, server, f"DROP SCHEMA {schema} CASCADE")
    options = f"-c search_path={schema}"
    fields = {
        "conn_type": "postgres",
        "host": server.host,
        "port": server.port or 5432,
        "login": server.username,
        "password": server.password or PASSWORD,
        "schema": server.database,
        "extra": {"options": options},
    }
    own = server.set(query={"options": options})
    return fields, lambda statement: _execute(own, statement.replace("%", "%%"))


def _mysql(server: URL, stack: contextlib.ExitStack) -> tuple[dict, Callable[[str], list[tuple]]]:
    pytest.importorskip("airflow.providers.mysql", reason="the MySQL provider is not installed")
    fields = {
        "conn_type": "mysql",
        "host": server.host,
        "login": server.username,
        "password": server.password,
        "schema": server.database,
        "extra": {**server.query, "charset": "utf8mb4"},
    }
    own = server.update_query_dict({"charset": "utf8mb4"})
    before = {row[0] for row in _execute(own, "SHOW TABLES")}

    def clean() -> None:
        for (table,) in _execute(own, "SHOW TABLES"):
            if table not in before:
                quoted = table.replace("`", "``").replace("%", "%%")
                _execute(own, f"DROP TABLE `{quoted}`")

    stack.callback(clean)
    return fields, lambda statement: _execute(own, statement.replace("%", "%%"))
