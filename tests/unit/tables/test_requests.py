"""Requests of a table: they are what the same rows would be in a file, and no check is left out."""

from __future__ import annotations

import json

import pyarrow
import pytest

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.jsonl.requests.prepare import prepare_requests
from airflow_provider_mistral_batch.jsonl.requests.problems import InvalidRequestsError
from airflow_provider_mistral_batch.jsonl.requests.template import RowTemplate
from airflow_provider_mistral_batch.tables.requests import TableQuestion, TableRequests
from airflow_provider_mistral_batch.tables.rows_beside import SKIPPED, read_rows_beside

CHAT = "/v1/chat/completions"
ODD_TEXTS = ["plain", 'quoted "text" \\ and more', "zwei\nZeilen", "ä\u2028\x00", "%s {x}", "  spaces  "]


def prepared(tmp_path, texts, *, on_null="fail", **options):
    question = TableQuestion(
        key="id", prompt="{body}", prompt_file=None, messages=None, keep=[], on_null=on_null, endpoint=CHAT
    )
    rows = [{"id": number, "body": text} for number, text in enumerate(texts)]
    return prepare_requests(
        TableRequests(rows, question, directory=tmp_path),
        endpoint=CHAT,
        directory=tmp_path / "shards",
        template=RowTemplate(system="Classify.", max_tokens=9, model="m"),
        **options,
    )


@pytest.mark.parametrize("with_url", [False, True])
def test_they_are_what_the_same_rows_are_in_a_file(tmp_path, with_url):
    of_table = prepared(tmp_path, ODD_TEXTS, with_url=with_url)
    of_file = prepare_requests(
        of_table.paths[0], endpoint=CHAT, directory=tmp_path / "again", with_url=with_url
    )

    assert of_table.request_count == len(ODD_TEXTS)
    assert of_table.model == of_file.model == "m"
    assert of_table.paths[0].read_bytes() == of_file.paths[0].read_bytes()


def test_a_row_that_is_too_long_is_named(tmp_path):
    with pytest.raises(InvalidRequestsError, match="row 2"):
        prepared(tmp_path, ["short", "x" * 2_000, "short"], max_row_bytes=1_000)


@pytest.mark.parametrize("blank", ["", " ", "\n\t\u2003"])
def test_a_blank_text_is_refused_or_skipped(tmp_path, blank):
    with pytest.raises(InvalidInputError, match="its text is empty"):
        prepared(tmp_path, ["a", blank])

    assert prepared(tmp_path, ["a", blank], on_null="skip").request_count == 1


def test_nulls_and_blank_texts_are_skipped_together(tmp_path, caplog):
    texts = [None, "", "a", None, " ", "b", None]
    rows = [{"id": f"k{number}", "body": text} for number, text in enumerate(texts)]
    question = TableQuestion(
        key="id", prompt="{body}", prompt_file=None, messages=None, keep=[], on_null="skip", endpoint=CHAT
    )
    table = TableRequests(rows, question, directory=tmp_path)

    found = prepare_requests(table, endpoint=CHAT, directory=tmp_path / "shards")

    assert [json.loads(line)["custom_id"] for line in found.paths[0].open()] == ["k2", "k5"]
    assert [
        skipped
        for batch in read_rows_beside(table.rows.paths, [SKIPPED])
        for skipped in batch.column(0).to_pylist()
    ] == [text is None or not text.strip() for text in texts]
    assert table.skipped == 5
    assert table.skipped_keys == ["k0", "k1", "k3", "k4", "k6"]
    assert "Skipped 5 of the source's rows" in caplog.text


def test_requests_with_a_long_common_part_are_made_in_small_pieces(tmp_path):
    question = TableQuestion(
        key="id", prompt="{id}", prompt_file=None, messages=None, keep=[], on_null="fail", endpoint=CHAT
    )
    table = TableRequests([{"id": number} for number in range(100)], question, directory=tmp_path)

    blocks = list(table.request_blocks(RowTemplate(system="x" * 100_000)))

    assert sum(len(block.ids) for block in blocks) == 100
    assert max(len(block.data) for block in blocks) < 2_000_000


@pytest.mark.parametrize(
    "keys_and_texts",
    [
        [(1, None), (1, "real")],
        [(1, "real"), (1, None)],
        [(1, None), (2, "real"), (1, " ")],
        [(1, None), (2, "real"), (2, "real")],
        [(1, None), *((number, "real") for number in range(2, 9_000)), (7_000, "real")],
    ],
)
def test_a_key_that_repeats_is_refused_also_if_a_row_with_it_is_skipped(tmp_path, keys_and_texts):
    """The answer of the one would land beside the other."""
    question = TableQuestion(
        key="id", prompt="{body}", prompt_file=None, messages=None, keep=[], on_null="skip", endpoint=CHAT
    )
    rows = [{"id": key, "body": text} for key, text in keys_and_texts]
    keys = [key for key, _ in keys_and_texts]
    second = next(number for number, key in enumerate(keys) if key in keys[:number])
    first = keys.index(keys[second])

    with pytest.raises(
        InvalidInputError,
        match=f"key: rows {first + 1:,} and {second + 1:,} .* the same key, '{keys[first]}' .*: 1\\)",
    ):
        prepare_requests(
            TableRequests(rows, question, directory=tmp_path), endpoint=CHAT, directory=tmp_path / "shards"
        )


def test_all_repeated_keys_are_told_if_no_row_was_skipped(tmp_path):
    question = TableQuestion(
        key="id", prompt="{body}", prompt_file=None, messages=None, keep=[], on_null="skip", endpoint=CHAT
    )
    table = TableRequests([{"id": 7, "body": "a"}] * 3, question, directory=tmp_path)
    with pytest.raises(InvalidRequestsError, match="2 problems") as refused:
        prepare_requests(table, endpoint=CHAT, directory=tmp_path / "shards")
    assert 'row 2: custom_id = "7": the same as on row 1' in str(refused.value)


NOT_UTF8 = pyarrow.Array.from_buffers(
    pyarrow.string(),
    3,
    [None, pyarrow.array([0, 1, 2, 4], pyarrow.int32()).buffers()[1], pyarrow.py_buffer(b"ab\xff\xfe")],
)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (
            {"id": NOT_UTF8},
            r"column 'id' has a text that is not UTF-8 .*, in the row with id=b'\\xff\\xfe': write",
        ),
        ({"body": NOT_UTF8}, r"column 'body' .*, in the row with id='z', body=b'\\xff\\xfe': write"),
        ({"note": NOT_UTF8}, r"column 'note' .*, in the row with id='z', note=b'\\xff\\xfe': write"),
        (
            {"note": pyarrow.ListArray.from_arrays([0, 0, 1, 3], NOT_UTF8)},
            r"column 'note' .*, in the row with id='z', note=b'\\xff\\xfe'",
        ),
        (
            {"note": NOT_UTF8.dictionary_encode()},
            r"column 'note' .*, in the row with id='z', note=b'\\xff\\xfe'",
        ),
    ],
)
def test_a_text_that_is_not_utf8_is_named_before_anything_is_sent(tmp_path, columns, said):
    texts = pyarrow.array(["x", "y", "z"])
    rows = pyarrow.table({"id": texts, "body": texts, "note": texts, **columns})
    question = TableQuestion(
        key="id",
        prompt="{body}",
        prompt_file=None,
        messages=None,
        keep=["note"],
        on_null="skip",
        endpoint=CHAT,
    )
    with pytest.raises(InvalidInputError, match=said):
        prepare_requests(
            TableRequests(rows, question, directory=tmp_path), endpoint=CHAT, directory=tmp_path / "shards"
        )
