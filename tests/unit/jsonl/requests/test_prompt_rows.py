"""A row that is an id and a prompt becomes the request that a plain prompt becomes, on every way in."""

from __future__ import annotations

import json

import pytest

from airflow_provider_mistral_batch.api.endpoints import ENDPOINTS
from airflow_provider_mistral_batch.jsonl.requests.inline import validate_inline
from airflow_provider_mistral_batch.jsonl.requests.template import RowTemplate

from .request_rows import CHAT, problems_of, row, rows_of, write

TEXT = 'Say "Hé" to %s, {you} \\ \U0001f600\n'

TEMPLATES = {
    "nothing": RowTemplate(),
    "all": RowTemplate(
        system='Be "brief".',
        model="m",
        max_tokens=5,
        temperature=0.0,
        response_format={"type": "json_object"},
        parameters={"top_p": 0.5},
    ),
}


@pytest.mark.parametrize("with_url", [False, True])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_every_endpoint_makes_the_body_of_a_plain_prompt(prepare, tmp_path, endpoint, with_url):
    (plain,) = rows_of(prepare([TEXT], endpoint=endpoint, with_url=with_url))
    assert plain["body"] == ENDPOINTS[endpoint].prompt_fields(TEXT)
    asked = [{"custom_id": "a", "prompt": TEXT}]
    for source in (asked, iter(asked), write(tmp_path / "in.jsonl", asked)):
        assert rows_of(prepare(source, endpoint=endpoint, with_url=with_url)) == [{**plain, "custom_id": "a"}]


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_they_get_all_of_a_template(prepare, tmp_path, template):
    (plain,) = rows_of(prepare([TEXT], template=template))
    asked = [{"custom_id": f"é{number}", "prompt": TEXT} for number in range(3)]
    expected = [{"custom_id": one["custom_id"], "body": plain["body"]} for one in asked]
    assert rows_of(prepare(asked, template=template)) == expected
    assert rows_of(prepare(write(tmp_path / "in.jsonl", asked), template=template)) == expected
    assert validate_inline(asked, endpoint=CHAT, template=template).rows == expected


def test_all_forms_may_stand_side_by_side(prepare, tmp_path):
    own = {"messages": [{"role": "user", "content": '"prompt"'}]}
    lines = [
        {"prompt": "Hi", "custom_id": "a"},
        {"prompt": "Hi"},
        row("b", own),
        {"custom_id": None, "method": "POST", "url": CHAT, "prompt": "Hi"},
    ]
    prepared = rows_of(prepare([*lines, "Hi"]))
    asked = {"messages": [{"role": "user", "content": "Hi"}]}
    assert [one["custom_id"] for one in prepared] == ["a", "row-2", "b", "row-4", "row-5"]
    assert [one["body"] for one in prepared] == [asked, asked, own, asked, asked]
    assert prepared[3]["url"] == CHAT
    assert rows_of(prepare(write(tmp_path / "in.jsonl", lines))) == prepared[:4]


def test_uniform_rows_take_the_fast_path(prepare, monkeypatch):
    from airflow_provider_mistral_batch.jsonl.requests.validation import RowRules

    asked = [{"custom_id": str(number), "prompt": "Hi"} for number in range(50)]
    monkeypatch.setattr(RowRules, "acceptable", None)
    assert prepare(asked, template=TEMPLATES["all"]).request_count == 50


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"custom_id": "a", "prompt": "Hi", "body": {}}, 'prompt = "Hi": the row has a body, too. Leave one'),
        ({"custom_id": "a", "prompt": "Hi", "body": 5}, "body = 5: must be an object"),
        ({"custom_id": "a", "prompt": ["Hi"]}, 'prompt = ["Hi"]: must be a text'),
        ({"custom_id": "a", "prompt": None}, "prompt = null: must be a text"),
        ({"custom_id": "a", "prompt": 5}, "prompt = 5: must be a text"),
        ({"custom_id": "a", "prompt": "Hi", "max_tokens": 5}, "max_tokens = 5: unknown field"),
        ({"custom_id": 5, "prompt": "Hi"}, "custom_id = 5: must be a string"),
        ({"custom_id": "", "prompt": "Hi"}, 'custom_id = "": must be a string that is not empty'),
        ({"custom_id": "a", "prompt": "Hi", "method": "GET"}, 'method = "GET": must be POST'),
        ({"custom_id": "a", "prompt": "Hi", "url": "/v1/ocr"}, 'url = "/v1/ocr": the job\'s endpoint is'),
        ({"custom_id": "a", "text": "Hi"}, 'text = "Hi": unknown field'),
        ({"custom_id": "a"}, "body: missing. A row is"),
    ],
)
def test_what_is_refused(prepare, tmp_path, asked, problem):
    good = {"custom_id": "z", "prompt": "Ho"}
    for source in ([good, asked], write(tmp_path / "in.jsonl", [good, asked])):
        assert problem in str(problems_of(lambda source=source: prepare(source)))
    assert problem in str(problems_of(lambda: validate_inline([good, asked], endpoint=CHAT)))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"custom_id": "a", "prompt": "half \\ud83d"}', "lone surrogate"),
        (b'{"custom_id": "a", "prompt": "\xff"}', "is not UTF-8"),
        (b'{"custom_id": "a", "prompt": "cut', "not JSON"),
    ],
)
def test_a_prompt_that_is_no_text_is_refused_at_its_place(prepare, tmp_path, line, problem):
    path = write(tmp_path / "in.jsonl", [{"custom_id": "z", "prompt": "Ho"}, line])
    message = str(problems_of(lambda: prepare(path)))
    assert problem in message
    assert "line 2" in message


def test_a_prompt_that_is_too_long_with_its_template_is_refused(prepare):
    asked = [{"custom_id": "a", "prompt": "x" * 100}]
    template = RowTemplate(system="y" * 100)
    assert prepare(asked, template=template, max_row_bytes=400).request_count == 1
    message = str(problems_of(lambda: prepare(asked, template=template, max_row_bytes=200)))
    assert "more than 200 bytes with what is added" in message


def test_a_file_that_is_no_request_file_is_not_quoted(prepare, tmp_path):
    path = tmp_path / "notes.jsonl"
    path.write_text(json.dumps({"prompt": ["hunter2"]}))
    assert "hunter2" not in str(problems_of(lambda: prepare(path)))
