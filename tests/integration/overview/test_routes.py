"""The page's routes over the application that Airflow mounts, with its database and its auth manager, but no login."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow import settings
from airflow.api_fastapi import app as airflow_app
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.core_api.security import get_user
from airflow.models import import_all_models
from airflow.models.base import Base
from airflow.models.dag import DagModel
from sqlalchemy import event, insert, text
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from airflow_provider_mistral_batch.api.client import MistralBatchClient
from airflow_provider_mistral_batch.api.models import BatchJobIn
from airflow_provider_mistral_batch.emulator.client import Control
from airflow_provider_mistral_batch.overview.jobs import TaskKey
from airflow_provider_mistral_batch.overview.ui import routes
from airflow_provider_mistral_batch.overview.ui.app import make_app

from ...airflow_rows import add_task
from ...airflow_versions import since

pytestmark = since("3.1.1", "it shows the page")

TASK = {
    "airflow_dag_id": "nightly",
    "airflow_run_id": "run-1",
    "airflow_task_id": "ask",
    "airflow_map_index": "-1",
}


class AuthManager(SimpleAuthManager):
    """Airflow's simple auth manager, with rights that a test chooses; counts what it is asked."""

    asked = 0
    hidden_dags: frozenset[str] = frozenset()
    read_only_dags: frozenset[str] = frozenset()
    connections = True
    xcoms = True

    def is_authorized_dag(
        self, *, method: str, user: Any, access_entity: Any = None, details: Any = None
    ) -> bool:
        type(self).asked += 1
        if access_entity is not None and not self.xcoms:
            return False
        return details.id not in self.hidden_dags and (
            method == "GET" or details.id not in self.read_only_dags
        )

    def is_authorized_connection(self, **_: Any) -> bool:
        return self.connections


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> type[AuthManager]:
    class OfThisTest(AuthManager):
        pass

    one = OfThisTest()
    monkeypatch.setattr(airflow_app, "get_auth_manager", lambda: one)
    return OfThisTest


@pytest.fixture
def database() -> Iterator[Any]:
    """Airflow's database, with the Dag of ``TASK``."""
    import_all_models()
    assert settings.engine is not None
    Base.metadata.create_all(settings.engine)
    try:
        with settings.engine.begin() as connection:
            add_dags(connection, ["nightly"])
        yield settings.engine
    finally:
        Base.metadata.drop_all(settings.engine)


def add_dags(connection: Any, dag_ids: list[str]) -> None:
    known = {column.name for column in DagModel.__table__.columns}
    fields = {"bundle_name": "dags", "is_paused": False, "is_stale": False, "exceeds_max_non_backfill": False}
    fields |= {
        "max_active_tasks": 16,
        "max_consecutive_failed_dag_runs": 0,
        "has_task_concurrency_limits": False,
    }
    bundles = Base.metadata.tables["dag_bundle"]
    if connection.execute(bundles.select()).first() is None:
        connection.execute(insert(bundles).values(name="dags"))
    rows = [
        {"dag_id": dag_id, **{name: value for name, value in fields.items() if name in known}}
        for dag_id in dag_ids
    ]
    connection.execute(insert(DagModel.__table__), rows)


@pytest.fixture
def page(
    connect: Callable[..., None],
    control: Control,
    manager: type[AuthManager],
    database: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[TestClient]:
    connect()
    monkeypatch.setattr(routes, "board", routes._Board())
    app = make_app()
    app.dependency_overrides[get_user] = lambda: SimpleNamespace(get_name=lambda: "me")
    (view,) = routes.router.dependencies
    assert view.dependency is not None
    app.dependency_overrides[view.dependency] = lambda: None
    with TestClient(app) as client:
        yield client


def finished_job(control: Control, metadata: dict[str, str]) -> str:
    requests = [
        {"custom_id": f"row-{n}", "body": {"messages": [{"role": "user", "content": "hi"}]}} for n in range(5)
    ]
    with MistralBatchClient(control.api_key, control.url) as client:
        job = client.create(BatchJobIn(requests=requests, model="mistral-small-latest", metadata=metadata))
        while not client.get(job.id).is_terminal:
            pass
    return job.id


def land(database: Any, folder: Path, job_id: str, **fields: Any) -> None:
    """Write what a task instance returns when its batch has landed, and the files beside it."""
    folder.mkdir()
    body = {"choices": [{"message": {"content": "landed"}}]}
    (folder / "results.jsonl").write_text(
        json.dumps({"custom_id": "a", "response": {"status_code": 200, "body": body}})
    )
    (folder / "errors.jsonl").write_text("")
    manifest = {f"{kind}_path": str(folder / f"{kind}.jsonl") for kind in ("results", "errors")} | {
        "batch_ids": [job_id],
        **fields,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with Session(database) as session, session.begin():
        # Runs refer to more than these tests need.
        session.execute(text("PRAGMA foreign_keys = OFF"))
        add_task(session, TaskKey("nightly", "run-1", "ask"), {"return_value": manifest})


def test_landed_rows_are_shown_to_who_may_read_xcoms(
    page: TestClient, manager: type[AuthManager], control: Control, database: Any, tmp_path: Path
) -> None:
    job_id = finished_job(control, TASK)
    land(database, tmp_path / "out", job_id)
    control.reset()
    detail = page.get(f"/api/jobs/{job_id}").json()
    assert detail["has_landed_rows"]
    assert [row["text"] for row in detail["answers"]["rows"]] == ["landed"]
    assert detail["manifest"]["batch_ids"] == [job_id]
    # The API is asked for the job, and for no file.
    assert not [name for name in control.requests() if "files" in name]
    manager.xcoms = False
    detail = page.get(f"/api/jobs/{job_id}").json()
    assert (detail["has_landed_rows"], detail["manifest"], detail["landing_problem"]) == (False, None, None)


def test_a_destination_that_is_gone_says_so_and_the_rest_shows(
    page: TestClient, control: Control, database: Any, tmp_path: Path
) -> None:
    job_id = finished_job(control, TASK)
    land(database, tmp_path / "out", job_id)
    (tmp_path / "out" / "manifest.json").unlink()
    detail = page.get(f"/api/jobs/{job_id}").json()
    assert "there is no manifest.json" in detail["landing_problem"]
    assert not detail["has_landed_rows"]
    assert detail["answers"]["rows_read"] == 5 or detail["answers"] is None
    assert detail["manifest"]["batch_ids"] == [job_id]


def test_a_job_of_several_uses_its_share_of_the_batch(
    page: TestClient, control: Control, database: Any, tmp_path: Path
) -> None:
    ids = [finished_job(control, {**TASK, "airflow_part": f"abc/{number}/0"}) for number in range(2)]
    usage = {"prompt_tokens": 100, "completion_tokens": 20}
    land(database, tmp_path / "out", ids[0], batch_ids=ids, usage=usage, counts={"succeeded": 10})
    detail = page.get(f"/api/jobs/{ids[0]}").json()
    assert detail["has_landed_rows"]
    assert detail["job"]["usage"] == {"prompt_tokens": 50, "completion_tokens": 10}
    assert not detail["is_estimate"]
    listed = {job["id"]: job["usage"] for job in page.get("/api/jobs").json()["jobs"]}
    assert listed[ids[0]] == detail["job"]["usage"]


def test_another_airflows_job_gets_nothing_of_a_task_of_the_same_name(
    page: TestClient, control: Control, database: Any, tmp_path: Path
) -> None:
    job_id = finished_job(control, {**TASK, "airflow_deployment": "another"})
    land(database, tmp_path / "out", job_id)
    detail = page.get(f"/api/jobs/{job_id}").json()
    assert (detail["has_landed_rows"], detail["manifest"]) == (False, None)


def test_who_may_not_read_a_dag_sees_none_of_its_jobs(
    page: TestClient, manager: type[AuthManager], control: Control
) -> None:
    (job_id,) = control.make_jobs(1, metadata=TASK)
    assert page.get(f"/api/jobs/{job_id}").status_code == 200
    manager.hidden_dags = frozenset({"nightly"})
    assert page.get("/api/jobs").json()["jobs"] == []
    assert page.get(f"/api/jobs/{job_id}").status_code == 404
    assert page.get("/api/tasks/nightly/run-1/ask").json()["jobs"] == []


def test_rights_are_asked_about_the_dags_of_jobs_only(
    page: TestClient, manager: type[AuthManager], control: Control, database: Any
) -> None:
    with database.begin() as connection:
        add_dags(connection, [f"other-{number}" for number in range(2000)])
    control.make_jobs(30, metadata=TASK)
    control.make_jobs(10, metadata={**TASK, "airflow_dag_id": "other-7"})
    control.make_jobs(10, metadata={**TASK, "airflow_dag_id": "gone"})
    page.get("/api/jobs")
    manager.asked = 0
    statements: list[str] = []
    event.listen(database, "before_cursor_execute", lambda *given: statements.append(given[2]))
    answer = page.get("/api/jobs").json()
    # Two Dags exist: may the user read them, and edit them?
    assert manager.asked == 4
    assert sum("FROM dag" in statement for statement in statements) <= 4
    assert len(answer["may_cancel"]) == answer["total"] == 50
    manager.read_only_dags, manager.connections = frozenset({"nightly"}), False
    answer = page.get("/api/jobs").json()
    assert (answer["total"], len(answer["may_cancel"])) == (40, 10)


@pytest.mark.parametrize("sort", ["cost_usd", "tokens"])
def test_jobs_are_sorted_by_what_they_cost(
    page: TestClient, control: Control, database: Any, tmp_path: Path, sort: str
) -> None:
    (dear,) = control.make_jobs(1, status="SUCCESS", metadata=TASK, age_seconds=500)
    control.make_jobs(60, status="SUCCESS", metadata={**TASK, "airflow_run_id": "other"})
    land(database, tmp_path / "out", dear, usage={"prompt_tokens": 5}, estimated_cost_usd=2.5)
    answer = page.get(f"/api/jobs?sort={sort}").json()
    assert (answer["jobs"][0]["id"], answer["jobs"][0]["cost_usd"]) == (dear, 2.5)
    assert answer["has_all_costs"]
    assert dear not in page.get("/api/jobs").text


def test_a_running_job_has_the_cost_that_earlier_ones_let_expect(
    page: TestClient, control: Control, database: Any, tmp_path: Path
) -> None:
    kind: dict[str, Any] = {"model": "a", "total_requests": 40}
    (landed,) = control.make_jobs(1, status="SUCCESS", metadata=TASK, age_seconds=500, **kind)
    (running,) = control.make_jobs(1, metadata={**TASK, "airflow_run_id": "run-2"}, **kind)
    land(database, tmp_path / "out", landed, usage={"prompt_tokens": 5}, estimated_cost_usd=2.5)
    shown = {job["id"]: job for job in page.get("/api/jobs?sort=cost_usd").json()["jobs"]}
    assert [shown[running][name] for name in ("cost_usd", "expected_cost_usd")] == [None, 2.5]
    assert shown[landed]["expected_cost_usd"] is None
    assert page.get(f"/api/jobs/{running}").json()["job"]["expected_cost_usd"] == 2.5
    month = page.get("/api/overview").json()["month"]
    assert (month["cost_usd"], month["expected_cost_usd"]) == (2.5, 2.5)


def test_a_task_has_the_jobs_of_all_its_tries_and_rounds_by_map_index(
    page: TestClient, control: Control
) -> None:
    parts = [("a/0/0", "0"), ("a/1/0", "0"), ("b/0/0", "0"), ("c/0/0", "1")]
    ids = [
        control.make_jobs(1, metadata={**TASK, "airflow_map_index": index, "airflow_part": part})[0]
        for part, index in parts
    ]
    control.make_jobs(1, metadata={**TASK, "airflow_task_id": "another"})

    def jobs(query: str) -> set[str]:
        return {job["id"] for job in page.get(f"/api/tasks/nightly/run-1/ask{query}").json()["jobs"]}

    assert jobs("?map_index=0") == set(ids[:3])
    assert jobs("?map_index=1") == {ids[3]}
    # The summary of a mapped task, and an instance that is not mapped, come without an index.
    assert jobs("") == jobs("?map_index=-1") == set(ids)


def test_a_job_names_the_others_of_its_batch_by_round(page: TestClient, control: Control) -> None:
    second, other_batch, first, of_another_task = (
        control.make_jobs(1, metadata={**TASK, **more})[0]
        for more in (
            {"airflow_part": "abc/1/0"},
            {"airflow_part": "def/0/0"},
            {"airflow_part": "abc/0/0"},
            {"airflow_part": "abc/0/0", "airflow_task_id": "other"},
        )
    )
    alone = control.make_jobs(1, metadata=TASK)[0]

    def batch_of(job_id: str) -> list[str]:
        return [job["id"] for job in page.get(f"/api/jobs/{job_id}").json()["batch"]]

    assert batch_of(second) == batch_of(first) == [first, second]
    assert [batch_of(job_id) for job_id in (other_batch, of_another_task, alone)] == [
        [other_batch],
        [of_another_task],
        [alone],
    ]


def test_pending_are_the_jobs_that_one_sees_and_the_share_is_the_workspaces(
    page: TestClient, manager: type[AuthManager], control: Control
) -> None:
    control.make_jobs(2, metadata=TASK, total_requests=100)
    control.make_jobs(3, total_requests=10)
    manager.connections = False
    pending = page.get("/api/overview").json()["pending"]
    assert (pending["jobs"], pending["requests"]) == (2, 200)
    assert pending["share"] == pytest.approx(230 / pending["limit"])
