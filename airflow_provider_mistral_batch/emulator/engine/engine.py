"""The engine: it takes the jobs that are due through their steps, round by round, and stores what became of them."""

from __future__ import annotations

import logging
import time

from airflow_provider_mistral_batch.emulator.engine.upstream import Upstream
from airflow_provider_mistral_batch.emulator.engine.work import Tools, Work
from airflow_provider_mistral_batch.emulator.state.store import Store
from airflow_provider_mistral_batch.emulator.state.tables import Job

log = logging.getLogger(__name__)

#: Seconds after which a round ends and stores its work, and the number of jobs that it takes at most.
_SECONDS_PER_ROUND = 0.2
_JOBS_PER_ROUND = 500


class Engine:
    """
    Executes the jobs of one state directory.

    :param store: The state directory.
    :param upstream: The upstream server that answers the rows, if one does.
    """

    def __init__(self, store: Store, upstream: Upstream | None) -> None:
        self._store = store
        self._tools = Tools(store, upstream)

    def round(self) -> float | None:
        """
        Do what is due, for a fraction of a second.

        :return: Seconds until there is something to do again; ``None`` if there is nothing until a job is changed.
        """
        self._tools.settings = self._store.settings()
        clock = self._store.clock()
        jobs = self._store.due_jobs(clock.now(time.time()), _JOBS_PER_ROUND)
        if not jobs:
            due = self._store.next_due()
            return None if due is None else clock.seconds_until(due, time.time())
        until = time.monotonic() + _SECONDS_PER_ROUND
        done: list[Work] = []
        for job in jobs:
            work = Work(self._tools, job)
            try:
                while work.take_step(clock, until) and time.monotonic() < until:
                    pass
            except Exception as error:
                log.exception("Batch job %s cannot be executed", job.id)
                work.fail(error)
            done.append(work)
            if time.monotonic() >= until:
                break
        self._commit(done)
        return 0.0

    def _commit(self, done: list[Work]) -> None:
        over = []
        with self._store.transaction():
            for work in done:
                if self._store.update_job(work.before, work.job):
                    for file in work.files:
                        self._store.add_file(file)
                    if work.job.deleted or not work.job.active:
                        over.append(work.job)
                else:
                    self._tools.forget(work.job)
        for job in over:
            self._tools.forget(job)
            if job.deleted:
                self._remove_results(job)
            if job.inline:
                self._store.blob(job.strings("blobs")[0]).unlink(missing_ok=True)
            else:
                self._store.drop_unused_blobs(job.strings("blobs"))

    def _remove_results(self, job: Job) -> None:
        for blob, file in ((job.output_blob, job.output_file), (job.error_blob, job.error_file)):
            if blob is not None and file is None:
                self._store.blob(blob).unlink(missing_ok=True)
