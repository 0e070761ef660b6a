"""``Listing``: the jobs of some connections for all who look, read in the background and kept while the API is down."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import msgspec

from airflow_provider_mistral_batch.api.dialects.base import JobFilter
from airflow_provider_mistral_batch.api.errors import MistralCallError
from airflow_provider_mistral_batch.api.models import BatchStatus
from airflow_provider_mistral_batch.api.retries import RetryPolicy
from airflow_provider_mistral_batch.api.texts import MESSAGE_LENGTH, excerpt
from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
from airflow_provider_mistral_batch.overview.jobs import JobView, seen_by
from airflow_provider_mistral_batch.overview.record import Record
from airflow_provider_mistral_batch.policies.setbacks import Backoff

log = logging.getLogger(__name__)

#: Seconds for which an answer is fresh while jobs run, and while none does.
FRESH_SECONDS, IDLE_SECONDS = 5.0, 15.0

#: Most calls of the first refresh of a connection: somebody waits for it.
_FIRST_CALLS = 3

#: Joined lists that are kept: one for each set of connections that somebody may see.
_MOST_JOINED = 16


class ConnectionState(msgspec.Struct, frozen=True, kw_only=True):
    """
    What came of reading one connection's jobs.

    :param ok: Whether the last reading succeeded.
    :param error: Why it failed.
    :param as_of: When it last succeeded (epoch seconds of our clock); ``None``: never.
    :param age_seconds: Seconds since then.
    :param jobs: Jobs that are known.
    :param is_complete: Whether these are all jobs since the listing's beginning, or older ones are still being read.
    :param calls: Calls to the API so far.
    :param deployment: Name of this Airflow among those that share the workspace; empty if it has none.
    """

    conn_id: str
    ok: bool
    error: str | None = None
    as_of: float | None = None
    age_seconds: float | None = None
    jobs: int = 0
    is_complete: bool = False
    calls: int = 0
    deployment: str = ""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """
    The jobs as they were last seen.

    :param jobs: Each job once, newest first. Do not change the list: others see it, too.
    :param now: The time by the API's clock (epoch seconds), for ages and time left.
    :param as_of: When the connection that was read longest ago was read (epoch seconds); ``None`` if one never was.
    """

    jobs: list[JobView]
    connections: list[ConnectionState]
    now: float
    as_of: float | None


def default_hook(conn_id: str) -> MistralBatchHook:
    """
    Make the hook that reads a connection for people who wait: each call once, and with little patience.

    :param conn_id: The connection's id.
    """
    return MistralBatchHook(conn_id, retries=RetryPolicy(attempts=1), longest_timeout=10.0)


class Listing:
    """
    The jobs of connections, for all viewers in one process. Threads may share it.

    Reading happens in threads of its own: at most one for each connection, and ``most_threads`` in all. So a slow or
    dead API keeps no viewer waiting longer than the viewer allows.

    :param hook_of: Makes the hook of a connection.
    :param days: How far back jobs are read.
    :param only_running: Whether to leave out jobs that are over when they are first seen.
    :param most_jobs: Most jobs to hold of each connection.
    :param calls_at_once: Most calls in one refresh, so that a long past does not delay what is new.
    :param most_threads: Most connections that are read at the same time.
    """

    def __init__(
        self,
        *,
        hook_of: Callable[[str], MistralBatchHook] = default_hook,
        days: float = 35.0,
        only_running: bool = False,
        most_jobs: int = 100_000,
        calls_at_once: int = 20,
        most_threads: int = 8,
        fresh_seconds: float = FRESH_SECONDS,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._hook_of = hook_of
        self._days = days
        self._status = BatchStatus.ACTIVE if only_running else None
        self._most_jobs = most_jobs
        self._calls_at_once = calls_at_once
        self._most_threads = most_threads
        self._fresh_seconds = fresh_seconds
        self._idle_seconds = idle_seconds
        self._changed = threading.Condition()
        self._watched: dict[str, _Watched] = {}
        self._joined: dict[tuple[tuple[str, int], ...], list[JobView]] = {}
        self._is_closed = False

    def snapshot(
        self, conn_ids: Iterable[str], *, time_limit: float = 2.0, whole: bool = False, fresh: bool = False
    ) -> Snapshot:
        """
        Give the jobs that connections see, read anew where that is due.

        :param conn_ids: Ids of the connections.
        :param time_limit: Most seconds to wait for answers; what was known before is given otherwise.
        :param whole: Whether to wait until all jobs are known, and not just the newest.
        :param fresh: Whether to read again what was read a moment ago.
        """
        wanted = tuple(dict.fromkeys(conn_ids))
        until = time.monotonic() + time_limit
        with self._changed:
            watched = [self._watched.setdefault(conn_id, _Watched(conn_id)) for conn_id in wanted]
            if fresh:
                for one in watched:
                    one.due_at = min(one.due_at, one.not_before)
            readings = [one.readings for one in watched]
            while True:
                self._begin_refreshes(
                    one
                    for one, number in zip(watched, readings, strict=True)
                    # One reading is enough, unless all jobs are wanted.
                    if one.readings == number or (whole and not one.is_complete)
                )
                is_waiting = any(
                    self._is_awaited(one, number, time_limit, whole=whole)
                    for one, number in zip(watched, readings, strict=True)
                )
                left = until - time.monotonic()
                if not is_waiting or left <= 0:
                    break
                self._changed.wait(left)
            return self._taken(watched)

    def close(self) -> None:
        """Begin no more readings; those that run end by themselves."""
        with self._changed:
            self._is_closed = True

    def _is_awaited(self, one: _Watched, readings: int, time_limit: float, *, whole: bool) -> bool:
        """Tell whether a viewer waits for the reading of a connection that runs, if one does."""
        if whole and not one.is_complete:
            return one.is_reading
        # Who comes while a slow call runs, for which another viewer has waited, waits no more.
        is_young = time.monotonic() - one.begun_at < time_limit
        return one.is_reading and one.readings == readings and is_young

    def _begin_refreshes(self, watched: Iterable[_Watched]) -> None:
        now = time.monotonic()
        for one in watched:
            running = sum(other.is_reading for other in self._watched.values())
            if self._is_closed or one.is_reading or now < one.due_at or running >= self._most_threads:
                continue
            one.is_reading, one.begun_at = True, now
            # A daemon, so that a dead API does not delay the end of the process.
            threading.Thread(
                target=self._refresh, args=(one,), name=f"mistral-batch-jobs-{one.conn_id}", daemon=True
            ).start()

    def _refresh(self, one: _Watched) -> None:
        """Read what is new of one connection, in a thread of its own."""
        error: Exception | None = None
        try:
            hook = one.hook or self._hook_of(one.conn_id)
            one.hook = hook
            client = hook.get_conn()
            one.deployment = hook.deployment
            if one.record is None:
                # Before the first answer, the time by the server's clock is unknown.
                client.jobs_page(JobFilter(), page_size=1)
                since = hook.server_now - self._days * 86_400
                one.record = Record(one.conn_id, since=since, most_jobs=self._most_jobs, status=self._status)

            one.record.refresh(
                client.jobs_page, client.get, self._calls_at_once if one.readings else _FIRST_CALLS
            )
        except Exception as caught:
            error = caught
        with self._changed:
            self._note(one, error)
            self._changed.notify_all()

    def _note(self, one: _Watched, error: Exception | None) -> None:
        now = time.monotonic()
        one.is_reading, one.readings = False, one.readings + 1
        if error is None:
            one.error, one.as_of = None, now
            one.backoff.succeeded()
            one.offset = one.hook.clock_offset if one.hook is not None else 0.0
            runs = one.record is not None and one.record.has_running
            pause = self._fresh_seconds if runs else self._idle_seconds
            if not one.is_complete:
                pause = 0.0
            one.not_before = now
        else:
            pause = one.backoff.failed(error.retry_after if isinstance(error, MistralCallError) else None)
            one.error = excerpt(f"{error}" or type(error).__name__, MESSAGE_LENGTH)
            # Not even for a viewer who wants it fresh: the API may have asked for the pause.
            one.not_before = now + pause
            log.warning("The jobs of connection %r cannot be read: %s", one.conn_id, one.error)
            if one.hook is not None:
                # Somebody may have corrected the connection: it is read again.
                with contextlib.suppress(Exception):
                    one.hook.close()
        one.due_at = now + pause

    def _taken(self, watched: list[_Watched]) -> Snapshot:
        now, wall = time.monotonic(), time.time()
        ages = [None if one.as_of is None else now - one.as_of for one in watched]
        known = [age for age in ages if age is not None]
        return Snapshot(
            jobs=self._join(watched),
            connections=[one.state(age, wall) for one, age in zip(watched, ages, strict=True)],
            # Connections to one API have the same clock; the newest look knows best.
            now=wall + next((one.offset for one in watched if one.as_of is not None), 0.0),
            as_of=wall - max(known) if known and len(known) == len(ages) else None,
        )

    def _join(self, watched: list[_Watched]) -> list[JobView]:
        """Join the jobs of connections: each once, newest first."""
        records = [one.record for one in watched if one.record is not None]
        key = tuple((record.conn_id, record.version) for record in records)
        if key not in self._joined:
            jobs = sorted(_merged([record.jobs for record in records]), key=_newest_first)
            current = {one.conn_id: one.record.version for one in self._watched.values() if one.record}
            self._joined = {
                other: joined
                for other, joined in list(self._joined.items())[-_MOST_JOINED:]
                if all(current.get(conn_id) == version for conn_id, version in other)
            }
            self._joined[key] = jobs
        return self._joined[key]


class _Watched:
    """A connection that somebody looks at; times are of the monotonic clock."""

    def __init__(self, conn_id: str) -> None:
        self.conn_id = conn_id
        self.hook: MistralBatchHook | None = None
        self.record: Record | None = None
        self.is_reading = False
        #: Readings that have ended.
        self.readings = 0
        self.begun_at = self.due_at = self.not_before = float("-inf")
        self.as_of: float | None = None
        self.error: str | None = None
        self.backoff = Backoff()
        self.offset = 0.0
        self.deployment = ""

    @property
    def is_complete(self) -> bool:
        return self.record is not None and self.record.is_complete

    def state(self, age: float | None, wall: float) -> ConnectionState:
        return ConnectionState(
            conn_id=self.conn_id,
            ok=self.error is None and self.as_of is not None,
            error=self.error,
            as_of=None if age is None else wall - age,
            age_seconds=age,
            jobs=0 if self.record is None else len(self.record.jobs),
            is_complete=self.is_complete,
            calls=0 if self.record is None else self.record.calls,
            deployment=self.deployment,
        )


def _merged(records: list[dict[str, JobView]]) -> Iterator[JobView]:
    if len(records) == 1:
        yield from records[0].values()
        return
    by_id: dict[str, list[JobView]] = {}
    for jobs in records:
        for job_id, view in jobs.items():
            by_id.setdefault(job_id, []).append(view)
    for views in by_id.values():
        yield views[0] if len(views) == 1 else seen_by(views)


def _newest_first(job: JobView) -> tuple[int, str]:
    return -job.created_at, job.id
