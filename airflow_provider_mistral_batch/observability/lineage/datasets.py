"""The names of datasets, by OpenLineage's conventions: of files and folders in any storage, and of tables."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from airflow_provider_mistral_batch.storage.paths import without_connection
from airflow_provider_mistral_batch.tables.databases.database import hook_of, table_parts
from airflow_provider_mistral_batch.tables.sources.documents import Documents
from airflow_provider_mistral_batch.tables.sources.files import FileRows
from airflow_provider_mistral_batch.tables.sources.sql import SqlRows
from airflow_provider_mistral_batch.tables.targets.sql import SqlTable

log = logging.getLogger(__name__)

#: Most datasets of one task. With more of them, their folders are named instead.
MOST = 100

_SCHEMES = {"s3a": "s3", "gcs": "gs", "local": "file", "": "file"}


class DatasetName(NamedTuple):
    """
    The name of a dataset.

    :param namespace: Where it is: ``s3://bucket``, ``file``, ``postgres://host:5432``.
    :param name: What it is called there: ``folder/rows.parquet``, ``database.schema.table``.
    """

    namespace: str
    name: str


def datasets_of(value: Any) -> list[DatasetName]:
    """
    Name the datasets behind what a task reads or writes.

    :param value: A path, a list of paths, a source of rows, a target, or names that are ready. Anything else, such as
        rows in a list, is no dataset.
    """
    names = list(dict.fromkeys(_named(value)))
    if len(names) > MOST:
        names = list(dict.fromkeys(name._replace(name=_parent(name.name)) for name in names))[:MOST]
    return names


def file_name(path: Any) -> DatasetName | None:
    """
    Name a file or a folder; the folder for a glob. The connection in a path says who reads it, not what it is.

    :param path: A path as users write it, or a path object.
    :return: The name; ``None`` if it is no path that others could find.
    """
    url = without_connection(path)
    scheme, _, rest = url.rpartition("://")
    scheme = _SCHEMES.get(scheme, scheme)
    if scheme == "file":
        return DatasetName("file", _without_glob(rest)) if rest.startswith("/") else None
    bucket, _, key = rest.partition("/")
    return DatasetName(f"{scheme}://{bucket}", _without_glob(key).rstrip("/") or "/")


def _named(value: Any) -> Iterator[DatasetName]:
    if isinstance(value, (FileRows, Documents)):
        yield from _named(value.path)
    elif isinstance(value, (SqlRows, SqlTable)):
        # A database that cannot be asked costs its own name only.
        try:
            yield from _tables(value)
        except Exception as error:
            log.info("%r has no name for OpenLineage: %s", value, error)
    elif isinstance(value, (list, tuple)):
        for one in value:
            if _is_ready(one):
                yield DatasetName(*one)
            elif isinstance(one, str) or hasattr(one, "open"):
                yield from _named(one)
            else:
                # Rows.
                return
    elif (isinstance(value, str) or hasattr(value, "open")) and (name := file_name(value)) is not None:
        yield name


def _is_ready(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(one, str) for one in value)


def _tables(value: SqlRows | SqlTable) -> Iterator[DatasetName]:
    hook = hook_of(value.conn_id)
    connection = hook.get_connection(value.conn_id)
    about = hook.get_openlineage_database_info(connection)
    if about is None:
        return
    # As OpenLineage itself names what a hook has run: scheme://authority, database.schema.table.
    namespace = f"{about.scheme}://{about.authority}" if about.authority else about.scheme
    for parts in _table_names(value, hook, connection):
        schema = parts[-2] if len(parts) > 1 else hook.get_openlineage_default_schema()
        database = parts[-3] if len(parts) > 2 else about.database
        names = [name for name in (database, schema, parts[-1]) if name]
        name = ".".join(names)
        if about.is_uppercase_names:
            name = name.upper()
        yield DatasetName(namespace, name)


def _table_names(value: SqlRows | SqlTable, hook: Any, connection: Any) -> Iterator[Sequence[str]]:
    table = value.name if isinstance(value, SqlTable) else value.table
    if table is not None:
        yield table_parts(table)
        return
    from airflow.providers.openlineage.sqlparser import SQLParser

    sql = value.sql if isinstance(value, SqlRows) else None
    parsed = SQLParser(dialect=hook.get_openlineage_database_dialect(connection)).parse(sql or "")
    for found in parsed.in_tables if parsed is not None else ():
        yield [part for part in (found.database, found.schema, found.name) if part]


def _without_glob(path: str) -> str:
    while any(character in path for character in "*?["):
        path = _parent(path)
    return path


def _parent(path: str) -> str:
    return path.rstrip("/").rpartition("/")[0] or "/"
