"""A connection id becomes an open database: its driver, its quoting, its cursors, its errors without secrets."""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_mistral_batch.api.errors import InvalidInputError, MistralBatchError
from airflow_provider_mistral_batch.api.texts import kept
from airflow_provider_mistral_batch.compat import AirflowException, AirflowNotFoundException, BaseHook
from airflow_provider_mistral_batch.jsonl.lines import MissingExtraError

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook

#: Which database a driver's connections lead to, by the first part of the driver's module. What is not here works by
#: what every driver must be able to do.
_KINDS = {
    "duckdb": "duckdb",
    "MySQLdb": "mysql",
    "mysql": "mysql",
    "psycopg": "postgresql",
    "psycopg2": "postgresql",
    "pymysql": "mysql",
    "sqlite3": "sqlite",
}

#: Databases in which making a table can be undone.
TRANSACTIONAL = ("postgresql", "sqlite", "duckdb")

#: Errors of a driver (PEP 249) that say that the statement is wrong, and Python's own, which some drivers raise if its
#: parameters are. All others may pass.
_WRONG_STATEMENT = {
    "DataError",
    "NotSupportedError",
    "ProgrammingError",
    "LookupError",
    "TypeError",
    "ValueError",
}

#: SQLite's code for a statement that is wrong; its Python class is the one for a locked database, too.
_SQLITE_ERROR = 1
#: What SQLite says then. Python 3.10 does not give its code.
_SQLITE_WORDS = re.compile(
    r"^no such |^near \"|has no column|syntax error|incomplete input|unrecognized token"
)

_MYSQL_NO_SUCH_TABLE = 1146

#: Parts of names in a connection's extra whose values are secret.
_SECRET_NAMES = ("password", "passphrase", "secret", "token", "key")

#: Seconds that MySQL waits for a reader who is busy with the rows that it has.
_MYSQL_PATIENCE = 3600


class DatabaseError(MistralBatchError):
    """A database did not answer, or broke off. The same may succeed later."""


class MissingTableError(InvalidInputError):
    """A statement names a table that is not there."""


class Database:
    """
    An open connection to a database.

    :param conn_id: The connection's id.
    :param hook: Its hook.
    :param connection: What the driver opened.
    """

    def __init__(self, conn_id: str, hook: DbApiHook, connection: Any) -> None:
        self.conn_id = conn_id
        self.hook = hook
        self.connection = connection
        self.driver = type(connection).__module__.partition(".")[0].lstrip("_")
        #: ``postgresql``, ``mysql``, ``sqlite``, ``duckdb``, or ``other``.
        self.kind = _KINDS.get(self.driver, "other")
        #: Whether one statement for many rows is the quickest. psycopg 3 reads long statements slowly, and sends many
        #: short ones at once; of a database that is not known, nobody knows.
        self.many_rows = self.kind != "other" and self.driver != "psycopg"

    def quoted(self, name: str, *, bound: bool = False) -> str:
        """
        Quote a name, so that it is nothing but a name.

        :param name: The name of a column, a table or a schema, as the database has it.
        :param bound: Whether values are bound to the statement; drivers whose placeholder is ``%s`` then read ``%%``.
        """
        quotes = self.hook.escape_word_format
        text = f"{quotes[0]}{name.replace(quotes[-1], quotes[-1] * 2)}{quotes[-1]}"
        return text.replace("%", "%%") if bound and self.hook.placeholder == "%s" else text

    def quoted_table(self, table: str, *, bound: bool = False) -> str:
        """
        Quote the name of a table.

        :param table: ``table``, ``schema.table`` or ``database.schema.table``.
        :param bound: As for :meth:`quoted`.
        :raises InvalidInputError: When it is no such name.
        """
        return ".".join(self.quoted(part, bound=bound) for part in table_parts(table))

    @contextlib.contextmanager
    def transaction(self, *, keep: bool = True, streaming: bool = False) -> Iterator[Any]:
        """
        Run statements that take effect together, or not at all, where the database has transactions.

        :param keep: Whether they take effect; False undoes them at the end.
        :param streaming: Whether to hold the rows of few fetches at a time, where the driver can.
        :return: A cursor that gives tuples, whatever the connection's extra asks for.
        """
        try:
            with self.trouble("no transaction can begin"):
                cursor = self._streaming_cursor() if streaming else self._cursor()
                if self.kind in ("sqlite", "duckdb"):
                    # SQLite's driver leaves statements that make tables outside; DuckDB's begins none by itself.
                    cursor.execute("BEGIN")
            yield cursor
            if keep:
                with self.trouble("the transaction cannot be committed"):
                    self.connection.commit()
        finally:
            self.undo()

    def undo(self) -> None:
        """Undo what was not committed, if anything."""
        # Some drivers object if there is nothing. If the connection is lost, the database has undone it.
        with contextlib.suppress(Exception):
            self.connection.rollback()

    def _streaming_cursor(self) -> Any:
        if self.driver in ("psycopg", "psycopg2"):
            return self._cursor(name=f"mistral_batch_{uuid.uuid4().hex}")
        if self.driver == "MySQLdb":
            from MySQLdb.cursors import SSCursor

            return self.connection.cursor(SSCursor)
        if self.driver == "pymysql":
            from pymysql.cursors import SSCursor as PurePythonSSCursor

            return self.connection.cursor(PurePythonSSCursor)
        return self._cursor()

    def _cursor(self, **options: Any) -> Any:
        if self.driver == "psycopg2":
            from psycopg2.extensions import cursor

            return self.connection.cursor(cursor_factory=cursor, **options)
        if self.driver == "psycopg":
            from psycopg.rows import tuple_row

            return self.connection.cursor(row_factory=tuple_row, **options)
        if self.driver == "MySQLdb":
            from MySQLdb.cursors import Cursor

            return self.connection.cursor(Cursor)
        # DuckDB's cursors are connections of their own.
        return self.connection if self.kind == "duckdb" else self.connection.cursor()

    @contextlib.contextmanager
    def trouble(self, doing: str) -> Iterator[None]:
        """
        Make an error of ours of what the driver raises.

        :param doing: What is being done, for the message.
        :raises MissingTableError: When it names a table that is not there, if the database is one that is known.
        :raises InvalidInputError: When the statement is wrong.
        :raises DatabaseError: When a new try may succeed.
        """
        try:
            yield
        except MistralBatchError:
            raise
        except Exception as error:
            # Without the driver's own error, whose text may hold the password.
            raise self._error(error, doing) from None

    def _error(self, error: Exception, doing: str) -> MistralBatchError:
        text = f"connection {self.conn_id!r}: {doing}: {_told(error, self.hook.connection)}"
        names = {one.__name__ for one in type(error).__mro__}
        if self._misses_table(error, names):
            return MissingTableError(text)
        if names & _WRONG_STATEMENT or (self.kind == "sqlite" and _is_wrong_for_sqlite(error)):
            return InvalidInputError(text)
        return DatabaseError(text)

    def _misses_table(self, error: Exception, names: set[str]) -> bool:
        if self.kind == "postgresql":
            return "UndefinedTable" in names
        if self.kind == "mysql":
            return error.args[:1] == (_MYSQL_NO_SUCH_TABLE,)
        if self.kind == "duckdb":
            return "CatalogException" in names and "does not exist" in str(error)
        return self.kind == "sqlite" and str(error).startswith("no such table")


def _is_wrong_for_sqlite(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code == _SQLITE_ERROR or (code is None and _SQLITE_WORDS.search(str(error)) is not None)


def table_parts(table: str) -> list[str]:
    """
    Take the name of a table apart.

    :param table: ``table``, ``schema.table`` or ``database.schema.table``.
    :return: The parts: the table's own name is the last.
    :raises InvalidInputError: When it is no such name.
    """
    parts = table.split(".")
    if not all(part.strip() for part in parts) or len(parts) > 3:
        raise InvalidInputError(
            f"table={table!r:.80} is not a name of a table: write 'table' or 'schema.table'"
        )
    return parts


@contextlib.contextmanager
def opened(conn_id: str) -> Iterator[Database]:
    """
    Open the database of a connection, and close it at the end. What was not committed is undone.

    :param conn_id: The connection's id.
    :raises InvalidInputError: When there is no such connection, or it leads to no database.
    :raises DatabaseError: When the database cannot be reached.
    """
    hook = hook_of(conn_id)
    try:
        connection = hook.get_conn()
        if hook.supports_autocommit:
            hook.set_autocommit(connection, False)
    except ImportError as error:
        raise InvalidInputError(
            f"connection {conn_id!r}: its driver is missing: {error}. Install the driver on all workers"
        ) from None
    except Exception as error:
        raise DatabaseError(
            f"connection {conn_id!r}: the database cannot be opened: {_told(error, hook.connection)}. Check the "
            "connection's host, port, login and password, and whether the database runs"
        ) from None
    try:
        database = Database(conn_id, hook, connection)
        with database.trouble("the session cannot be set up"):
            _set_up(database)
        yield database
    finally:
        with contextlib.suppress(Exception):
            connection.close()


def hook_of(conn_id: str) -> DbApiHook:
    """
    Give the hook of a database's connection; nothing is opened.

    :param conn_id: The connection's id.
    :raises InvalidInputError: When there is no such connection, or it leads to no database.
    """
    try:
        from airflow.providers.common.sql.hooks.sql import DbApiHook
    except ImportError:
        raise MissingExtraError("databases need airflow-provider-mistral-batch[sql]: install it") from None
    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise InvalidInputError(
            f"conn_id={conn_id!r:.200}: there is no such connection: create it in Airflow (Admin, Connections), or "
            "correct its name"
        ) from None
    kind = connection.conn_type
    try:
        hook = connection.get_hook()
    except (AirflowException, ImportError) as error:
        raise InvalidInputError(
            f"connection {conn_id!r}: type {kind!r} has no hook here ({_told(error, connection)}): install the "
            "provider of this database on all workers, or correct the type"
        ) from None
    if not isinstance(hook, DbApiHook):
        raise InvalidInputError(
            f"connection {conn_id!r}: type {kind!r} is no SQL database ({type(hook).__name__} is no DbApiHook): name "
            "the connection of a database"
        )
    return hook


def _set_up(database: Database) -> None:
    """Have values come as they are stored: JSON as its text, UUIDs as UUIDs."""
    if database.driver == "psycopg2":
        from psycopg2 import extras

        extras.register_default_json(database.connection, loads=_unchanged)
        extras.register_default_jsonb(database.connection, loads=_unchanged)
        extras.register_uuid(conn_or_curs=database.connection)
    elif database.driver == "psycopg":
        from psycopg.types.json import set_json_loads

        set_json_loads(_text, database.connection)
    elif database.kind == "mysql":
        with database.transaction() as cursor:
            cursor.execute(f"SET SESSION net_write_timeout = {_MYSQL_PATIENCE}")


def _unchanged(text: str) -> str:
    return text


def _text(json: str | bytes) -> str:
    return json.decode() if isinstance(json, bytes) else json


def _told(error: Exception, connection: Any) -> str:
    """Say what a driver says, without secrets."""
    return kept(str(error) or type(error).__name__, lambda text: _without_secrets(text, connection))


def _without_secrets(text: str, connection: Any) -> str:
    from urllib.parse import quote, quote_plus

    for secret in _secrets(connection):
        for form in {secret, quote(secret, safe=""), quote_plus(secret), repr(secret)[1:-1]}:
            text = text.replace(form, "***")
    return text


def _secrets(connection: Any) -> Sequence[str]:
    found = [connection.password] if connection.password else []
    with contextlib.suppress(Exception):
        found += _secrets_in(connection.extra_dejson)
    return sorted(found, key=len, reverse=True)


def _secrets_in(extra: Mapping[str, Any]) -> list[str]:
    found = []
    for name, value in extra.items():
        if isinstance(value, Mapping):
            found += _secrets_in(value)
        elif isinstance(value, str) and value and any(part in name.lower() for part in _SECRET_NAMES):
            found.append(value)
    return found
