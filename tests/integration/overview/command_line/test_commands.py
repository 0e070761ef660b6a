"""The command line against a real server: what it prints, what it refuses, and its exit statuses."""

from __future__ import annotations

import io
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from requests_toolbelt.sessions import BaseUrlSession

from airflow_provider_mistral_batch.emulator.client import Control
from airflow_provider_mistral_batch.overview.command_line.main import main

TASK = {
    "airflow_dag_id": "nightly",
    "airflow_run_id": "run-1",
    "airflow_task_id": "batch",
    "airflow_map_index": "3",
}


@pytest.fixture(autouse=True)
def _connected(connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    connect()
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    # Undone at the end: the command line is a process of its own otherwise.
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command; gives its exit status, what it printed and what it said of errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def finished_job(api: BaseUrlSession, rows: int = 20, text: str = "hello", **fields: Any) -> str:
    """Run an inline job to its end."""
    requests = [
        {"custom_id": f"row-{number}", "body": {"messages": [{"role": "user", "content": text}]}}
        for number in range(rows)
    ]
    body = {
        "requests": requests,
        "endpoint": "/v1/chat/completions",
        "model": "mistral-small-latest",
        **fields,
    }
    job = api.post("/v1/batch/jobs", json=body).json()
    until = time.monotonic() + 30
    while api.get(f"/v1/batch/jobs/{job['id']}").json()["status"] != "SUCCESS":
        assert time.monotonic() < until
        time.sleep(0.02)
    return str(job["id"])


def test_jobs_for_another_program(run, control: Control) -> None:
    (job_id,) = control.make_jobs(1, metadata=TASK, total_requests=1000)
    control.make_jobs(1, status="FAILED")
    status, out, err = run("jobs", "--running")
    assert (status, err) == (0, "")
    header, line = out.splitlines()
    assert header.split("\t")[0] == "status"
    assert line.split("\t")[0] == "in_progress"
    assert line.endswith(job_id)
    assert "nightly / batch[3] / run-1" in line


def test_jobs_as_json(run, control: Control) -> None:
    control.make_jobs(3, metadata=TASK)
    control.make_jobs(4, status="FAILED")
    status, out, _ = run("jobs", "--dag", "nightly", "--json", "--limit", "2")
    assert status == 0
    answer = json.loads(out)
    assert (len(answer["jobs"]), answer["total"], answer["pages"]) == (2, 3, 2)
    assert answer["counts_by_status"] == {"in_progress": 3}
    assert answer["connections"][0]["conn_id"] == "mistral_default"


def test_a_table_on_a_terminal(run, control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    (job_id,) = control.make_jobs(1, metadata=TASK)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    status, out, _ = run("jobs")
    assert status == 0
    assert job_id in out
    assert "1 in_progress" in out


@pytest.mark.parametrize("arguments", [("jobs",), ("jobs", "--json"), ("show",)])
def test_no_text_steers_the_terminal(run, control: Control, arguments: tuple[str, ...]) -> None:
    hostile = {"airflow_dag_id": "\x1b]0;owned\x07[red]\u202e", "airflow_run_id": "r\n\tx", "note": "\x9b2J"}
    (job_id,) = control.make_jobs(1, metadata={**TASK, **hostile}, model="\x1b[2J[link=http://x]m")
    status, out, _ = run(*arguments, *([job_id] if arguments == ("show",) else []))
    assert status == 0
    assert re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", out) is None
    assert "[red]" in out


def test_a_connection_that_fails_does_not_hide_the_others(
    run, control: Control, connect: Callable[..., None]
) -> None:
    control.make_jobs(2)
    connect("broken", key="")
    status, out, err = run("jobs")
    assert status == 3
    assert len(out.splitlines()) == 3
    assert err.startswith("connection 'broken': ")
    assert run("jobs", "--conn-id", "broken")[0] == 1
    assert run("jobs", "--conn-id", "mistral_default")[0] == 0


def test_connections_of_airflows_database_are_found(
    run, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow import settings
    from airflow.models.base import Base
    from airflow.models.connection import Connection
    from sqlalchemy import insert

    assert settings.engine is not None
    control.make_jobs(2)
    # As at a shell: only Airflow's own servers say that they are servers.
    monkeypatch.delenv("_AIRFLOW_PROCESS_CONTEXT")
    monkeypatch.delenv("AIRFLOW_CONN_MISTRAL_DEFAULT")
    table = Connection.__table__
    # Newer Airflows check that a connection's team exists.
    tables = [Base.metadata.tables[name] for name in ("team", "connection") if name in Base.metadata.tables]
    Base.metadata.create_all(settings.engine, tables=tables)
    try:
        fields = {"conn_id": "ours", "conn_type": "mistral", "host": control.url}
        with settings.engine.begin() as database:
            database.execute(
                insert(table).values(
                    **fields, password=control.api_key, is_encrypted=False, is_extra_encrypted=False
                )
            )
        status, out, err = run("jobs", "--json")
        assert (status, err) == (0, "")
        assert [job["connections"] for job in json.loads(out)["jobs"]] == [["ours"]] * 2
    finally:
        Base.metadata.drop_all(settings.engine, tables=tables)


def test_a_long_listing_survives_a_busy_api(run, control: Control) -> None:
    control.make_jobs(350)
    control.fault("status", "GET", "/v1/batch/jobs", status=429, skip=2, times=2)
    status, out, err = run("jobs", "--json", "--limit", "1000")
    assert (status, err) == (0, "")
    assert json.loads(out)["total"] == 350


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("jobs", "--since", "yesterday"), "--since='yesterday'"),
        (("jobs", "--limit", "0"), "--limit=0"),
        (("jobs", "--limit", "1001"), "--limit=1001"),
        (("jobs", "--page", "one"), "--page='one'"),
        (("jobs", "--until", "tomorrow"), "--until='tomorrow'"),
        (("jobs", "--status", "complete"), "--status='complete'"),
        (("jobs", "--running", "--status", "failed"), "exclude each other"),
        (("cost", "--estimate", "many"), "--estimate='many'"),
        (("show", ""), "batch_id"),
    ],
)
def test_wrong_arguments_are_named(run, arguments: tuple[str, ...], message: str) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_orphans_need_airflows_database(run, control: Control) -> None:
    control.make_jobs(1, metadata=TASK, age_seconds=600)
    status, _, err = run("jobs", "--orphans")
    assert status == 1
    assert "run this where the scheduler or the API server runs" in err


def test_one_job(run, api: BaseUrlSession) -> None:
    job_id = finished_job(api)
    status, out, err = run("show", job_id)
    assert (status, err) == (0, "")
    assert "completed after" in out
    assert "all 20 rows: 20 x 200" in out
    assert "row-9: You asked: hello" in out
    detail = json.loads(run("show", job_id, "--json")[1])
    assert detail["answers"]["by_status"] == {"200": 20}
    assert detail["job"]["usage"]["prompt_tokens"] > 0


def test_large_results_are_not_read_to_their_end(run, api: BaseUrlSession) -> None:
    job_id = finished_job(api, rows=1000)
    detail = json.loads(run("show", job_id, "--json")[1])
    assert not detail["answers"]["is_whole"]
    assert 100 < detail["answers"]["rows_read"] < 1000
    assert len(detail["answers"]["rows"]) == 10
    assert len(json.dumps(detail)) < 20_000
    # Of all rows, by the first ones.
    assert detail["is_estimate"]
    few = json.loads(run("show", finished_job(api, rows=10), "--json")[1])["job"]["usage"]["prompt_tokens"]
    assert detail["job"]["usage"]["prompt_tokens"] == pytest.approx(100 * few, rel=0.01)


def test_a_job_that_nobody_knows(run) -> None:
    status, _, err = run("show", "00000000-0000-0000-0000-000000000000")
    assert status == 1
    assert "is in the workspace of mistral_default: pass a whole id" in err
    # As the page's table shows it.
    status, _, err = run("show", "00000000")
    assert status == 1
    assert "no job '00000000'" in err


def test_a_job_that_a_broken_connection_may_hide(run, connect: Callable[..., None], control: Control) -> None:
    connect("broken", key="")
    (job_id,) = control.make_jobs(1)
    assert run("show", job_id)[0] == 0
    status, _, err = run("show", "00000000-0000-0000-0000-000000000000")
    assert status == 1
    assert "workspace of mistral_default, and this connection could not be asked: connection 'broken'" in err


def test_a_connection_that_is_not_there(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_MISTRAL_DEFAULT")
    for command in (("jobs",), ("show", "00000000-0000-0000-0000-000000000000")):
        assert "'mistral_default': there is no such connection: create it" in run(*command)[2]


def test_a_status_that_only_the_api_knows_can_be_asked_for(run, control: Control) -> None:
    (job_id,) = control.make_jobs(1)
    control.plan_job(job_id, status="PAUSED")
    name = json.loads(run("jobs", "--json")[1])["jobs"][0]["status"]
    status, out, _ = run("jobs", "--status", name)
    assert (status, len(out.splitlines())) == (0, 2)


def test_nobody_answers_the_question(run, control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    (job_id,) = control.make_jobs(1)
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", terminal)
    status, _, err = run("cancel", job_id)
    assert status == 2
    assert err.endswith("not cancelled\n")


def test_files_without_rows_are_said_to_have_none(run, api: BaseUrlSession, control: Control) -> None:
    (job_id,) = control.make_jobs(1)
    control.end_jobs([job_id])
    until = time.monotonic() + 30
    while (out := run("show", job_id)[1]).splitlines()[1].split()[1] != "completed":
        assert time.monotonic() < until
    assert "\nAnswers: none\n" in out


def test_a_job_is_cancelled_only_when_asked_twice(run, control: Control) -> None:
    (job_id,) = control.make_jobs(1)
    status, _, err = run("cancel", job_id)
    assert status == 2
    assert "pass --yes" in err
    assert json.loads(run("show", job_id, "--json")[1])["job"]["status"] == "in_progress"
    status, out, _ = run("cancel", job_id, "--yes")
    assert status == 0
    assert re.search("is cancell(ing|ed)", out)


def test_a_job_that_is_over_is_not_cancelled(run, control: Control) -> None:
    (job_id,) = control.make_jobs(1, status="FAILED")
    status, _, err = run("cancel", job_id, "--yes")
    assert status == 1
    assert "is failed already" in err


def test_results_land_whole_although_the_connection_breaks(
    run, api: BaseUrlSession, control: Control, tmp_path: Path
) -> None:
    job_id = finished_job(api, rows=500)
    fault = control.fault("cut", "GET", "/v1/files/*/content", times=1, bytes=70_000)
    status, _, err = run("download", job_id, str(tmp_path / "out"))
    # Older versions of rich end a hidden bar with an empty line.
    assert (status, err.strip()) == (0, "")
    files = list((tmp_path / "out").iterdir())
    assert [file.name for file in files] == ["results.jsonl"]
    assert len(files[0].read_bytes().splitlines()) == 500
    assert control.fault_state(fault)["hits"] == 1


def test_a_download_that_fails_leaves_nothing(
    run, api: BaseUrlSession, control: Control, tmp_path: Path
) -> None:
    job_id = finished_job(api)
    control.fault("status", "GET", "/v1/files/*/content", status=403, times=None)
    status, _, err = run("download", job_id, str(tmp_path))
    assert status == 1
    assert "403" in err
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_there_stay(run, api: BaseUrlSession, tmp_path: Path) -> None:
    job_id = finished_job(api)
    (tmp_path / "results.jsonl").write_text("precious")
    status, _, err = run("download", job_id, str(tmp_path))
    assert status == 2
    assert "pass --force" in err
    assert (tmp_path / "results.jsonl").read_text() == "precious"
    assert run("download", job_id, str(tmp_path), "--force")[0] == 0
    assert (tmp_path / "results.jsonl").read_text() != "precious"


def test_a_running_job_has_nothing_to_download(run, control: Control, tmp_path: Path) -> None:
    (job_id,) = control.make_jobs(1)
    status, _, err = run("download", job_id, str(tmp_path))
    assert status == 2
    assert "is in_progress" in err


def test_cost_is_estimated_from_the_first_rows(run, api: BaseUrlSession, control: Control) -> None:
    finished_job(api)
    control.make_jobs(1, status="FAILED", model="other")
    status, out, _ = run("cost", "--by", "model", "--json")
    assert status == 0
    answer = json.loads(out)
    assert [one["name"] for one in answer["sums"]] == ["mistral-small-latest", "other"]
    assert answer["sums"][0]["cost_usd"] > 0
    assert answer["total"]["tokens"] == answer["sums"][0]["tokens"] > 0
    assert json.loads(run("cost", "--estimate", "0", "--json")[1])["total"]["cost_usd"] is None


def test_costs_that_are_not_known_say_why(run, api: BaseUrlSession, control: Control) -> None:
    finished_job(api, metadata=TASK)
    control.make_jobs(1, status="SUCCESS")
    _, out, err = run("cost")
    assert "e-0" not in out
    assert "without what tasks returned, costs are estimates alone: Airflow's database cannot be asked" in err
    assert "1 job left no results to estimate a cost from" in err
    assert "--estimate" not in err
    assert "1 more jobs were not read: raise --estimate" in run("cost", "--estimate", "0")[2]
    finished_job(api, model="model-of-nobody")
    assert "no price is known for 1 job (model-of-nobody): install" in run("cost")[2]


def test_the_cost_of_running_jobs_is_expected(run, api: BaseUrlSession, control: Control) -> None:
    task = {"airflow_dag_id": "nightly", "airflow_run_id": "run-1", "airflow_task_id": "ask"}
    finished = finished_job(api, metadata=task)
    model = api.get(f"/v1/batch/jobs/{finished}").json()["model"]
    control.make_jobs(1, model=model, total_requests=100, metadata={**task, "airflow_run_id": "run-2"})
    total = json.loads(run("cost", "--json")[1])["total"]
    assert total["expected_cost_usd"] > total["cost_usd"] > 0
    header, *lines = run("cost")[1].splitlines()
    assert header.endswith("\tcost\texpected")
    assert lines[-1].split("\t")[-1].startswith("about $")
