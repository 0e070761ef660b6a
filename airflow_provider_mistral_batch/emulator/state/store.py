"""The state directory: a SQLite database of jobs and files, and the files' bytes beside it.

The server and the engine each have a connection of their own. What was committed survives ``kill -9`` (the
write-ahead log is in the kernel's hands by then), so an answer that was given is never forgotten.
"""

# Conditions are put together from this package's own texts; what comes from outside is always a parameter.
# ruff: noqa: S608

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from airflow_provider_mistral_batch.emulator.state.clock import JobClock
from airflow_provider_mistral_batch.emulator.state.settings import Settings
from airflow_provider_mistral_batch.emulator.state.tables import File, Job

_ACTIVE_SQL = "status IN ('QUEUED', 'RUNNING', 'CANCELLATION_REQUESTED')"

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


def _columns(record: type[Job] | type[File]) -> list[str]:
    return list(record.__struct_fields__)


def _table(name: str, record: type[Job] | type[File]) -> str:
    definitions = ["seq INTEGER PRIMARY KEY AUTOINCREMENT"]
    for column in _columns(record):
        if column != "seq":
            kind = _TYPES[record.__annotations__[column].split(" ")[0]]
            definitions.append(f'"{column}" {kind}{" UNIQUE NOT NULL" if column == "id" else ""}')
    return f"CREATE TABLE IF NOT EXISTS {name} ({', '.join(definitions)});"


class Store:
    """Jobs, files, keys and settings of one state directory, through one connection."""

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
        """End the connection."""
        self._db.close()

    def blob(self, name: str) -> Path:
        """Where the bytes of that name are, or will be."""
        return self.blobs / name

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write several things at once: all of them or, after an exception, none."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # Settings and secrets

    def get_meta(self, name: str) -> str | None:
        """A value that :meth:`put_meta` stored."""
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def put_meta(self, name: str, value: str) -> None:
        """Store a value under a name."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def settings(self) -> Settings:
        """The settings as they were last put; the defaults on a new state directory."""
        return Settings.model_validate_json(self.get_meta("settings") or "{}")

    def clock(self) -> JobClock:
        """The job clock as it was last put."""
        return JobClock(**msgspec.json.decode(self.get_meta("clock") or "{}", type=dict[str, float]))

    def put_settings(self, settings: Settings, wall: float) -> None:
        """Store new settings, and from now on let the job clock run at their speed."""
        old = self.get_meta("clock")
        clock = self.clock().with_speed(settings.speed, wall) if old else JobClock(wall, 0.0, settings.speed)
        with self.transaction():
            self.put_meta("settings", settings.model_dump_json())
            self.put_meta("clock", msgspec.json.encode(clock.as_dict()).decode())

    # Keys

    def find_key(self, digest: str) -> dict[str, Any] | None:
        """``workspace`` and ``revoked`` of a key that was put."""
        row = self._db.execute("SELECT workspace, revoked FROM keys WHERE digest = ?", (digest,)).fetchone()
        return None if row is None else {"workspace": row[0], "revoked": bool(row[1])}

    def put_key(self, digest: str, workspace: str, revoked: bool = False) -> None:
        """Store a key's workspace, and whether it is still good."""
        self._db.execute("INSERT OR REPLACE INTO keys VALUES (?, ?, ?)", (digest, workspace, revoked))

    # Files

    def add_file(self, file: File) -> None:
        """Make a file visible. Its bytes must be on disk."""
        self._insert("files", [file])

    def find_file(self, workspace: str, user: str, file_id: str, wall: float) -> File | None:
        """A file that this user may see."""
        rows = self._files(
            "id = ? AND workspace = ? AND deleted = 0 AND (visibility = 'workspace' OR user = ?)"
            " AND (expires IS NULL OR expires > ?)",
            (file_id, workspace, user, wall),
        )
        return rows[0] if rows else None

    def file_by_id(self, file_id: str, wall: float) -> File | None:
        """A file whoever owns it: for signed URLs, which carry no token."""
        rows = self._files("id = ? AND deleted = 0 AND (expires IS NULL OR expires > ?)", (file_id, wall))
        return rows[0] if rows else None

    def list_files(
        self, where: str, parameters: Sequence[Any], *, descending: bool, limit: int, offset: int
    ) -> list[File]:
        """One page of the files that match."""
        order = "DESC" if descending else "ASC"
        return self._files(
            f"{where} ORDER BY created {order}, seq {order} LIMIT ? OFFSET ?", (*parameters, limit, offset)
        )

    def count_files(self, where: str, parameters: Sequence[Any]) -> int:
        """How many files match."""
        return int(self._db.execute(f"SELECT COUNT(*) FROM files WHERE {where}", parameters).fetchone()[0])

    def delete_file(self, file: File) -> None:
        """Hide a file, and remove its bytes unless a job that still runs reads them."""
        self._db.execute("UPDATE files SET deleted = 1 WHERE id = ?", (file.id,))
        self.drop_unused_blobs([file.blob])

    def drop_unused_blobs(self, names: Iterable[str]) -> None:
        """Remove bytes that neither a visible file nor an active job refers to."""
        for name in names:
            if not self._is_visible(name) and not self._is_read(name):
                self.blob(name).unlink(missing_ok=True)

    def _is_visible(self, blob: str) -> bool:
        query = "SELECT EXISTS (SELECT 1 FROM files WHERE blob = ? AND deleted = 0)"
        return bool(self._db.execute(query, (blob,)).fetchone()[0])

    def _is_read(self, blob: str) -> bool:
        query = f"SELECT EXISTS (SELECT 1 FROM jobs WHERE deleted = 0 AND {_ACTIVE_SQL} AND instr(blobs, ?))"
        return bool(self._db.execute(query, (blob,)).fetchone()[0])

    # Jobs, as the API sees them

    def add_jobs(self, jobs: Iterable[Job]) -> None:
        """Make jobs."""
        self._insert("jobs", jobs)

    def find_job(self, workspace: str, job_id: str) -> Job | None:
        """A job of this workspace."""
        rows = self._jobs("id = ? AND workspace = ? AND deleted = 0", (job_id, workspace))
        return rows[0] if rows else None

    def job_by_id(self, job_id: str) -> Job | None:
        """A job, whoever owns it, deleted or not: for the control API."""
        rows = self._jobs("id = ?", (job_id,))
        return rows[0] if rows else None

    def list_jobs(
        self, where: str, parameters: Sequence[Any], *, descending: bool, limit: int, offset: int = 0
    ) -> list[Job]:
        """One page of the jobs that match, read through the index and only then from the table."""
        order = "DESC" if descending else "ASC"
        page = f"SELECT seq FROM jobs WHERE {where} ORDER BY created {order}, seq {order} LIMIT ? OFFSET ?"
        return self._jobs(
            f"seq IN ({page}) ORDER BY created {order}, seq {order}", (*parameters, limit, offset)
        )

    def count_jobs(self, where: str, parameters: Sequence[Any]) -> int:
        """How many jobs match."""
        return int(self._db.execute(f"SELECT COUNT(*) FROM jobs WHERE {where}", parameters).fetchone()[0])

    def pending_requests(self, workspace: str) -> int:
        """Requests of the workspace's active jobs that are not done."""
        row = self._db.execute(
            "SELECT COALESCE(SUM(expected - done), 0) FROM jobs INDEXED BY jobs_pending"
            f" WHERE workspace = ? AND deleted = 0 AND {_ACTIVE_SQL}",
            (workspace,),
        ).fetchone()
        return int(row[0])

    def request_cancellation(self, job: Job, wall: float, cancel_due: float) -> Job:
        """Ask an active job to stop, unless it ended or was asked meanwhile.

        :returns: the job as it is then, before the engine has seen it.
        """
        with self.transaction():
            self._db.execute(
                "UPDATE jobs SET status = 'CANCELLATION_REQUESTED', cancelling = ?, cancel_due = ?, due = ?"
                " WHERE seq = ? AND deleted = 0 AND status IN ('QUEUED', 'RUNNING')",
                (wall, cancel_due, cancel_due, job.seq),
            )
            return self._jobs("seq = ?", (job.seq,))[0]

    def delete_job(self, job: Job) -> None:
        """Hide a job; the engine stops its work."""
        self._db.execute("UPDATE jobs SET deleted = 1, due = 0 WHERE seq = ?", (job.seq,))

    # Jobs, as the control API and the engine see them

    def all_jobs(self) -> list[Job]:
        """Every job ever created, deleted ones too, oldest first."""
        return self._jobs("1 ORDER BY seq", ())

    def active_jobs(self) -> list[Job]:
        """Every job that is not over."""
        return self._jobs(f"deleted = 0 AND {_ACTIVE_SQL}", ())

    def all_files(self) -> list[File]:
        """Every file ever stored, deleted ones too, oldest first."""
        return self._files("1 ORDER BY seq", ())

    def end_jobs(self, seqs: Iterable[int], status: str) -> None:
        """Ask the engine to end jobs now, as ``status``."""
        self._db.executemany(
            f"UPDATE jobs SET end_as = ?, due = 0 WHERE seq = ? AND deleted = 0 AND {_ACTIVE_SQL}",
            [(status, seq) for seq in seqs],
        )

    def update_plan(self, job: Job, plan: str | None) -> None:
        """Change what was planned for a job."""
        self._db.execute("UPDATE jobs SET plan = ? WHERE seq = ?", (plan, job.seq))

    def due_jobs(self, now: float, limit: int) -> list[Job]:
        """Jobs for which there is something to do at this job time, the longest waiting first."""
        return self._jobs("due IS NOT NULL AND due <= ? ORDER BY due LIMIT ?", (now, limit))

    def next_due(self) -> float | None:
        """The job time at which there is something to do next."""
        row = self._db.execute("SELECT MIN(due) FROM jobs WHERE due IS NOT NULL").fetchone()
        return None if row[0] is None else float(row[0])

    def update_job(self, before: Job, after: Job) -> bool:
        """Store what the engine did to a job, unless the API changed the job meanwhile.

        :returns: whether it was stored.
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
