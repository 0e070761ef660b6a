"""``MistralBatchEventTrigger``: starts Dags when batch jobs end, whoever submitted them."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Collection, Mapping
from datetime import timedelta
from typing import Any

import msgspec
from airflow.triggers.base import TriggerEvent

from airflow_provider_mistral_batch.api.checks import (
    check_choice,
    check_metadata,
    check_positive,
    check_rendered,
)
from airflow_provider_mistral_batch.api.endpoints import ENDPOINTS
from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.api.models import BatchStatus
from airflow_provider_mistral_batch.api.texts import sentence
from airflow_provider_mistral_batch.compat import BaseEventTrigger
from airflow_provider_mistral_batch.policies.news import Bookmark, EndFilter, as_payload, newest, news
from airflow_provider_mistral_batch.policies.outage import Outage
from airflow_provider_mistral_batch.policies.setbacks import Backoff
from airflow_provider_mistral_batch.triggers.ends import Look, Subscriber, subscribe

__all__ = ["MistralBatchEventTrigger"]

log = logging.getLogger(__name__)

#: Seconds after an event until it counts as told: by then, Airflow has it in its database.
_DELIVERY_SECONDS = 5.0

_DAG_ID = "airflow_dag_id"


class InvalidEventTriggerError(InvalidInputError, TypeError):
    """
    An argument of a trigger is invalid.

    It is a ``TypeError``, too, which is all that a triggerer survives while it makes triggers. One of those in the
    database may come from another version of this provider, with other choices.
    """


class MistralBatchEventTrigger(BaseEventTrigger):
    """
    Fire an event when batch jobs end, for an ``AssetWatcher``. Jobs that nobody submitted through Airflow count, too.

    One event tells of all jobs that ended since the last one: its payload is ``{"jobs": [{"batch_id", "status",
    "endpoint", "model", "output_file_id", "error_file_id", "request_counts", "created_at", "ended_at", "metadata"}]}``,
    at most 500 of them. All triggers of a connection share one poll loop.

    From Airflow 3.3, ends that happen while no triggerer runs or the Dag is paused are told afterwards. Before, only
    those that happen while the trigger runs.

    :param mistral_conn_id: The connection's id.
    :param status: One or several of ``completed``, ``failed``, ``expired`` and ``cancelled``; ``None`` is any.
    :param dag_id: Only jobs that tasks of this Dag submitted.
    :param model: Only jobs of this model.
    :param endpoint: Only jobs of this endpoint, such as ``/v1/ocr``.
    :param metadata: Keys and values that a job's metadata must have.
    :param poll_interval: Seconds between two looks, at most.
    :raises InvalidInputError: When a field is wrong, or no job can ever match.
    """

    def __init__(
        self,
        mistral_conn_id: str = "mistral_default",
        *,
        status: str | Collection[str] | None = None,
        dag_id: str | None = None,
        model: str | None = None,
        endpoint: str | None = None,
        metadata: Mapping[str, str] | None = None,
        poll_interval: float | timedelta = 60.0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        metadata = _without_pairs(metadata)
        if isinstance(poll_interval, timedelta):
            poll_interval = poll_interval.total_seconds()
        self.mistral_conn_id = mistral_conn_id
        self.dag_id = dag_id
        self.model = model
        self.endpoint = endpoint
        try:
            self._check(metadata, poll_interval)
            self.status = _checked_statuses(status)
        except InvalidInputError as error:
            raise InvalidEventTriggerError(str(error)) from None
        self.metadata = dict(sorted(metadata.items())) if metadata else None
        self.poll_interval = float(poll_interval)

    def _check(self, metadata: Mapping[str, str] | None, poll_interval: float) -> None:
        texts = {"mistral_conn_id": self.mistral_conn_id, "dag_id": self.dag_id, "model": self.model}
        for field, value in texts.items():
            if (value is not None or field == "mistral_conn_id") and not (
                isinstance(value, str) and value.strip()
            ):
                raise InvalidInputError(
                    f"{field}={value!r:.80} can never match: pass a text that is not empty, or leave it out"
                )
            check_rendered(field, value)
        if self.endpoint is not None:
            check_choice("endpoint", self.endpoint, sorted(ENDPOINTS))
        check_metadata(metadata)
        for name, text in (metadata or {}).items():
            check_rendered(f"metadata[{name!r}]", text)
        if self.dag_id is not None and (metadata or {}).get(_DAG_ID, self.dag_id) != self.dag_id:
            raise InvalidInputError(
                f"dag_id={self.dag_id!r:.80} contradicts metadata[{_DAG_ID!r}], so no job can match: leave one out"
            )
        check_positive("poll_interval", poll_interval)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the triggerer makes this trigger from; equal filters give equal arguments."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                **self._filter_arguments(),
                # Pairs, because Airflow 3.2.0 hands a dictionary in a watcher's arguments over still encoded.
                "metadata": self.metadata and [list(pair) for pair in self.metadata.items()],
                "poll_interval": self.poll_interval,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield an event for each look that found ends that match; never returns, and raises nothing."""
        stores = _stores(self)
        if not stores:
            log.warning(
                "Jobs that end while no triggerer runs, or while the Dag is paused, start nothing: that takes "
                "Airflow 3.3 or newer, and an asset that watches this trigger."
            )
        wanted = EndFilter(
            status=frozenset(self.status or BatchStatus.TERMINAL),
            model=self.model,
            endpoint=self.endpoint,
            metadata={**(self.metadata or {}), **({_DAG_ID: self.dag_id} if self.dag_id else {})},
        )
        subscriber = Subscriber(self.poll_interval, wanted)
        outage_of_store = Outage(repeats=True)
        subscriber.bookmark = await self._stored(stores, outage_of_store)
        poller = subscribe(self.mistral_conn_id, subscriber)
        try:
            while True:
                look: Look = await subscriber.looks.get()
                # Each look shows some ends that no other one does.
                ended = list(look.ended)
                while not subscriber.looks.empty():
                    look = subscriber.looks.get_nowait()
                    ended += look.ended
                has_more = True
                while has_more:
                    jobs, bookmark, has_more = news(
                        ended,
                        subscriber.bookmark or Bookmark.begin(look.now),
                        wanted,
                        active=look.active,
                        now=look.now,
                    )
                    if jobs:
                        some = ", ".join(job.id for job in jobs[:5]) + (", …" if len(jobs) > 5 else "")
                        log.info("%d %s ended: %s", len(jobs), "job" if len(jobs) == 1 else "jobs", some)
                        yield TriggerEvent(as_payload(jobs))
                        # A kill in between repeats the event; noted at once, it would lose it.
                        await asyncio.sleep(_DELIVERY_SECONDS)
                    subscriber.bookmark = bookmark
                    await self._store(stores, bookmark, outage_of_store)
                subscriber.needs_all = False
        finally:
            poller.leave(subscriber)

    def _filter_arguments(self) -> dict[str, Any]:
        return {
            "mistral_conn_id": self.mistral_conn_id,
            "status": self.status,
            "dag_id": self.dag_id,
            "model": self.model,
            "endpoint": self.endpoint,
            "metadata": self.metadata,
        }

    @property
    def _key(self) -> str:
        """Where the bookmark is kept: an asset may have several watchers."""
        content = msgspec.json.encode(self._filter_arguments(), order="deterministic")
        return f"mistral_batch_{hashlib.sha256(content).hexdigest()[:16]}"

    async def _stored(self, stores: list[Any], outage: Outage) -> Bookmark | None:
        """Read the bookmark; ``None`` if there is none, or none that can be read."""
        backoff = Backoff()
        while True:
            try:
                found = [value for store in stores if (value := await store.aget(self._key)) is not None]
                break
            except Exception as error:
                pause = backoff.failed(None)
                if outage.is_to_be_said(time.monotonic()):
                    log.warning(
                        "The state of the event trigger cannot be read: %s Trying again in %.0f s.",
                        sentence(error),
                        pause,
                    )
                await asyncio.sleep(pause)
        return newest(filter(None, map(_bookmark, found)))

    async def _store(self, stores: list[Any], bookmark: Bookmark, outage: Outage) -> None:
        try:
            for store in stores:
                await store.aset(self._key, msgspec.to_builtins(bookmark))
        except Exception as error:
            if outage.is_to_be_said(time.monotonic()):
                log.warning(
                    "The state of the event trigger cannot be written, so a restart may repeat events: %s",
                    error,
                )


def _stores(trigger: BaseEventTrigger) -> list[Any]:
    """Give the state store of each asset that watches; none before Airflow 3.3."""
    accessors = getattr(trigger, "asset_state_store", None)
    # Its own methods refuse to choose among several assets, and nothing else tells which these are.
    return [*getattr(accessors, "_by_name", {}).values(), *getattr(accessors, "_by_uri", {}).values()]


def _bookmark(value: Any) -> Bookmark | None:
    try:
        return msgspec.convert(value, Bookmark)
    except msgspec.ValidationError as error:
        log.warning("The state of the event trigger is not ours, so it is not used: %s", error)
        return None


def _without_pairs(metadata: Any) -> Any:
    """Give the mapping that ``serialize`` wrote as pairs; anything else as it is."""
    is_pairs = isinstance(metadata, list) and all(
        isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) for pair in metadata
    )
    return dict(metadata) if is_pairs else metadata


def _checked_statuses(status: Any) -> list[str] | None:
    if status is None:
        return None
    statuses = [status] if isinstance(status, str) else status
    if not isinstance(statuses, Collection) or isinstance(statuses, (bytes, Mapping)) or not statuses:
        raise InvalidInputError(f"status={status!r:.80} can never match: pass statuses, or leave it out")
    for name in statuses:
        if isinstance(name, str) and name in BatchStatus.ACTIVE:
            raise InvalidInputError(
                f"status={name!r} is not a status in which jobs end: choose from "
                f"{', '.join(sorted(BatchStatus.TERMINAL))}"
            )
        check_choice("status", name, sorted(BatchStatus.TERMINAL))
    return sorted(set(statuses))
