"""Which jobs of many somebody wants to see, in which order and on which page."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from operator import attrgetter, itemgetter
from typing import Any

import msgspec

from airflow_provider_mistral_batch.api.checks import check_choice, check_whole
from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.overview.jobs import JobView

#: What jobs can be sorted by.
SORTS = (
    "created_at",
    "ended_at",
    "expires_at",
    "status",
    "dag_id",
    "model",
    "total",
    "progress",
    "failed_share",
    "tokens",
    "cost_usd",
)

#: Those of them that are known only once somebody has looked up what tasks returned.
COST_SORTS = frozenset({"tokens", "cost_usd"})

MOST_PER_PAGE = 1000

#: Most characters of a text to search for.
_LONGEST_TEXT = 200

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """
    Which jobs somebody wants to see. Making one checks it.

    :param status: Statuses, one of which a job must have; any if empty. ``active`` stands for all that are not over.
    :param dag_id: The Dag whose jobs are wanted.
    :param model: The model.
    :param connection: The Airflow connection that sees the jobs.
    :param since: Jobs created then or later (epoch seconds).
    :param until: Jobs created before (epoch seconds).
    :param text: What a job's id, Dag, run, task, model or metadata contains; case does not matter.
    :param sort: One of :data:`SORTS`. Jobs without that value come last in either direction.
    :param page: Number of the page, from 1.
    :param page_size: Jobs on a page.
    :raises InvalidInputError: When a field is wrong; names the field.
    """

    status: tuple[str, ...] = ()
    dag_id: str | None = None
    task_id: str | None = None
    run_id: str | None = None
    model: str | None = None
    connection: str | None = None
    since: float | None = None
    until: float | None = None
    text: str = ""
    sort: str = "created_at"
    descending: bool = True
    page: int = 1
    page_size: int = 50

    def __post_init__(self) -> None:
        check_choice("sort", self.sort, SORTS)
        check_whole("page", self.page, at_least=1, unit="pages")
        check_whole("page_size", self.page_size, at_least=1, unit="jobs")
        if self.page_size > MOST_PER_PAGE:
            raise InvalidInputError(
                f"page_size={self.page_size} is too large: ask for {MOST_PER_PAGE} at most"
            )
        if len(self.text) > _LONGEST_TEXT:
            raise InvalidInputError(
                f"text={self.text!r:.80} is too long: search for {_LONGEST_TEXT} characters at most"
            )

    def tests(self) -> list[Callable[[JobView], bool]]:
        """Give what a job must pass to be wanted, whatever its status: few tests, since they meet many jobs."""
        dag_id, task_id, run_id, model = self.dag_id, self.task_id, self.run_id, self.model
        connection, since, until, text = self.connection, self.since, self.until, self.text.casefold()
        tests: dict[Any, Callable[[JobView], bool]] = {
            "dag_id": lambda job: job.dag_id == dag_id,
            "task_id": lambda job: job.task_id == task_id,
            "run_id": lambda job: job.run_id == run_id,
            "model": lambda job: job.model == model,
            "connection": lambda job: connection in job.connections,
            "since": lambda job: since is None or job.created_at >= since,
            "until": lambda job: until is None or job.created_at < until,
            "text": lambda job: _contains(job, text),
        }
        return [test for name, test in tests.items() if getattr(self, name) not in (None, "")]

    def has_status(self, job: JobView) -> bool:
        """Whether a job has one of the wanted statuses."""
        return not self.status or job.status in self.status or ("active" in self.status and not job.is_over)


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """
    One page of the jobs that were asked for.

    :param jobs: The page's jobs.
    :param total: Jobs on all pages.
    :param page: The page's number, from 1: the last one if there are not so many.
    :param pages: How many pages there are, at least 1.
    :param counts_by_status: How many jobs there would be for each status, if it were asked for.
    """

    jobs: list[JobView]
    total: int
    page: int
    pages: int
    counts_by_status: dict[str, int]


def select(jobs: Iterable[JobView], query: Query) -> Selection:
    """
    Choose, sort and cut jobs.

    :param jobs: Jobs, newest first.
    :param query: What is wanted.
    """
    matching: Iterable[JobView] = jobs
    for test in query.tests():
        matching = [job for job in matching if test(job)]
    matching = list(matching)
    counts = Counter([job.status for job in matching])
    chosen = [job for job in matching if query.has_status(job)] if query.status else matching
    if query.sort == "created_at":
        # As they came.
        ordered = chosen if query.descending else chosen[::-1]
    else:
        field = "likely_cost_usd" if query.sort == "cost_usd" else query.sort
        ordered = _sorted(chosen, attrgetter(field), descending=query.descending)
    pages = max(1, math.ceil(len(ordered) / query.page_size))
    page = min(query.page, pages)
    start = (page - 1) * query.page_size
    return Selection(
        jobs=ordered[start : start + query.page_size],
        total=len(ordered),
        page=page,
        pages=pages,
        counts_by_status=dict(counts),
    )


def query_of(parameters: Mapping[str, Any], *, now: float, named: Mapping[str, str] | None = None) -> Query:
    """
    Read a query from texts, as they are in a URL or on a command line.

    :param parameters: Values by the names of :class:`Query`; those that are empty or ``None`` are left out.
    :param now: Epoch seconds, for times such as ``24h``.
    :param named: How the user writes the names, for errors.
    :raises InvalidInputError: When a name is unknown or a value is wrong.
    """
    given = {name: value for name, value in parameters.items() if value not in (None, "", [], ())}
    written = named or {}
    if unknown := sorted(set(given) - set(Query.__struct_fields__)):
        raise InvalidInputError(
            f"{unknown[0]!r:.80} is not a filter of jobs: use {', '.join(Query.__struct_fields__)}"
        )
    for name in ("since", "until"):
        if name in given:
            given[name] = moment(given[name], field=written.get(name, name), now=now)
    for name, at_most in (("page", None), ("page_size", MOST_PER_PAGE)):
        if name in given:
            given[name] = _whole(given[name], written.get(name, name), at_most)
    if "descending" in given:
        given["descending"] = _flag(given["descending"], "descending")
    status = given.get("status", ())
    given["status"] = tuple(status.split(",") if isinstance(status, str) else status)
    return Query(**given)


def moment(value: Any, *, field: str, now: float) -> float:
    """
    Read a time.

    :param value: An age such as ``90m``, ``24h`` or ``7d``; a date or a time in ISO 8601, in UTC if it has no zone;
        or epoch seconds.
    :param field: How the error names the value.
    :param now: Epoch seconds.
    :return: Epoch seconds.
    :raises InvalidInputError: When it is nothing of that.
    """
    text = str(value).strip()
    if age := re.fullmatch(r"(\d{1,9})([smhdw])", text, re.ASCII):
        return now - int(age[1]) * _SECONDS[age[2]]
    if re.fullmatch(r"\d{1,12}(\.\d{1,9})?", text, re.ASCII) and len(text) > 8:
        return float(text)
    try:
        time = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return (time if time.tzinfo else time.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError):
        raise InvalidInputError(
            f"{field}={text!r:.80} is not a time: write an age such as 24h or 7d, or a date such as 2026-01-31"
        ) from None


def _sorted(jobs: list[JobView], value_of: Callable[[JobView], Any], *, descending: bool) -> list[JobView]:
    valued = [(value_of(job), job) for job in jobs]
    known = [pair for pair in valued if pair[0] is not None]
    # Sorting is stable: jobs of one value are as they came, so that pages hold from look to look.
    known.sort(key=itemgetter(0), reverse=descending)
    return [job for _, job in known] + [job for value, job in valued if value is None]


def _contains(job: JobView, text: str) -> bool:
    return any(
        text in value.casefold()
        for value in (job.id, job.dag_id, job.task_id, job.run_id, job.model, *job.metadata.values())
        if value
    )


def _whole(value: Any, field: str, at_most: int | None) -> int:
    text = str(value)
    is_whole = text.isascii() and text.isdigit() and len(text) < 10
    if not is_whole or not 1 <= int(text) <= (at_most or int(text)):
        allowed = "1 on" if at_most is None else f"1 to {at_most:,}"
        shown = text if is_whole else f"{text!r:.80}"
        raise InvalidInputError(f"{field}={shown} cannot be: write a whole number from {allowed}")
    return int(text)


def _flag(value: Any, field: str) -> bool:
    flag = {"true": True, "1": True, "false": False, "0": False}.get(str(value).lower())
    if flag is None:
        raise InvalidInputError(f"{field}={value!r:.80} is neither true nor false: write one of them")
    return flag
