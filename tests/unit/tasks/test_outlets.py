"""What the events of a task's outlets say, and that nothing about them fails a task."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Asset, AssetAlias
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_provider_mistral_batch.api.models import BatchJobOut
from airflow_provider_mistral_batch.tasks.outlets import (
    asset_uri,
    describe_job,
    describe_results,
    own_extras,
    write_own_extras,
)

ASSET, ALIAS = Asset("answers"), AssetAlias("latest")
MANIFEST = {
    "batch_ids": ["b1"],
    "results_path": "s3://conn@bucket/run/results.jsonl",
    "errors_path": "s3://conn@bucket/run/errors.jsonl",
    "counts": {"total": 1},
    "usage": {"total_tokens": 3},
    "estimated_cost_usd": 0.1,
    "key": "internal",
}


def context_with(*outlets: Any) -> Any:
    return {"task": SimpleNamespace(outlets=outlets), "outlet_events": OutletEventAccessors()}


def test_an_assets_event_tells_of_the_batch_and_the_users_keys_win() -> None:
    context = context_with(ASSET)
    context["outlet_events"][ASSET].extra.update(counts="mine", note="x")
    describe_results(context, MANIFEST)
    extra = context["outlet_events"][ASSET].extra
    assert extra == {
        **{name: value for name, value in MANIFEST.items() if name != "key"},
        "counts": "mine",
        "note": "x",
    }


def test_an_alias_gets_the_results_asset_without_a_connection() -> None:
    context = context_with(ALIAS)
    describe_results(context, MANIFEST)
    (event,) = context["outlet_events"][ALIAS].asset_alias_events
    assert event.dest_asset_key.uri == "s3://bucket/run/results.jsonl"
    assert event.extra["batch_ids"] == ["b1"]


def test_a_job_without_landed_results_adds_no_asset_to_an_alias() -> None:
    context = context_with(ASSET, ALIAS)
    describe_job(context, BatchJobOut(id="b1", status="completed", raw_status="SUCCESS", created_at=1))
    assert context["outlet_events"][ALIAS].asset_alias_events == []
    assert context["outlet_events"][ASSET].extra["batch_ids"] == ["b1"]


def test_an_outlet_without_events_takes_nothing_from_the_others(caplog: pytest.LogCaptureFixture) -> None:
    other = Asset("other")
    # As OpenLineage's files: Airflow takes any object for an outlet.
    context = context_with(object(), ASSET, Asset.ref(name="nowhere"), other)
    describe_results(context, MANIFEST)
    for asset in (ASSET, other):
        assert context["outlet_events"][asset].extra["batch_ids"] == ["b1"]
    # Only what Airflow cannot resolve is worth a line.
    (line,) = caplog.messages
    assert "nowhere" in line
    context["outlet_events"][other].extra["note"] = "x"
    carried = own_extras(context)
    assert [number for number, _ in carried] == [1, 3]
    assert carried[1][1]["note"] == "x"


@pytest.mark.parametrize(
    "context", [{}, {"task": SimpleNamespace(outlets=[ASSET])}, context_with(object()), context_with(3)]
)
def test_no_trouble_with_an_event_fails_the_task(context: Any) -> None:
    describe_results(context, MANIFEST)


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("/data/a.jsonl", "file:///data/a.jsonl"),
        ("file:///data/a.jsonl", "file:///data/a.jsonl"),
        ("s3://conn@bucket/a b", "s3://bucket/a b"),
        ("gs://bucket/a", "gs://bucket/a"),
        ("s3://conn@bucket/a@b", "s3://bucket/a@b"),
        ("/data/manual__2026-11-29T01:00:00+00:00/a=1", "file:///data/manual__2026-11-29T01:00:00+00:00/a=1"),
        ("/data/a#b?c%d/é", "file:///data/a%23b%3Fc%25d/%C3%A9"),
    ],
)
def test_the_uri_of_an_asset(path: str, uri: str) -> None:
    assert asset_uri(path) == uri
    assert Asset(uri).uri == uri


def test_what_was_written_is_carried_to_the_next_worker() -> None:
    other = Asset("other")
    before, after = context_with(other, ALIAS, ASSET), context_with(other, ALIAS, ASSET)
    before["outlet_events"][ASSET].extra.update(note="x", since="before")
    carried = own_extras(before)
    assert carried == [(2, {"note": "x", "since": "before"})]
    after["outlet_events"][ASSET].extra.update(since="after")
    write_own_extras(after, carried)
    assert after["outlet_events"][ASSET].extra == {"note": "x", "since": "after"}
    assert after["outlet_events"][other].extra == {}


def test_what_cannot_be_carried_is_said_and_fails_nothing(caplog: pytest.LogCaptureFixture) -> None:
    other = Asset("other")
    context = context_with(ASSET, other)
    context["outlet_events"][ASSET].extra.update(note=object(), kept=1)
    context["outlet_events"][other].extra.update(note="x")
    assert own_extras(context) == [(0, {"kept": 1}), (1, {"note": "x"})]
    assert "'note' is lost" in caplog.text
    caplog.clear()
    # The Dag was changed meanwhile.
    write_own_extras(context_with(), [(0, {"note": "x"})])
    assert "is lost" in caplog.text
    assert own_extras({}) == []
