"""Rows read as columns are the rows that are read one by one, whatever Arrow thinks of them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mistral_batch.jsonl.results.row_columns import row_columns
from airflow_provider_mistral_batch.jsonl.results.rows import ResultRow, result_row

from .answers import BODIES, CHAT_BODY
from .result_rows import row_line

PLAIN = row_line("plain", CHAT_BODY)


def chat(content='"x"', *, reason='"stop"', usage="{}", extra="") -> bytes:
    """Write a chat's answer by hand, since some of it no encoder would write."""
    return (
        f'{{"custom_id":"r","response":{{"status_code":200,"body":{{"model":"m","usage":{usage},"choices":'
        f'[{{"finish_reason":{reason},"message":{{"content":{content}}}}}]{extra}}}}},"error":null}}'
    ).encode()


ODD_ROWS = {
    "escapes": chat(r'"a\"b\\c\ud83d\ude00\u0000\n"'),
    "half of a character": chat(r'"\ud83d"'),
    "the other half": chat(r'"\udc00"'),
    "no UTF-8": chat('"?"').replace(b"?", b"\xff"),
    "a content twice": chat('"x","content":"y"'),
    "an empty content": chat('""'),
    "a content that is a number": chat("5"),
    "an unknown reason": chat(reason='"tired"'),
    "the reason error": chat(reason='"error"'),
    "tokens that are no whole number": chat(usage='{"prompt_tokens":1.5}'),
    "negative tokens": chat(usage='{"prompt_tokens":-1}'),
    "very many tokens": chat(usage='{"prompt_tokens":99999999999}'),
    "more tokens than a number has bits": chat(usage='{"prompt_tokens":1%s}' % ("0" * 40)),
    "no usage": chat(usage="null"),
    "nested too deeply": chat(extra=',"x":' + "[" * 2_000 + "]" * 2_000),
    "a failure": row_line("f", {"message": "no"}, 422),
    "an error": b'{"custom_id":"r","response":null,"error":{"message":"no"}}',
    "another status": chat().replace(b"200", b"500"),
    "a status beyond all numbers": chat().replace(b"200", b"9" * 30),
    "no id": chat().replace(b'"r"', b"null", 1),
    "an empty id": chat().replace(b'"r"', b'""', 1),
    "no JSON": b"not JSON",
    "two rows in one": PLAIN + PLAIN,
    "no object": b"[]",
    "cut": PLAIN[:-5],
    **{name: row_line("b", body) for name, (body, _) in BODIES.items()},
}


def one_by_one(lines: list[bytes]) -> list[dict]:
    rows = [{name: getattr(result_row(line), name) for name in ResultRow.__struct_fields__} for line in lines]
    # A number that no column holds is null there.
    return [
        {
            name: None if isinstance(value, int) and not -(2**63) <= value < 2**63 else value
            for name, value in row.items()
        }
        for row in rows
    ]


@pytest.mark.parametrize("line", ODD_ROWS.values(), ids=ODD_ROWS)
@pytest.mark.parametrize("beside", ["alone", "after plain rows", "before plain rows"])
def test_every_kind_of_row(line, beside):
    plain = [] if beside == "alone" else [PLAIN, PLAIN]
    lines = [line, *plain] if beside == "before plain rows" else [*plain, line]

    assert row_columns(lines).to_pylist() == one_by_one(lines)


def test_no_rows():
    assert row_columns([]).num_rows == 0


@given(st.lists(st.text(st.characters(exclude_categories=()), min_size=1), min_size=1))
def test_any_texts(texts):
    lines = [
        row_line(text, {**CHAT_BODY, "choices": [{"message": {"role": "assistant", "content": text}}]})
        for text in map(json.loads, map(json.dumps, texts))
    ]

    assert row_columns(lines).to_pylist() == one_by_one(lines)
