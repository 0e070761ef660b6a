"""
The state directory: a SQLite database of jobs, files and keys, and the files' content beside it.

The server and the engine each have a connection of their own. What was committed survives ``kill -9``: the
write-ahead log is in the kernel's hands by then, so nothing that was acknowledged is lost.
"""

# Statements are put together from this module's own texts. Whatever comes from outside is a parameter.
# ruff: noqa: S608

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from airflow_provider_mistral_batch.emulator.state.clock import JobClock
from airflow_provider_mistral_batch.emulator.state.filters import FileFilter, JobFilter
from airflow_provider_mistral_batch.emulator.state.settings import Settings
from airflow_provider_mistral_batch.emulator.state.statuses import ACTIVE
from airflow_provider_mistral_batch.emulator.state.tables import File, Job, Key, json_text

# SQLite uses the index of pending jobs only for queries with the same condition.
_ACTIVE_SQL = f"status IN ({', '.join(repr(status) for status in ACTIVE)})"

_NOT_EXPIRED_SQL = "(expires IS NULL OR expires > ?)"
_VISIBLE_SQL = (
    f"workspace = ? AND deleted = 0 AND (visibility = 'workspace' OR user = ?) AND {_NOT_EXPIRED_SQL}"
)

_TYPES = {"int": "INTEGER", "float": "REAL", "str": "TEXT"}

_INDEXES = f"""
CREATE INDEX IF NOT EXISTS jobs_listing ON jobs (workspace, created, seq, status, deleted) WHERE deleted = 0;
CREATE INDEX IF NOT EXISTS jobs_due ON jobs (due) WHERE due IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_pending ON jobs (workspace, expected, done, status, deleted)
  WHERE deleted = 0 AND {_ACTIVE_SQL};
CREATE INDEX IF NOT EXISTS files_listing ON files (workspace, created, seq) WHERE deleted = 0;
CREATE INDEX IF NOT EXISTS files_blob ON files (blob);
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS keys (digest TEXT PRIMARY KEY, workspace TEXT NOT NULL, revoked INTEGER NOT NULL);
"""


class Store:
    """
    The jobs, files, keys and settings of one state directory, through one connection.

    :param directory: The state directory; it is made if it does not exist.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.blobs = directory / "blobs"
        self.blobs.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(
            directory / "emulator.sqlite", isolation_level=None, timeout=60, check_same_thread=False
        )
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA temp_store = MEMORY")
        self._db.execute("PRAGMA cache_size = -65536")
        self._db.executescript(_table("jobs", Job) + _table("files", File) + _INDEXES)

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def blob(self, name: str) -> Path:
        """The path of a blob, whether it exists or not."""
        return self.blobs / name

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write all that the block writes at once; nothing of it if the block raises."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # Settings and other single values

    def get_meta(self, name: str) -> str | None:
        """The value that :meth:`put_meta` stored under a name; ``None`` if it stored none."""
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def put_meta(self, name: str, value: str) -> None:
        """Store a value under a name."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def settings(self) -> Settings:
        """The settings that were stored last; the defaults in a new state directory."""
        return Settings.model_validate_json(self.get_meta("settings") or "{}")

    def clock(self) -> JobClock:
        """The job clock that was stored last."""
        return JobClock(**msgspec.json.decode(self.get_meta("clock") or "{}", type=dict[str, float]))

    def put_settings(self, settings: Settings, wall: float) -> None:
        """
        Store settings, and the job clock that runs at their speed from now on.

        :param settings: All settings.
        :param wall: Epoch seconds of now.
        """
        old = self.get_meta("clock")
        clock = self.clock().with_speed(settings.speed, wall) if old else JobClock(wall, 0.0, settings.speed)
        with self.transaction():
            self.put_meta("settings", settings.model_dump_json())
            self.put_meta("clock", msgspec.json.encode(clock.as_dict()).decode())

    # Keys

    def find_key(self, digest: str) -> Key | None:
        """The key with this digest, revoked or not; ``None`` if it was never stored."""
        row = self._db.execute("SELECT workspace, revoked FROM keys WHERE digest = ?", (digest,)).fetchone()
        return None if row is None else Key(workspace=str(row[0]), revoked=bool(row[1]))

    def put_key(self, digest: str, workspace: str, revoked: bool = False) -> None:
        """Store a key by its digest."""
        self._db.execute("INSERT OR REPLACE INTO keys VALUES (?, ?, ?)", (digest, workspace, revoked))

    # Files

    def add_file(self, file: File) -> None:
        """Store a file. Its content must be on disk."""
        self._insert("files", [file])

    def find_file(self, workspace: str, user: str, file_id: str, wall: float) -> File | None:
        """
        Find a file that a user sees.

        :param workspace: The user's workspace.
        :param user: Digest of the user's key.
        :param file_id: The file's id.
        :param wall: Epoch seconds of now.
        """
        files = self._files(f"id = ? AND {_VISIBLE_SQL}", (file_id, workspace, user, wall))
        return files[0] if files else None

    def file_by_id(self, file_id: str, wall: float) -> File | None:
        """
        Find a file of any workspace: signed URLs carry no key.

        :param file_id: The file's id.
        :param wall: Epoch seconds of now.
        """
        files = self._files(f"id = ? AND deleted = 0 AND {_NOT_EXPIRED_SQL}", (file_id, wall))
        return files[0] if files else None

    def list_files(
        self, wanted: FileFilter, *, descending: bool, limit: int, offset: int = 0, after: File | None = None
    ) -> list[File]:
        """
        List files in the order in which they were made.

        :param wanted: Which files.
        :param descending: Whether the newest come first.
        :param limit: How many at most.
        :param offset: How many to skip first.
        :param after: Only files that come after this one.
        """
        where, parameters = _file_condition(wanted)
        if after is not None:
            where += f" AND (created, seq) {'<' if descending else '>'} (?, ?)"
            parameters += [after.created, after.seq]
        order = _by_time(descending)
        return self._files(f"{where} ORDER BY {order} LIMIT ? OFFSET ?", (*parameters, limit, offset))

    def count_files(self, wanted: FileFilter) -> int:
        """How many files a listing has in all."""
        where, parameters = _file_condition(wanted)
        return int(self._db.execute(f"SELECT COUNT(*) FROM files WHERE {where}", parameters).fetchone()[0])

    def all_files(self) -> list[File]:
        """Every file that was ever stored, deleted ones too, oldest first."""
        return self._files("1 ORDER BY seq", ())

    def delete_file(self, file: File) -> None:
        """Mark a file as deleted, and remove its content unless an active job reads it."""
        self._db.execute("UPDATE files SET deleted = 1 WHERE id = ?", (file.id,))
        self.drop_unused_blobs([file.blob])

    def drop_unused_blobs(self, names: Iterable[str]) -> None:
        """Remove the blobs among these that belong to no file and to no active job."""
        for name in names:
            if not self._belongs_to_a_file(name) and not self._belongs_to_an_active_job(name):
                self.blob(name).unlink(missing_ok=True)

    def _belongs_to_a_file(self, blob: str) -> bool:
        query = "SELECT EXISTS (SELECT 1 FROM files WHERE blob = ? AND deleted = 0)"
        return bool(self._db.execute(query, (blob,)).fetchone()[0])

    def _belongs_to_an_active_job(self, blob: str) -> bool:
        query = f"SELECT EXISTS (SELECT 1 FROM jobs WHERE deleted = 0 AND {_ACTIVE_SQL} AND instr(blobs, ?))"
        return bool(self._db.execute(query, (blob,)).fetchone()[0])

    # Jobs, for the API

    def add_jobs(self, jobs: Iterable[Job]) -> None:
        """Store new jobs."""
        self._insert("jobs", jobs)

    def find_job(self, workspace: str, job_id: str) -> Job | None:
        """Find a job of a workspace that was not deleted."""
        jobs = self._jobs("id = ? AND workspace = ? AND deleted = 0", (job_id, workspace))
        return jobs[0] if jobs else None

    def list_jobs(
        self, wanted: JobFilter, *, descending: bool, limit: int, offset: int = 0, after: Job | None = None
    ) -> list[Job]:
        """
        List jobs in the order in which they were made.

        :param wanted: Which jobs.
        :param descending: Whether the newest come first.
        :param limit: How many at most.
        :param offset: How many to skip first.
        :param after: Only jobs that come after this one.
        """
        where, parameters = _job_condition(wanted)
        if after is not None:
            where += f" AND (created, seq) {'<' if descending else '>'} (?, ?)"
            parameters += [after.created, after.seq]
        order = _by_time(descending)
        # The index alone finds the page; only its jobs are read from the table.
        page = f"SELECT seq FROM jobs WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?"
        return self._jobs(f"seq IN ({page}) ORDER BY {order}", (*parameters, limit, offset))

    def count_jobs(self, wanted: JobFilter) -> int:
        """How many jobs a listing has in all."""
        where, parameters = _job_condition(wanted)
        return int(self._db.execute(f"SELECT COUNT(*) FROM jobs WHERE {where}", parameters).fetchone()[0])

    def pending_requests(self, workspace: str) -> int:
        """How many requests of a workspace's active jobs are not done."""
        row = self._db.execute(
            "SELECT COALESCE(SUM(expected - done), 0) FROM jobs INDEXED BY jobs_pending"
            f" WHERE workspace = ? AND deleted = 0 AND {_ACTIVE_SQL}",
            (workspace,),
        ).fetchone()
        return int(row[0])

    def request_cancellation(self, job: Job, wall: float, cancel_due: float) -> Job:
        """
        Store that a job is to be cancelled, unless it ended or this was stored meanwhile.

        :param job: The job.
        :param wall: Epoch seconds of now.
        :param cancel_due: Job time in seconds at which the cancellation is done.
        :return: The job as it is stored then.
        """
        with self.transaction():
            self._db.execute(
                "UPDATE jobs SET status = 'CANCELLATION_REQUESTED', cancelling = ?, cancel_due = ?, due = ?"
                f" WHERE seq = ? AND deleted = 0 AND {_ACTIVE_SQL} AND status <> 'CANCELLATION_REQUESTED'",
                (wall, cancel_due, cancel_due, job.seq),
            )
            return self._jobs("seq = ?", (job.seq,))[0]

    def delete_job(self, job: Job) -> None:
        """Mark a job as deleted; the engine stops its work."""
        self._db.execute("UPDATE jobs SET deleted = 1, due = 0 WHERE seq = ?", (job.seq,))

    # Jobs, for the control API

    def job_by_id(self, job_id: str) -> Job | None:
        """Find a job of any workspace, deleted or not."""
        jobs = self._jobs("id = ?", (job_id,))
        return jobs[0] if jobs else None

    def all_jobs(self) -> list[Job]:
        """Every job that was ever stored, deleted ones too, oldest first."""
        return self._jobs("1 ORDER BY seq", ())

    def active_jobs(self) -> list[Job]:
        """Every job that is not over."""
        return self._jobs(f"deleted = 0 AND {_ACTIVE_SQL}", ())

    def end_jobs(self, seqs: Iterable[int], status: str) -> None:
        """
        Ask the engine to end jobs now. Jobs that are over stay as they are.

        :param seqs: The numbers of the jobs' rows.
        :param status: The status in which they end.
        """
        self._db.executemany(
            f"UPDATE jobs SET end_as = ?, due = 0 WHERE seq = ? AND deleted = 0 AND {_ACTIVE_SQL}",
            [(status, seq) for seq in seqs],
        )

    def update_plan(self, job: Job, plan: str) -> None:
        """Store another plan, as JSON, with a job."""
        self._db.execute("UPDATE jobs SET plan = ? WHERE seq = ?", (plan, job.seq))

    # Jobs, for the engine

    def due_jobs(self, now: float, limit: int) -> list[Job]:
        """
        The jobs for which there is something to do, those that have been due longest first.

        :param now: Job time of now, in seconds.
        :param limit: How many at most.
        """
        return self._jobs("due IS NOT NULL AND due <= ? ORDER BY due LIMIT ?", (now, limit))

    def next_due(self) -> float | None:
        """Job time in seconds at which there is something to do next; ``None`` if there is nothing."""
        row = self._db.execute("SELECT MIN(due) FROM jobs WHERE due IS NOT NULL").fetchone()
        return None if row[0] is None else float(row[0])

    def update_job(self, before: Job, after: Job) -> bool:
        """
        Store what the engine changed in a job, unless the server changed the job meanwhile.

        :param before: The job as the engine read it.
        :param after: The job as it is to be.
        :return: Whether it was stored.
        """
        changed = [name for name in _columns(Job) if getattr(before, name) != getattr(after, name)]
        if not changed:
            return True
        assignments = ", ".join(f'"{name}" = ?' for name in changed)
        cursor = self._db.execute(
            f"UPDATE jobs SET {assignments} WHERE seq = ? AND status = ? AND deleted = ? AND end_as IS ?",
            (
                *(getattr(after, name) for name in changed),
                before.seq,
                before.status,
                before.deleted,
                before.end_as,
            ),
        )
        return cursor.rowcount == 1

    def _insert(self, table: str, records: Iterable[Job] | Iterable[File]) -> None:
        record = Job if table == "jobs" else File
        columns = [name for name in _columns(record) if name != "seq"]
        names = ", ".join(f'"{name}"' for name in columns)
        marks = ", ".join("?" * len(columns))
        self._db.executemany(
            f"INSERT INTO {table} ({names}) VALUES ({marks})",
            ([getattr(one, name) for name in columns] for one in records),
        )

    def _jobs(self, where: str, parameters: Sequence[Any]) -> list[Job]:
        columns = ", ".join(f'"{name}"' for name in _columns(Job))
        rows = self._db.execute(f"SELECT {columns} FROM jobs WHERE {where}", parameters)
        return [Job(**dict(zip(Job.__struct_fields__, row, strict=True))) for row in rows]

    def _files(self, where: str, parameters: Sequence[Any]) -> list[File]:
        columns = ", ".join(f'"{name}"' for name in _columns(File))
        rows = self._db.execute(f"SELECT {columns} FROM files WHERE {where}", parameters)
        return [File(**dict(zip(File.__struct_fields__, row, strict=True))) for row in rows]


def _columns(record: type[Job] | type[File]) -> list[str]:
    return list(record.__struct_fields__)


def _table(name: str, record: type[Job] | type[File]) -> str:
    definitions = ["seq INTEGER PRIMARY KEY AUTOINCREMENT"]
    for column in _columns(record):
        if column != "seq":
            kind = _TYPES[record.__annotations__[column].split(" ")[0]]
            definitions.append(f'"{column}" {kind}{" UNIQUE NOT NULL" if column == "id" else ""}')
    return f"CREATE TABLE IF NOT EXISTS {name} ({', '.join(definitions)});"


def _by_time(descending: bool) -> str:
    order = "DESC" if descending else "ASC"
    return f"created {order}, seq {order}"


def _job_condition(wanted: JobFilter) -> tuple[str, list[Any]]:
    where = "workspace = ? AND deleted = 0"
    parameters: list[Any] = [wanted.workspace]
    for condition, value in (
        ("created <= ?", wanted.created_until),
        ("created > ?", wanted.created_after),
        ("user = ?", wanted.user),
        ("model = ?", wanted.model),
        ("agent_id = ?", wanted.agent_id),
    ):
        if value is not None:
            where += f" AND {condition}"
            parameters.append(value)
    if wanted.statuses:
        where += " AND status IN (SELECT value FROM json_each(?))"
        parameters.append(json_text(wanted.statuses))
    if wanted.metadata:
        # One condition for any number of keys: SQLite limits how many conditions and parameters a query has.
        where += (
            " AND NOT EXISTS (SELECT 1 FROM json_each(?) AS wanted WHERE NOT EXISTS"
            " (SELECT 1 FROM json_each(jobs.metadata) AS had"
            " WHERE had.key = wanted.key AND had.value = wanted.value))"
        )
        parameters.append(json_text(wanted.metadata))
    return where, parameters


def _file_condition(wanted: FileFilter) -> tuple[str, list[Any]]:
    where = _VISIBLE_SQL
    parameters: list[Any] = [wanted.workspace, wanted.user, wanted.wall]
    for column, values in (
        ("sample_type", wanted.sample_types),
        ("source", wanted.sources),
        ("mimetype", wanted.mimetypes),
    ):
        if values:
            where += f" AND {column} IN (SELECT value FROM json_each(?))"
            parameters.append(json_text(values))
    if wanted.purpose is not None:
        where += " AND purpose = ?"
        parameters.append(wanted.purpose)
    if wanted.search is not None:
        where += " AND instr(lower(filename), lower(?))"
        parameters.append(wanted.search)
    return where, parameters
