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
    found = [(number, _own_extra(context, outlet)) for number, outlet in enumerate(_outlets(context))]
    return [(number, extra) for number, extra in found if extra]


def _own_extra(context: Context, outlet: Any) -> dict[str, Any]:
    from airflow.sdk import AssetAlias

    if not _has_event(outlet) or isinstance(outlet, AssetAlias):
        return {}
    try:
        written = dict(context["outlet_events"][outlet].extra)
    except Exception as error:
        log.warning("What was written into the event of outlet %.200r is lost: %s", outlet, error)
        return {}
    kept: dict[str, Any] = {}
    for key, value in written.items():
        kept |= _storable(key, value)
    return kept


def _storable(key: str, value: Any) -> dict[str, Any]:
    """Keep what JSON can hold: anything else would fail the deferral, and with it a batch that is paid for."""
    try:
        stored: dict[str, Any] = msgspec.json.decode(msgspec.json.encode({key: value}))
    except Exception as error:
        log.warning(
            "outlet_events: %.100r is lost, as the task is deferred and JSON cannot hold it: %s", key, error
        )
        return {}
    return stored


def write_own_extras(context: Context, carried: Iterable[Sequence[Any]]) -> None:
    """
    Write again what the user's code has written into the events of the task's outlets.

    :param context: The task's context.
    :param carried: What :func:`own_extras` gave to the last worker.
    """
    for number, extra in carried:
        _write_own_extra(context, number, extra)


def _write_own_extra(context: Context, number: int, extra: Mapping[str, Any]) -> None:
    try:
        event = context["outlet_events"][_outlets(context)[number]]
        event.extra = {**extra, **event.extra}
    except Exception as error:
        log.warning("What was written into outlet_events before the task was deferred is lost: %s", error)


def _describe(context: Context, extra: dict[str, Any]) -> None:
    # One by one: trouble with one event takes nothing from the others.
    for outlet in _outlets(context):
        _describe_event(context, outlet, extra)


def _describe_event(context: Context, outlet: Any, extra: dict[str, Any]) -> None:
    from airflow.sdk import Asset, AssetAlias

    if not _has_event(outlet):
        return
    try:
        event = context["outlet_events"][outlet]
        if not isinstance(outlet, AssetAlias):
            # The user's own keys win.
            event.extra = {**extra, **event.extra}
        elif path := extra.get("results_path"):
            event.add(Asset(asset_uri(str(path))), extra=dict(extra))
    except Exception as error:
        log.warning("The event of outlet %.200r does not tell of the batch: %s", outlet, error)


def _outlets(context: Context) -> list[Any]:
    return list(getattr(context.get("task"), "outlets", None) or ())


def _has_event(outlet: Any) -> bool:
    """Tell whether Airflow has an event for an outlet: it takes others, too, such as OpenLineage's files and tables."""
    # Imported late: parsing a Dag needs none of it.
    from airflow.sdk.definitions.asset import BaseAsset

    return isinstance(outlet, BaseAsset)


def asset_uri(path: str) -> str:
    """
    Give the URI of a file's asset, without the connection that a path may name.

    Airflow drops what follows a ``?`` or ``#``, and its column takes no other than ASCII characters in some databases.

    :param path: An absolute path or a URL.
    """
    url = f"file://{path}" if path.startswith("/") else without_connection(path)
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{quote(rest, safe=_IN_URIS)}"
