"""Requests become upload-ready files, or one error that says everything that is wrong."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.jsonl.custom_ids import CustomIds
from airflow_provider_mistral_batch.jsonl.requests import prepare as prepare_module
from airflow_provider_mistral_batch.jsonl.requests.prepare import prepare_requests
from airflow_provider_mistral_batch.jsonl.requests.template import RowTemplate

from .request_rows import CHAT, problems_of, row, rows_of, write


def test_ready_rows_stay_byte_for_byte(prepare, tmp_path):
    lines = [
        b'{"custom_id": "a", "body": {"x": 1.0e3, "y": "\\u00e9 \xc3\xa9", "n": 123456789012345678901234567890}}',
        b'{ "body" : {"model" : "m"} , "custom_id":"b" }',
    ]
    prepared = prepare(write(tmp_path / "in.jsonl", lines))
    (shard,) = prepared.shards
    content = b"\n".join(lines) + b"\n"
    assert shard.path.read_bytes() == content
    assert (shard.request_count, shard.size, shard.job) == (2, len(content), 0)
    assert shard.sha256 == hashlib.sha256(content).hexdigest()
    assert (prepared.request_count, prepared.model, prepared.numbered) == (2, "m", 0)


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" , ", " : ")])
@pytest.mark.parametrize(
    "order", [["method", "url", "body"], ["body", "url", "method"], ["url", "method", "body"]]
)
def test_method_url_and_the_bytes_of_bodies_stay_as_they_are(prepare, tmp_path, separators, order):
    nested = {"messages": [], "method": "POST", "url": CHAT, "max_tokens": 1}
    values = {"method": "POST", "url": CHAT, "body": nested}
    published = [{"custom_id": f"r{n}", **{name: values[name] for name in order}} for n in range(3)]
    lines = [json.dumps(line, separators=separators).encode() for line in published]
    lines.append(json.dumps(row("plain", nested), separators=separators).encode())
    prepared = prepare(write(tmp_path / "in.jsonl", lines))
    assert rows_of(prepared) == [*published, row("plain", nested)]
    body = json.dumps(nested, separators=separators).encode()
    assert prepared.paths[0].read_bytes().count(body) == 4


def test_openai_rows_get_method_and_url(prepare):
    given_rows = [row("a"), row("b", method="POST", url=CHAT), row("c", url=CHAT)]
    assert rows_of(prepare(given_rows, with_url=True)) == [
        row(id_, method="POST", url=CHAT) for id_ in ("a", "b", "c")
    ]


def test_the_same_input_gives_the_same_bytes(prepare, out):
    first = prepare(["a", "b", row("x", {"n": 1})])
    assert prepare(["a", "b", row("x", {"n": 1})]) == first
    assert sorted(path.name for path in out.iterdir()) == ["requests-00000.jsonl"]


@settings(deadline=None)
@given(
    bodies=st.lists(
        st.dictionaries(
            st.text(max_size=5),
            st.recursive(
                st.none()
                | st.booleans()
                | st.integers()
                | st.floats(allow_nan=False, allow_infinity=False)
                | st.text(),
                lambda children: (
                    st.lists(children, max_size=3)
                    | st.dictionaries(st.text(max_size=3), children, max_size=3)
                ),
                max_leaves=8,
            ),
            max_size=4,
        ).filter(lambda body: isinstance(body.get("model", ""), str)),
        min_size=1,
        max_size=8,
    ),
    ascii_only=st.booleans(),
    separators=st.sampled_from([(",", ":"), (", ", ": ")]),
    extra=st.sampled_from([{}, {"method": "POST", "url": CHAT}]),
)
def test_any_body_survives(tmp_path_factory, bodies, ascii_only, separators, extra):
    folder = tmp_path_factory.mktemp("any")
    for body in bodies:
        body.pop("model", None)
    lines = [
        json.dumps(row(f"r{n}", body, **extra), ensure_ascii=ascii_only, separators=separators).encode(
            "utf-8", "replace"
        )
        for n, body in enumerate(bodies)
    ]
    path = write(folder / "in.jsonl", lines)
    prepared = prepare_requests(path, endpoint=CHAT, directory=folder / "out")
    assert [found["body"] for found in rows_of(prepared)] == [json.loads(line)["body"] for line in lines]


def test_duplicates_name_both_lines_across_files_and_blank_lines(prepare, tmp_path):
    first = write(tmp_path / "1.jsonl", [b"", row("a"), b"", b"", row("b")])
    second = write(tmp_path / "2.jsonl", [row("c"), b"", row("b"), row("a"), row("c")])
    error = problems_of(lambda: prepare([first, second]))
    found = [(problem.file, problem.line, problem.reason) for problem in error.problems]
    assert found == [
        (str(second), 3, f"the same as on line 5 of {first}"),
        (str(second), 4, f"the same as on line 2 of {first}"),
        (str(second), 5, "the same as on line 1"),
    ]


def test_hash_collisions_are_no_duplicates(prepare, monkeypatch):
    def weak(directory):
        return CustomIds(directory, digest=len, window=3)

    monkeypatch.setattr(prepare_module, "CustomIds", weak)
    ids = [f"{number:03d}" for number in range(50)]
    assert prepare(map(row, ids)).request_count == 50
    error = problems_of(lambda: prepare(map(row, [*ids, "007", "new", "049"])))
    assert [(problem.line, problem.value) for problem in error.problems] == [(51, '"007"'), (53, '"049"')]
    assert error.total == 2


def test_more_suspects_than_are_looked_at(prepare, monkeypatch):
    monkeypatch.setattr(prepare_module, "_MAX_SUSPECTS", 3)
    error = problems_of(lambda: prepare(row(str(number % 10)) for number in range(100)))
    assert error.total == 90


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"endpoint": "/v1/unknown"}, r"^endpoint='/v1/unknown' is not known: use one of .*/v1/embeddings"),
        ({"endpoint": "/v1/embeddings", "template": RowTemplate(system="S")}, "system='S'"),
        ({"endpoint": "/v1/embeddings", "template": RowTemplate(max_tokens=5)}, "max_tokens=5"),
        ({"endpoint": "/v1/ocr", "template": RowTemplate(temperature=0.1)}, "temperature=0.1"),
        ({"endpoint": "/v1/fim/completions", "template": RowTemplate(response_format={})}, "response_format"),
        ({"source": {"custom_id": "a", "body": {}}}, "one dict"),
        ({"source": "s3://bucket/key.jsonl"}, "ObjectStoragePath"),
        ({"source": "nothing-*.jsonl"}, "no file matches"),
    ],
)
def test_bad_options(prepare, out, options, message):
    with pytest.raises(InvalidInputError, match=message):
        prepare(options.pop("source", [row("a")]), **options)
    assert not out.exists() or list(out.iterdir()) == []


def test_an_error_in_the_users_generator_leaves_nothing_behind(prepare, out):
    def rows():
        yield from (row(str(number), {"x": "x" * 1000}) for number in range(500))
        raise RuntimeError("the warehouse is gone")

    with pytest.raises(RuntimeError, match="the warehouse is gone"):
        prepare(rows())
    assert list(out.iterdir()) == []
