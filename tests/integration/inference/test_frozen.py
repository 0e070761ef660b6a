"""What a function gave is frozen from the first submission until the task is cleared, whatever its table says since."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, cast
from unittest import mock

import pytest
from airflow.sdk import DAG, task

from airflow_provider_mistral_batch.inference.batch import Batch
from airflow_provider_mistral_batch.policies.freezing import FROZEN

FROZEN_FILE = ".rounds/*/frozen.json"


class Table:
    """A table that a decorated function reads, and how often it was read."""

    def __init__(self, path: Path) -> None:
        self.path, self.reads, self.is_away = path, 0, False
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE reviews (name TEXT, text TEXT)")
        self.add("a", "b", "c")

    def add(self, *names: str) -> None:
        with sqlite3.connect(self.path) as database:
            database.executemany(
                "INSERT INTO reviews VALUES (?, ?)", [(name, f"Say {name}") for name in names]
            )

    def read(self) -> list[dict[str, Any]]:
        self.reads += 1
        if self.is_away:
            raise ConnectionError("the database is away")
        with sqlite3.connect(self.path) as database:
            rows = database.execute("SELECT name, text FROM reviews ORDER BY name").fetchall()
        return [
            {"custom_id": name, "body": {"messages": [{"role": "user", "content": text}]}}
            for name, text in rows
        ]


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path / "reviews.sqlite")


@pytest.fixture
def ask(airflow: Any, table: Table, out: Path) -> Callable[..., Any]:
    """Runs one try of a task whose function reads the table."""

    def ask(ti: Any, **options: Any) -> Any:
        def make() -> Any:
            with DAG("dag", schedule=None):
                decorated: Any = task.mistral_batch(
                    **{
                        "task_id": "task",
                        "destination": str(out),
                        "model": "mistral-small-latest",
                        "max_tokens": 20,
                        "poll_interval_min": 0.02,
                        "poll_interval": 0.05,
                        **options,
                    }
                )
                return decorated(table.read)().operator

        return airflow.run(make, ti)

    return ask


def _die(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError("the store is away")


def failing(step: str) -> Any:
    """A step of the batch fails, as if its store or its worker had gone."""
    return mock.patch.object(Batch, step, _die)


@pytest.fixture(params=["kept", "torn", "foreign", "no plan", "a folder", "gone", "emptied"])
def record(request: pytest.FixtureRequest, out: Path) -> Callable[[], None]:
    """What became of the record in the destination between two tries."""

    def spoil() -> None:
        (file,) = out.glob(FROZEN_FILE)
        match request.param:
            case "torn":
                file.write_bytes(file.read_bytes()[:40])
            case "foreign":
                file.write_text(json.dumps({**json.loads(file.read_bytes()), "source": "another"}))
            case "no plan":
                file.write_text('{"jobs": 3}')
            case "a folder":
                file.unlink()
                file.mkdir()
            case "gone":
                file.unlink()
            case "emptied":
                shutil.rmtree(out)

    return spoil


def test_a_row_that_comes_in_after_a_landing_that_failed_makes_no_second_job(
    ask: Any, table: Table, new_ti: Any, jobs: Any, rows_of: Any, way: dict[str, Any], record: Any
) -> None:
    ti = new_ti()
    with failing("land"):
        assert ask(ti, **way).state == "retry"
    record()
    table.add("d")
    second = ask(ti.next_try(), **way)
    assert second.state == "success", second.message
    assert table.reads == 1
    assert len(jobs()) == 1
    assert sorted(rows_of(second.value["results_path"])) == ["a", "b", "c"]
    assert second.value["counts"]["missing"] == 0


def test_a_source_that_is_away_stops_no_landing(ask: Any, table: Table, new_ti: Any, jobs: Any) -> None:
    ti = new_ti()
    with failing("land"):
        ask(ti)
    table.is_away = True
    second = ask(ti.next_try())
    assert second.state == "success", second.message
    assert (table.reads, len(jobs())) == (1, 1)


def test_a_clear_asks_the_source_anew(ask: Any, table: Table, new_ti: Any, jobs: Any, rows_of: Any) -> None:
    ti = new_ti()
    with failing("land"):
        ask(ti)
    table.add("d")
    cleared = ask(ti.cleared())
    assert cleared.state == "success", cleared.message
    assert sorted(rows_of(cleared.value["results_path"])) == ["a", "b", "c", "d"]
    assert (table.reads, len(jobs())) == (2, 2)


def test_a_clear_that_gets_the_same_rows_costs_nothing(ask: Any, new_ti: Any, jobs: Any, sent: Any) -> None:
    ti = new_ti()
    first = ask(ti)
    before = sent()
    assert ask(ti.cleared()).value == first.value
    assert sent() == before


@pytest.mark.parametrize(
    "changed",
    [
        {"model": "mistral-large-latest"},
        {"max_tokens": 21},
        {"temperature": 0.5},
        {"system": "Be brief."},
        {"response_format": {"type": "json_object"}},
        {"parameters": {"top_p": 0.9}},
        {"completion_window": "48h"},
        {"max_pending_requests": 2},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_changed_parameters_are_new_work_and_the_source_is_asked_again(
    changed: dict[str, Any], ask: Any, table: Table, new_ti: Any, rows_of: Any
) -> None:
    ti = new_ti()
    with failing("land"):
        ask(ti)
    table.add("d")
    second = ask(ti.next_try(), **changed)
    assert second.state == "success", second.message
    assert table.reads == 2
    assert sorted(rows_of(second.value["results_path"])) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "failed"])
def test_between_upload_and_create_a_kill_leaves_the_input_frozen_and_a_failure_does_not(
    killed: bool, ask: Any, table: Table, new_ti: Any, jobs: Any, out: Path
) -> None:
    ti = new_ti()
    with failing("submit"):
        ask(ti)
    # An error takes the claim back, and the record with it; a killed worker cannot.
    assert not list(out.glob(FROZEN_FILE))
    if killed:
        with (
            failing("submit"),
            mock.patch("airflow_provider_mistral_batch.tasks.destination.Destination.withdraw"),
        ):
            ask(ti)
        assert list(out.glob(FROZEN_FILE))
    reads = table.reads
    table.add("d")
    second = ask(ti.next_try())
    assert second.state == "success", second.message
    assert table.reads - reads == (0 if killed else 1)
    assert second.value["counts"]["total"] == (3 if killed else 4)
    assert len(jobs()) == 1


def test_of_several_jobs_only_the_first_was_created(
    ask: Any, table: Table, new_ti: Any, jobs: Any, rows_of: Any, control: Any, way: dict[str, Any]
) -> None:
    control.fault("status", "POST", "/v1/batch/jobs", status=403, skip=1, times=1)
    ti = new_ti()
    assert ask(ti, max_pending_requests=2, cancel_on_kill=False, **way).state == "failed"
    assert len(jobs()) == 1
    table.add("d")
    second = ask(ti.next_try(), max_pending_requests=2, cancel_on_kill=False, **way)
    assert second.state == "success", second.message
    assert (table.reads, len(jobs())) == (1, 2)
    assert sorted(rows_of(second.value["results_path"])) == ["a", "b", "c"]


def test_of_several_jobs_only_the_first_was_created_and_the_rest_is_nowhere(
    ask: Any, table: Table, new_ti: Any, jobs: Any, control: Any, out: Path, logged: Any
) -> None:
    control.fault("status", "POST", "/v1/batch/jobs", status=403, skip=1, times=1)
    ti = new_ti()
    ask(ti, max_pending_requests=2, cancel_on_kill=False)
    shutil.rmtree(out)
    table.add("d")
    assert ask(ti.next_try(), max_pending_requests=2).state == "success"
    assert any("Of the 2 batch jobs" in line and jobs()[0]["id"] in line for line in logged())


@pytest.mark.parametrize("end", ["FAILED", "CANCELLED"])
def test_after_a_job_that_ended_badly_the_same_rows_are_submitted_again(
    end: str, ask: Any, table: Table, new_ti: Any, jobs: Any, control: Any
) -> None:
    control.plan_jobs(end=end)
    ti = new_ti()
    assert ask(ti).state == "retry"
    table.add("d")
    second = ask(ti.next_try())
    assert second.state == "success", second.message
    assert (table.reads, second.value["counts"]["total"]) == (1, 3)


def test_too_many_failed_rows_leave_the_input_frozen(
    ask: Any, table: Table, new_ti: Any, jobs: Any, control: Any
) -> None:
    control.plan_jobs(times=2, failed_rows=3)
    ti = new_ti()
    first = ask(ti)
    assert first.state == "retry", first.message
    table.add("d")
    second = ask(ti.next_try())
    assert second.state == "success", second.message
    assert (table.reads, second.value["counts"]["total"]) == (1, 3)


@pytest.mark.parametrize("delete_files", ["never", "on_success"])
def test_another_try_has_finished_meanwhile(
    delete_files: str, ask: Any, table: Table, new_ti: Any, jobs: Any
) -> None:
    ti = new_ti()
    first = ask(ti, delete_files=delete_files)
    table.add("d")
    # A try that Airflow took for dead has landed everything and removed its record.
    second = ask(ti.next_try(), delete_files=delete_files)
    assert (second.state, second.value) == ("success", first.value)
    assert (table.reads, len(jobs())) == (1, 1)


def test_a_lost_create_call_leaves_the_input_frozen(
    ask: Any, table: Table, new_ti: Any, jobs: Any, control: Any
) -> None:
    lost = control.fault("drop", "POST", "/v1/batch/jobs", when="after", times=2)
    unseen = control.fault("status", "GET", "/v1/batch/jobs", status=500, skip=2, times=None)
    ti = new_ti()
    assert ask(ti).state == "retry"
    control.remove_fault(lost)
    control.remove_fault(unseen)
    table.add("d")
    second = ask(ti.next_try())
    assert second.state == "success", second.message
    assert (table.reads, len(jobs())) == (1, 1)


def test_deleted_request_files_stop_no_landing(
    ask: Any, table: Table, new_ti: Any, jobs: Any, hook: Any, rows_of: Any
) -> None:
    ti = new_ti()
    with failing("land"):
        ask(ti)
    hook.delete_file(jobs()[0]["input_files"][0])
    table.add("d")
    second = ask(ti.next_try())
    assert second.state == "success", second.message
    assert sorted(rows_of(second.value["results_path"])) == ["a", "b", "c"]
    assert (table.reads, len(jobs())) == (1, 1)


def test_request_files_that_are_gone_before_any_job_are_made_anew(
    ask: Any, table: Table, new_ti: Any, jobs: Any, hook: Any, logged: Any
) -> None:
    ti = new_ti()
    with (
        failing("submit"),
        mock.patch("airflow_provider_mistral_batch.tasks.destination.Destination.withdraw"),
    ):
        ask(ti)
    (file,) = hook.list_files().data
    hook.delete_file(file.id)
    assert ask(ti.next_try()).state == "success"
    assert (table.reads, len(jobs())) == (2, 1)
    assert any("no batch job has its requests: asking the source again" in line for line in logged())


def test_request_files_that_are_gone_after_some_jobs_make_no_second_job_without_a_word(
    ask: Any, table: Table, new_ti: Any, jobs: Any, hook: Any, control: Any
) -> None:
    control.fault("status", "POST", "/v1/batch/jobs", status=403, skip=1, times=1)
    ti = new_ti()
    ask(ti, max_pending_requests=2, cancel_on_kill=False)
    for file in hook.list_files(source=["upload"]).data:
        hook.delete_file(file.id)
    second = ask(ti.next_try(), max_pending_requests=2, cancel_on_kill=False)
    assert second.state == "failed"
    assert "only 1 of its 2 batch jobs exist" in second.message
    assert "clear the task" in second.message
    assert (table.reads, len(jobs())) == (1, 1)
    assert ask(ti.next_try().cleared(), max_pending_requests=2).state == "success"


def test_requests_are_not_asked_again_by_a_file_with_other_content(
    ask: Any, table: Table, new_ti: Any, hook: Any, control: Any, logged: Any, out: Path
) -> None:
    control.plan_jobs(failed_rows=1)
    ti = new_ti()
    with failing("land"):
        ask(ti)
    (file,) = out.glob(FROZEN_FILE)
    record = json.loads(file.read_bytes())
    content = hook.download_file(record["jobs"][0]["input_files"][0]).replace(b"Say", b"Pay")
    record["jobs"][0]["input_files"] = [hook.upload_file(io.BytesIO(content), filename="planted.jsonl").id]
    file.write_text(json.dumps(record))
    second = ask(ti.next_try(), max_failed_ratio=1.0)
    assert second.state == "success", second.message
    assert (second.value["rounds"], second.value["counts"]["failed"]) == (1, 1)
    assert any("is not what this task uploaded" in line for line in logged())


def test_a_clear_of_an_ocr_task_uploads_no_document_again(
    airflow: Any, new_ti: Any, jobs: Any, hook: Any, out: Path, tmp_path: Path
) -> None:
    documents = [tmp_path / f"{name}.pdf" for name in "ab"]
    for document in documents:
        document.write_bytes(b"%PDF-1.7 " + document.name.encode())

    def read() -> list[dict[str, Any]]:
        uploads = [hook.upload_file(document, purpose="ocr", once=True) for document in documents]
        return [
            {"custom_id": document.stem, "body": {"document": {"type": "file", "file_id": uploaded.id}}}
            for document, uploaded in zip(documents, uploads, strict=True)
        ]

    def make() -> Any:
        with DAG("dag", schedule=None):
            decorated: Any = task.mistral_batch(
                task_id="task",
                destination=str(out),
                endpoint="/v1/ocr",
                model="mistral-ocr-latest",
                poll_interval=0.05,
                poll_interval_min=0.02,
            )
            return cast("Any", decorated(read)()).operator

    ti = new_ti()
    first = airflow.run(make, ti)
    assert first.state == "success", first.message
    shutil.rmtree(out)
    again = airflow.run(make, ti.cleared())
    assert again.state == "success", again.message
    assert len(jobs()) == 1
    names = [file.filename for file in hook.list_files(purpose="ocr").data]
    assert len(names) == 2
    assert all(name.startswith("airflow-") and name.endswith(".pdf") for name in names)


def test_files_and_requests_of_the_dag_are_not_frozen(
    airflow: Any, batch: Any, new_ti: Any, jobs: Any
) -> None:
    ti = new_ti()
    with failing("land"):
        airflow.run(batch(3), ti)
    outcome = airflow.run(batch(4), ti.next_try())
    assert outcome.value["counts"]["total"] == 4
    assert not any(FROZEN in job["metadata"] for job in jobs())
