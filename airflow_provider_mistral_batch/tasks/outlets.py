"""What a task's asset events say of its batch. Nothing here can fail the task."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from airflow_provider_mistral_batch.storage.paths import without_connection

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_mistral_batch.api.models import BatchJobOut

log = logging.getLogger(__name__)

#: Characters that stay as they are in a URI's path: those of run ids, and what other tools write, such as ``a=1``.
_IN_URIS = "/:+=@,;~!$&'()* "

#: Fields of a manifest that an event has, too.
_FIELDS = (
    "batch_ids",
    "results_path",
    "errors_path",
    "counts",
    "usage",
    "estimated_cost_usd",
    "started_at",
    "completed_at",
    # For `read_table` and `read_models`.
    "table",
)


def describe_results(context: Context, manifest: Mapping[str, Any]) -> None:
    """
    Let the events of a task's outlets say what it landed, and add the results' asset to its aliases.

    :param context: The task's context.
    :param manifest: What the task landed.
    """
    _describe(context, {name: manifest[name] for name in _FIELDS if name in manifest})


def describe_job(context: Context, job: BatchJobOut) -> None:
    """
    Let the events of a task's outlets say which job it submitted or waited for.

    :param context: The task's context.
    :param job: The job.
    """
    _describe(
        context,
        {
            "batch_ids": [job.id],
            "status": job.status,
            "output_file_id": job.output_file_id,
            "error_file_id": job.error_file_id,
            "request_counts": msgspec.to_builtins(job.request_counts),
        },
    )


def own_extras(context: Context) -> list[tuple[int, dict[str, Any]]]:
    """
    Give what the user's code has written into the events of the task's outlets so far.

    Airflow forgets it when the task is deferred, so that it has to be carried to the next worker.

    :param context: The task's context.
    :return: Numbers of outlets with what was written: what JSON can hold of it, and nothing of aliases.
    """
    found = []
    try:
        from airflow.sdk import AssetAlias

        for number, outlet in enumerate(getattr(context.get("task"), "outlets", None) or ()):
            if isinstance(outlet, AssetAlias):
                continue
            extra = dict(context["outlet_events"][outlet].extra)
            if extra:
                # What cannot be stored would fail the deferral, and with it a batch that is paid for.
                found.append((number, msgspec.json.decode(msgspec.json.encode(extra))))
    except Exception as error:
        log.warning("What was written into outlet_events is lost, as the task is deferred: %s", error)
    return found


def write_own_extras(context: Context, carried: Iterable[Sequence[Any]]) -> None:
    """
    Write again what the user's code has written into the events of the task's outlets.

    :param context: The task's context.
    :param carried: What :func:`own_extras` gave to the last worker.
    """
    try:
        outlets = list(getattr(context.get("task"), "outlets", None) or ())
        for number, extra in carried:
            event = context["outlet_events"][outlets[number]]
            event.extra = {**extra, **event.extra}
    except Exception as error:
        log.warning("What was written into outlet_events before the task was deferred is lost: %s", error)


def _describe(context: Context, extra: dict[str, Any]) -> None:
    try:
        outlets = getattr(context.get("task"), "outlets", None) or ()
        if not outlets:
            return
        # Imported late: parsing a Dag needs none of it.
        from airflow.sdk import Asset, AssetAlias

        events = context["outlet_events"]
        for outlet in outlets:
            if isinstance(outlet, AssetAlias):
                if path := extra.get("results_path"):
                    events[outlet].add(Asset(asset_uri(str(path))), extra=dict(extra))
            else:
                event = events[outlet]
                # The user's own keys win.
                event.extra = {**extra, **event.extra}
    except Exception as error:
        log.warning("The events of the task's outlets do not tell of its batch: %s", error)


def asset_uri(path: str) -> str:
    """
    Give the URI of a file's asset, without the connection that a path may name.

    Airflow drops what follows a ``?`` or ``#``, and its column takes no other than ASCII characters in some databases.

    :param path: An absolute path or a URL.
    """
    url = f"file://{path}" if path.startswith("/") else without_connection(path)
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{quote(rest, safe=_IN_URIS)}"
