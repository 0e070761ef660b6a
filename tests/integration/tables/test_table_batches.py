"""A table goes in and a table comes out: columns of answers beside keys of their own types, for every row."""

from __future__ import annotations

import datetime
import json
import tempfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pydantic
import pytest
from airflow.sdk import DAG, task

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.operators.base import prompt_path
from airflow_provider_mistral_batch.operators.inference import MistralBatchInferenceOperator
from airflow_provider_mistral_batch.results import read_models, read_table
from airflow_provider_mistral_batch.tables.answers import AnswerColumns
from airflow_provider_mistral_batch.tables.sources.files import FileRows
from airflow_provider_mistral_batch.tables.targets.sql import SqlTable

DAY = datetime.date(2026, 1, 31)
MOMENT = datetime.datetime(2026, 1, 31, 10, 20, tzinfo=datetime.timezone.utc)
ROWS = [{"day": DAY, "id": number, "title": f"T{number}", "body": f"Body {number}"} for number in range(6)]


class Review(pydantic.BaseModel):
    sentiment: Literal["good", "bad"]
    topics: list[str]
    confidence: float


class Other(pydantic.BaseModel):
    stars: int


@pytest.fixture(params=[False, True], ids=["worker", "deferrable"])
def way(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"deferrable": request.param, "poll_interval": 0.05, "poll_interval_min": 0.02}


@pytest.fixture
def ask(run_batch: Any, tmp_path: Path) -> Callable[..., Any]:
    """Runs an inference task over a Parquet file of :data:`ROWS`."""

    def ask(rows: Any = None, *, fails: bool = False, **options: Any) -> Any:
        path = tmp_path / "rows.parquet"
        pq.write_table(pa.Table.from_pylist(ROWS if rows is None else rows), path)
        given = {
            "source": FileRows(str(path)),
            "key": "id",
            "prompt": "Title: {title}\n\n{body}",
            "model": "mistral-small-latest",
            "max_tokens": 50,
        }
        outcome = run_batch(**{**given, **options})
        assert fails or outcome.state == "success", outcome.message
        return outcome if fails else outcome.value

    return ask


def sent(hook: Any, jobs: Any) -> list[dict[str, Any]]:
    [job] = jobs()
    return [json.loads(line) for line in hook.download_file(job["input_files"][0]).splitlines()]


def test_answers_stand_beside_the_rows_that_they_belong_to(ask, hook, jobs, way):
    manifest = ask(key=["day", "id"], keep=["title"], system="Be brief.", **way)
    table = read_table(manifest).read_all()
    assert table.schema.names[:4] == ["day", "id", "title", "answer"]
    assert table.select(["day", "id", "title"]).to_pylist() == [
        {"day": DAY, "id": row["id"], "title": row["title"]} for row in ROWS
    ]
    assert all(table.column("answer").to_pylist())
    assert set(table.column("status").to_pylist()) == {"ok"}
    rows = sent(hook, jobs)
    assert rows[0] == {
        "custom_id": '["2026-01-31","0"]',
        "body": {
            "max_tokens": 50,
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Title: T0\n\nBody 0"},
            ],
        },
    }
    assert manifest["counts"]["succeeded"] == 6
    assert not list((Path(manifest["results_path"]).parent).glob(".rounds"))


def test_the_workers_temporary_folder_may_be_on_another_disk(ask, other_disk, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(other_disk))
    assert read_table(ask()).read_all().column("id").to_pylist() == [row["id"] for row in ROWS]
    assert not list(other_disk.iterdir())


def test_structured_answers_come_back_as_the_users_own_model(ask, way):
    manifest = ask(response_model=Review, **way)
    table = read_table(manifest).read_all()
    assert table.schema.field("topics").type == pa.list_(pa.field("element", pa.string()))
    models = dict(read_models(manifest, Review))
    assert sorted(models) == list(range(6))
    assert all(isinstance(model, Review) for model in models.values())
    with pytest.raises(InvalidInputError, match="the answer of 0 does not match Other: 1 validation error"):
        list(read_models(manifest, Other))


def test_messages_have_columns_in_their_texts_and_urls(ask, hook, jobs):
    rows = [{"id": 1, "title": "Cat", "url": "https://example.com/cat.png"}]
    ask(
        rows,
        prompt=None,
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Is this a {title}? Answer {{yes}} or {{no}}."},
                    {"type": "image_url", "image_url": "{url}"},
                ],
            }
        ],
    )
    [row] = sent(hook, jobs)
    assert row["body"]["messages"][0]["content"] == [
        {"type": "text", "text": "Is this a Cat? Answer {yes} or {no}."},
        {"type": "image_url", "image_url": "https://example.com/cat.png"},
    ]


def test_a_long_prompt_is_a_template_in_a_file(ask, hook, jobs, tmp_path):
    (tmp_path / "review.jinja").write_text(
        "{% if id > 1 %}{{ title|upper }}{% else %}{{ body }}{% endif %}\n"
    )
    ask(prompt=None, prompt_file=str(tmp_path / "review.jinja"))
    texts = [row["body"]["messages"][0]["content"] for row in sent(hook, jobs)]
    assert texts == ["Body 0", "Body 1", "T2", "T3", "T4", "T5"]


@pytest.mark.parametrize("where", ["dag", "searched"])
def test_a_relative_prompt_file_is_where_airflow_looks_for_templates(where, tmp_path):
    for folder in ("dag", "searched"):
        (tmp_path / folder).mkdir()
    (tmp_path / where / "review.jinja").touch()
    with DAG("d", template_searchpath=str(tmp_path / "searched")) as dag:
        dag.fileloc = str(tmp_path / "dag" / "dag.py")
        task = MistralBatchInferenceOperator(
            task_id="t", prompt_file="review.jinja", source=FileRows("/x.csv"), key="id", destination="/x"
        )
    assert prompt_path(task) == str(tmp_path / where / "review.jinja")
    task.prompt_file = "missing.jinja"
    assert prompt_path(task) == str(tmp_path / "dag" / "missing.jinja")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{% if %}", "review.jinja, line 1 is not valid Jinja"),
        ("{{ titel }}", "prompt_file: the source has no column 'titel': did you mean 'title'?"),
        ("{{ title.__class__.__mro__ }}", "fails on the row with id=0, title='T0'"),
        ("{{ title.nothing }}", "fails on the row with id=0, title='T0'"),
        ("no column", "names no column"),
        (None, "there is no such file"),
    ],
)
def test_a_template_that_cannot_be_used_is_named(ask, jobs, tmp_path, text, said):
    if text is not None:
        (tmp_path / "review.jinja").write_text(text)
    outcome = ask(fails=True, prompt=None, prompt_file=str(tmp_path / "review.jinja"))
    assert said in outcome.message
    assert not jobs()


def test_embeddings_become_a_column_of_vectors(ask):
    manifest = ask(endpoint="/v1/embeddings", model="mistral-embed", max_tokens=None, prompt="{body}")
    kind = read_table(manifest).schema.field("embedding").type
    assert kind.value_type == pa.float32()
    assert kind.list_size > 0


NULLS = [
    {"id": 1, "title": "T", "body": "B"},
    {"id": 2, "title": None, "body": "B"},
    {"id": 3, "title": "T", "body": ""},
]


@pytest.mark.parametrize(
    ("on_null", "prompt", "texts"),
    [
        ("skip", "{title}{body}", ["TB", "T"]),
        ("skip", "{body}", ["B", "B"]),
        ("empty", "{title}/{body}", ["T/B", "/B", "T/"]),
    ],
)
def test_rows_with_nulls_are_skipped_or_sent_as_told(ask, hook, jobs, on_null, prompt, texts):
    manifest = ask(NULLS, on_null=on_null, prompt=prompt)
    assert [row["body"]["messages"][0]["content"] for row in sent(hook, jobs)] == texts
    skipped = read_table(manifest, failed=True).read_all().to_pylist()
    assert [row["status"] for row in skipped] == ["skipped"] * (3 - len(texts))
    assert manifest["table"]["skipped"] == 3 - len(texts)


def test_failed_rows_are_rows_too(ask, control, way):
    control.plan_jobs(failed_rows=2)
    manifest = ask(columns=AnswerColumns(failed=True, raw=True), **way)
    rows = read_table(manifest).read_all().to_pylist()
    assert [row["id"] for row in rows] == list(range(6))
    assert sorted(row["status"] for row in rows) == ["failed"] * 2 + ["ok"] * 4
    assert all(
        (row["answer"] is None) == (row["error"] is not None) == (row["status"] == "failed") for row in rows
    )
    assert json.loads(rows[0]["raw"])["custom_id"] == "0"
    failed = read_table(manifest, failed=True).read_all().to_pylist()
    assert [row["id"] for row in failed] == [row["id"] for row in rows if row["status"] == "failed"]


def test_rows_that_are_asked_again_have_one_outcome(ask, control, way):
    control.plan_jobs(failed_rows=2)
    manifest = ask(row_retries=1, **way)
    assert read_table(manifest).read_all().column("id").to_pylist() == list(range(6))
    assert manifest["rounds"] == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"key": "idd"}, "key: the source has no column 'idd': did you mean 'id'?"),
        ({"prompt": "{titel}"}, "prompt: the source has no column 'titel': did you mean 'title'?"),
        ({"keep": ["x"]}, "keep: the source has no column 'x': there are 'day', 'id', 'title', 'body'"),
        ({"key": None}, "key=None names no column"),
        ({"prompt": "no column"}, "names no column, so all rows would ask the same"),
        ({"prompt": "{title.__class__}"}, "attributes and items of values cannot be used"),
        ({"prompt": None}, "key='id' belongs to a table"),
        ({"messages": [{"role": "user", "content": "{body}"}]}, "prompt and messages"),
        ({"path": "/x"}, "path and source"),
        ({"output_format": "jsonl"}, "output_format='jsonl': answers over a table"),
        ({"on_null": "drop"}, "on_null='drop' is not known"),
        (
            {
                "response_model": {"type": "object", "properties": {"title": {"type": "string"}}},
                "keep": ["title"],
            },
            "rename it in the source",
        ),
        (
            {"response_model": {"type": "object", "properties": {"model": {"type": "string"}}}},
            "rename the field",
        ),
        ({"target": "moods"}, "target='moods' is not an SqlTable: pass target=SqlTable(…)"),
        ({"columns": {"raw": True}}, "columns={'raw': True} is not an AnswerColumns"),
        (
            {"source": "/data/x.parquet"},
            "source='/data/x.parquet' is not a table:\npass a source such as FileRows(path)",
        ),
        ({"source": FileRows("/nowhere/x.parquet")}, "there is no such file"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_sent(ask, jobs, control, options, said):
    outcome = ask(fails=True, **options)
    assert outcome.state == "failed"
    assert said in outcome.message
    assert not jobs()


@pytest.mark.parametrize(
    ("needed_by", "values"),
    [
        ("target", pa.array([10**18], pa.timestamp("us"))),
        ("target", pa.array([1_001], pa.timestamp("ns"))),
        ("target", pa.array([[10**9]], pa.list_(pa.date32()))),
        ("target", pa.array([0], pa.timestamp("us", "Mars/Olympus"))),
        ("markdown", pa.array([10**18], pa.timestamp("us"))),
        ("markdown", pa.array([1_001], pa.timestamp("ns"))),
    ],
)
def test_moments_that_python_cannot_hold_are_refused_where_it_must(
    ask, jobs, sqlite, tmp_path, needed_by, values
):
    """A driver takes Python's values only, and the names of files are made of them: after payment, it is too late."""
    try:
        values.to_pylist()
        pytest.skip("pandas holds it")
    except (ValueError, OverflowError, LookupError):
        pass
    is_key = needed_by == "markdown"
    path = tmp_path / "late.parquet"
    pq.write_table(pa.table({"id": [1], "at": values, "body": ["x"]}), path)
    options: dict[str, Any] = (
        {"key": ["id", "at"], "columns": AnswerColumns(markdown=True)}
        if is_key
        else {"keep": ["at"], "target": SqlTable("answers", conn_id="warehouse", create=True)}
    )
    given = {"source": FileRows(str(path)), "prompt": "{body}"}

    outcome = ask(fails=True, **given, **options)

    assert outcome.state == "failed"
    assert f"{'key' if is_key else 'keep'}: column 'at' has" in outcome.message
    assert not jobs()
    # Without a target, they stay as they are.
    assert ask(**given, **{**options, "columns": None, "target": None})["counts"]["succeeded"] == 1


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [*ROWS, ROWS[0]],
            'row 7: custom_id = "0": the same as on row 1.\nGive each row an id of its own; of a table, it is made',
        ),
        ([{**ROWS[0], "id": None}, ROWS[1]], "key: column 'id' has a null, in the row with"),
        (
            [{**ROWS[0], "body": None}, ROWS[1]],
            "the row with id=0 cannot be asked about: column 'body' is null",
        ),
    ],
)
def test_rows_that_cannot_be_asked_about_are_named(ask, jobs, rows, said):
    outcome = ask(rows, fails=True)
    assert outcome.state == "failed"
    assert said in outcome.message
    assert not jobs()


def of_two_files(folder, name, *keys):
    for number, key in enumerate(keys):
        pq.write_table(pa.table({name: key, "body": [f"B{number}"]}), folder / f"{number}.parquet")
    return FileRows(str(folder / "[01].parquet"))


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        (pa.array([7]), pa.array([Decimal("7.25")], pa.decimal128(30, 2))),
        (pa.array([Decimal("1.5")]), pa.array([Decimal("1.25")])),
        (pa.array([datetime.time(9)], pa.time32("s")), pa.array([datetime.time(10)], pa.time64("us"))),
        (
            pa.array([MOMENT], pa.timestamp("ms", "UTC")),
            pa.array([MOMENT.replace(microsecond=1)], pa.timestamp("us", "UTC")),
        ),
    ],
    ids=["int and decimal", "places", "times", "moments"],
)
def test_no_answer_is_lost_where_later_files_have_a_wider_type_in_the_key(ask, tmp_path, narrow, wide):
    answered = read_table(ask(source=of_two_files(tmp_path, "id", narrow, wide), prompt="{body}")).read_all()
    assert answered.column("id").to_pylist() == [*narrow.to_pylist(), *wide.to_pylist()]
    assert ["B0" in answered["answer"][0].as_py(), "B1" in answered["answer"][1].as_py()] == [True, True]


def test_one_key_in_two_types_is_a_key_that_is_there_twice(ask, jobs, tmp_path):
    source = of_two_files(tmp_path, "id", pa.array([Decimal("1.5")]), pa.array([Decimal("1.50")]))
    outcome = ask(source=source, prompt="{body}", fails=True)
    assert 'row 2: custom_id = "1.5": the same as on row 1' in outcome.message
    assert not jobs()


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        ({"id": [1.5], "body": ["B"]}, {}, "1.parquet: key: column 'id' is double"),
        (
            {"id": [2], "body": [None]},
            {},
            "1.parquet: the row with id=2 cannot be asked about: column 'body' is null",
        ),
        ({"id": [None], "body": ["B"]}, {}, "1.parquet: key: column 'id' has a null"),
        (
            {"id": [2], "body": ["B"], "n": [2**60 + 1]},
            {"keep": ["n"]},
            "1.parquet: column 'n': no type has room",
        ),
    ],
)
def test_what_is_wrong_with_a_row_names_its_file(ask, jobs, tmp_path, rows, options, said):
    pq.write_table(pa.table({"id": [1], "body": ["A"], "n": [0.5]}), tmp_path / "0.parquet")
    pq.write_table(pa.table(rows), tmp_path / "1.parquet")
    outcome = ask(source=FileRows(str(tmp_path / "[01].parquet")), prompt="{body}", fails=True, **options)
    assert said in outcome.message.replace("\n", " ")
    assert outcome.state == "failed"
    assert not jobs()


def test_a_function_without_rows_says_so(airflow, hook, jobs, tmp_path):
    def make() -> Any:
        with DAG("dag", schedule=None):
            ask = task.mistral_batch(
                task_id="ask", key="id", prompt="{body}", destination=str(tmp_path / "out")
            )
            return cast("Any", ask(lambda: iter(()))()).operator

    outcome = airflow.run(make)
    assert outcome.state == "failed"
    assert "source=DictRows(): it has no rows, so there is nothing to ask" in outcome.message.replace(
        "\n", " "
    )
    assert not jobs()


@pytest.mark.parametrize(
    "returned",
    [
        lambda: ({"id": row["id"], "body": row["body"]} for row in ROWS),
        lambda: pa.Table.from_pylist(ROWS),
        lambda: pa.Table.from_pylist(ROWS).to_reader(),
    ],
    ids=["dicts", "table", "reader"],
)
def test_a_function_returns_a_table(airflow, hook, tmp_path, returned):
    def make() -> Any:
        with DAG("dag", schedule=None):
            ask = task.mistral_batch(
                task_id="ask",
                key="id",
                prompt="{body}",
                model="mistral-small-latest",
                destination=str(tmp_path / "out"),
                poll_interval=0.05,
                poll_interval_min=0.02,
            )
            return cast("Any", ask(returned)()).operator

    outcome = airflow.run(make)
    assert outcome.state == "success", outcome.message
    assert read_table(outcome.value).read_all().column("id").to_pylist() == list(range(6))
