"""``@task.mistral_batch``: what the function gives is asked, what the task returns is the manifest."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, task

OPTIONS: dict[str, Any] = {
    "model": "mistral-small-latest",
    "max_tokens": 20,
    "poll_interval": 0.05,
    "poll_interval_min": 0.02,
}


@pytest.fixture
def run(airflow: Any, tmp_path: Path) -> Callable[..., Any]:
    """Runs the task that a decorated function becomes when it is called with some arguments."""

    def run(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        def make() -> Any:
            with DAG("dag", schedule=None):
                decorated = task.mistral_batch(
                    **{**OPTIONS, "task_id": "ask", "destination": str(tmp_path / "out"), **options}
                )
                return decorated(function)(*args).operator

        return airflow.run(make)

    return run


def rows_of(manifest: dict[str, Any]) -> set[str]:
    lines = Path(manifest["results_path"]).read_text().splitlines()
    return {json.loads(line)["custom_id"] for line in lines}


def row(name: str) -> dict[str, Any]:
    return {"custom_id": name, "body": {"messages": [{"role": "user", "content": name}]}}


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_function_yields_rows(run: Any, control: Any, deferrable: bool) -> None:
    control.settings(job_seconds=0.1)
    calls = []

    def ask(names: list[str]) -> Iterator[dict[str, Any]]:
        calls.append(names)
        yield from map(row, names)

    outcome = run(ask, ["a", "b"], deferrable=deferrable)
    assert outcome.state == "success", outcome.message
    assert rows_of(outcome.value) == {"a", "b"}
    # Not called again by the worker that goes on after the wait.
    assert calls == [["a", "b"]]


def test_a_function_returns_prompts_and_they_are_no_templates(run: Any, hook: Any, jobs: Any) -> None:
    outcome = run(lambda: ["What is {{ this }}?", "{% And this?"])
    assert outcome.state == "success", outcome.message
    assert rows_of(outcome.value) == {"row-1", "row-2"}
    assert b"What is {{ this }}?" in hook.download_file(jobs()[0]["input_files"][0])


def test_a_function_names_a_file(run: Any, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(json.dumps(row("a")) + "\n")
    outcome = run(lambda: tmp_path / "in.jsonl")
    assert outcome.state == "success", outcome.message
    assert rows_of(outcome.value) == {"a"}


def test_a_function_sees_the_context(run: Any) -> None:
    def ask(ti: Any = None) -> list[dict[str, Any]]:
        return [row(ti.task_id)]

    assert rows_of(run(ask).value) == {"task"}


@pytest.mark.parametrize("value", [None, "one prompt", 5, {"custom_id": "a", "body": {}}])
def test_anything_else_is_refused(run: Any, value: Any, control: Any) -> None:
    outcome = run(lambda: value)
    assert outcome.state == "failed"
    assert "returned" in outcome.message
    assert "return or yield rows" in outcome.message
    assert not any(operation.startswith("POST") for operation in control.requests())


@pytest.mark.parametrize("name", ["requests", "path"])
def test_the_function_alone_says_what_is_asked(name: str, run: Any) -> None:
    with pytest.raises(ValueError, match=name):
        run(lambda: ["a"], **{name: ["b"]})
