"""PostgreSQL and Redis for the tests: those that run already, or own ones from Debian's packages."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg2
import redis
import sqlalchemy
from sqlalchemy.engine import URL, make_url

from local_airflow import free_port
from processes import Program

#: Seconds until a server that was started must answer.
_PATIENCE = 60.0

#: What a person can do where a server is missing; both are Debian's.
REMEDY = (
    "Install them ('apt-get install postgresql redis-server'; they need not run), or name servers that run in "
    "MISTRAL_BATCH_TEST_DATABASE_URL and MISTRAL_BATCH_TEST_BROKER_URL"
)


class MissingServiceError(RuntimeError):
    """A server does not answer, and none of its kind is installed."""


@contextlib.contextmanager
def postgresql(url: str) -> Iterator[URL]:
    """
    Make a database, and drop it at the end.

    :param url: SQLAlchemy URL of a server's maintenance database.
    :return: The database's URL.
    :raises MissingServiceError: When no server answers there, and none can be started.
    """
    with contextlib.ExitStack() as stack:
        server = make_url(url)
        if not _answers(lambda: _execute(server, "SELECT 1")):
            program = _installed("postgres", server.render_as_string(hide_password=True))
            server = stack.enter_context(_own_postgresql(program))
        name = f"mistral_batch_test_{uuid.uuid4().hex[:12]}"
        _execute(server, f"CREATE DATABASE {name}")
        try:
            yield server.set(database=name)
        finally:
            _execute(server, f"DROP DATABASE {name} WITH (FORCE)")


@contextlib.contextmanager
def redis_prefix(url: str) -> Iterator[tuple[str, str]]:
    """
    Reserve keys in a Redis, and delete them at the end.

    :param url: The server's URL.
    :return: The URL of the server in use, and what all keys must begin with.
    :raises MissingServiceError: When no server answers there, and none can be started.
    """
    with contextlib.ExitStack() as stack:
        if not _answers(lambda: _client(url).ping()):
            hidden = url.rpartition("@")[2]
            url = stack.enter_context(_own_redis(_installed("redis-server", hidden)))
        prefix = f"mistral-batch-test-{uuid.uuid4().hex[:12]}:"
        try:
            yield url, prefix
        finally:
            client = _client(url)
            for key in client.scan_iter(match=f"{prefix}*", count=1000):
                client.delete(key)
            client.close()


def terminate_connections(url: URL) -> int:
    """
    Break every connection to a database, as its restart or a failover does.

    :return: How many there were.
    """
    query = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    return int(_execute(url, query) or 0)


def _execute(url: URL, statement: str) -> Any:
    """Run one statement outside of any transaction; return the first value of its answer, if it has one."""
    engine = sqlalchemy.create_engine(
        url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool, connect_args={"connect_timeout": 5}
    )
    with engine.connect() as connection:
        result = connection.execute(sqlalchemy.text(statement))
        return result.scalar() if result.returns_rows else None


def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_connect_timeout=5)


def _answers(call: Callable[[], object]) -> bool:
    try:
        call()
    except (sqlalchemy.exc.OperationalError, psycopg2.OperationalError, redis.exceptions.RedisError):
        return False
    return True


def _installed(program: str, wanted: str) -> Path:
    """
    Find a server's program, where Debian puts it too: PostgreSQL's are not on the PATH.

    :param wanted: The server that does not answer, for the error.
    """
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), key=lambda path: path.parts[4])
    found = str(versions[-1]) if versions else shutil.which(program)
    if found is None:
        raise MissingServiceError(f"Nothing answers at {wanted}, and {program} is not installed. {REMEDY}.")
    return Path(found)


@contextlib.contextmanager
def _own_postgresql(program: Path) -> Iterator[URL]:
    with _directory("postgres") as (directory, as_user):
        data, port = directory / "data", free_port()
        initialise = [program.with_name("initdb"), "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"]
        done = Program("initdb", [*as_user, *map(str, initialise)], log_path=directory / "initdb.log").start()
        if done.wait(_PATIENCE) != 0:
            raise RuntimeError(f"initdb failed:\n{done.tail()}")
        done.stop()
        options = ["-p", port, "-k", directory, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        command = [*as_user, str(program), "-D", str(data), *map(str, options)]
        url = make_url(f"postgresql+psycopg2://postgres@127.0.0.1:{port}/postgres")
        with _running("postgres", command, directory, lambda: _answers(lambda: _execute(url, "SELECT 1"))):
            yield url


@contextlib.contextmanager
def _own_redis(program: Path) -> Iterator[str]:
    with _directory("redis") as (directory, as_user):
        url = f"redis://127.0.0.1:{(port := free_port())}/0"
        options = ["--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", directory]
        command = [*as_user, str(program), *map(str, options)]
        with _running("redis", command, directory, lambda: _answers(lambda: _client(url).ping())):
            yield url


@contextlib.contextmanager
def _directory(user: str) -> Iterator[tuple[Path, Sequence[str]]]:
    """A folder for a server, and what its commands must begin with: PostgreSQL refuses to run as root."""
    directory = Path(tempfile.mkdtemp(prefix=f"mistral-batch-{user}-"))
    try:
        as_user: list[str] = []
        if os.geteuid() == 0:
            with contextlib.suppress(LookupError):
                shutil.chown(directory, user)
                as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        yield directory, as_user
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def _running(name: str, command: Sequence[str], directory: Path, ready: Callable[[], bool]) -> Iterator[None]:
    log = Path(tempfile.gettempdir(), f"{directory.name}.log")
    program = Program(name, command, log_path=log, cwd=directory).start()
    try:
        deadline = time.monotonic() + _PATIENCE
        while not ready():
            program.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} does not answer after {_PATIENCE:.0f} s:\n{program.tail()}")
            time.sleep(0.1)
        yield
    finally:
        program.stop()
        log.unlink(missing_ok=True)
