"""The provider's metrics, and its trace span: all names and tags, and a function for each event that is counted.

They go where Airflow's own metrics and traces go. None of the functions raises, for no metric is worth a task.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec

if TYPE_CHECKING:
    from airflow_provider_mistral_batch.api.models import BatchJobOut

log = logging.getLogger(__name__)

P = ParamSpec("P")


class Metric(NamedTuple):
    """
    A metric.

    :param kind: ``counter``, ``gauge`` or ``timer``.
    :param tags: The names of its tags. Each has few values.
    """

    kind: str
    tags: tuple[str, ...]


_OF_JOB = ("model", "endpoint")

SUBMITTED = "mistral_batch.jobs.submitted"
ATTACHED = "mistral_batch.jobs.attached"
ENDED = "mistral_batch.jobs.ended"
DURATION = "mistral_batch.jobs.duration"
ROWS = "mistral_batch.rows"
TOKENS = "mistral_batch.tokens"
COST = "mistral_batch.cost_microusd"
CALLS = "mistral_batch.api.calls"
LOOKS = "mistral_batch.triggerer.looks"
WATCHED = "mistral_batch.triggerer.watched_jobs"

#: Every metric, by its name.
METRICS: Mapping[str, Metric] = {
    SUBMITTED: Metric("counter", _OF_JOB),
    ATTACHED: Metric("counter", _OF_JOB),
    ENDED: Metric("counter", (*_OF_JOB, "status")),
    DURATION: Metric("timer", (*_OF_JOB, "status")),
    ROWS: Metric("counter", (*_OF_JOB, "outcome")),
    TOKENS: Metric("counter", (*_OF_JOB, "kind")),
    COST: Metric("counter", _OF_JOB),
    CALLS: Metric("counter", ("method", "status")),
    LOOKS: Metric("counter", ("conn_id",)),
    WATCHED: Metric("gauge", ("conn_id",)),
}

#: The name of the span of a batch that has landed.
SPAN = "mistral_batch"

_OUTCOMES = ("succeeded", "failed", "missing")
_TOKEN_KINDS = {"prompt_tokens": "prompt", "completion_tokens": "completion"}

#: What some of the backends would read as the end of a tag, or of the metric.
_UNFIT = re.compile(r"[^A-Za-z0-9_./-]")
_LONGEST_TAG = 64


def _harmless(function: Callable[P, None]) -> Callable[P, None]:
    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except Exception as error:
            log.debug("%s was not counted: %s", function.__name__, error)

    return wrapper


@_harmless
def job_submitted(model: str | None, endpoint: str) -> None:
    """Count a job that was created."""
    _count(SUBMITTED, model=model, endpoint=endpoint)


@_harmless
def job_attached(model: str | None, endpoint: str) -> None:
    """Count a job of an earlier try that a task continues with."""
    _count(ATTACHED, model=model, endpoint=endpoint)


@_harmless
def job_ended(job: BatchJobOut, model: str | None = None) -> None:
    """
    Count the end of a job that a task has waited for, and the time from its submission to its end.

    :param job: The job.
    :param model: Its model, if the API does not say.
    """
    model, endpoint, status = job.model or model, job.endpoint, job.status
    _count(ENDED, model=model, endpoint=endpoint, status=status)
    if job.ended_at is not None:
        # Airflow takes milliseconds.
        taken = max(0, job.ended_at - job.created_at) * 1000.0
        _stats().timing(DURATION, taken, tags=_tags({"model": model, "endpoint": endpoint, "status": status}))


@_harmless
def rows_landed(counts: Mapping[str, int], model: str | None, endpoint: str) -> None:
    """
    Count requests by what finally became of them.

    :param counts: The manifest's ``counts``.
    :param model: The model.
    :param endpoint: The endpoint.
    """
    for outcome in _OUTCOMES:
        _count(ROWS, counts.get(outcome, 0), model=model, endpoint=endpoint, outcome=outcome)


@_harmless
def usage_landed(usage: Mapping[str, Any], usd: float | None, model: str | None, endpoint: str) -> None:
    """
    Count what answers have used.

    :param usage: Sums of tokens, as in a manifest's ``usage``.
    :param usd: What that costs, in US dollars; ``None`` if it is not known.
    :param model: The model.
    :param endpoint: The endpoint.
    """
    for name, kind in _TOKEN_KINDS.items():
        _count(TOKENS, int(usage.get(name) or 0), model=model, endpoint=endpoint, kind=kind)
    # Counters are whole numbers.
    _count(COST, round((usd or 0) * 1_000_000), model=model, endpoint=endpoint)


@_harmless
def api_called(method: str, status: int | None) -> None:
    """
    Count an attempt of a call.

    :param method: The HTTP method.
    :param status: The HTTP status; ``None`` if there was no answer.
    """
    _count(CALLS, method=method, status="none" if status is None else str(status))


@_harmless
def looked(conn_id: str, watched: int) -> None:
    """
    Count a turn of a connection's poll loop in the triggerer.

    :param conn_id: The connection's id.
    :param watched: How many jobs the loop watches.
    """
    _count(LOOKS, conn_id=conn_id)
    watches(conn_id, watched)


@_harmless
def watches(conn_id: str, watched: int) -> None:
    """
    Tell how many jobs a connection's poll loop watches.

    :param conn_id: The connection's id.
    :param watched: How many.
    """
    _stats().gauge(WATCHED, watched, tags=_tags({"conn_id": conn_id}))


@_harmless
def batch_traced(manifest: Mapping[str, Any], model: str | None, endpoint: str) -> None:
    """
    Leave a span from the batch's first submission to its end, inside that of the task.

    :param manifest: The manifest.
    :param model: The model.
    :param endpoint: The endpoint.
    """
    from opentelemetry import trace

    span = trace.get_tracer(__name__).start_span(
        SPAN,
        start_time=int(manifest["started_at"] * 1e9),
        attributes={
            "mistral_batch.batch_ids": list(manifest["batch_ids"]),
            "mistral_batch.model": model or "",
            "mistral_batch.endpoint": endpoint,
            "mistral_batch.rounds": manifest["rounds"],
            # Not `by_status`: older exporters take no mapping, and say so in the task's log.
            **{
                f"mistral_batch.{name}": count
                for name, count in manifest["counts"].items()
                if isinstance(count, int)
            },
        },
    )
    span.end(end_time=int(manifest["completed_at"] * 1e9))


def _count(name: str, count: int = 1, **tags: str | None) -> None:
    if count:
        _stats().incr(name, count, tags=_tags(tags))


def _tags(tags: Mapping[str, str | None]) -> dict[str, str]:
    return {name: _UNFIT.sub("_", value or "unknown")[:_LONGEST_TAG] for name, value in tags.items()}


def _stats() -> Any:
    try:
        from airflow.sdk.observability.stats import Stats
    except ImportError:  # Before Airflow 3.2.
        from airflow.stats import Stats

    return Stats
