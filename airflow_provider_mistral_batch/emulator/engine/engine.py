"""The process that executes jobs: it moves them through their statuses and writes their results.

It is a process of its own so that the server answers quickly while rows are executed. The two talk through the
store alone; a byte on standard input says that something in it changed, and its end that the server is gone.
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Generator
from pathlib import Path
from uuid import uuid4

import msgspec

from airflow_provider_mistral_batch.emulator.answers.dispatch import make_answer
from airflow_provider_mistral_batch.emulator.engine.inputs import Reader, Report, check
from airflow_provider_mistral_batch.emulator.engine.lifecycle import Step, next_step
from airflow_provider_mistral_batch.emulator.engine.rows import Batch, execute
from airflow_provider_mistral_batch.emulator.engine.upstream import ENDPOINTS as UPSTREAM_ENDPOINTS
from airflow_provider_mistral_batch.emulator.engine.upstream import Pipeline, Upstream, UpstreamOptions
from airflow_provider_mistral_batch.emulator.state.clock import JobClock
from airflow_provider_mistral_batch.emulator.state.plans import JobPlan, read_plan
from airflow_provider_mistral_batch.emulator.state.store import Store
from airflow_provider_mistral_batch.emulator.state.tables import File, Job, json_text

logger = logging.getLogger(__name__)

#: Environment variable with the options of the upstream server, as JSON.
UPSTREAM_VARIABLE = "MISTRAL_EMULATOR_UPSTREAM"

#: Seconds between looks at rows that another server answers.
UPSTREAM_POLL = 0.05

#: Rows that are executed in one go, and seconds after which what was done is stored.
ROWS_PER_STEP = 5_000
SECONDS_PER_ROUND = 0.2
JOBS_PER_ROUND = 500


class Engine:
    """Executes what is due in one state directory."""

    def __init__(self, store: Store, upstream: Upstream | None) -> None:
        self._store = store
        self._tools = _Tools(store, upstream)

    def round(self) -> float | None:
        """Do what is due, for a moment.

        :returns: seconds until there is something to do again; ``None`` if that needs somebody's change.
        """
        self._tools.settings = self._store.settings()
        clock = self._store.clock()
        jobs = self._store.due_jobs(clock.now(time.time()), JOBS_PER_ROUND)
        if not jobs:
            due = self._store.next_due()
            return None if due is None else clock.seconds_until(due, time.time())
        until = time.monotonic() + SECONDS_PER_ROUND
        done: list[_Work] = []
        for job in jobs:
            work = _Work(self._tools, job)
            try:
                while work.take(clock) and time.monotonic() < until:
                    pass
            except Exception as error:
                logger.exception("Batch job %s fails", job.id)
                work.fail(error)
            done.append(work)
            if time.monotonic() >= until:
                break
        self._commit(done)
        return 0.0

    def _commit(self, done: list[_Work]) -> None:
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
                self._discard_results(job)
            if job.inline:
                self._store.blob(job.strings("blobs")[0]).unlink(missing_ok=True)
            else:
                self._store.drop_unused_blobs(job.strings("blobs"))

    def _discard_results(self, job: Job) -> None:
        for blob, file in ((job.output_blob, job.output_file), (job.error_blob, job.error_file)):
            if blob is not None and file is None:
                self._store.blob(blob).unlink(missing_ok=True)


class _Tools:
    """What jobs are worked on with; some of it goes on from round to round."""

    def __init__(self, store: Store, upstream: Upstream | None) -> None:
        self.store = store
        self.settings = store.settings()
        self.checks: dict[int, Generator[None, None, Report]] = {}
        self._upstream = upstream
        self._pipelines: dict[int, Pipeline] = {}

    def run(self, job: Job, plan: JobPlan, reader: Reader, count: int) -> Batch:
        """Execute up to ``count`` rows of a job; fewer, even none, if another server does it."""
        if self._upstream is not None and job.endpoint in UPSTREAM_ENDPOINTS:
            if job.seq not in self._pipelines:
                self._pipelines[job.seq] = self._upstream.pipeline(job, plan, reader)
            return self._pipelines[job.seq].run(count)
        answer = make_answer(job.endpoint, job.model, job.agent_id, self.settings.embedding_dimension)
        written = execute(job.id, reader.lines(count), job.done, answer, plan)
        return Batch(written, count, reader.index, reader.offset)

    def forget(self, job: Job) -> None:
        """Drop what goes on for a job: it is over, or not as it was thought to be."""
        self.checks.pop(job.seq, None)
        pipeline = self._pipelines.pop(job.seq, None)
        if pipeline is not None:
            pipeline.cancel()


class _Work:
    """One job in the engine's hands: what it becomes, before that is stored."""

    def __init__(self, tools: _Tools, job: Job) -> None:
        self._tools = tools
        self.before = job
        self.job = msgspec.structs.replace(job)
        self._plan = read_plan(job.plan)
        self.files: list[File] = []

    def take(self, clock: JobClock) -> bool:
        """Take the next step.

        :returns: whether there may be another one right now.
        """
        now = clock.now(time.time())
        step = next_step(self.job, self._plan, now)
        if step.kind == "wait":
            self.job.due = step.due
            return False
        if step.kind == "discard":
            self.job.due = None
            return False
        if step.kind == "validate":
            self._validate(now)
        elif step.kind == "execute":
            if not self._execute(min(step.rows - self.job.done, ROWS_PER_STEP)):
                self.job.due = now + UPSTREAM_POLL * clock.speed
                return False
        elif step.kind == "finalize":
            self.job.finalizing = self._wall()
        else:
            self._end(step)
            return False
        return True

    def fail(self, error: Exception) -> None:
        """End the job as FAILED, for a reason that is nobody's plan, such as an input that is gone."""
        self.job.errors = json_text([{"message": f"The job cannot be executed: {error!r}", "count": 1}])
        self._end(Step("end", status="FAILED"))

    def _wall(self) -> float:
        return time.time() + self._tools.settings.clock_skew

    def _paths(self) -> list[Path]:
        return [self._tools.store.blob(name) for name in self.job.strings("blobs")]

    def _validate(self, now: float) -> None:
        """Check some more of the input; when it is checked, start the job or fail it."""
        job = self.job
        if job.seq not in self._tools.checks:
            self._tools.checks[job.seq] = check(self._paths(), job.endpoint, strict=job.dialect == "openai")
        try:
            next(self._tools.checks[job.seq])
            return
        except StopIteration as stop:
            report: Report = stop.value
        del self._tools.checks[job.seq]
        job.errors = json_text(report.errors())
        if report.problems:
            self._end(Step("end", status="FAILED"))
            return
        job.total = job.expected = report.rows
        job.status = "RUNNING"
        job.started = self._wall()
        job.begin = now
        job.output_blob, job.error_blob = str(uuid4()), str(uuid4())

    def _execute(self, count: int) -> int:
        """Answer some more rows, and write their results behind those that are already stored."""
        job = self.job
        batch = self._tools.run(
            job, self._plan, Reader(self._paths(), job.blob_index, job.blob_offset), count
        )
        written = batch.written
        job.output_bytes = self._write(job.output_blob, job.output_bytes, written.output)
        job.output_lines += len(written.output)
        job.error_bytes = self._write(job.error_blob, job.error_bytes, written.errors)
        job.error_lines += len(written.errors)
        job.blob_index, job.blob_offset = batch.index, batch.offset
        job.done += batch.rows
        job.succeeded += written.succeeded
        job.failed += written.failed
        return batch.rows

    def _write(self, blob: str | None, size: int, lines: list[bytes]) -> int:
        if not lines:
            return size
        assert blob is not None
        with self._tools.store.blob(blob).open("ab") as file:
            # A killed engine may have written more than was stored: those rows are executed again.
            file.truncate(size)
            file.write(b"".join(lines))
            return file.tell()

    def _end(self, step: Step) -> None:
        """Publish the results there are and set the final status."""
        job = self.job
        job.status = step.status
        job.ended = self._wall()
        job.due = None
        if step.status == "FAILED" and job.errors == "[]":
            messages = self._plan.errors or ["The job failed"]
            job.errors = json_text([{"message": message, "count": 1} for message in messages])
        if job.phantom:
            self._end_phantom()
            return
        if job.output_lines:
            if self._plan.cut_last_line:
                job.output_bytes -= 10
            job.output_file = self._publish("output", job.output_blob, job.output_bytes, job.output_lines)
        if job.error_lines:
            job.error_file = self._publish("error", job.error_blob, job.error_bytes, job.error_lines)

    def _end_phantom(self) -> None:
        job = self.job
        if job.status == "SUCCESS":
            job.done = job.succeeded = job.total
            blob = self._tools.store.blob("empty")
            blob.touch()
            job.output_file = self._publish("output", blob.name, 0, 0)

    def _publish(self, kind: str, blob: str | None, size: int, lines: int) -> str:
        assert blob is not None
        job = self.job
        # A killed engine may have written more than was stored.
        os.truncate(self._tools.store.blob(blob), size)
        file_id = str(uuid4())
        self.files.append(
            File(
                id=file_id,
                workspace=job.workspace,
                user=job.user,
                created=job.ended or 0.0,
                filename=f"batch_{job.id}_{kind}.jsonl",
                bytes=size,
                purpose="batch",
                sample_type="batch_result" if kind == "output" else "batch_error",
                source="mistral",
                num_lines=lines,
                mimetype="application/jsonl",
                blob=blob,
            )
        )
        return file_id


def main(directory: str) -> None:
    """Execute jobs until standard input ends."""
    # A signal to the whole process group is the server's to handle: the end of standard input tells the engine.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with (Path(directory) / "engine.lock").open("w") as lock:
        # The engine of a server that was killed may still be at its last step.
        fcntl.flock(lock, fcntl.LOCK_EX)
        text = os.environ.get(UPSTREAM_VARIABLE)
        upstream = Upstream(msgspec.json.decode(text, type=UpstreamOptions)) if text else None
        engine = Engine(Store(Path(directory)), upstream)
        while True:
            seconds = engine.round()
            ready, _, _ = select.select([sys.stdin], [], [], seconds)
            if ready and not os.read(sys.stdin.fileno(), 65536):
                return


if __name__ == "__main__":
    main(sys.argv[1])
