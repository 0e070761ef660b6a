"""The benchmark's table in a PostgreSQL, where one answers; it is dropped at the end."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg2

POSTGRESQL = os.environ.get(
    "MISTRAL_BATCH_TEST_DATABASE_URL", "postgresql://postgres@127.0.0.1:5432/postgres"
)
TABLE = "mistral_batch_benchmark"


def is_there() -> bool:
    """Tell whether a server answers."""
    try:
        psycopg2.connect(POSTGRESQL, connect_timeout=5).close()
    except psycopg2.OperationalError as error:
        print(f"No PostgreSQL answers, so nothing is measured with one: {error}")
        return False
    return True


def fill(directory: Path) -> None:
    """
    Make the table.

    :param directory: Has the table as ``rows.parquet``.
    """
    from pyarrow import csv, parquet

    path = directory / "rows.csv"
    csv.write_csv(parquet.read_table(directory / "rows.parquet", columns=["id", "title", "body"]), path)
    drop()
    with psycopg2.connect(POSTGRESQL) as connection, connection.cursor() as cursor, path.open() as file:
        cursor.execute(f"create table {TABLE} (id bigint primary key, title text, body text)")
        cursor.copy_expert(f"copy {TABLE} from stdin with csv header", file)
    path.unlink()


def drop() -> None:
    """Drop the table."""
    with psycopg2.connect(POSTGRESQL) as connection, connection.cursor() as cursor:
        cursor.execute(f"drop table if exists {TABLE}")
