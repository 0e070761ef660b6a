"""Landed rows become a table in the order of its source, whatever the order and the fate of the answers."""

from __future__ import annotations

import datetime
import json
import os
import random
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pydantic
import pytest

from airflow_provider_mistral_batch.api.errors import InvalidInputError, MistralBatchError
from airflow_provider_mistral_batch.jsonl import lines as jsonl_lines
from airflow_provider_mistral_batch.jsonl.results import row_columns
from airflow_provider_mistral_batch.jsonl.results.placeholder_rows import MISSING_MESSAGE, missing_row
from airflow_provider_mistral_batch.tables import answers, staging
from airflow_provider_mistral_batch.tables.answers import AnswerColumns, AnswerTable
from airflow_provider_mistral_batch.tables.reading import read_table
from airflow_provider_mistral_batch.tables.rows_beside import RowsWriter
from airflow_provider_mistral_batch.tables.shapes import TextShape, shape_of

CHAT = "/v1/chat/completions"
REVIEW = {
    "type": "object",
    "properties": {
        "sentiment": {"type": "string", "enum": ["good", "bad"]},
        "topics": {"type": "array", "items": {"type": "string"}},
        "confidence": {"type": "number"},
        "stars": {"type": "integer"},
        "day": {"type": "string", "format": "date"},
        "at": {"type": "string", "format": "date-time"},
    },
}


def chat_row(custom_id, content, **message):
    body = {
        "model": "mistral-small-latest",
        "choices": [
            {"message": {"role": "assistant", "content": content, **message}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5},
    }
    return result_row(custom_id, body)


def result_row(custom_id, body):
    return json.dumps(
        {"custom_id": custom_id, "response": {"status_code": 200, "body": body}, "error": None}
    ).encode()


def failed_row(custom_id):
    return json.dumps(
        {"custom_id": custom_id, "response": {"status_code": 500, "body": {"message": "oops"}}, "error": None}
    ).encode()


class Table:
    """Rows that were asked about, and the tables that came of their answers."""

    def __init__(self, folder: Path, rows, skipped=()):
        self.folder = folder
        with RowsWriter(folder) as writer:
            for start in range(0, len(rows), 3):
                some = rows[start : start + 3]
                writer.add(
                    pa.RecordBatch.from_pylist(some),
                    pa.array([row["id"] in skipped for row in some]),
                )
        self.rows_beside = writer.paths

    def land(self, results, errors=(), *, endpoint=CHAT, schema=None, columns=None):
        columns = columns or AnswerColumns()
        for name, lines in (("results", results), ("errors", errors)):
            (self.folder / f"{name}.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
        self.summary = AnswerTable(
            self.rows_beside,
            key=["id"],
            shape=shape_of(endpoint, schema, embedding=columns.embedding),
            columns=columns,
        ).write(
            self.folder / "results.jsonl",
            self.folder / "errors.jsonl",
            results_path=self.folder / "results.parquet",
            errors_path=self.folder / "errors.parquet",
        )
        assert sorted(path.suffix for path in self.folder.iterdir() if "rows-" not in path.name) == [
            ".jsonl",
            ".jsonl",
            ".parquet",
            ".parquet",
        ]
        return pq.read_table(self.folder / "results.parquet"), pq.read_table(self.folder / "errors.parquet")


class Meanwhile(TextShape):
    """Answers of which the first are staged already when something else happens."""

    def __init__(self, happens):
        self.happens = iter([lambda: None, happens])

    def read(self, rows, unfit):
        next(self.happens)()
        return super().read(rows, unfit)


def test_an_answer_without_a_row_is_an_error_rather_than_lost(tmp_path):
    with pytest.raises(MistralBatchError, match="1 answers belong to no row"):
        Table(tmp_path, [{"id": 1}]).land([chat_row("1", "A"), chat_row("2", "B")])


def test_no_answer_lands_beside_a_row_that_was_skipped(tmp_path):
    """Such keys are refused before anything is sent; here, they were not."""
    table = Table(tmp_path, [])
    with RowsWriter(tmp_path) as writer:
        writer.add(
            pa.record_batch({"id": [1, 1], "note": ["old", "new"]}),
            pa.array([True, False]),
        )
    table.rows_beside = writer.paths

    results, errors = table.land([chat_row("1", "A")])

    assert results.select(["note", "answer"]).to_pylist() == [{"note": "new", "answer": "A"}]
    assert errors.select(["note", "status"]).to_pylist() == [{"note": "old", "status": "skipped"}]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ({"type": "boolean"}, "true", True),
        ({"type": "integer"}, "1", 1),
        ({"type": "array", "items": {"type": "string"}}, '["a"]', ["a"]),
        ({"type": "string", "enum": ["yes", "no"]}, '"yes"', "yes"),
        ({"type": "string"}, '"A"', "A"),
    ],
)
def test_failed_rows_among_the_results_have_no_answer_whatever_its_column(tmp_path, kind, text, value):
    schema = {"type": "object", "properties": {"answer": kind}}
    table = Table(tmp_path, [{"id": number} for number in range(3)])
    unreadable = json.loads(chat_row("2", "I don't know"))
    unreadable["error"] = {"code": "invalid_output", "message": "no JSON"}

    results, errors = table.land(
        [chat_row("0", f'{{"answer": {text}}}'), chat_row("1", '{"answer": {"a": 1}}')],
        [json.dumps(unreadable).encode()],
        schema=schema,
        columns=AnswerColumns(failed=True),
    )

    assert results.column("answer").to_pylist() == [value, None, None]
    assert results.column("status").to_pylist() == ["ok", "failed", "failed"]
    assert errors.column("answer").to_pylist() == ['{"answer": {"a": 1}}', "I don't know"]


@pytest.mark.parametrize("failed", [False, True])
def test_rows_of_which_nothing_is_known_are_missing(tmp_path, caplog, failed):
    """The request files are gone, so nobody has told which requests have no result."""
    table = Table(tmp_path, [{"id": number} for number in range(5)], skipped={4})

    results, errors = table.land(
        [chat_row("3", "A")], [failed_row("1")], columns=AnswerColumns(failed=failed)
    )

    assert errors.select(["id", "status", "error"]).to_pylist() == [
        {"id": 0, "status": "missing", "error": MISSING_MESSAGE},
        {"id": 1, "status": "failed", "error": "oops"},
        {"id": 2, "status": "missing", "error": MISSING_MESSAGE},
        {"id": 4, "status": "skipped", "error": None},
    ]
    assert results.column("id").to_pylist() == ([0, 1, 2, 3, 4] if failed else [3])
    assert "2 rows of the table have neither an answer nor an error" in caplog.text


def test_two_tables_can_be_written_at_the_same_moment(tmp_path, monkeypatch):
    """For destinations in object stores, all are written in the system's temporary folder."""
    monkeypatch.setattr(row_columns, "_ROWS_AT_ONCE", 1)
    monkeypatch.setattr(jsonl_lines, "CHUNK_BYTES", 10)
    for name in "ab":
        (tmp_path / name).mkdir()
    tables = [Table(tmp_path / name, [{"id": f"{name}{number}"} for number in range(2)]) for name in "ab"]

    def write(table, happens):
        name = table.folder.name
        rows = [chat_row(f"{name}{number}", f"answer {name}{number}") for number in range(2)]
        (table.folder / "results").write_bytes(b"\n".join(rows))
        (table.folder / "errors").touch()
        AnswerTable(table.rows_beside, key=["id"], shape=Meanwhile(happens), columns=AnswerColumns()).write(
            table.folder / "results",
            table.folder / "errors",
            results_path=tmp_path / f"{name}.parquet",
            errors_path=tmp_path / f"{name}-errors.parquet",
        )
        return pq.read_table(tmp_path / f"{name}.parquet").column("answer").to_pylist()

    other = []
    assert write(tables[0], lambda: other.extend(write(tables[1], lambda: None))) == [
        "answer a0",
        "answer a1",
    ]
    assert other == ["answer b0", "answer b1"]
    with pytest.raises(ZeroDivisionError):
        write(tables[0], lambda: 1 / 0)
    assert {path.suffix for path in tmp_path.iterdir()} == {"", ".parquet"}
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["a", "b"]


@pytest.mark.parametrize("bytes_in_piece", [1, 100, 10**9])
@pytest.mark.parametrize("places_in_step", [1, 7, 20_000])
def test_answers_come_back_in_the_order_of_their_source(
    tmp_path, monkeypatch, places_in_step, bytes_in_piece
):
    monkeypatch.setattr(staging, "_MOST_STEPS", 1000)
    monkeypatch.setattr(staging, "BYTES_IN_STEP", 1 if places_in_step == 1 else places_in_step * 400)
    monkeypatch.setattr(answers, "BYTES_IN_STEP", bytes_in_piece)
    rows = [{"id": number, "title": None if number < 4 else f"T{number}"} for number in range(50)]
    table = Table(tmp_path, rows, skipped={3, 49})
    results = [chat_row(str(number), f"A{number}") for number in range(50) if number not in (3, 7, 8, 49)]
    random.Random(1).shuffle(results)
    found, errors = table.land(results, [failed_row("7"), missing_row("8"), failed_row("nobody's")])
    assert found.schema.names == [
        "id", "title", "answer", "model", "finish_reason", "prompt_tokens", "completion_tokens", "status", "error",
    ]  # fmt: skip
    assert found.select(["id", "title", "answer"]).to_pylist() == [
        {**row, "answer": f"A{row['id']}"} for row in rows if row["id"] not in (3, 7, 8, 49)
    ]
    assert set(found.column("status").to_pylist()) == {"ok"}
    assert errors.select(["id", "title", "status"]).to_pylist() == [
        {"id": 3, "title": None, "status": "skipped"},
        {"id": 7, "title": "T7", "status": "failed"},
        {"id": 8, "title": "T8", "status": "missing"},
        {"id": 49, "title": "T49", "status": "skipped"},
        {"id": None, "title": None, "status": "failed"},
    ]
    assert errors.column("error").to_pylist()[1] == "oops"
    assert table.summary == (2, 0, 0)


def test_wide_rows_land_in_small_pieces_and_narrow_ones_in_large(tmp_path):
    """Memory is bounded, whatever the rows have beside the answers; half of them have little."""
    with RowsWriter(tmp_path) as writer:
        for start in range(0, 2_000, 100):
            note = os.urandom(25_000).hex() if start >= 1_000 else "narrow"
            writer.add(
                pa.record_batch({"id": range(start, start + 100), "note": [note] * 100}),
                pa.array([False] * 100),
            )
    table = Table(tmp_path / "empty", [])
    table.folder, table.rows_beside = tmp_path, writer.paths

    table.land([chat_row(str(number), "A") for number in range(2_000)])

    with pq.ParquetFile(tmp_path / "results.parquet") as landed:
        groups = [landed.read_row_group(number) for number in range(landed.num_row_groups)]
    assert max(group.nbytes for group in groups) < 20_000_000
    assert groups[0].num_rows > 1_000
    assert pa.concat_tables(groups).column("id").to_pylist() == list(range(2_000))


def test_failed_rows_stand_among_the_answers_if_told_to(tmp_path):
    table = Table(tmp_path, [{"id": number} for number in range(4)], skipped={3})
    found, errors = table.land(
        [chat_row("2", "A2"), chat_row("0", "A0")],
        [failed_row("1")],
        columns=AnswerColumns(failed=True, raw=True),
    )
    assert found.select(["id", "answer", "status"]).to_pylist() == [
        {"id": 0, "answer": "A0", "status": "ok"},
        {"id": 1, "answer": None, "status": "failed"},
        {"id": 2, "answer": "A2", "status": "ok"},
        {"id": 3, "answer": None, "status": "skipped"},
    ]
    assert found.column("raw").to_pylist() == [
        chat_row("0", "A0"),
        failed_row("1"),
        chat_row("2", "A2"),
        None,
    ]
    assert errors.num_rows == 2


REVIEW_ANSWER = {
    "sentiment": "good",
    "topics": ["a"],
    "confidence": 1,
    "stars": 5,
    "day": "2026-01-31",
    "at": None,
}


@pytest.mark.parametrize("layout", [None, 2], ids=["compact", "on several lines"])
def test_structured_answers_become_typed_columns(tmp_path, layout):
    table = Table(tmp_path, [{"id": "x"}, {"id": "y"}])
    found, _ = table.land(
        [
            chat_row("x", json.dumps(REVIEW_ANSWER, indent=layout)),
            chat_row("y", json.dumps({"stars": 4.0, "sentiment": None, "more": 1}, indent=layout)),
        ],
        schema=REVIEW,
    )
    assert found.schema.field("sentiment").type == pa.dictionary(pa.int32(), pa.string())
    assert found.schema.field("day").type == pa.date32()
    assert found.select(list(REVIEW["properties"])).to_pylist() == [
        {**REVIEW_ANSWER, "day": datetime.date(2026, 1, 31)},
        {"sentiment": None, "topics": None, "confidence": None, "stars": 4, "day": None, "at": None},
    ]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ('{"stars": 1e30}', "stars: 1e+30 is not a whole number"),
        (f'{{"confidence": {10**400}, "day": null}}', "confidence: 1"),
        ('{"stars": 100000000000000000000}', "not a whole number of 64 bits"),
        ('{"day": "2026-02-31"}', "day: "),
        ('{"day": "2026-01-31T12:00:00"}', "day: "),
        ('{"at": "0001-01-01T00:00:00+10:00"}', "at: '0001-01-01T00:00:00+10:00' is out of range in UTC"),
        ('{"confidence": 1' + 400 * "0" + "}", "confidence: "),
        ('{"topics": "a"}', "topics: 'a' is not a list"),
        ('{"topics": [1]}', "topics: 1 is not a string"),
        ("[1]", "and no object"),
        ("{", "does not fit its columns"),
        ("", "does not fit its columns"),
        ('{} {"stars": 1}', "does not fit its columns"),
    ],
)
def test_an_answer_that_does_not_fit_is_a_failed_row_that_keeps_its_text(tmp_path, answer, said):
    table = Table(tmp_path, [{"id": 0}, {"id": 1}])
    found, errors = table.land([chat_row("0", answer), chat_row("1", '{"stars": 3}')], schema=REVIEW)
    assert found.select(["id", "stars"]).to_pylist() == [{"id": 1, "stars": 3}]
    [failed] = errors.to_pylist()
    assert (failed["id"], failed["answer"], failed["status"]) == (0, answer, "failed")
    assert said in failed["error"]
    assert table.summary.unfit == 1


class Visit(pydantic.BaseModel):
    at: datetime.datetime
    days: list[datetime.date] = []


class Patient(pydantic.BaseModel):
    last: datetime.datetime | None = None
    times: list[datetime.datetime | None] = []
    visit: Visit | None = None
    visits: list[Visit] = []
    rows: list[list[datetime.datetime]] = []
    by_name: dict[str, datetime.datetime] = {}
    mixed: list[datetime.date | datetime.datetime] = []


AT = datetime.datetime(2026, 1, 31, 12, 30, 15, 500000, tzinfo=datetime.timezone.utc)


@pytest.mark.parametrize(
    "written",
    [
        "2026-01-31T12:30:15.5Z",
        "2026-01-31t12:30:15.500z",
        "2026-01-31T14:30:15.500+02:00",
        "2026-01-31 12:30:15.5",
    ],
)
def test_times_of_day_stay_wherever_they_are_nested(tmp_path, written):
    answer = {
        "last": written,
        "times": [written, None],
        "visit": {"at": written, "days": ["2026-01-31"]},
        "visits": [{"at": written, "days": []}],
        "rows": [[], [written]],
        "by_name": {"a": written},
        "mixed": ["2026-01-31", written],
    }
    table = Table(tmp_path, [{"id": 0}, {"id": 1}])
    beyond = json.dumps({"visits": [{"at": "9999-12-31T23:59:59-10:00"}]})
    rows = [chat_row("0", json.dumps(answer)), chat_row("1", beyond)]
    found, errors = table.land(rows, schema=Patient.model_json_schema())
    assert found.select(list(answer)).to_pylist() == [
        {
            "last": AT,
            "times": [AT, None],
            "visit": {"at": AT, "days": [AT.date()]},
            "visits": [{"at": AT, "days": []}],
            "rows": [[], [AT]],
            "by_name": json.dumps(answer["by_name"], separators=(",", ":")),
            "mixed": json.dumps(answer["mixed"], separators=(",", ":")),
        }
    ]
    [failed] = errors.to_pylist()
    assert "visits: '9999-12-31T23:59:59-10:00' is out of range in UTC" in failed["error"]


@pytest.mark.parametrize(
    ("kind", "number"), [("float32", pa.float32()), ("float16", pa.float16()), ("int8", pa.int8())]
)
def test_embeddings_become_vectors_of_fixed_size(tmp_path, kind, number):
    table = Table(tmp_path, [{"id": 0}, {"id": 1}, {"id": 2}, {"id": 3}])
    vectors = {"0": [1, 2, 3], "1": [4, 5, 6], "2": [7], "3": None}
    found, errors = table.land(
        [
            result_row(id_, {"data": [{"embedding": one}], "model": "mistral-embed"})
            for id_, one in vectors.items()
        ],
        endpoint="/v1/embeddings",
        columns=AnswerColumns(embedding=kind),
    )
    assert found.schema.field("embedding").type == pa.list_(number, 3)
    assert found.column("embedding").to_pylist() == [[1, 2, 3], [4, 5, 6]]
    assert ["1 numbers, and the first has 3" in text for text in errors.column("error").to_pylist()] == [
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("kind", "vector", "said"),
    [
        ("int8", [1, 0.25], "such as 0.25; ask for them with parameters={'output_dtype': 'int8'}"),
        ("int8", [1, 128], "int8 has no room for numbers such as 128"),
        ("int8", [-129, 1], "int8 has no room for numbers such as -129"),
        ("float16", [1, -65505], "float16 has no room for numbers such as -65505"),
        ("float32", [1, 1e39], "float32 has no room for numbers such as inf"),
    ],
)
def test_a_vector_whose_numbers_would_change_is_a_failed_row(tmp_path, kind, vector, said):
    found, errors = Table(tmp_path, [{"id": 0}, {"id": 1}, {"id": 2}]).land(
        [
            result_row(str(number), {"data": [{"embedding": one}]})
            for number, one in enumerate([[1, 2], vector, [3, 4]])
        ],
        endpoint="/v1/embeddings",
        columns=AnswerColumns(embedding=kind),
    )
    assert found.select(["id", "embedding"]).to_pylist() == [
        {"id": 0, "embedding": [1, 2]},
        {"id": 2, "embedding": [3, 4]},
    ]
    assert errors.column("id").to_pylist() == [1]
    assert said in errors.column("error").to_pylist()[0]


@pytest.mark.parametrize(
    ("kind", "vector"),
    [("int8", [-128, 127]), ("float16", [-65504, 65504]), ("float32", [-(2.0**127), 2.0**127])],
)
def test_each_number_of_its_type_has_room_in_a_vector(tmp_path, kind, vector):
    found, _ = Table(tmp_path, [{"id": 0}]).land(
        [result_row("0", {"data": [{"embedding": vector}]})],
        endpoint="/v1/embeddings",
        columns=AnswerColumns(embedding=kind),
    )
    assert found.column("embedding").to_pylist() == [vector]


HUGE = 10**400


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("/v1/moderations", {"results": [{"category_scores": {"law": HUGE}}]}),
        ("/v1/classifications", {"results": [{"tone": {"scores": {"warm": HUGE}}}]}),
        ("/v1/ocr", {"pages": [{"index": True, "markdown": "A"}]}),
        ("/v1/ocr", {"pages": [{"index": HUGE, "markdown": "A"}]}),
    ],
)
def test_a_value_of_an_odd_type_keeps_no_other_answer_from_landing(tmp_path, endpoint, body):
    found, _ = Table(tmp_path, [{"id": 1}]).land([result_row("1", body)], endpoint=endpoint)
    assert found.column("id").to_pylist() == [1]


def test_documents_become_markdown_and_pages(tmp_path):
    pages = [{"index": 0, "markdown": "# One", "images": []}, {"index": 1, "markdown": "Two"}]
    found, _ = Table(tmp_path, [{"id": "a.pdf"}]).land(
        [result_row("a.pdf", {"pages": pages})], endpoint="/v1/ocr"
    )
    assert found.column("markdown").to_pylist() == ["# One\n\nTwo"]
    assert found.column("pages").to_pylist() == [
        [{"index": 0, "markdown": "# One"}, {"index": 1, "markdown": "Two"}]
    ]


def test_moderations_become_scores_by_category(tmp_path):
    result = {"categories": {"law": True, "pii": False}, "category_scores": {"law": 0.9, "pii": 0}}
    found, _ = Table(tmp_path, [{"id": 1}]).land(
        [result_row("1", {"results": [result]})], endpoint="/v1/moderations"
    )
    assert found.column("scores").to_pylist() == [[("law", 0.9), ("pii", 0.0)]]
    assert found.column("flagged").to_pylist() == [["law"]]


def test_classifications_become_labels_and_scores(tmp_path):
    result = {"tone": {"scores": {"warm": 0.7, "cold": 0.3}}}
    found, _ = Table(tmp_path, [{"id": 1}]).land(
        [result_row("1", {"results": [result]})], endpoint="/v1/classifications"
    )
    assert found.column("labels").to_pylist() == [[("tone", "warm")]]
    assert found.column("scores").to_pylist() == [[("tone", [("warm", 0.7), ("cold", 0.3)])]]


@pytest.mark.parametrize("failed", [False, True], ids=["no row", "a failed row"])
@pytest.mark.parametrize("without_first", [False, True])
def test_parts_without_a_vector_are_read_with_those_that_have_some(tmp_path, failed, without_first):
    manifests = []
    for name, results in (("with", [result_row("1", {"data": [{"embedding": [1, 2]}]})]), ("without", [])):
        (tmp_path / name).mkdir()
        errors = [] if results else [failed_row("1")]
        Table(tmp_path / name, [{"id": 1}]).land(
            results, errors, endpoint="/v1/embeddings", columns=AnswerColumns(failed=failed)
        )
        path = str(tmp_path / name / "results.parquet")
        manifests.append({"results_path": path, "table": {"key": ["id"], "answer": ["embedding"]}})
    table = read_table(sorted(manifests, key=str, reverse=without_first)).read_all()
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 2)
    vectors = table.column("embedding").to_pylist()
    assert [vector for vector in vectors if vector] == [[1, 2]]
    assert len(vectors) == 1 + failed


@pytest.mark.parametrize(
    "endpoint", [CHAT, "/v1/embeddings", "/v1/ocr", "/v1/moderations", "/v1/classifications"]
)
def test_a_table_without_answers_has_its_columns(tmp_path, endpoint):
    found, errors = Table(tmp_path, [{"id": 1}]).land([], [failed_row("1")], endpoint=endpoint)
    assert found.num_rows == 0
    assert errors.num_rows == 1
    assert found.schema.names[0] == "id"


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        (1, Decimal("1.25"), pa.decimal128(22, 2)),
        (Decimal("1.5"), Decimal("1.25"), pa.decimal128(3, 2)),
        (1, None, pa.int64()),
    ],
)
def test_tables_of_several_tasks_are_one_if_their_values_have_room(tmp_path, first, second, kind):
    read = read_table(manifests(tmp_path, first, second)).read_all()
    assert read.schema.field("extra").type == kind
    assert read.column("extra").to_pylist() == [first, second]


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (1, "x", "manifest: the tables have different columns: column 'extra' is string, and int64"),
        (0.5, 2**60 + 1, "column 'extra': no type has room for the values of all rows"),
    ],
)
def test_tables_of_several_tasks_that_are_not_one_are_named(tmp_path, first, second, said):
    with pytest.raises(InvalidInputError, match=said):
        read_table(manifests(tmp_path, first, second)).read_all()


def manifests(folder, *values):
    """Land a table for each value, which is beside the answer."""
    found = []
    for number, value in enumerate(values):
        path = folder / str(number)
        path.mkdir()
        Table(path, [{"id": number, "extra": value}]).land([chat_row(str(number), "A")])
        found.append(
            {"results_path": str(path / "results.parquet"), "table": {"key": ["id"], "answer": ["answer"]}}
        )
    return found
