"""Tables that change between tries, targets that are down, parts, and the upload of a table's requests."""

from __future__ import annotations

import copy
import json
import os
import pickle
import shutil
import sqlite3
from collections.abc import Callable
from typing import Any, NoReturn, cast
from unittest import mock

import pytest
from airflow.sdk import DAG, task

from airflow_provider_mistral_batch.inference.batch import Batch
from airflow_provider_mistral_batch.operators.inference import MistralBatchInferenceOperator
from airflow_provider_mistral_batch.operators.upload import MistralUploadBatchFileOperator
from airflow_provider_mistral_batch.results import read_table
from airflow_provider_mistral_batch.tables import AnswerColumns, Documents, FileRows, SqlRows, SqlTable


@pytest.fixture(params=[False, True], ids=["worker", "deferrable"])
def way(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"deferrable": request.param}


@pytest.fixture
def reviews(sqlite: Any) -> Any:
    sqlite.run("CREATE TABLE reviews (id INTEGER PRIMARY KEY, body TEXT)")
    sqlite.run("INSERT INTO reviews VALUES (1, 'one'), (2, 'two'), (3, 'three')")
    return sqlite


@pytest.fixture
def ask(run_batch: Any, reviews: Any) -> Callable[..., Any]:
    def ask(ti: Any = None, **options: Any) -> Any:
        given = {
            "source": SqlRows("select * from reviews order by id", conn_id="warehouse"),
            "key": "id",
            "prompt": "Say {body}",
            "model": "mistral-small-latest",
            "max_tokens": 50,
        }
        return run_batch(ti, **{**given, **options})

    return ask


class Killed(BaseException):
    """A worker that was killed cleans nothing up."""


def _die(*_: Any, **__: Any) -> NoReturn:
    raise Killed


def ids(manifest: Any) -> list[Any]:
    return read_table(manifest).read_all().column("id").to_pylist()


@pytest.mark.parametrize("step", ["submit", "land", "finish"])
def test_a_retry_continues_with_the_rows_of_the_first_submission(ask, reviews, jobs, new_ti, way, step):
    ti = new_ti()
    with mock.patch.object(Batch, step, _die), pytest.raises(Killed):
        ask(ti, **way)
    reviews.run("DELETE FROM reviews WHERE id = 1", "INSERT INTO reviews VALUES (4, 'four')")
    outcome = ask(ti.next_try(), **way)
    assert outcome.state == "success", outcome.message
    assert ids(outcome.value) == [1, 2, 3]
    assert len(jobs()) == 1
    cleared = ask(ti.next_try().cleared(), **way)
    assert ids(cleared.value) == [2, 3, 4]
    assert len(jobs()) == 2


BAD_ENDS = {"job": {"end": "FAILED"}, "rows": {"failed_rows": 2}}


@pytest.mark.parametrize("plan", BAD_ENDS.values(), ids=BAD_ENDS)
def test_a_retry_after_a_bad_end_continues_with_the_rows_of_the_first_submission(
    ask, reviews, jobs, control, new_ti, way, plan, tmp_path
):
    control.plan_jobs(**plan)
    options, ti = {"max_failed_ratio": 0.0, **way}, new_ti()
    assert ask(ti, **options).state == "retry"
    reviews.run("DELETE FROM reviews WHERE id = 1", "INSERT INTO reviews VALUES (4, 'four')")
    # A try that comes to nothing takes no rows along.
    away = control.fault("status", "GET", "/v1/batch/jobs", status=401, times=None)
    assert ask(ti.next_try(), **options).state == "failed"
    control.remove_fault(away)
    ti = ti.next_try().next_try()
    outcome = ask(ti, **options)
    assert outcome.state == "success", outcome.message
    assert ids(outcome.value) == [1, 2, 3]
    assert len(jobs()) == 2
    assert not (tmp_path / "out" / ".rounds").exists()
    cleared = ask(ti.cleared(), **options)
    assert ids(cleared.value) == [2, 3, 4]


@pytest.mark.parametrize("plan", BAD_ENDS.values(), ids=BAD_ENDS)
def test_a_clear_after_a_bad_end_reads_the_source_anew(ask, reviews, control, new_ti, way, plan):
    control.plan_jobs(**plan)
    options, ti = {"max_failed_ratio": 0.0, **way}, new_ti()
    assert ask(ti, **options).state == "retry"
    reviews.run("INSERT INTO reviews VALUES (4, 'four')")
    cleared = ask(ti.cleared(), **options)
    assert cleared.state == "success", cleared.message
    assert ids(cleared.value) == [1, 2, 3, 4]


@pytest.mark.parametrize("plan", BAD_ENDS.values(), ids=BAD_ENDS)
def test_a_bad_end_of_the_last_try_leaves_no_rows(ask, reviews, control, new_ti, way, plan, tmp_path):
    control.plan_jobs(**plan)
    ti = new_ti()
    ti.max_tries = 0
    assert ask(ti, max_failed_ratio=0.0, **way).state == "retry"
    assert not (tmp_path / "out" / ".rounds").exists()


def test_files_are_frozen_like_queries(ask, jobs, new_ti, tmp_path):
    path, ti = tmp_path / "rows.csv", new_ti()
    path.write_text("id,body\n1,one\n")
    with mock.patch.object(Batch, "land", _die), pytest.raises(Killed):
        ask(ti, source=FileRows(str(path)))
    path.write_text("id,body\n1,one\n2,two\n")
    outcome = ask(ti.next_try(), source=FileRows(str(path)))
    assert ids(outcome.value) == ["1"]
    assert len(jobs()) == 1


def test_another_query_is_another_source(ask, jobs, new_ti):
    ti = new_ti()
    with mock.patch.object(Batch, "land", _die), pytest.raises(Killed):
        ask(ti)
    less = SqlRows("select * from reviews where id > 1 order by id", conn_id="warehouse")
    assert ids(ask(ti.next_try(), source=less).value) == [2, 3]


def test_rows_of_an_earlier_input_are_not_mixed_with_new_ones(ask, new_ti, tmp_path):
    """The first input fills two files, since a column gets a wider type; the second fills one."""
    path, ti = tmp_path / "rows.jsonl", new_ti()
    rows = [
        {"id": number, "body": "b" * 400, "more": None if number < 9000 else 1.5} for number in range(9003)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {"source": FileRows(str(path)), "keep": ["more"]}
    with mock.patch.object(Batch, "submit", _die), pytest.raises(Killed):
        ask(ti, **options)
    kept = list((tmp_path / "out").glob(".rounds/*/rows/*/rows-*.parquet"))
    assert len(kept) == 2
    for frozen in (tmp_path / "out").glob(".rounds/*/frozen.json"):
        frozen.unlink()
    path.write_text('{"id": 1, "body": "b", "more": null}\n')
    outcome = ask(ti.next_try().cleared(), **options)
    assert outcome.state == "success", outcome.message
    assert ids(outcome.value) == [1]


def test_rows_that_only_the_table_knows_of_count_as_missing(ask, control, hook, new_ti):
    """The job has no result for one request, and the request files are deleted, which would name it."""
    control.plan_jobs(missing_rows=1)
    ti = new_ti()
    with mock.patch.object(Batch, "land", _die), pytest.raises(Killed):
        ask(ti, row_retries=0)
    for file in list(hook.iter_files(purpose="batch")):
        if file.source == "upload":
            hook.delete_file(file.id)
    manifest = ask(ti.next_try(), row_retries=0).value
    counts = {name: manifest["counts"][name] for name in ("total", "succeeded", "failed", "missing")}
    assert counts == {"total": 3, "succeeded": 2, "failed": 0, "missing": 1}
    assert manifest["table"]["missing"] == 1
    assert [error["code"] for error in manifest["errors"]] == ["missing_row"]


@pytest.mark.parametrize("changed", [False, True])
def test_an_emptied_destination_costs_nothing(ask, reviews, jobs, new_ti, tmp_path, changed):
    ti = new_ti()
    with mock.patch.object(Batch, "land", _die), pytest.raises(Killed):
        ask(ti)
    shutil.rmtree(tmp_path / "out")
    if changed:
        reviews.run("INSERT INTO reviews VALUES (4, 'four')")
    outcome = ask(ti.next_try())
    assert len(jobs()) == 1
    if changed:
        assert "was emptied" in outcome.message
    else:
        assert ids(outcome.value) == [1, 2, 3]


def test_a_value_that_the_table_cannot_take_says_what_to_do(ask, reviews, jobs, new_ti):
    target, ti = SqlTable("classes", conn_id="warehouse", create=True), new_ti()
    assert ask(ti, target=target).state == "success"
    reviews.run("CREATE TRIGGER full BEFORE INSERT ON classes BEGIN SELECT fitted(new.id); END")
    outcome = ask(ti.cleared(), target=target)
    assert outcome.state == "failed"
    assert "Alter the table, and clear the task" in outcome.message
    assert "if no row has changed" in outcome.message
    reviews.run("DROP TRIGGER full")
    assert ask(ti.cleared(), target=target).state == "success"
    assert len(jobs()) == 1


def test_answers_that_are_not_in_the_table_can_be_written_without_asking(ask, reviews, jobs, new_ti):
    target, ti = SqlTable("classes", conn_id="warehouse", create=True), new_ti()
    manifest = ask(ti, target=target).value
    # A clear would ask about all rows.
    reviews.run("DELETE FROM classes", "INSERT INTO reviews VALUES (4, 'four')")
    assert target.write(read_table(manifest), ["id"], {}) == 3
    assert reviews.run("SELECT id FROM classes ORDER BY id") == [(1,), (2,), (3,)]
    assert len(jobs()) == 1


@pytest.mark.parametrize("delete_files", ["never", "on_success"])
def test_a_target_that_is_down_costs_a_try_and_no_answer(
    ask, reviews, jobs, new_ti, way, delete_files, tmp_path
):
    target = SqlTable("classes", conn_id="warehouse", create=True)
    options = {**way, "target": target, "delete_files": delete_files}
    ti = new_ti()
    reviews.run("PRAGMA journal_mode=wal")
    with mock.patch.object(Batch, "finish", _locked(reviews, Batch.finish)):
        outcome = ask(ti, **options)
    assert outcome.state == "retry"
    assert "The answers are safe in" in outcome.message
    assert ids(ti.xcoms["return_value"]) == [1, 2, 3]
    assert not (tmp_path / "out" / ".rounds").exists()
    reviews.run("INSERT INTO reviews VALUES (4, 'four')")
    ti = ti.next_try()
    outcome = ask(ti, **options)
    assert outcome.state == "success", outcome.message
    assert reviews.run("SELECT id FROM classes ORDER BY id") == [(1,), (2,), (3,)]
    assert len(jobs()) == 1
    again = ask(ti.cleared(), **options)
    assert again.state == "success", again.message
    assert reviews.run("SELECT id, count(*) FROM classes GROUP BY id ORDER BY id") == [
        (number, 1) for number in (1, 2, 3, 4)
    ]


def _locked(database: Any, finish: Any) -> Any:
    """Another writer holds the target while the batch ends."""
    path = json.loads(os.environ["AIRFLOW_CONN_WAREHOUSE"])["host"]

    def locked(self: Any) -> Any:
        writer = sqlite3.connect(path, isolation_level=None)
        writer.execute("BEGIN IMMEDIATE")
        try:
            return finish(self)
        finally:
            writer.close()

    return locked


def test_another_column_beside_the_answers_is_not_paid_for(ask, jobs, new_ti):
    ti = new_ti()
    first = ask(ti).value
    ti = ti.cleared()
    second = ask(ti, keep=["body"], columns=AnswerColumns(raw=True)).value
    table = read_table(second).read_all()
    assert table.column("body").to_pylist() == ["one", "two", "three"]
    assert table.column("raw").null_count == 0
    assert first["batch_ids"] == second["batch_ids"]
    assert len(jobs()) == 1


SCHEMA = {"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}, "n": {"type": "integer"}}}
TEXT = {"b": {"type": "string"}}


@pytest.mark.parametrize(
    "options",
    [
        {"endpoint": "/v1/embeddings", "model": "mistral-embed", "max_tokens": None},
        {"response_model": SCHEMA},
        {"response_model": {"type": "object", "properties": {"a": {"type": "object", "properties": TEXT}}}},
        {"columns": AnswerColumns(failed=True, raw=True)},
    ],
    ids=["embeddings", "enum", "struct", "failed"],
)  # fmt: skip
def test_a_target_is_checked_before_and_written_after(ask, reviews, jobs, options):
    reviews.run("CREATE TABLE other (id INTEGER PRIMARY KEY)")
    refused = ask(target=SqlTable("other", conn_id="warehouse"), **options)
    assert refused.state == "failed"
    assert not jobs()
    outcome = ask(target=SqlTable("classes", conn_id="warehouse", create=True), **options)
    assert outcome.state == "success", outcome.message
    assert reviews.run("SELECT count(*) FROM classes") == [(3,)]


def test_an_answer_that_does_not_fit_its_column_counts_as_failed(ask, new_ti, reviews, tmp_path):
    """A whole number of the schema may be too large for a column of whole numbers."""
    number = {"type": "integer", "minimum": 2**70, "maximum": 2**70}
    ti = new_ti()
    outcome = ask(
        ti,
        response_model={"type": "object", "properties": {"n": number}, "required": ["n"]},
        target=SqlTable("classes", conn_id="warehouse", create=True),
    )
    assert outcome.state == "failed"
    assert "no request succeeded: 0 of 3 requests succeeded, 3 failed" in outcome.message
    manifest = ti.xcoms["return_value"]
    assert (manifest["counts"]["succeeded"], manifest["counts"]["failed"]) == (0, 3)
    assert manifest["errors"][0]["code"] == "unfit_answer"
    failed = read_table(manifest, failed=True).read_all().to_pylist()
    assert [json.loads(row["answer"]) for row in failed] == [{"n": 2**70}] * 3
    # What did not end well is not written.
    assert reviews.run("SELECT name FROM sqlite_master WHERE name = 'classes'") == []


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        ("DELETE FROM reviews", {}, "it has no rows, so there is nothing to ask"),
        ("UPDATE reviews SET body = NULL", {"on_null": "skip"}, "each of its 3 rows was skipped"),
    ],
)
def test_a_table_without_a_row_to_ask_about_is_named(ask, reviews, jobs, rows, options, said):
    reviews.run(rows)
    outcome = ask(**options)
    assert outcome.state == "failed"
    assert said in outcome.message
    assert not jobs()


def test_parts_read_back_as_one_table(ask, reviews, new_ti, tmp_path):
    reviews.run("INSERT INTO reviews VALUES (5, 'five'), (6, 'six')")
    source = SqlRows("select * from reviews", conn_id="warehouse", partition_key="id")
    outcomes = [
        ask(new_ti(map_index=index), source=part, destination=str(tmp_path / f"out-{index}"))
        for index, part in enumerate(source.partitions(4))
    ]
    # No key is a multiple of 4.
    assert [one.state for one in outcomes] == ["skipped", "success", "success", "success"]
    assert sorted(ids(one.value for one in outcomes)) == [1, 2, 3, 5, 6]


def test_the_upload_operator_takes_a_table(airflow, hook, reviews):
    def make() -> Any:
        with DAG("dag", schedule=None):
            return MistralUploadBatchFileOperator(
                task_id="task",
                source=SqlRows("select * from reviews order by id", conn_id="warehouse"),
                key="id",
                prompt="Say {body}",
            )

    outcome = airflow.run(make)
    assert outcome.state == "success", outcome.message
    [file_id] = outcome.value
    rows = [json.loads(line) for line in hook.download_file(file_id).splitlines()]
    assert [(row["custom_id"], row["body"]["messages"][0]["content"]) for row in rows] == [
        ("1", "Say one"),
        ("2", "Say two"),
        ("3", "Say three"),
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"source": FileRows("/x.csv")}, "source=FileRows('/x.csv') belongs to a table"),
        ({"prompt": "{body}", "key": "id", "requests": []}, "belong to a table: pass source"),
        ({"prompt": "{body}", "source": FileRows("/x.csv")}, "key=None names no column"),
        ({"source": Documents("/x"), "endpoint": "/v1/ocr"}, "use MistralBatchInferenceOperator"),
    ],
)
def test_half_a_table_is_no_upload(airflow, options, said):
    def make() -> Any:
        with DAG("dag", schedule=None):
            return MistralUploadBatchFileOperator(task_id="task", **options)

    outcome = airflow.run(make)
    assert outcome.state == "failed"
    assert said in outcome.message


@pytest.mark.parametrize(
    "prompt",
    ["{{ ds }}: {body}", "{{ds}}: {body}", "{{ params.x | upper }} {body}", "{{ ti.run_id }} {body}"],
)
def test_airflows_templates_in_a_prompt_are_refused(ask, jobs, prompt):
    for given in ({"prompt": prompt}, {"prompt": None, "messages": [{"role": "user", "content": prompt}]}):
        outcome = ask(**given)
        assert outcome.state == "failed"
        assert "which Airflow does not render there" in outcome.message
    assert not jobs()


def test_braces_that_stay_are_no_template_of_airflow(ask):
    assert ask(prompt='Answer {{"a": {{"b": 1}}}} or {{yes}}: {body}').state == "success"


def test_templates_in_sources_are_rendered_for_each_run_anew():
    with DAG("dag", schedule=None):
        source = SqlRows("select '{{ ds }}'", conn_id="warehouse")
        one, two = (
            MistralBatchInferenceOperator(
                task_id=name, source=source, key="id", prompt="{body}", destination="/out",
                target=SqlTable("t_{{ ds_nodash }}", conn_id="warehouse"),
            )
            for name in ("one", "two")
        )  # fmt: skip
    for written, ds in ((one, "2026-01-01"), (two, "2026-01-02"), (copy.copy(one), "2026-01-03")):
        running: Any = copy.copy(written)
        running.render_template_fields(cast("Any", {"ds": ds, "ds_nodash": ds.replace("-", "")}))
        assert running.source.sql == f"select '{ds}'"
        assert running.target.name == f"t_{ds.replace('-', '')}"
    assert source.sql == "select '{{ ds }}'"
    for value in (source, FileRows("/x/*.csv"), SqlTable("t", conn_id="c"), AnswerColumns()):
        assert repr(copy.deepcopy(value)) == repr(pickle.loads(pickle.dumps(value))) == repr(value)


def test_a_query_that_a_function_returned_is_no_template(airflow, reviews, jobs, tmp_path):
    def make() -> Any:
        with DAG("dag", schedule=None):
            decorated: Any = task.mistral_batch(
                task_id="task", key="id", prompt="{body}", destination=str(tmp_path / "out")
            )
            query = "select * from reviews where body <= '{{ ds }}'"
            return decorated(lambda: SqlRows(query, conn_id="warehouse"))().operator

    outcome = airflow.run(make)
    assert outcome.state == "failed"
    assert "source: sql has {{ ds }}, which Airflow does not render there" in outcome.message
    assert not jobs()
