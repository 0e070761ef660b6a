"""``read_landed``: the manifest and the first rows of a landed batch, from its destination; nothing of other files."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from airflow_provider_mistral_batch.api.errors import InvalidInputError, MistralBatchError
from airflow_provider_mistral_batch.api.texts import excerpt
from airflow_provider_mistral_batch.overview.heads import (
    HEAD_BYTES,
    ROWS_SHOWN,
    Head,
    RowView,
    head_of_beginning,
    head_of_lines,
    passage,
)
from airflow_provider_mistral_batch.overview.jobs import JobView, TaskKey, clean
from airflow_provider_mistral_batch.storage.inside import Inside
from airflow_provider_mistral_batch.tasks.destination import MANIFEST, OUTPUT_FORMATS

#: Most bytes of a manifest, and of what is read of a Parquet file.
_MANIFEST_BYTES, _PARQUET_BYTES = 1 << 20, 16 << 20

#: Destinations that are read at a time: a store that hangs keeps a few threads, and no viewer.
_places = threading.BoundedSemaphore(4)

#: Most columns of a table's row, and characters of a value in it.
_MOST_COLUMNS, _VALUE_LENGTH = 50, 300


class Landed(msgspec.Struct, frozen=True, kw_only=True):
    """
    What is in the destination of a job's batch.

    :param manifest: The manifest as it is there; ``None`` if it could not be read, or is of another batch.
    :param answers: The first rows of the results.
    :param failures: The first rows of the errors.
    :param problem: Why there is nothing to show.
    """

    manifest: dict[str, Any] | None = None
    answers: Head | None = None
    failures: Head | None = None
    problem: str | None = None


def manifest_of(job: JobView, manifests: Mapping[TaskKey, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """
    Choose the manifest of a job's batch.

    :param job: The job.
    :param manifests: What tasks returned, by task instance.
    :return: The manifest; ``None`` if there is none, or the task's name is all that it has in common with the job.
    """
    manifest = None if job.task is None else manifests.get(job.task)
    batch_ids = None if manifest is None else manifest.get("batch_ids")
    return manifest if isinstance(batch_ids, list) and job.id in batch_ids else None


def read_landed(
    told: Mapping[str, Any], batch_id: str, without_secrets: Callable[[str], str], *, seconds: float = 5.0
) -> Landed:
    """
    Read the first rows of a landed batch, for people.

    Where the batch has landed is known from an XCom, so that a task could name any path. Therefore the folder must have
    a manifest that names the job, and beside it only the names of result files are read: a bounded part, and no links.

    :param told: The manifest as an XCom has it. Only the folder of its ``results_path`` counts.
    :param batch_id: The job's id.
    :param without_secrets: Removes secrets from a text.
    :param seconds: How long to wait for a disk or an object store.
    :return: What is there, or why it cannot be shown. Nothing is raised.
    """
    path = told.get("results_path")
    if not isinstance(path, str):
        return Landed(problem="the task's manifest names no results_path")
    if not _places.acquire(blocking=False):
        return Landed(
            problem="other destinations answer slowly, and are waited for: look again in a few seconds"
        )
    found: queue.SimpleQueue[Landed] = queue.SimpleQueue()

    def read() -> None:
        try:
            found.put(_read(path, batch_id, without_secrets))
        except Exception as error:
            found.put(Landed(problem=_said(error, without_secrets)))
        finally:
            _places.release()

    # A daemon: some stores keep trying for minutes.
    threading.Thread(target=read, name="mistral-batch-landed-rows", daemon=True).start()
    try:
        return found.get(timeout=seconds)
    except queue.Empty:
        return Landed(problem=f"{clean(path, 300)} does not answer within {seconds:g} s")


def _read(path: str, batch_id: str, without_secrets: Callable[[str], str]) -> Landed:
    # Imported late: it may load the client of an object store.
    from airflow_provider_mistral_batch.storage.paths import absolute_path

    folder = absolute_path(path, field="results_path").parent
    try:
        with Inside(folder) as inside:
            manifest = _manifest(inside, batch_id)
            answers, failures = (
                _head(inside, kind, manifest, without_secrets) for kind in ("results", "errors")
            )
    except FileNotFoundError:
        raise InvalidInputError(
            f"there is no {MANIFEST} in {clean(str(folder), 300)} as seen from here: the results were moved, or are on "
            "the disk of another machine"
        ) from None
    return Landed(manifest=manifest, answers=answers, failures=failures)


def _manifest(inside: Inside, batch_id: str) -> dict[str, Any]:
    content, size = inside.beginning(MANIFEST, _MANIFEST_BYTES)
    if size > _MANIFEST_BYTES:
        raise InvalidInputError(f"{MANIFEST} there has {size:,} bytes, more than any manifest has")
    try:
        manifest = msgspec.json.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError(f"{MANIFEST} there is cut or damaged ({error})") from None
    batch_ids = manifest.get("batch_ids") if isinstance(manifest, dict) else None
    if not isinstance(batch_ids, list) or batch_id not in batch_ids:
        raise InvalidInputError(f"{MANIFEST} there is another batch's, so its files are not shown")
    return dict(manifest)


def _head(
    inside: Inside, kind: str, manifest: Mapping[str, Any], without_secrets: Callable[[str], str]
) -> Head:
    name = str(manifest.get(f"{kind}_path")).rpartition("/")[2]
    # What else is in the folder may be as secret as anything.
    if name not in [f"{kind}.{output_format}" for output_format in OUTPUT_FORMATS]:
        return Head(problem=f"{MANIFEST} there names no {kind} that this provider writes")
    try:
        if name.endswith(".parquet"):
            return _parquet_head(inside, name, without_secrets)
        content, size = inside.beginning(name, HEAD_BYTES)
    except FileNotFoundError:
        return Head(problem=f"{name} is gone from {clean(str(inside.folder), 300)}")
    except Exception as error:
        return Head(problem=_said(error, without_secrets))
    return head_of_beginning(content, without_secrets, is_whole=size <= len(content))


def _parquet_head(inside: Inside, name: str, without_secrets: Callable[[str], str]) -> Head:
    from airflow_provider_mistral_batch.jsonl.results.parquet import first_parquet_rows

    _, size = inside.beginning(name, 0)
    with inside.opened(name) as file:
        rows, count = first_parquet_rows(file, size, most_rows=ROWS_SHOWN, most_bytes=_PARQUET_BYTES)
    is_whole = count <= len(rows)
    lines = [row for row in rows if isinstance(row, bytes)]
    if len(lines) == len(rows):
        return head_of_lines(lines, without_secrets, is_whole=is_whole)
    return Head(
        rows=[RowView(text=_columns(row, without_secrets)) for row in rows if isinstance(row, dict)],
        rows_read=len(rows),
        is_whole=is_whole,
    )


def _columns(row: Mapping[str, Any], without_secrets: Callable[[str], str]) -> str:
    """Write a row of a table, a column a line."""
    values = list(row.items())[:_MOST_COLUMNS]
    return passage(
        "\n".join(
            f"{clean(name)}: {passage(str(value), without_secrets, _VALUE_LENGTH)}"
            for name, value in values
            if value is not None
        ),
        without_secrets,
    )


def _said(error: Exception, without_secrets: Callable[[str], str]) -> str:
    text = str(error) if isinstance(error, MistralBatchError) else f"{type(error).__name__}: {error}"
    return excerpt(without_secrets(text[:4000]))
