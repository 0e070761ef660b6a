"""What can be written on the command line."""

from __future__ import annotations

import argparse

from airflow_provider_mistral_batch.overview.queries import SORTS
from airflow_provider_mistral_batch.overview.sums import GROUPS

_EXAMPLES = """\
examples:
  %(prog)s jobs --running              what runs, and how far it is
  %(prog)s jobs --dag nightly --since 24h --status failed,expired
  %(prog)s jobs --orphans              what runs although no task waits for it
  %(prog)s show 6f0c…                  one job: errors, first answers, cost
  %(prog)s download 6f0c… ./results
  %(prog)s cost --since 30d --by dag

exit status: 0 done, 1 it failed, 2 wrong arguments, 3 only some connections could be read, 130 interrupted
"""


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    root = argparse.ArgumentParser(
        prog="python -m airflow_provider_mistral_batch",
        description="Shows, cancels and downloads batch jobs of Airflow's Mistral connections.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--conn-id",
        action="append",
        metavar="ID",
        help="an Airflow connection; may be repeated; by default all of type mistral that can be found",
    )
    common.add_argument("--json", action="store_true", help="print JSON")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")

    jobs = commands.add_parser("jobs", parents=[common], help="list jobs, newest first")
    jobs.add_argument("--dag", metavar="DAG", help="jobs of this Dag")
    jobs.add_argument("--task", metavar="TASK", help="jobs of this task")
    jobs.add_argument("--run", metavar="RUN", help="jobs of this Dag run")
    jobs.add_argument("--model", help="jobs of this model")
    jobs.add_argument("--status", help="one or more statuses, with commas in between")
    jobs.add_argument("--running", action="store_true", help="only jobs that are not over")
    jobs.add_argument("--orphans", action="store_true", help="only running jobs that no task waits for")
    jobs.add_argument("--text", help="text in the id, Dag, run, task, model or metadata")
    jobs.add_argument("--since", default="7d", help="age or date, such as 24h or 2026-01-31; default: 7d")
    jobs.add_argument("--until", help="age or date, as for --since")
    jobs.add_argument("--sort", choices=SORTS, default="created_at", help="default: created_at")
    jobs.add_argument("--ascending", action="store_true", help="smallest first")
    jobs.add_argument("--limit", default="50", help="most jobs to print, 1 to 1000; default: 50")
    jobs.add_argument("--page", default="1", help="which page of so many jobs; default: 1")
    jobs.add_argument("--watch", action="store_true", help="keep the table up to date while a job runs")

    show = commands.add_parser("show", parents=[common], help="show one job")
    show.add_argument("batch_id", metavar="ID", help="the job's id")

    cancel = commands.add_parser("cancel", parents=[common], help="cancel a job")
    cancel.add_argument("batch_id", metavar="ID", help="the job's id")
    cancel.add_argument("--yes", action="store_true", help="do not ask")

    download = commands.add_parser("download", parents=[common], help="download a job's results")
    download.add_argument("batch_id", metavar="ID", help="the job's id")
    download.add_argument("destination", metavar="DEST", help="a folder, or a URL such as s3://bucket/folder")
    download.add_argument("--force", action="store_true", help="replace files that are there")

    cost = commands.add_parser("cost", parents=[common], help="sum up what jobs cost")
    cost.add_argument("--since", default="30d", help="age or date, as for jobs; default: 30d")
    cost.add_argument("--by", choices=GROUPS, default="day", help="default: day")
    cost.add_argument("--dag", metavar="DAG", help="jobs of this Dag")
    cost.add_argument(
        "--estimate",
        default="200",
        metavar="JOBS",
        help="estimate the newest jobs whose cost Airflow does not know from their first rows, with one call for each: "
        "most such jobs, 0 to 10000; default: 200",
    )
    return root
