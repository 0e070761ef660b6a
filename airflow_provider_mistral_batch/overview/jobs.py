"""``JobView``: a batch job as people see it, with the task that it belongs to; its texts are cut and clean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from airflow_provider_mistral_batch.api.checks import completion_window_hours
from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.api.models import BatchJobOut, BatchStatus
from airflow_provider_mistral_batch.api.texts import MESSAGE_LENGTH, WORD_LENGTH, excerpt
from airflow_provider_mistral_batch.policies.capacity import REQUESTS
from airflow_provider_mistral_batch.policies.ownership import DEPLOYMENT, PART, WINDOW, noted_number

#: Most entries of a job's metadata, errors of a job and input files that are shown.
_MOST_METADATA, _MOST_ERRORS, _MOST_FILES = 32, 20, 100


# Tens of thousands of these are held at once, and are never part of a cycle.
class JobView(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """
    A batch job as people see it. Times are epoch seconds of the server's clock.

    :param connections: Ids of the Airflow connections that see the job.
    :param status: One of the published statuses, or an unknown one.
    :param is_over: Whether the job has ended.
    :param total: Requests in the job; 0 if not known yet.
    :param progress: Share of the requests that are done, 0 to 1; ``None`` if unknown.
    :param failed_share: Share of the requests that failed, 0 to 1; ``None`` if unknown.
    :param expires_at: When the API gives the job up; ``None`` if neither the API nor the job's metadata says.
    :param dag_id: The Dag whose task submitted the job; ``None`` if no task of this provider did.
    :param map_index: -1 for a task that is not mapped.
    :param deployment: Name of the Airflow that submitted the job; empty if it has none.
    :param round: Number of the round, from 0, if the job is part of a whole batch.
    :param part: Number of the job in its round, from 0.
    :param errors: Errors of the job as a whole.
    :param usage: Sums of tokens, pages and seconds, if known.
    :param cost_usd: About what the job cost, in US dollars; ``None`` if unknown.
    :param expected_cost_usd: If that is unknown: what earlier jobs let expect; ``None`` if there are none.
    """

    id: str
    connections: tuple[str, ...]
    status: str
    raw_status: str
    is_over: bool
    endpoint: str
    model: str | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0
    progress: float | None = None
    failed_share: float | None = None
    created_at: int = 0
    started_at: int | None = None
    ended_at: int | None = None
    expires_at: int | None = None
    dag_id: str | None = None
    run_id: str | None = None
    task_id: str | None = None
    map_index: int = -1
    deployment: str = ""
    round: int | None = None
    part: int | None = None
    metadata: dict[str, str] = {}
    input_files: list[str] = []
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: list[str] = []
    usage: dict[str, float] | None = None
    cost_usd: float | None = None
    expected_cost_usd: float | None = None

    @property
    def task(self) -> TaskKey | None:
        """The task instance that submitted the job; ``None`` if no task of this provider did."""
        if self.dag_id is None or self.run_id is None or self.task_id is None:
            return None
        return TaskKey(self.dag_id, self.run_id, self.task_id, self.map_index)

    @property
    def tokens(self) -> float | None:
        """Tokens that were read and written; ``None`` if unknown."""
        usage = self.usage
        return None if usage is None else usage.get("prompt_tokens", 0) + usage.get("completion_tokens", 0)

    @property
    def likely_cost_usd(self) -> float | None:
        """The cost, or else the expected cost; ``None`` if unknown."""
        return self.expected_cost_usd if self.cost_usd is None else self.cost_usd


class TaskKey(msgspec.Struct, frozen=True, order=True):
    """A task instance, whatever its try."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1


def job_view(job: BatchJobOut, *conn_ids: str) -> JobView:
    """
    Give the view of a job.

    :param job: The job as the API reports it.
    :param conn_ids: The connections that see it.
    """
    metadata = {} if job.metadata is None else job.metadata
    counts = job.request_counts
    total = max(0, counts.total) or noted_number(job, REQUESTS) or 0
    completed, failed = max(0, counts.completed), max(0, counts.failed)
    round_, part = _place(metadata.get(PART))
    return JobView(
        id=job.id,
        connections=conn_ids,
        status=clean(job.status),
        raw_status=clean(job.raw_status),
        is_over=job.is_terminal,
        endpoint=clean(job.endpoint),
        model=_optional(job.model),
        total=total,
        completed=completed,
        failed=failed,
        progress=1.0 if job.status == BatchStatus.COMPLETED else _share(completed + failed, total),
        failed_share=_share(failed, total),
        created_at=job.created_at,
        started_at=job.in_progress_at,
        ended_at=job.ended_at,
        expires_at=job.expires_at or _window_ends(job),
        dag_id=_noted(metadata, "airflow_dag_id"),
        run_id=_noted(metadata, "airflow_run_id"),
        task_id=_noted(metadata, "airflow_task_id"),
        map_index=_map_index(metadata.get("airflow_map_index")),
        deployment=_noted(metadata, DEPLOYMENT) or "",
        round=round_,
        part=part,
        metadata={
            clean(str(name)): clean(str(value), MESSAGE_LENGTH)
            for name, value in list(metadata.items())[:_MOST_METADATA]
        },
        input_files=job.input_files[:_MOST_FILES],
        output_file_id=job.output_file_id,
        error_file_id=job.error_file_id,
        errors=[excerpt(str(error)) for error in job.errors[:_MOST_ERRORS]],
    )


def _window_ends(job: BatchJobOut) -> int | None:
    if job.completion_window is None:
        hours = noted_number(job, WINDOW)
        return None if not hours or not job.created_at else job.created_at + 3600 * hours
    try:
        return job.created_at + 3600 * completion_window_hours(job.completion_window)
    except InvalidInputError:
        return None


def seen_by(views: Iterable[JobView]) -> JobView:
    """
    Join what several connections see of one job.

    :param views: The job as each connection saw it, at least one.
    :return: The view that tells most, with all connections.
    """
    ordered = list(views)
    # A job that is over has told all; one connection may have looked before its end.
    latest = max(ordered, key=lambda view: (view.is_over, view.completed + view.failed))
    connections = tuple(dict.fromkeys(conn_id for view in ordered for conn_id in view.connections))
    return msgspec.structs.replace(latest, connections=connections)


def clean(text: str, limit: int = WORD_LENGTH) -> str:
    """
    Give a text from outside as it is, unless it is long or has characters that no terminal and no page should get.

    :param text: A name, an id, a value of metadata.
    :param limit: Most characters to keep.
    """
    return text if len(text) <= limit and text.isprintable() else excerpt(text[: limit * 8], limit)


def _optional(text: str | None) -> str | None:
    return None if text is None else clean(text)


def _noted(metadata: Mapping[str, Any], name: str) -> str | None:
    value = metadata.get(name)
    # Airflow's ids have up to 250 characters, and a cut one would name another task.
    return clean(value, MESSAGE_LENGTH) if isinstance(value, str) and value else None


def _map_index(value: Any) -> int:
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1


def _place(part: Any) -> tuple[int | None, int | None]:
    """Read round and part of ``<batch>/<round>/<part>``."""
    numbers = str(part).split("/")[1:]
    if len(numbers) != 2 or not all(text.isascii() and text.isdigit() and len(text) < 10 for text in numbers):
        return None, None
    return int(numbers[0]), int(numbers[1])


def _share(some: int, total: int) -> float | None:
    return min(1.0, some / total) if total > 0 else None
