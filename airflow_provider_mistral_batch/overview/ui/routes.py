"""The routes of the page: each depends on a user, whose rights decide what it gives."""

# FastAPI reads the annotations at run time, so that they are no texts here.

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from importlib.resources import files
from typing import Annotated, Any

import msgspec
from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.core_api.security import get_user, requires_access_view
from fastapi import APIRouter, Depends, HTTPException, Request, Response

from airflow_provider_mistral_batch.api.texts import excerpt
from airflow_provider_mistral_batch.overview.airflow_database import (
    landed_manifests,
    mistral_connections,
    task_states,
)
from airflow_provider_mistral_batch.overview.costs import with_costs
from airflow_provider_mistral_batch.overview.detail import read_detail
from airflow_provider_mistral_batch.overview.jobs import JobView
from airflow_provider_mistral_batch.overview.listing import Listing, Snapshot, default_hook
from airflow_provider_mistral_batch.overview.orphans import candidates, find_orphans
from airflow_provider_mistral_batch.overview.queries import query_of, select
from airflow_provider_mistral_batch.overview.sums import pending, summed, sums
from airflow_provider_mistral_batch.overview.ui.rights import Rights, rights

#: Jobs in one answer about a task or a Dag, groups of a chart, names in a filter.
_MOST_JOBS, _MOST_GROUPS, _MOST_NAMES = 1000, 20, 500

#: Seconds for which the names of connections are kept.
_NAMES_SECONDS = 15.0

_FILTERS = frozenset(
    {"status", "dag_id", "model", "connection", "since", "text", "sort", "descending", "page", "page_size"}
)

_MEDIA_TYPES = {"page.js": "text/javascript", "page.css": "text/css"}

router = APIRouter(dependencies=[Depends(requires_access_view(AccessView.WEBSITE))])

User = Annotated[Any, Depends(get_user)]


class _Seen(msgspec.Struct):
    """What one user sees now."""

    jobs: list[JobView]
    snapshot: Snapshot
    rights: Rights


class _Board:
    """The one listing of this process, and the names of the connections that it reads."""

    def __init__(self) -> None:
        self.listing = Listing()
        self._lock = threading.Lock()
        self._names: list[str] = []
        self._names_until = float("-inf")
        #: Single jobs that are read or cancelled at a time, so that a slow API keeps a few threads at most.
        self.calls = threading.BoundedSemaphore(4)

    def names(self) -> list[str]:
        with self._lock:
            if time.monotonic() >= self._names_until:
                self._names = mistral_connections()
                self._names_until = time.monotonic() + _NAMES_SECONDS
            return self._names

    def seen_by(self, user: Any, *, fresh: bool = False) -> _Seen:
        snapshot = self.listing.snapshot(self.names(), fresh=fresh)
        may_read = rights(user, self.names(), _deployments(snapshot), "GET")
        return _Seen([job for job in snapshot.jobs if may_read.allow(job)], snapshot, may_read)

    @contextmanager
    def call(self) -> Iterator[None]:
        if not self.calls.acquire(timeout=2.0):
            raise HTTPException(503, "The API is slow, and others wait for it: try again in a few seconds")
        try:
            yield
        finally:
            self.calls.release()


board = _Board()


@router.get("/static/{name}")
def static(name: str) -> Response:
    """Give the page's script or its style sheet."""
    if name not in _MEDIA_TYPES:
        raise HTTPException(404, "No such file")
    content = (files("airflow_provider_mistral_batch.overview.ui") / "static" / name).read_bytes()
    return Response(content, media_type=_MEDIA_TYPES[name], headers={"Cache-Control": "no-cache"})


@router.get("/api/jobs")
def jobs(request: Request, user: User) -> Response:
    """Give a page of the jobs that the user may see."""
    given = {name: value for name, value in request.query_params.items() if name in _FILTERS}
    seen = board.seen_by(user)
    selection = select(seen.jobs, query_of(given, now=seen.snapshot.now))
    answer = msgspec.structs.asdict(selection)
    answer["jobs"] = _with_known_costs(selection.jobs, seen.jobs)
    return _json(
        {
            **answer,
            **_common(seen, selection.jobs, user),
            "dags": _names(job.dag_id for job in seen.jobs),
            "models": _names(job.model for job in seen.jobs),
        }
    )


@router.get("/api/jobs/{batch_id}")
def job(batch_id: str, user: User) -> Response:
    """Give one job with its first rows."""
    seen = board.seen_by(user)
    found = _find(seen, batch_id)
    manifest = landed_manifests([found.task]).get(found.task) if found.task is not None else None
    with board.call(), closing(default_hook(found.connections[0])) as hook:
        detail = read_detail(hook, batch_id, manifest=manifest)
    if not seen.rights.allow(detail.job):
        raise _no_job(batch_id)
    return _json({**msgspec.structs.asdict(detail), **_common(seen, [found], user)})


def _same_origin(request: Request) -> None:
    """Refuse what another site's page sent with the user's cookie: forms send no JSON, and browsers name the sender."""
    is_json = request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"
    if not is_json or request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise HTTPException(403, "Send JSON, from a page of this Airflow")


@router.post("/api/jobs/{batch_id}/cancel", dependencies=[Depends(_same_origin)])
def cancel(batch_id: str, user: User) -> Response:
    """Cancel a job; Airflow's audit log says who did."""
    seen = board.seen_by(user)
    found = _find(seen, batch_id)
    if found.id not in _may_cancel(seen, [found], user):
        raise HTTPException(403, "Only who may edit the job's Dag, or its connection, may cancel it")
    _audit(found, user)
    with board.call(), closing(default_hook(found.connections[0])) as hook:
        after = hook.get_conn().cancel(batch_id)
    board.listing.snapshot(board.names(), fresh=True)
    return _json({"id": after.id, "status": after.status})


@router.get("/api/tasks/{dag_id}/{run_id}/{task_id}")
def task(dag_id: str, run_id: str, task_id: str, user: User, map_index: int | None = None) -> Response:
    """Give the jobs of a task in a run, of all tries and rounds: those of one map index, or of all."""
    seen = board.seen_by(user)
    of_task = [
        job
        for job in seen.jobs
        if (job.dag_id, job.run_id, job.task_id) == (dag_id, run_id, task_id)
        and map_index in (None, job.map_index)
    ][:_MOST_JOBS]
    return _json({"jobs": _with_known_costs(of_task, of_task), **_common(seen, of_task, user)})


@router.get("/api/dags/{dag_id}")
def dag(dag_id: str, user: User) -> Response:
    """Give rows and cost of a Dag's latest runs."""
    seen = board.seen_by(user)
    runs: dict[str, list[JobView]] = {}
    of_dag = [job for job in seen.jobs if job.dag_id == dag_id][:_MOST_JOBS]
    for one in _with_known_costs(of_dag, of_dag):
        runs.setdefault(one.run_id or "", []).append(one)
    shown = list(runs.items())[:_MOST_GROUPS]
    return _json({"runs": [summed(run_id, members) for run_id, members in shown], **_common(seen, [], user)})


@router.get("/api/overview")
def overview(user: User) -> Response:
    """Give sums of today and of this month, what waits, and what nobody waits for."""
    seen = board.seen_by(user)
    now = seen.snapshot.now
    today = datetime.fromtimestamp(now, tz=timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    of_month = [job for job in seen.jobs if job.created_at >= today.replace(day=1).timestamp()]
    of_month = _with_known_costs(of_month, of_month)
    deployments = _deployments(seen.snapshot)
    states = task_states(job.task for job in candidates(seen.jobs, deployments) if job.task is not None)
    orphans = find_orphans(seen.jobs, states, deployments=deployments, now=now)[:_MOST_JOBS]
    return _json(
        {
            "today": summed("today", [job for job in of_month if job.created_at >= today.timestamp()]),
            "month": summed("month", of_month),
            "by_day": sums(of_month, "day"),
            "by_model": sums(of_month, "model")[:_MOST_GROUPS],
            "by_dag": sums(of_month, "dag")[:_MOST_GROUPS],
            "pending": pending(seen.jobs),
            "orphans": orphans,
            **_common(seen, [orphan.job for orphan in orphans], user),
        }
    )


def _common(seen: _Seen, shown: Iterable[JobView], user: Any) -> dict[str, Any]:
    """What each answer says: how old it is, how the connections are, and which jobs may be cancelled."""
    return {
        "as_of": seen.snapshot.as_of,
        "now": seen.snapshot.now,
        "connections": [
            {
                "conn_id": state.conn_id,
                "ok": state.ok,
                "age_seconds": state.age_seconds,
                "is_complete": state.is_complete,
                # An error may name hosts, which are for those who may see the connection.
                "error": state.error
                if state.error is None or state.conn_id in seen.rights.connections
                else "it cannot be read: ask whoever manages this Airflow's connections",
            }
            for state in seen.snapshot.connections
        ],
        "may_cancel": _may_cancel(seen, shown, user),
    }


def _may_cancel(seen: _Seen, shown: Iterable[JobView], user: Any) -> list[str]:
    running = [job for job in shown if not job.is_over and job.status != "cancelling"]
    if not running:
        return []
    may_edit = rights(user, board.names(), _deployments(seen.snapshot), "PUT")
    return [job.id for job in running if may_edit.allow(job)]


def _find(seen: _Seen, batch_id: str) -> JobView:
    for one in seen.jobs:
        if one.id == batch_id:
            return one
    raise _no_job(batch_id)


def _no_job(batch_id: str) -> HTTPException:
    return HTTPException(
        404,
        f"There is no job {excerpt(batch_id, 100)} of the last 35 days that you may see. If it is there, ask for the "
        "right to read its Dag",
    )


def _with_known_costs(shown: list[JobView], all_jobs: list[JobView]) -> list[JobView]:
    """Fill in what manifests tell; all jobs of a batch are needed for right shares."""
    keys = {job.task for job in shown if job.task is not None}
    if not keys:
        return shown
    related = [job for job in all_jobs if job.task in keys]
    known = {job.id: job for job in with_costs(related, landed_manifests(keys))}
    return [known.get(job.id, job) for job in shown]


def _deployments(snapshot: Snapshot) -> dict[str, str]:
    return {state.conn_id: state.deployment for state in snapshot.connections}


def _names(values: Iterable[str | None]) -> list[str]:
    return sorted({value for value in values if value})[:_MOST_NAMES]


def _audit(job: JobView, user: Any) -> None:
    from airflow.models.log import Log
    from airflow.utils.session import create_session

    with create_session() as session:
        session.add(
            Log(
                event="mistral_batch_cancel",
                owner=user.get_name(),
                owner_display_name=user.get_name(),
                extra=msgspec.json.encode({"batch_id": job.id}).decode(),
                dag_id=job.dag_id,
                task_id=job.task_id,
                run_id=job.run_id,
                map_index=job.map_index,
            )
        )


def _json(content: Any) -> Response:
    return Response(
        msgspec.json.encode(content), media_type="application/json", headers={"Cache-Control": "no-store"}
    )
