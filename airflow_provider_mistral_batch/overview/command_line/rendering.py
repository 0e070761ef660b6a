"""How things look at a shell: tables on a terminal, tab-separated lines elsewhere; no text can steer the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_mistral_batch.api.models import BatchStatus
from airflow_provider_mistral_batch.api.texts import us_dollars
from airflow_provider_mistral_batch.overview.jobs import JobView

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_BAR = 10

_STYLES = {
    BatchStatus.COMPLETED: "green",
    BatchStatus.FAILED: "red",
    BatchStatus.EXPIRED: "red",
    BatchStatus.CANCELLED: "yellow",
    BatchStatus.CANCELLING: "yellow",
    BatchStatus.IN_PROGRESS: "blue",
}

JOB_COLUMNS = ("status", "progress", "requests", "failed", "model", "task", "age", "left", "id")


#: Columns that may be cut, and those that are left out on a terminal with at least so many characters.
_CUT = ("model", "task")
_LEFT_OUT = ((140, ()), (110, ("requests", "model")), (0, ("requests", "model", "progress", "left")))


def job_cells(job: JobView, now: float) -> tuple[str, ...]:
    """
    Give the cells of a job's line.

    :param job: The job.
    :param now: The time by the API's clock (epoch seconds).
    """
    return (
        job.status,
        bar(job.progress),
        f"{job.total:,}",
        f"{job.failed:,}" if job.failed else "",
        job.model or "",
        task_name(job),
        duration(now - job.created_at) if job.created_at else "",
        "" if job.is_over or job.expires_at is None else duration(job.expires_at - now),
        job.id,
    )


def task_name(job: JobView) -> str:
    """Name the task instance of a job; empty if it has none."""
    if job.task is None:
        return ""
    mapped = f"[{job.map_index}]" if job.map_index >= 0 else ""
    return f"{job.dag_id} / {job.task_id}{mapped} / {job.run_id}"


def bar(share: float | None) -> str:
    """
    Draw a share.

    :param share: 0 to 1; ``None`` if unknown.
    """
    if share is None:
        return ""
    return f"{'█' * int(share * _BAR):░<{_BAR}} {int(share * 100):3d}%"


def duration(seconds: float) -> str:
    """
    Write a number of seconds for people.

    :param seconds: How many; less than none, as clocks may differ, counts as none.
    """
    left = max(0, int(seconds))
    for size, unit, small, below in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 0, "")):
        if left >= size:
            rest = left % size // small if small else 0
            return f"{left // size} {unit}" + (f" {rest} {below}" if rest else "")
    return f"{left} s"


def time_of(seconds: float | None) -> str:
    """
    Write a time.

    :param seconds: Epoch seconds; ``None`` is empty.
    """
    try:
        return (
            ""
            if seconds is None
            else f"{datetime.fromtimestamp(seconds, tz=timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
        )
    except (ValueError, OverflowError, OSError):
        return str(seconds)


def usd(amount: float | None, *, about: bool = False) -> str:
    """
    Write an amount of US dollars.

    :param amount: How many; ``None`` is empty.
    :param about: Whether it is an estimate.
    """
    if amount is None:
        return ""
    return f"{'about ' if about else ''}{us_dollars(amount)}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> Table:
    """
    Make a table for a terminal.

    :param columns: Names of the columns.
    :param rows: The cells, which are shown as they are: nothing in them is markup.
    :param right: Columns of numbers.
    """
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        # What may not wrap is not narrowed as long as something else can be. Of ids and numbers, a part is of no use.
        made.add_column(
            name, justify="right" if name in right else "left", no_wrap=name not in _CUT, overflow="ellipsis"
        )
    for cells in rows:
        style = _STYLES.get(cells[0], "")
        made.add_row(
            Text(cells[0], style=style),
            # A cell that is narrowed does not wrap all the same.
            *(Text(cell, no_wrap=True, overflow="ellipsis") for cell in cells[1:]),
        )
    return made


def job_table(jobs: Sequence[JobView], now: float, width: int) -> Table:
    """
    Make a table of jobs, with as many columns as there is room for.

    :param jobs: The jobs.
    :param now: The time by the API's clock (epoch seconds).
    :param width: Characters in a line.
    """
    left_out = next(names for least, names in _LEFT_OUT if width >= least)
    columns = [name for name in JOB_COLUMNS if name not in left_out]
    rows = []
    for job in jobs:
        cells = dict(zip(JOB_COLUMNS, job_cells(job, now), strict=True))
        rows.append([cells[name] for name in columns])
    return table(columns, rows, right=("requests", "failed", "age", "left"))


def print_lines(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """
    Print lines for another program.

    :param console: Where to.
    :param columns: Names of the columns.
    :param rows: The cells.
    """
    for cells in (columns, *rows):
        console.file.write("\t".join(cells) + "\n")


def print_pairs(console: Console, pairs: Sequence[tuple[str, Any]]) -> None:
    """
    Print names and values, one pair a line; empty values are left out.

    :param console: Where to.
    :param pairs: The pairs.
    """
    from rich.text import Text

    shown = [(name, str(value)) for name, value in pairs if value not in (None, "")]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        console.print(
            Text(f"{name:<{width}}  ", style="bold").append(Text(value, style="not bold")), soft_wrap=True
        )


def print_text(console: Console, text: str, style: str = "") -> None:
    """
    Print a text as it is.

    :param console: Where to.
    :param text: A text without control characters.
    :param style: How it looks.
    """
    from rich.text import Text

    console.print(Text(text, style=style), soft_wrap=True)
