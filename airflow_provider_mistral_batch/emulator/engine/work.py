"""The work on one job: it takes the job's steps, and notes for the engine what to store."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from pathlib import Path
from uuid import uuid4

import msgspec

from airflow_provider_mistral_batch.emulator.answers.dispatch import make_answer
from airflow_provider_mistral_batch.emulator.engine.inputs import Reader
from airflow_provider_mistral_batch.emulator.engine.lifecycle import Step, next_step
from airflow_provider_mistral_batch.emulator.engine.patience import with_patience
from airflow_provider_mistral_batch.emulator.engine.rows import Chunk, execute
from airflow_provider_mistral_batch.emulator.engine.upstream import UPSTREAM_ENDPOINTS, Pipeline, Upstream
from airflow_provider_mistral_batch.emulator.engine.validation import Report, validate
from airflow_provider_mistral_batch.emulator.state.clock import JobClock
from airflow_provider_mistral_batch.emulator.state.plans import JobPlan, read_plan
from airflow_provider_mistral_batch.emulator.state.store import Store
from airflow_provider_mistral_batch.emulator.state.tables import File, Job, json_text

#: Rows that are executed in one step.
_ROWS_PER_STEP = 5_000

#: Seconds between two looks for answers of an upstream server.
_UPSTREAM_POLL = 0.05


class Tools:
    """
    What the work on all jobs shares, and what lasts from round to round.

    :param store: The state directory.
    :param upstream: The upstream server that answers the rows, if one does.
    """

    def __init__(self, store: Store, upstream: Upstream | None) -> None:
        self.store = store
        self.settings = store.settings()
        self.validations: dict[int, Generator[None, None, Report]] = {}
        self._upstream = upstream
        self._pipelines: dict[int, Pipeline] = {}

    def run(self, job: Job, plan: JobPlan, reader: Reader, count: int, until: float) -> Chunk:
        """
        Execute the next rows of a job; fewer than asked for if time is up, even none if an upstream server answers.

        :param job: The job.
        :param plan: Its plan.
        :param reader: Its input, at the next row.
        :param count: How many rows.
        :param until: Monotonic seconds after which no further row is begun.
        """
        if self._upstream is not None and job.endpoint in UPSTREAM_ENDPOINTS:
            if job.seq not in self._pipelines:
                self._pipelines[job.seq] = self._upstream.pipeline(job, plan, reader)
            return self._pipelines[job.seq].run(count)
        answer = make_answer(job.endpoint, job.model, job.agent_id, self.settings.embedding_dimension)
        results, rows = execute(job.id, reader.lines(count), job.done, with_patience(answer), plan, until)
        return Chunk(results, rows, reader.index, reader.offset)

    def forget(self, job: Job) -> None:
        """Drop what lasts for a job, because the job is over or was changed meanwhile."""
        self.validations.pop(job.seq, None)
        pipeline = self._pipelines.pop(job.seq, None)
        if pipeline is not None:
            pipeline.cancel()


class Work:
    """
    The work on one job in one round.

    ``before`` is the job as it is stored, ``job`` is what to store instead, and ``files`` are new files to store.

    :param tools: What the work on all jobs shares.
    :param job: The job as it is stored.
    """

    def __init__(self, tools: Tools, job: Job) -> None:
        self._tools = tools
        self.before = job
        self.job = msgspec.structs.replace(job)
        self._plan = read_plan(job.plan)
        self.files: list[File] = []

    def take_step(self, clock: JobClock, until: float) -> bool:
        """
        Take the next step.

        :param clock: The job clock.
        :param until: Monotonic seconds after which other jobs get their turn.
        :return: Whether another step may follow at once.
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
            if not self._execute(min(step.rows - self.job.done, _ROWS_PER_STEP), until):
                self.job.due = now + _UPSTREAM_POLL * clock.speed
                return False
        elif step.kind == "finalize":
            self.job.finalizing = self._wall()
        else:
            self._end(step)
            return False
        # If time is up now, this job comes after those that have waited longer.
        self.job.due = now
        return True

    def fail(self, error: Exception) -> None:
        """End the job as FAILED, because of an error that is in no plan, such as a missing blob."""
        self.job.errors = json_text([{"message": f"The job cannot be executed: {error!r}", "count": 1}])
        self._end(Step("end", status="FAILED"))

    def _wall(self) -> float:
        return time.time() + self._tools.settings.clock_skew

    def _paths(self) -> list[Path]:
        return [self._tools.store.blob(name) for name in self.job.strings("blobs")]

    def _validate(self, now: float) -> None:
        """Check a part of the input. After the last part, the job runs or fails."""
        job = self.job
        if job.seq not in self._tools.validations:
            strict = job.dialect == "openai"
            self._tools.validations[job.seq] = validate(self._paths(), job.endpoint, strict=strict)
        try:
            next(self._tools.validations[job.seq])
            return
        except StopIteration as stop:
            report: Report = stop.value
        del self._tools.validations[job.seq]
        job.errors = json_text(report.errors())
        if report.problems:
            self._end(Step("end", status="FAILED"))
            return
        job.total = job.expected = report.rows
        job.status = "RUNNING"
        job.started = self._wall()
        job.begin = now
        job.output_blob, job.error_blob = str(uuid4()), str(uuid4())

    def _execute(self, count: int, until: float) -> int:
        """
        Execute the next rows, and append their results to those that are there.

        :return: How many rows were executed.
        """
        job = self.job
        reader = Reader(self._paths(), job.blob_index, job.blob_offset)
        chunk = self._tools.run(job, self._plan, reader, count, until)
        results = chunk.results
        job.output_bytes = self._write(job.output_blob, job.output_bytes, results.output)
        job.output_lines += len(results.output)
        job.error_bytes = self._write(job.error_blob, job.error_bytes, results.errors)
        job.error_lines += len(results.errors)
        job.blob_index, job.blob_offset = chunk.index, chunk.offset
        job.done += chunk.rows
        job.succeeded += results.succeeded
        job.failed += results.failed
        return chunk.rows

    def _write(self, blob: str | None, size: int, lines: list[bytes]) -> int:
        """
        Append lines to a blob.

        :param size: Bytes of the blob that count.
        :return: Bytes that count now.
        """
        if not lines:
            return size
        assert blob is not None
        with self._tools.store.blob(blob).open("ab") as file:
            # A killed engine may have written more than was stored. Those rows are executed again.
            file.truncate(size)
            # Not what the file tells: its position is where its end was when it was opened.
            return size + file.write(b"".join(lines))

    def _end(self, step: Step) -> None:
        """Publish the results so far, and set the final status."""
        job = self.job
        job.status = step.status
        job.ended = self._wall()
        job.due = None
        if step.status == "FAILED" and job.errors == "[]":
            job.errors = json_text(self._plan.job_errors)
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
        """
        Make a file of a blob.

        :return: The file's id.
        """
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
