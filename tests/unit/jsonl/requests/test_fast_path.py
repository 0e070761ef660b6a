"""Rows come out the same on the fast path and beside it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_mistral_batch.jsonl.requests.prepare import prepare_requests
from airflow_provider_mistral_batch.jsonl.requests.problems import InvalidRequestsError
from airflow_provider_mistral_batch.jsonl.requests.template import RowTemplate
from airflow_provider_mistral_batch.jsonl.requests.validation import RowRules

from .request_rows import CHAT, rows_of, write

FIELDS = {"temperature": 0.5, "model": "m", 'q"': [1]}


@settings(deadline=None)
@given(data=st.data(), alike=st.booleans(), with_url=st.booleans())
def test_rows_become_the_same_however_they_are_written(tmp_path_factory, data, alike, with_url):
    """Rows that are written alike take another way than rows that are not."""
    folder = tmp_path_factory.mktemp("shapes")
    names = data.draw(st.lists(st.sampled_from(sorted(FIELDS)), unique=True))
    template = RowTemplate(parameters={name: FIELDS[name] for name in names})
    traps = st.sampled_from(['x", "body": {"', '{"custom_id": "', "\\", 'b\\", "body": {"n"', "é"])
    shapes = st.fixed_dictionaries(
        {
            "order": st.permutations(["custom_id", "method", "url", "body"]),
            "extra": st.booleans(),
            "separators": st.sampled_from([(",", ":"), (", ", ": ")]),
            "own": st.lists(st.sampled_from([*sorted(FIELDS), "nested", "text"]), unique=True),
            "ascii": st.booleans(),
        }
    )
    shape = data.draw(shapes)
    lines, expected = [], []
    for number in range(data.draw(st.integers(1, 5))):
        shape = shape if alike else data.draw(shapes)
        text = data.draw(traps)
        own = {
            "nested": {"custom_id": text, "body": {"a": "b", "body": {"n": text}}},
            "text": text,
            **dict.fromkeys(FIELDS, "own"),
        }
        body = {name: own[name] for name in shape["own"]}
        fields: dict[str, Any] = {"custom_id": f"{number}{text}", "body": body}
        if shape["extra"]:
            fields |= {"method": "POST", "url": CHAT}
        line = {name: fields[name] for name in shape["order"] if name in fields}
        lines.append(json.dumps(line, separators=shape["separators"], ensure_ascii=shape["ascii"]).encode())
        # One model a batch is another test's matter.
        expected.append({"custom_id": fields["custom_id"], "body": {**template.defaults(), **body}})
        if with_url or shape["extra"]:
            expected[-1] |= {"method": "POST", "url": CHAT}
    models = {line["body"].get("model") for line in expected} - {None}
    path = write(folder / "in.jsonl", lines)

    def prepare():
        return prepare_requests(
            path, endpoint=CHAT, directory=folder / "out", template=template, with_url=with_url
        )

    if len(models) > 1:
        with pytest.raises(InvalidRequestsError, match="runs one model"):
            prepare()
    else:
        prepared = prepare()
        assert rows_of(prepared) == expected
        assert prepared.model == next(iter(models), None)


@pytest.mark.parametrize("with_url", [False, True])
@pytest.mark.parametrize("extra", [{}, {"method": "POST", "url": CHAT}], ids=["plain", "published"])
@pytest.mark.parametrize("template", [{}, {"max_tokens": 5}, {"max_tokens": 5, "temperature": 0.1}])
@pytest.mark.parametrize("own", [{}, {"max_tokens": 7, "temperature": 1}], ids=["without", "with fields"])
def test_rows_that_are_written_alike_are_not_taken_apart(
    prepare, tmp_path, monkeypatch, with_url, extra, template, own
):
    monkeypatch.setattr(RowRules, "acceptable", None)
    given_rows = [
        {"custom_id": f"r{number}", **extra, "body": {"model": "m", **own}} for number in range(2000)
    ]
    path = write(tmp_path / "in.jsonl", given_rows)
    prepared = prepare(path, template=RowTemplate(**template), with_url=with_url)
    added = {"method": "POST", "url": CHAT} if with_url else extra
    assert rows_of(prepared) == [
        {"custom_id": line["custom_id"], **added, "body": {**template, **line["body"]}} for line in given_rows
    ]
