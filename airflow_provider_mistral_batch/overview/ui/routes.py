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
from airflow_provider_mistral_batch.overview.detail import jobs_of_batch, read_detail
from airflow_provider_mistral_batch.overview.jobs import JobView
from airflow_provider_mistral_batch.overview.known_costs import KnownCosts
from airflow_provider_mistral_batch.overview.landed import manifest_of, read_landed
from airflow_provider_mistral_batch.overview.listing import Listing, Snapshot, default_hook
from airflow_provider_mistral_batch.overview.orphans import candidates, find_orphans
from airflow_provider_mistral_batch.overview.queries import COST_SORTS, query_of, select
from airflow_provider_mistral_batch.overview.sums import pending, summed, sums
from airflow_provider_mistral_batch.overview.ui.rights import Rights, may_read_xcoms, rights

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
    """What all viewers of this process share: the listing, what jobs cost, and the connections' names."""

    def __init__(self) -> None:
        self.listing = Listing()
        self.costs = KnownCosts()
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
        may_read = rights(user, snapshot.jobs, self.names(), _deployments(snapshot), "GET")
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
    query = query_of(given, now=seen.snapshot.now)
    by_cost = query.sort in COST_SORTS
    listed, has_all_costs = _costed(seen.jobs, seen) if by_cost else (seen.jobs, True)
    selection = select(listed, query)
    answer = msgspec.structs.asdict(selection)
    if not by_cost:
        answer["jobs"], _ = _costed(selection.jobs, seen)
    return _json(
        {
            **answer,
            "has_all_costs": has_all_costs,
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
    landed = manifest = None
    with closing(default_hook(found.connections[0])) as hook:
        if found.task is not None and seen.rights.is_of_dag(found):
            if may_read_xcoms(user, found.task.dag_id):
                manifest = manifest_of(found, landed_manifests([found.task]))
            if manifest is not None:
                landed = read_landed(manifest, batch_id, hook.get_conn().without_secrets)
        with board.call():
            detail = read_detail(hook, batch_id, manifest=manifest, landed=landed)
    if not seen.rights.allow(detail.job):
        raise _no_job(batch_id)
    shown = detail.job
    if shown.cost_usd is None:
        (costed,), _ = _costed([shown], seen)
        shown = msgspec.structs.replace(shown, expected_cost_usd=costed.expected_cost_usd)
    return _json(
        {
            **msgspec.structs.asdict(detail),
            "job": shown,
            "batch": jobs_of_batch(found, seen.jobs),
            **_common(seen, [found], user),
        }
    )


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
def task(dag_id: str, run_id: str, task_id: str, user: User, map_index: int = -1) -> Response:
    """Give the jobs of a task instance, of all its tries and rounds; without an index, of all instances of the task."""
    seen = board.seen_by(user)
    of_task = [
        job
        for job in seen.jobs
        if (job.dag_id, job.run_id, job.task_id) == (dag_id, run_id, task_id)
        and map_index in (-1, job.map_index)
    ][:_MOST_JOBS]
    costed, _ = _costed(of_task, seen)
    return _json({"jobs": costed, **_common(seen, of_task, user)})


@router.get("/api/dags/{dag_id}")
def dag(dag_id: str, user: User) -> Response:
    """Give rows and cost of a Dag's latest runs."""
    seen = board.seen_by(user)
    runs: dict[str, list[JobView]] = {}
    of_dag, _ = _costed([job for job in seen.jobs if job.dag_id == dag_id][:_MOST_JOBS], seen)
    for one in of_dag:
        runs.setdefault(one.run_id or "", []).append(one)
    shown = list(runs.items())[:_MOST_GROUPS]
    return _json({"runs": [summed(run_id, members) for run_id, members in shown], **_common(seen, [], user)})


@router.get("/api/overview")
def overview(user: User) -> Response:
    """Give sums of today and of this month, what waits, and what nobody waits for."""
    seen = board.seen_by(user)
    now = seen.snapshot.now
    today = datetime.fromtimestamp(now, tz=timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    month = today.replace(day=1).timestamp()
    of_month, _ = _costed([job for job in seen.jobs if job.created_at >= month], seen)
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
            "pending": pending(seen.jobs, seen.snapshot.jobs),
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
    conn_ids = {conn_id for job in running for conn_id in job.connections}
    may_edit = rights(user, running, conn_ids, _deployments(seen.snapshot), "PUT")
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
        "right to read its Dag.",
    )


def _costed(shown: list[JobView], seen: _Seen) -> tuple[list[JobView], bool]:
    """Give jobs with their costs, and whether all costs were looked up."""
    return board.costs.costed(shown, seen.jobs, now=seen.snapshot.now)


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
