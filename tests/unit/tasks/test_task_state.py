"""What is kept for the Storage tab of Airflow's UI, and that it never costs a task anything."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_mistral_batch.tasks import task_state


class Store:
    """Stands for Airflow's store of one task instance."""

    def __init__(self, **kept: Any) -> None:
        self.kept = kept
        self.asked = 0

    def get(self, key: str) -> Any:
        self.asked += 1
        return self.kept.get(key)

    def set(self, key: str, value: Any) -> None:
        self.kept[key] = value


def keep(store: Any, **given: Any) -> None:
    task_state.keep({"task_state_store": store}, **given)


@pytest.mark.parametrize(
    ("kept", "submitted", "expected"),
    [
        (None, ["a"], ["a"]),
        (["a"], ["b"], ["a", "b"]),
        # A retry attaches to the same job.
        (["a", "b"], ["a"], ["a", "b"]),
        # Somebody has edited it.
        ("a", ["b"], ["b"]),
        (["a", 7, None], ["b"], ["a", "b"]),
        (
            [f"{number}" for number in range(1_000)],
            ["new"],
            [*(f"{number}" for number in range(1, 1_000)), "new"],
        ),
    ],
)
def test_ids_of_all_tries_are_kept(kept: Any, submitted: list[str], expected: list[str]) -> None:
    store = Store(batch_ids=kept)
    keep(store, batch_ids=submitted)
    assert store.kept == {"batch_ids": expected}


def test_counts_replace_those_of_earlier_tries() -> None:
    store = Store(batch_ids=["a"], counts={"total": 9})
    keep(store, counts={"total": 3, "failed": 1})
    assert store.kept == {"batch_ids": ["a"], "counts": {"total": 3, "failed": 1}}


def test_nothing_is_kept_where_airflow_keeps_nothing() -> None:
    task_state.keep({}, batch_ids=["a"], counts={})


class Broken(Store):
    def get(self, key: str) -> Any:
        super().get(key)
        raise RuntimeError("no such table")


class Silent(Store):
    """Never answers."""

    def get(self, key: str) -> Any:
        super().get(key)
        threading.Event().wait()


class Unhashable(Broken):
    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("kind", "says"),
    [(Broken, "no such table"), (Unhashable, "no such table"), (Silent, "not kept within 0.05 s")],
)
def test_trouble_costs_one_warning_and_one_attempt(
    kind: type[Store], says: str, monkeypatch: pytest.MonkeyPatch, logged: Callable[[], list[str]]
) -> None:
    monkeypatch.setattr(task_state, "_SECONDS", 0.05)
    store = kind()
    for batch_id in ("a", "b"):
        keep(store, batch_ids=[batch_id])
    (line,) = logged()
    assert line.startswith("warning: ")
    assert says in line
    assert store.asked == 1


def test_a_machine_without_a_thread_to_spare_costs_one_warning(
    monkeypatch: pytest.MonkeyPatch, logged: Callable[[], list[str]]
) -> None:
    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    keep(Store(), batch_ids=["a"])
    (line,) = logged()
    assert "can't start new thread" in line
