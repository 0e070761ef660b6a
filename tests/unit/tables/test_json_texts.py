"""Texts that Arrow writes as JSON, all at once: byte for byte what one row after the other would be."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_mistral_batch.jsonl.requests.template import RowTemplate
from airflow_provider_mistral_batch.tables.bodies import bodies_of_messages
from airflow_provider_mistral_batch.tables.json_texts import all_as_json
from airflow_provider_mistral_batch.tables.requests import _are_filled

#: No column of Arrow has half a character.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
ASCII = "".join(map(chr, range(128)))

MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": 'Rules: "{title}"\n'},
    {"role": "user", "content": [{"type": "text", "text": "{{%s}} {body}\\{price:.2f} {n}{body}"}]},
]
ROW = st.fixed_dictionaries(
    {
        "title": TEXTS | st.none(),
        "body": TEXTS,
        "price": st.floats(allow_nan=False),
        "n": st.integers(-(2**63), 2**63 - 1),
    }
)
KINDS = {"title": pa.string(), "body": pa.large_string(), "price": pa.float64(), "n": pa.int64()}


@given(st.lists(TEXTS, max_size=4), st.integers(0, 3))
@example([ASCII, "", "\U0001f600é\u2028"], 0)
def test_all_texts_are_what_each_is(texts, start):
    column = pa.array(texts, pa.string()).slice(start)

    assert all_as_json(column).to_pylist() == [
        msgspec.json.encode(text)[1:-1].decode() for text in texts[start:]
    ]


@given(st.lists(st.tuples(TEXTS, ROW), min_size=1, max_size=4))
@example([(ASCII, {"title": None, "body": ASCII, "price": 0.125, "n": -7})])
def test_requests_are_what_each_row_makes(keyed_rows):
    ids, rows = zip(*keyed_rows, strict=True)
    bodies = bodies_of_messages(MESSAGES, RowTemplate(max_tokens=9, parameters={"stop": 'a"%s\\'}))
    batch = pa.RecordBatch.from_pylist(
        [{"title": "not of the slice", "body": '"', "price": 0.0, "n": 0}, *rows], pa.schema(KINDS.items())
    ).slice(1)

    lines = bodies.lines(pa.array(ids, pa.string()), [text.parts(batch) for text in bodies.texts])

    assert lines == b"\n".join(map(line_of, ids, rows))


def line_of(id_, row):
    row = {**row, "title": "" if row["title"] is None else row["title"]}
    system, user = MESSAGES[0]["content"], MESSAGES[1]["content"][0]["text"]
    messages = [
        {"role": "system", "content": system.format(**row)},
        {"role": "user", "content": [{"type": "text", "text": user.format(**row)}]},
    ]
    body = {"max_tokens": 9, "stop": 'a"%s\\', "messages": messages}
    return msgspec.json.encode({"custom_id": id_, "body": body})


def test_a_text_is_blank_as_it_is_for_python():
    characters = [chr(one) for one in range(sys.maxunicode + 1) if not 0xD800 <= one < 0xE000]
    filled = _are_filled([[" ", pa.array(characters, pa.string())]], len(characters)).to_pylist()

    assert [one for one, is_filled in zip(characters, filled, strict=True) if not is_filled] == [
        one for one in characters if one.isspace()
    ]
