"""The metrics: each is documented with its kind and tags, each is sent as it says, and none can harm a task."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mistral_batch.api.models import BatchJobOut
from airflow_provider_mistral_batch.observability import metrics

PAGE = Path(__file__).parents[3] / "docs" / "observability.md"

JOB = BatchJobOut(
    id="j", endpoint="/v1/ocr", status="completed", raw_status="SUCCESS", created_at=100, completed_at=160
)
MANIFEST = {
    "batch_ids": ["j"],
    "counts": {"total": 3, "succeeded": 2, "failed": 1, "missing": 0, "by_status": {"200": 2}},
    "rounds": 1,
    "started_at": 100,
    "completed_at": 160,
}


class Recorder:
    """Takes what Airflow's ``Stats`` takes."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, Any, dict[str, str]]] = []

    def incr(self, stat: str, count: int = 1, rate: float = 1, *, tags: dict[str, str]) -> None:
        self.sent.append(("counter", stat, count, tags))

    def gauge(
        self, stat: str, value: float, rate: float = 1, delta: bool = False, *, tags: dict[str, str]
    ) -> None:
        self.sent.append(("gauge", stat, value, tags))

    def timing(self, stat: str, dt: float, *, tags: dict[str, str]) -> None:
        self.sent.append(("timer", stat, dt, tags))


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, Any, dict[str, str]]]:
    recorder = Recorder()
    monkeypatch.setattr(metrics, "_stats", lambda: recorder)
    return recorder.sent


def count_everything() -> None:
    metrics.job_submitted("m", "/v1/ocr")
    metrics.job_attached(None, "/v1/ocr")
    metrics.job_ended(JOB, "m")
    metrics.rows_landed(MANIFEST["counts"], "m", "/v1/ocr")  # type: ignore[arg-type]
    metrics.usage_landed({"prompt_tokens": 5, "completion_tokens": 7}, 0.0123, "m", "/v1/ocr")
    metrics.api_called("GET", 429)
    metrics.api_called("GET", None)
    metrics.looked("mistral_default", 3)
    metrics.batch_traced(MANIFEST, "m", "/v1/ocr")


def test_each_metric_is_sent_as_it_is_declared(sent: list[tuple[str, str, Any, dict[str, str]]]) -> None:
    count_everything()
    assert {name for _, name, _, _ in sent} == set(metrics.METRICS)
    for kind, name, _, tags in sent:
        assert metrics.Metric(kind, tuple(tags)) == metrics.METRICS[name]


def test_each_metric_has_its_value(sent: list[tuple[str, str, Any, dict[str, str]]]) -> None:
    count_everything()
    values = [(name, value, tags) for _, name, value, tags in sent]
    of_job = {"model": "m", "endpoint": "/v1/ocr"}
    assert (metrics.ATTACHED, 1, {**of_job, "model": "unknown"}) in values
    assert (metrics.DURATION, 60_000.0, {**of_job, "status": "completed"}) in values
    assert [one for one in values if one[0] == metrics.ROWS] == [
        (metrics.ROWS, 2, {**of_job, "outcome": "succeeded"}),
        (metrics.ROWS, 1, {**of_job, "outcome": "failed"}),
    ]
    assert (metrics.TOKENS, 7, {**of_job, "kind": "completion"}) in values
    assert (metrics.COST, 12_300, of_job) in values
    assert (metrics.CALLS, 1, {"method": "GET", "status": "none"}) in values
    assert (metrics.WATCHED, 3, {"conn_id": "mistral_default"}) in values


def test_a_tag_from_outside_is_cut_and_cleaned(sent: list[tuple[str, str, Any, dict[str, str]]]) -> None:
    metrics.job_submitted("ft:a|b,c=d#é\n" + "x" * 200, "/v1/ocr")
    assert sent[0][3]["model"] == ("ft_a_b_c_d___" + "x" * 200)[:64]


def test_the_page_names_each_metric_with_its_kind_and_tags() -> None:
    rows = re.findall(
        r"^\| `(mistral_batch\.[\w.]+)` \| (\w+) \| ([^|]*) \|", PAGE.read_text("utf-8"), re.MULTILINE
    )
    documented = {
        name: metrics.Metric(kind, tuple(re.findall(r"`(\w+)`", tags))) for name, kind, tags in rows
    }
    assert documented == metrics.METRICS


def test_no_trouble_with_metrics_reaches_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise OSError("no route to host")

    monkeypatch.setattr(metrics, "_stats", broken)
    count_everything()
    metrics.rows_landed(None, "m", "/v1/ocr")  # type: ignore[arg-type]
    metrics.batch_traced({}, None, "/v1/ocr")


def test_a_batch_leaves_one_span_from_its_start_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    with provider.get_tracer("airflow").start_as_current_span("worker.task"):
        metrics.batch_traced(MANIFEST, "m", "/v1/ocr")
    span, of_task = exporter.get_finished_spans()
    assert (span.name, span.start_time, span.end_time) == (metrics.SPAN, 100 * 10**9, 160 * 10**9)
    assert span.parent is not None
    assert span.parent.span_id == of_task.context.span_id
    assert span.attributes is not None
    assert span.attributes["mistral_batch.batch_ids"] == ("j",)
    assert span.attributes["mistral_batch.succeeded"] == 2
    assert not any(isinstance(value, dict) for value in span.attributes.values())
