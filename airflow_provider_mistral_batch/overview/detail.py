"""``read_detail``: one job with all that helps to understand it, of bounded size, whatever the results hold."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import msgspec

from airflow_provider_mistral_batch.api.errors import MistralCallError, NotFoundError
from airflow_provider_mistral_batch.api.models import BatchJobOut, BatchStatus
from airflow_provider_mistral_batch.api.texts import excerpt
from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
from airflow_provider_mistral_batch.overview.costs import amounts, scaled
from airflow_provider_mistral_batch.overview.jobs import JobView, clean, job_view

#: Bytes of each result file that are read, rows that are shown, and characters of a row's text.
HEAD_BYTES, ROWS_SHOWN, TEXT_LENGTH = 1 << 18, 10, 2000

#: Paths may be long.
_PATH_LENGTH = 1000


class Moment(msgspec.Struct, frozen=True):
    """
    Something that happened to a job.

    :param at: Epoch seconds of the server's clock.
    """

    what: str
    at: int


class RowView(msgspec.Struct, frozen=True, kw_only=True):
    """
    A result row as people see it.

    :param text: The answer's text, cut; ``None`` for failures and for answers without text.
    :param error: Why the row failed.
    """

    custom_id: str | None
    status_code: int | None
    finish_reason: str | None
    text: str | None
    error: str | None


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """
    The first rows of a result file.

    :param rows: The first of them, to show.
    :param rows_read: How many were read.
    :param is_whole: Whether these are all rows of the file.
    :param by_status: Rows read by HTTP status code; ``none`` for rows without a response.
    :param usage: Sums over the rows read.
    :param errors: Kinds of failure among them, the most frequent first, each with an ``example``.
    :param problem: Why the file could not be read.
    """

    rows: list[RowView] = []
    rows_read: int = 0
    is_whole: bool = False
    by_status: dict[str, int] = {}
    usage: dict[str, float] = {}
    errors: list[dict[str, Any]] = []
    problem: str | None = None


class Detail(msgspec.Struct, frozen=True, kw_only=True):
    """
    One job with all that is known about it.

    :param job: The job. Its usage and cost are filled in if they are known or estimated.
    :param is_estimate: Whether they are estimated from the first rows.
    :param timeline: What happened, in order.
    :param answers: The first rows that succeeded; ``None`` if there is no such file.
    :param failures: The first rows that failed; ``None`` if there is no such file.
    :param manifest: The main fields of the batch's manifest, if it has landed.
    :param console_url: The job's page in Mistral's console; empty if there is none.
    :param now: The time by the API's clock (epoch seconds).
    """

    job: JobView
    is_estimate: bool
    timeline: list[Moment]
    answers: Head | None
    failures: Head | None
    manifest: dict[str, Any] | None
    console_url: str
    now: float


def read_detail(
    hook: MistralBatchHook,
    batch_id: str,
    *,
    manifest: Mapping[str, Any] | None = None,
    landed: bool = False,
    head_bytes: int = HEAD_BYTES,
) -> Detail:
    """
    Read one job and the first rows of its results. What cannot be read says why, and the rest is there.

    :param hook: The connection.
    :param batch_id: The job's id.
    :param manifest: The manifest of the job's batch, if its results have landed.
    :param landed: Whether to read the landed rows where the API has its files no more. The manifest names their path,
        and who can write an XCom can name any: only with the rights of the person who looks.
    :param head_bytes: Bytes of each result file to read.
    :raises NotFoundError: When the workspace has no such job.
    :raises MistralCallError: When the job cannot be read.
    """
    # Imported late, with all that it needs.
    from airflow_provider_mistral_batch.links.mistral_batch import console_url

    client = hook.get_conn()
    job = client.get(batch_id)

    def head(file_id: str | None, path: str) -> Head | None:
        if file_id is None:
            return None
        found = read_head(client.stream_file, file_id, client.without_secrets, max_bytes=head_bytes)
        if found.problem is not None and landed and manifest is not None and manifest.get(path):
            return landed_head(str(manifest[path]), client.without_secrets)
        return found

    answers, failures = head(job.output_file_id, "results_path"), head(job.error_file_id, "errors_path")
    view, is_estimate = _with_usage(job_view(job, hook.mistral_conn_id), answers, manifest)
    return Detail(
        job=view,
        is_estimate=is_estimate,
        timeline=timeline(job),
        answers=answers,
        failures=failures,
        manifest=None if manifest is None else shown_manifest(manifest),
        console_url=console_url(job.id, client.base_url),
        now=hook.server_now,
    )


def timeline(job: BatchJobOut) -> list[Moment]:
    """
    Tell what happened to a job, in order, as far as the API says.

    :param job: The job.
    """
    moments = [
        ("created", job.created_at or None),
        ("started", job.in_progress_at),
        ("finalizing", job.finalizing_at),
        ("cancellation requested", job.cancelling_at),
        (BatchStatus.COMPLETED, job.completed_at),
        (BatchStatus.FAILED, job.failed_at),
        (BatchStatus.EXPIRED, job.expired_at),
        (BatchStatus.CANCELLED, job.cancelled_at),
        ("expires", None if job.is_terminal else job.expires_at),
    ]
    return [Moment(what, at) for what, at in moments if at is not None]


def read_head(
    stream: Callable[[str], Generator[bytes, None, None]],
    file_id: str,
    without_secrets: Callable[[str], str],
    *,
    max_bytes: int = HEAD_BYTES,
) -> Head:
    """
    Read the first rows of a result file, and no more.

    :param stream: Downloads a file in chunks.
    :param file_id: The file's id.
    :param without_secrets: Removes secrets from a text.
    :param max_bytes: Most bytes to look at.
    """
    try:
        content, is_whole = _beginning(stream(file_id), max_bytes)
    except NotFoundError:
        return Head(problem="the API has the file no more: it expired, or somebody deleted it")
    except MistralCallError as error:
        return Head(problem=excerpt(str(error)))
    lines = [line for line in content.split(b"\n") if line.strip()]
    if not lines and not is_whole:
        return Head(problem=f"its first row has more than {max_bytes:,} bytes")
    return _head_of(lines, without_secrets, is_whole=is_whole)


def landed_head(path: str, without_secrets: Callable[[str], str], *, seconds: float = 10.0) -> Head:
    """
    Read the first rows of a landed file, JSONL or Parquet.

    :param path: Where it is.
    :param without_secrets: Removes secrets from a text.
    :param seconds: How long to wait for a disk or an object store.
    """
    # Imported late: a list of jobs needs none of it.
    from airflow_provider_mistral_batch.jsonl.results.reader import read_lines

    found: queue.SimpleQueue[list[bytes] | Exception] = queue.SimpleQueue()

    def read() -> None:
        try:
            found.put(list(islice(read_lines(path), ROWS_SHOWN)))
        except Exception as error:
            found.put(error)

    # A daemon: some stores keep trying for minutes.
    threading.Thread(target=read, name="mistral-batch-landed-rows", daemon=True).start()
    try:
        lines = found.get(timeout=seconds)
    except queue.Empty:
        return Head(problem=f"{clean(path, _PATH_LENGTH)} does not answer within {seconds:g} s")
    if isinstance(lines, Exception):
        return Head(problem=f"the landed rows cannot be read: {excerpt(without_secrets(str(lines)))}")
    return _head_of(lines, without_secrets, is_whole=False)


def _beginning(chunks: Generator[bytes, None, None], max_bytes: int) -> tuple[bytes, bool]:
    """Read the whole lines within the first bytes of a file; tell whether these are all."""
    content = b""
    with contextlib.closing(chunks):
        for chunk in chunks:
            content += chunk
            if len(content) > max_bytes:
                return content[: content.rfind(b"\n", 0, max_bytes) + 1], False
    return content, True


def _head_of(lines: list[bytes], without_secrets: Callable[[str], str], *, is_whole: bool) -> Head:
    # Imported late: a list of jobs needs none of it.
    from airflow_provider_mistral_batch.jsonl.results.api_rows import read_api_row
    from airflow_provider_mistral_batch.jsonl.results.outcomes import succeeded
    from airflow_provider_mistral_batch.jsonl.results.rows import result_row
    from airflow_provider_mistral_batch.jsonl.results.tally import Tally

    tally = Tally(without_secrets)
    for line in lines:
        row = read_api_row(line)
        if row is not None and row.response is not None and succeeded(row):
            tally.add_succeeded([row.response])
        else:
            tally.add_failed(row, line)

    def shown(line: bytes) -> RowView:
        row = result_row(line)
        return RowView(
            custom_id=_line(row.custom_id, without_secrets),
            status_code=row.status_code,
            finish_reason=_line(row.finish_reason, without_secrets),
            text=None if row.content is None else passage(row.content, without_secrets),
            error=_line(row.error, without_secrets),
        )

    return Head(
        rows=[shown(line) for line in lines[:ROWS_SHOWN]],
        rows_read=len(lines),
        is_whole=is_whole,
        by_status=dict(tally.by_status),
        usage=dict(tally.usage),
        errors=tally.digest,
    )


def passage(text: str, without_secrets: Callable[[str], str] = str, limit: int = TEXT_LENGTH) -> str:
    """
    Give a text of several lines for people: cut, without secrets and control characters.

    :param text: Any text.
    :param without_secrets: Removes secrets from a text.
    :param limit: Most characters to keep.
    """
    hidden = without_secrets(text[: limit * 2])
    cut = hidden[:limit] + ("…" if len(hidden) > limit or len(text) > limit * 2 else "")
    return "".join(char if char.isprintable() or char == "\n" else " " for char in cut)


def shown_manifest(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """
    Give the main fields of a manifest, of bounded size: whoever can write XComs may have written it.

    :param manifest: The manifest.
    """
    shown: dict[str, Any] = {}
    for name in ("results_path", "errors_path"):
        if isinstance(manifest.get(name), str):
            shown[name] = clean(manifest[name], _PATH_LENGTH)
    if isinstance(manifest.get("batch_ids"), list):
        shown["batch_ids"] = [clean(str(batch_id)) for batch_id in manifest["batch_ids"][:100]]
    for name in ("started_at", "completed_at", "estimated_cost_usd"):
        if isinstance(manifest.get(name), (int, float)):
            shown[name] = manifest[name]
    for name in ("counts", "usage"):
        shown[name] = amounts(manifest.get(name))
    counts = manifest.get("counts")
    if isinstance(counts, Mapping):
        shown["counts"]["by_status"] = amounts(counts.get("by_status"))
    errors = manifest.get("errors")
    shown["errors"] = [
        {clean(str(name)): clean(str(value), 500) for name, value in islice(error.items(), 10)}
        for error in (errors if isinstance(errors, list) else [])[:20]
        if isinstance(error, Mapping)
    ]
    return shown


def _with_usage(
    job: JobView, answers: Head | None, manifest: Mapping[str, Any] | None
) -> tuple[JobView, bool]:
    """Fill in usage and cost: from the manifest of a batch with no other job, or from the first rows."""
    from airflow_provider_mistral_batch.inference.budget import estimated_cost

    if manifest is not None and manifest.get("batch_ids") == [job.id] and amounts(manifest.get("usage")):
        usage, is_estimate = amounts(manifest["usage"]), False
    elif answers is not None and answers.rows_read:
        is_estimate = not answers.is_whole
        completed = job.completed or answers.rows_read
        usage = scaled(answers.usage, answers.rows_read, completed) if is_estimate else answers.usage
    else:
        return job, False
    cost = estimated_cost(job.model, usage)
    return msgspec.structs.replace(job, usage=dict(usage), cost_usd=cost), is_estimate


def sampled_costs(
    jobs: Iterable[JobView], hooks: Mapping[str, MistralBatchHook], *, head_bytes: int = 1 << 16
) -> Iterator[JobView]:
    """
    Estimate what jobs used and cost from the first rows of their results, with one call for each job.

    :param jobs: The jobs.
    :param hooks: Hooks by connection.
    :param head_bytes: Bytes of each result file to read.
    :return: The jobs, lazily; as they came where nothing can be estimated.
    """
    for job in jobs:
        hook = next((hooks[conn_id] for conn_id in job.connections if conn_id in hooks), None)
        if hook is None or job.output_file_id is None:
            yield job
            continue
        client = hook.get_conn()
        head = read_head(client.stream_file, job.output_file_id, client.without_secrets, max_bytes=head_bytes)
        yield _with_usage(job, head, None)[0]


def _line(text: str | None, without_secrets: Callable[[str], str]) -> str | None:
    return None if text is None else clean(without_secrets(text[:4000]), 500)
