"""The names that tables have in OpenLineage are those that its own integration gives them."""

from __future__ import annotations

import pytest

from airflow_provider_mistral_batch.observability.lineage.datasets import DatasetName, datasets_of
from airflow_provider_mistral_batch.storage.reading import known_arguments
from airflow_provider_mistral_batch.tables import SqlRows, SqlTable

from .conftest import TestDatabase


@pytest.fixture
def places(postgresql: TestDatabase) -> tuple[str, str, str]:
    """The namespace, the database and the default schema of the connection."""
    host, port, database, schema = postgresql.run(
        "SELECT host(inet_server_addr()), inet_server_port(), current_database(), current_schema()"
    )[0]
    return f"postgres://{host}:{port}", database, schema


def test_a_table_is_named_by_its_server_database_and_schema(places: tuple[str, str, str]) -> None:
    namespace, database, schema = places
    assert datasets_of(SqlRows(table="questions", conn_id="warehouse")) == [
        DatasetName(namespace, f"{database}.{schema}.questions")
    ]
    assert datasets_of(SqlTable("other.answers", conn_id="warehouse")) == [
        DatasetName(namespace, f"{database}.other.answers")
    ]


def test_each_table_of_a_query_is_named(places: tuple[str, str, str]) -> None:
    namespace, database, schema = places
    query = (
        "WITH new AS (SELECT * FROM questions) SELECT new.id, t.name FROM new JOIN other.topics t USING (id)"
    )
    assert set(datasets_of(SqlRows(query, conn_id="warehouse"))) == {
        DatasetName(namespace, f"{database}.{schema}.questions"),
        DatasetName(namespace, f"{database}.other.topics"),
    }


def test_openlineage_itself_names_them_alike(postgresql: TestDatabase, places: tuple[str, str, str]) -> None:
    from airflow.providers.openlineage.sqlparser import get_openlineage_facets_with_sql
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    postgresql.run("CREATE TABLE questions (id INTEGER)")
    hook = PostgresHook("warehouse")
    sql = "SELECT id FROM questions"
    # Older versions always ask the database.
    alone = known_arguments(get_openlineage_facets_with_sql, use_connection=False)
    told = get_openlineage_facets_with_sql(hook, sql, "warehouse", database=None, **alone)
    assert told is not None
    named = datasets_of(SqlRows(sql, conn_id="warehouse"))
    assert [one.namespace for one in told.inputs] == [one.namespace for one in named]
    # Without its query of the schema, OpenLineage names the table with what the statement says.
    assert named[0].name.endswith(told.inputs[0].name.rpartition(".")[2])


def test_a_database_that_cannot_be_reached_costs_its_name_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_GONE", "postgres://nobody:secret@127.0.0.1:1/none")
    assert datasets_of([]) == []
    assert datasets_of(SqlRows(table="questions", conn_id="gone")) == []
    assert datasets_of(SqlRows(table="questions", conn_id="missing")) == []


def test_a_database_without_a_name_in_openlineage_is_left_out(sqlite: TestDatabase) -> None:
    assert datasets_of(SqlTable("answers", conn_id=sqlite.conn_id)) == []
