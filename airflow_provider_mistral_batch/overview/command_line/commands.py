"""The commands: each reads what it needs, and prints it for people or, with ``--json``, for programs."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_mistral_batch.api.checks import check_choice
from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.api.models import BatchStatus
from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
from airflow_provider_mistral_batch.overview.airflow_database import (
    DatabaseUnreachableError,
    landed_manifests,
    task_states,
)
from airflow_provider_mistral_batch.overview.command_line.downloading import download_results
from airflow_provider_mistral_batch.overview.command_line.rendering import (
    JOB_COLUMNS,
    duration,
    job_cells,
    job_table,
    print_lines,
    print_pairs,
    print_text,
    table,
    task_name,
    time_of,
    usd,
)
from airflow_provider_mistral_batch.overview.command_line.workspace import (
    connection_ids,
    find_job,
    hooks,
    read_jobs,
)
from airflow_provider_mistral_batch.overview.costs import with_costs
from airflow_provider_mistral_batch.overview.detail import Detail, read_detail, sampled_costs
from airflow_provider_mistral_batch.overview.expected_costs import earlier_jobs, with_expected_costs
from airflow_provider_mistral_batch.overview.heads import Head
from airflow_provider_mistral_batch.overview.jobs import JobView, TaskKey, job_view
from airflow_provider_mistral_batch.overview.landed import manifest_of, read_landed
from airflow_provider_mistral_batch.overview.listing import ConnectionState, Snapshot
from airflow_provider_mistral_batch.overview.orphans import candidates, find_orphans
from airflow_provider_mistral_batch.overview.queries import (
    COST_SORTS,
    Query,
    Selection,
    moment,
    query_of,
    select,
)
from airflow_provider_mistral_batch.overview.sums import Sum, summed, sums

if TYPE_CHECKING:
    from rich.console import Console

#: Exit statuses.
_DONE, _FAILED, _WRONG, _PARTLY = 0, 1, 2, 3

#: Seconds between two looks of ``--watch``.
_WATCH_SECONDS = 2.0

_MOST_ESTIMATES = 10_000


def _jobs(options: Namespace, console: Console, errors: Console) -> int:
    now = time.time()
    query = _query(options, now)
    since = moment(options.since, field="--since", now=now)
    only_running = options.running or options.orphans
    is_live = console.is_terminal and not options.json
    conn_ids = connection_ids(options.conn_id)
    if not is_live:
        _, snapshot = read_jobs(conn_ids, since=since, only_running=only_running)
        _check_statuses(query, snapshot)
        selection, reasons = _selected(snapshot, query, orphans=options.orphans)
        if options.json:
            _print_json(
                console,
                {
                    "jobs": [
                        {**msgspec.to_builtins(job), **({"orphan": reasons[job.id]} if reasons else {})}
                        for job in selection.jobs
                    ],
                    **{
                        name: getattr(selection, name)
                        for name in ("total", "page", "pages", "counts_by_status")
                    },
                    "connections": snapshot.connections,
                    "now": snapshot.now,
                },
            )
        else:
            cells = [job_cells(job, snapshot.now) for job in selection.jobs]
            if options.orphans:
                cells = [(*row, reasons[row[-1]]) for row in cells]
            print_lines(console, (*JOB_COLUMNS, *(["orphan"] if options.orphans else [])), cells)
    else:
        from rich.live import Live

        with Live(console=console, auto_refresh=False) as live:

            def look(snapshot: Snapshot) -> None:
                selection, reasons = _selected(snapshot, query, orphans=options.orphans)
                live.update(_screen(snapshot, selection, reasons, console.width), refresh=True)

            listing, snapshot = read_jobs(conn_ids, since=since, only_running=only_running, on_look=look)
            while options.watch and any(not job.is_over for job in snapshot.jobs):
                time.sleep(_WATCH_SECONDS)
                snapshot = listing.snapshot(conn_ids, whole=True, time_limit=_WATCH_SECONDS)
                look(snapshot)
        _check_statuses(query, snapshot)
    return _say_failures(errors, snapshot.connections)


def _query(options: Namespace, now: float) -> Query:
    if options.running and options.status:
        raise InvalidInputError(
            f"--running and --status={options.status!r:.80} exclude each other: leave one out"
        )
    parameters = {
        "status": "active" if options.running else options.status,
        "dag_id": options.dag,
        "task_id": options.task,
        "run_id": options.run,
        "model": options.model,
        "text": options.text,
        "until": options.until,
        "sort": options.sort,
        "descending": str(not options.ascending),
        "page": options.page,
        "page_size": options.limit,
    }
    return query_of(parameters, now=now, named={"page": "--page", "page_size": "--limit", "until": "--until"})


def _check_statuses(query: Query, snapshot: Snapshot) -> None:
    """Refuse a status that is neither published nor any job's: the API may have new ones."""
    known = {"active", *BatchStatus.ALL, *(job.status for job in snapshot.jobs)}
    for status in query.status:
        check_choice("--status", status, sorted(known))


def _selected(snapshot: Snapshot, query: Query, *, orphans: bool) -> tuple[Selection, dict[str, str]]:
    """Choose the jobs to print; for orphans, with the reasons why they are."""
    if not orphans:
        jobs = snapshot.jobs
        if query.sort in COST_SORTS:
            jobs = _with_expected_costs(with_costs(jobs, _manifests(jobs)))
        return select(jobs, query), {}
    deployments = {state.conn_id: state.deployment for state in snapshot.connections if state.jobs}
    keys = [job.task for job in candidates(snapshot.jobs, deployments) if job.task is not None]
    found = find_orphans(snapshot.jobs, task_states(keys), deployments=deployments, now=snapshot.now)
    return select([one.job for one in found], query), {one.job.id: one.reason for one in found}


def _screen(snapshot: Snapshot, selection: Selection, reasons: dict[str, str], width: int) -> Any:
    from rich.console import Group
    from rich.text import Text

    counts = ", ".join(f"{count:,} {status}" for status, count in sorted(selection.counts_by_status.items()))
    is_whole = all(state.is_complete or state.error for state in snapshot.connections)
    known = sum(state.jobs for state in snapshot.connections)
    line = f"{counts or 'no jobs'}" if is_whole else f"reading jobs: {known:,} so far"
    if selection.pages > 1:
        line += f"; page {selection.page} of {selection.pages}"
    notes = [Text(f"{job.id}: {reasons[job.id]}") for job in selection.jobs if job.id in reasons]
    return Group(job_table(selection.jobs, snapshot.now, width), *notes, Text(line, style="dim"))


def _show(options: Namespace, console: Console, errors: Console) -> int:
    hook, found = find_job(connection_ids(options.conn_id), options.batch_id)
    view = job_view(found, hook.mistral_conn_id)
    manifest = manifest_of(view, _manifests([view]))
    landed = None if manifest is None else read_landed(manifest, view.id, hook.get_conn().without_secrets)
    detail = read_detail(hook, view.id, manifest=manifest, landed=landed)
    if options.json:
        _print_json(console, detail)
    else:
        _print_detail(console, detail)
    return _DONE


def _print_detail(console: Console, detail: Detail) -> None:
    job = detail.job
    took = None if job.ended_at is None else duration(job.ended_at - job.created_at)
    usage = ", ".join(f"{amount:,.0f} {name}" for name, amount in (job.usage or {}).items() if amount)
    about = "about " if detail.is_estimate and usage else ""
    print_pairs(
        console,
        [
            ("id", job.id),
            ("status", job.status if took is None else f"{job.status} after {took}"),
            ("requests", f"{job.total:,}, {job.completed:,} completed, {job.failed:,} failed"),
            ("model", job.model),
            ("endpoint", job.endpoint),
            ("task", task_name(job)),
            ("round", None if job.round is None else f"{job.round + 1}, job {(job.part or 0) + 1}"),
            ("deployment", job.deployment),
            ("connection", ", ".join(job.connections)),
            *((one.what, time_of(one.at)) for one in detail.timeline),
            ("usage", f"{about}{usage}"),
            ("cost", usd(job.cost_usd, about=True)),
            ("input files", ", ".join(job.input_files)),
            ("output file", job.output_file_id),
            ("error file", job.error_file_id),
            ("results", (detail.manifest or {}).get("results_path")),
            ("not readable", detail.landing_problem),
            ("console", detail.console_url),
            *(
                ("metadata", f"{name}={value}")
                for name, value in job.metadata.items()
                if not name.startswith("airflow_")
            ),
            *(("error", error) for error in job.errors),
        ],
    )
    of_batch = " of the whole batch" if detail.has_landed_rows else ""
    for title, head in ((f"Failed rows{of_batch}", detail.failures), (f"Answers{of_batch}", detail.answers)):
        if head is not None:
            _print_head(console, title, head)


def _print_head(console: Console, title: str, head: Head) -> None:
    if head.problem is not None:
        print_text(console, f"\n{title}: {head.problem}")
        return
    if not head.rows_read:
        print_text(console, f"\n{title}: none")
        return
    which = "all" if head.is_whole else "the first"
    statuses = ", ".join(f"{count:,} x {status}" for status, count in head.by_status.items())
    print_text(console, f"\n{title} ({which} {head.rows_read:,} rows: {statuses})", "bold")
    for error in head.errors:
        what = " ".join(str(error[name]) for name in ("status_code", "code", "message") if error.get(name))
        print_text(console, f"  {error['count']:,} x {what} (e.g. {error.get('example')})")
    for row in head.rows:
        if row.error is None:
            print_text(console, f"  {row.custom_id}: {' '.join((row.text or '').split())[:200]}")


def _cancel(options: Namespace, console: Console, errors: Console) -> int:
    hook, job = find_job(connection_ids(options.conn_id), options.batch_id)
    view = job_view(job, hook.mistral_conn_id)
    if view.is_over:
        print_text(errors, f"batch job {view.id} is {view.status} already: there is nothing to cancel")
        return _DONE if view.status == "cancelled" else _FAILED
    if not options.yes and not _confirmed(view, console, errors):
        return _WRONG
    after = job_view(hook.cancel(job.id), hook.mistral_conn_id)
    if options.json:
        _print_json(console, after)
    else:
        print_text(console, f"batch job {after.id} is {after.status}")
    return _DONE


def _confirmed(job: JobView, console: Console, errors: Console) -> bool:
    if not sys.stdin.isatty():
        print_text(errors, f"batch job {job.id} was not cancelled: nobody can be asked here, so pass --yes")
        return False
    done = f"{job.completed + job.failed:,} of {job.total:,} requests are done"
    print_text(errors, f"{job.status}, {done}. {task_name(job) or 'No task of this provider submitted it'}")
    try:
        answer = input(f"Cancel batch job {job.id}? [y/N] ")
    except EOFError:
        # Ctrl-D.
        answer = "\n"
        print_text(errors, "")
    if answer.strip().lower() in ("y", "yes"):
        return True
    print_text(errors, "not cancelled")
    return False


def _download(options: Namespace, console: Console, errors: Console) -> int:
    hook, job = find_job(connection_ids(options.conn_id), options.batch_id)
    # A download is worth more patience than a look.
    patient = MistralBatchHook(hook.mistral_conn_id)
    files = download_results(patient, job, options.destination, force=options.force, errors=errors)
    if options.json:
        _print_json(console, {"batch_id": job.id, "files": files})
    else:
        for path, size in files.items():
            print_text(console, f"{path} ({size:,} bytes)")
    return _DONE


def _cost(options: Namespace, console: Console, errors: Console) -> int:
    now = time.time()
    since = moment(options.since, field="--since", now=now)
    most = options.estimate
    if not (most.isascii() and most.isdigit() and len(most) < 6 and int(most) <= _MOST_ESTIMATES):
        raise InvalidInputError(
            f"--estimate={most!r:.80} is not a number of jobs: write one from 0 to {_MOST_ESTIMATES}"
        )
    conn_ids = connection_ids(options.conn_id)
    _, snapshot = read_jobs(conn_ids, since=since)
    jobs = [job for job in snapshot.jobs if options.dag is None or job.dag_id == options.dag]
    manifests = _manifests(jobs, errors)
    jobs = with_costs(jobs, manifests)
    unknown = [job for job in jobs if job.cost_usd is None and job.usage is None and job.output_file_id]
    estimated = {job.id: job for job in _estimated(unknown[: int(most)], conn_ids, errors)}
    jobs = _with_expected_costs([estimated.get(job.id, job) for job in jobs])
    groups, total = sums(jobs, options.by), summed("total", jobs)
    if options.json:
        _print_json(
            console,
            {
                "by": options.by,
                "sums": groups,
                "total": total,
                "estimated_jobs": len(estimated),
                "connections": snapshot.connections,
            },
        )
    else:
        _print_sums(console, options.by, [*groups, total])
        for reason in _reasons_without_cost(jobs, not_read=len(unknown) - len(estimated)):
            print_text(errors, reason)
    return _say_failures(errors, snapshot.connections)


def _reasons_without_cost(jobs: Sequence[JobView], *, not_read: int) -> Iterator[str]:
    """Say why jobs have no cost, each with what helps."""
    unknown = [job for job in jobs if job.cost_usd is None and job.completed]
    unpriced = [job for job in unknown if job.usage]
    if unpriced:
        models = ", ".join(sorted({job.model or "no model" for job in unpriced})[:5])
        yield (
            f"no price is known for {_count(unpriced)} ({models}): install airflow-provider-mistral-batch[costs], "
            "or pass prices to their tasks"
        )
    if not_read:
        yield f"the first rows of {not_read:,} more jobs were not read: raise --estimate"
    if running := [job for job in unknown if not job.is_over]:
        yield f"{_count(running)} still running: see what they are expected to cost"
    if gone := [job for job in unknown if job.is_over and not job.usage and not job.output_file_id]:
        yield f"{_count(gone)} left no results to estimate a cost from"


def _count(jobs: Sequence[JobView]) -> str:
    return f"{len(jobs):,} {'job' if len(jobs) == 1 else 'jobs'}"


def _estimated(jobs: Sequence[JobView], conn_ids: Sequence[str], errors: Console) -> list[JobView]:
    """Estimate the cost of jobs, with a bar where somebody looks."""
    from rich.progress import track

    by_id = {hook.mistral_conn_id: hook for hook in hooks(conn_ids)}
    found = sampled_costs(jobs, by_id)
    return list(
        track(
            found,
            description="Reading first rows",
            total=len(jobs),
            console=errors,
            transient=True,
            disable=not errors.is_terminal,
        )
    )


def _print_sums(console: Console, by: str, groups: Sequence[Sum]) -> None:
    columns = (by, "jobs", "running", "requests", "failed", "tokens", "cost", "expected")
    cells = [
        (
            one.name or "(none)",
            f"{one.jobs:,}",
            f"{one.running:,}",
            f"{one.requests:,}",
            f"{one.failed:,}",
            f"{one.tokens:,.0f}",
            usd(one.cost_usd, about=True)
            + (" or more" if one.cost_usd is not None and one.jobs_without_cost else ""),
            usd(one.expected_cost_usd, about=True),
        )
        for one in groups
    ]
    if console.is_terminal:
        console.print(table(columns, cells, right=columns[1:]))
    else:
        print_lines(console, columns, cells)


def _with_expected_costs(jobs: Sequence[JobView]) -> list[JobView]:
    """Give jobs, newest first and with costs as far as they are known, the costs that are expected of the others."""
    return with_expected_costs(jobs, earlier_jobs(jobs, jobs))


def _manifests(jobs: Sequence[JobView], errors: Console | None = None) -> dict[TaskKey, dict[str, Any]]:
    """Look up manifests; none where Airflow's database is out of reach, which is said where it matters."""
    try:
        return landed_manifests(job.task for job in jobs if job.task is not None)
    except DatabaseUnreachableError as error:
        if errors is not None:
            print_text(errors, f"without what tasks returned, costs are estimates alone: {error}")
        return {}


def _say_failures(errors: Console, states: Sequence[ConnectionState]) -> int:
    failed = [state for state in states if state.error is not None]
    for state in failed:
        print_text(errors, f"connection {state.conn_id!r}: {state.error}")
    if not failed:
        return _DONE
    return _FAILED if len(failed) == len(states) else _PARTLY


def _print_json(console: Console, value: Any) -> None:
    console.file.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


COMMANDS: dict[str, Callable[[Namespace, Console, Console], int]] = {
    "jobs": _jobs,
    "show": _show,
    "cancel": _cancel,
    "download": _download,
    "cost": _cost,
}
