"""Every parameter that requests have in common reaches every form of a request, on the fast path and beside it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_mistral_batch.api.endpoints import ENDPOINTS
from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.jsonl.requests.inline import validate_inline
from airflow_provider_mistral_batch.jsonl.requests.template import RowTemplate
from airflow_provider_mistral_batch.jsonl.requests.validation import RowRules

from .request_rows import CHAT, problems_of, row, rows_of, write

CONVERSATIONS = "/v1/conversations"
SYSTEM = {"role": "system", "content": "Translate to French"}
JSON = {"type": "json_object"}

PARAMETERS: dict[str, Any] = {
    "system": "Translate to French",
    "model": "m",
    "max_tokens": 5,
    "temperature": 0.5,
    "response_format": JSON,
    "parameters": {"extra": [1]},
}


def value_in(body, name, endpoint):
    """Read a common parameter where the endpoint has it."""
    if name == "system":
        if endpoint == CONVERSATIONS:
            return body.get("instructions")
        return next((one["content"] for one in body["messages"] if one["role"] == "system"), None)
    if name == "parameters":
        return {"extra": body["extra"]} if "extra" in body else None
    if endpoint == CONVERSATIONS and name != "model":
        return body.get("completion_args", {}).get(name)
    return body.get(name)


def with_own(body, endpoint):
    """Give a body a value of its own for each parameter that the endpoint takes."""
    taken = ENDPOINTS[endpoint].takes
    own = {"max_tokens": 7, "temperature": 0, "response_format": {"type": "text"}}
    own = {name: value for name, value in own.items() if name in taken}
    if endpoint == CONVERSATIONS:
        own = {"completion_args": own, "instructions": "My own"}
    elif "system" in taken:
        own["messages"] = [*body["messages"], {"role": "system", "content": "My own"}]
    return {**body, **own, "model": "own", "extra": "own"}


def forms(prompt_body, endpoint):
    """All forms of the same request that a source may have."""
    named = [row(f"r{number}", prompt_body) for number in range(3)]
    return {
        "prompts": ["Hi"] * 3,
        "rows": named,
        "nameless": [row(None, prompt_body)] * 3,
        "published": [
            {"custom_id": one["custom_id"], "method": "POST", "url": endpoint, "body": one["body"]}
            for one in named
        ],
        "mixed": ["Hi", named[0], row(None, prompt_body), row("u", prompt_body, url=endpoint)],
    }


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_each_parameter_reaches_each_form_of_a_request(prepare, tmp_path, endpoint, name):
    template = RowTemplate(**{name: PARAMETERS[name]})
    prompt_body = rows_of(prepare(["Hi"], endpoint=endpoint))[0]["body"]
    for form, source in forms(prompt_body, endpoint).items():
        sources = [source, iter(source)]
        if form not in ("prompts", "mixed"):
            sources += [
                write(
                    tmp_path / "compact.jsonl",
                    [json.dumps(one, separators=(",", ":")).encode() for one in source],
                ),
                write(tmp_path / "spaced.jsonl", source),
                write(tmp_path / "blank.jsonl", [*source, b"  "]),
            ]
        for one in sources:
            if name not in (*ENDPOINTS[endpoint].takes, "model", "parameters"):
                with pytest.raises(InvalidInputError, match=f"^{name}=.*have no {name}"):
                    prepare(one, endpoint=endpoint, template=template)
                continue
            bodies = [line["body"] for line in rows_of(prepare(one, endpoint=endpoint, template=template))]
            assert [value_in(body, name, endpoint) for body in bodies] == [PARAMETERS[name]] * len(source)
            inline = validate_inline(list(source), endpoint=endpoint, template=template)
            assert [line["body"] for line in inline.rows] == bodies


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_what_a_request_has_of_its_own_stays(prepare, tmp_path, endpoint):
    prompt_body = rows_of(prepare(["Hi"], endpoint=endpoint))[0]["body"]
    own = with_own(prompt_body, endpoint)
    taken = {
        name: value
        for name, value in PARAMETERS.items()
        if name in (*ENDPOINTS[endpoint].takes, "model", "parameters")
    }
    source = [row("a", own), row("b", own)]
    for one in (source, write(tmp_path / "in.jsonl", source)):
        assert rows_of(prepare(one, endpoint=endpoint, template=RowTemplate(**taken))) == source


def test_a_conversation_gets_the_arguments_that_its_own_lack(prepare):
    bodies = [
        {"inputs": "Hi", "completion_args": {"temperature": 1.50}},
        {"inputs": "Hi", "completion_args": {}},
        {"completion_args": {"max_tokens": 9, "temperature": 2}, "inputs": "Hi", "instructions": "Mine"},
    ]
    template = RowTemplate(max_tokens=5, temperature=0, system="Be brief.")
    prepared = prepare(
        [row(str(n), body) for n, body in enumerate(bodies)], endpoint=CONVERSATIONS, template=template
    )
    assert [line["body"]["completion_args"] for line in rows_of(prepared)] == [
        {"max_tokens": 5, "temperature": 1.5},
        {"max_tokens": 5, "temperature": 0},
        {"max_tokens": 9, "temperature": 2},
    ]
    assert [line["body"]["instructions"] for line in rows_of(prepared)] == ["Be brief.", "Be brief.", "Mine"]


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
@pytest.mark.parametrize("template", [{}, {"max_tokens": 5}])
@pytest.mark.parametrize("has_system", [False, True])
def test_a_system_message_does_not_take_rows_apart(
    prepare, tmp_path, monkeypatch, separators, template, has_system
):
    monkeypatch.setattr(RowRules, "acceptable", None)
    user = {"role": "user", "content": 'A "messages": [{ of theirs'}
    messages = [SYSTEM, user] if has_system else [user]
    given_rows = [row(f"r{number}", {"messages": messages, "top_p": 1}) for number in range(2000)]
    path = write(
        tmp_path / "in.jsonl", [json.dumps(one, separators=separators).encode() for one in given_rows]
    )
    prepared = prepare(path, template=RowTemplate(system=SYSTEM["content"], **template))
    assert rows_of(prepared) == [
        row(line["custom_id"], {**template, **line["body"], "messages": [SYSTEM, user]})
        for line in given_rows
    ]


@pytest.mark.parametrize(
    "body",
    [
        '{"messages":[{"role":"user"}],"n":1.50,"messages":[{"role":"user","content":"last"}]}',
        '{"n":1.50,"messages":[{"role":"user","content":"last"}]}',
        '{ "n" : 1.50 , "messages" : [ { "role" : "user" , "content" : "last" } ] }',
    ],
)
def test_the_messages_that_count_get_the_system_message(prepare, tmp_path, body):
    path = write(tmp_path / "in.jsonl", [f'{{"custom_id":"a","body":{body}}}'.encode()])
    prepared = prepare(path, template=RowTemplate(system=SYSTEM["content"]))
    last = {"role": "user", "content": "last"}
    assert rows_of(prepared) == [row("a", {"messages": [SYSTEM, last], "n": 1.5})]
    assert b"1.50" in prepared.paths[0].read_bytes()


@pytest.mark.parametrize("messages", [None, "Hi", {"role": "user"}, ["Hi"], [{"role": 5}]])
def test_a_request_that_cannot_have_a_system_message_is_refused(prepare, messages):
    error = problems_of(
        lambda: prepare(
            [row("a", {"messages": messages}), row("b", {"x": 1})], template=RowTemplate(system="S")
        )
    )
    assert [problem.field for problem in error.problems] == ["body.messages"] * 2
    assert "leave system out" in str(error)


def test_a_null_model_is_none(prepare):
    prepared = prepare([row("a", {"model": None, "n": 1})] * 1, template=RowTemplate(model="m"))
    assert rows_of(prepared) == [row("a", {"model": "m", "n": 1})]
    assert prepared.model == "m"


AGENT = {"agent_id": "ag"}


@pytest.mark.parametrize("template", [{}, {"model": "m"}, {"max_tokens": 5}])
@pytest.mark.parametrize("how", ["rows", "path", "odd"])
def test_requests_of_an_agent_get_no_model(prepare, tmp_path, template, how):
    given_rows = [row("a", AGENT), row("b", {"messages": [], **AGENT})]
    odd = [b'{"body": {"agent_id": "ag"}, "custom_id": "a"}', given_rows[1]]
    source = {"rows": given_rows, "path": write(tmp_path / "in.jsonl", given_rows)}
    prepared = prepare(
        source.get(how) or write(tmp_path / "odd.jsonl", odd), template=RowTemplate(**template)
    )
    added = {name: value for name, value in template.items() if name != "model"}
    assert rows_of(prepared) == [row(one["custom_id"], {**added, **one["body"]}) for one in given_rows]
    assert (prepared.agent, prepared.model) == ("ag", None)
    inline = validate_inline(given_rows, endpoint=CHAT, template=RowTemplate(**template))
    assert (inline.agent, inline.model) == ("ag", None)


@pytest.mark.parametrize("template", [{}, {"model": "m"}])
@pytest.mark.parametrize("agent_first", [False, True])
@pytest.mark.parametrize("many", [1, 20_000])
def test_requests_with_and_without_an_agent_do_not_mix(prepare, tmp_path, template, agent_first, many):
    blocks = [[row(f"a{n}", AGENT) for n in range(many)], [row(f"m{n}", {"n": 1}) for n in range(many)]]
    path = write(tmp_path / "in.jsonl", [*blocks[not agent_first], *blocks[agent_first]])
    for source in (path, [path]):
        error = problems_of(lambda source=source: prepare(source, template=RowTemplate(**template)))
        (problem,) = error.problems
        assert (problem.line, problem.field) == (many + 1, "body.agent_id")
        assert "line 1" in problem.reason
        assert "all requests of a batch or in none" in problem.remedy


def test_an_agent_among_the_parameters_counts(prepare):
    prepared = prepare(["Hi", row("a")], template=RowTemplate(parameters=AGENT))
    assert {line["body"]["agent_id"] for line in rows_of(prepared)} == {"ag"}
    assert prepared.agent == "ag"
