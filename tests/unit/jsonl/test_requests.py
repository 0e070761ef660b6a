"""Requests from any source become upload-ready files, or one error that says everything that is wrong."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import gzip
import hashlib
import json
import pickle
from collections import Counter

import msgspec
import pytest
import zstandard
from airflow.sdk import ObjectStoragePath
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_mistral_batch.api.errors import InvalidInputError, MistralBatchError
from airflow_provider_mistral_batch.api.limits import ENDPOINTS, MAX_INLINE_REQUESTS
from airflow_provider_mistral_batch.jsonl.custom_ids import CustomIds
from airflow_provider_mistral_batch.jsonl.requests import prepare as prepare_module
from airflow_provider_mistral_batch.jsonl.requests.numbering import PREFIXES
from airflow_provider_mistral_batch.jsonl.requests.prepare import prepare_requests, validate_inline
from airflow_provider_mistral_batch.jsonl.requests.problems import MAX_PROBLEMS_SHOWN, InvalidRequestsError
from airflow_provider_mistral_batch.jsonl.requests.template import RowTemplate
from airflow_provider_mistral_batch.jsonl.requests.validation import RowRules

CHAT = "/v1/chat/completions"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def prepare(out):
    def prepare(source, **options):
        return prepare_requests(source, directory=out, **{"endpoint": CHAT, **options})

    return prepare


def rows_of(prepared):
    return [json.loads(line) for path in prepared.paths for line in path.read_bytes().split(b"\n")[:-1]]


def row(custom_id=None, body=None, **extra):
    return {**({} if custom_id is None else {"custom_id": custom_id}), "body": body or {}, **extra}


def write(path, rows):
    path.write_bytes(
        b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in rows)
    )
    return path


# What is accepted


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
def test_method_and_url_are_dropped_and_bodies_keep_their_bytes(prepare, tmp_path, separators, order):
    nested = {"messages": [], "method": "POST", "url": CHAT, "max_tokens": 1}
    values = {"method": "POST", "url": CHAT, "body": nested}
    published = [{"custom_id": f"r{n}", **{name: values[name] for name in order}} for n in range(3)]
    lines = [json.dumps(line, separators=separators).encode() for line in published]
    lines.append(json.dumps(row("plain", nested), separators=separators).encode())
    prepared = prepare(write(tmp_path / "in.jsonl", lines))
    assert rows_of(prepared) == [*(row(f"r{n}", nested) for n in range(3)), row("plain", nested)]
    body = json.dumps(nested, separators=separators).encode()
    assert prepared.paths[0].read_bytes().count(body) == 4


def test_openai_rows_get_method_and_url(prepare):
    given_rows = [row("a"), row("b", method="POST", url=CHAT), row("c", url=CHAT)]
    assert rows_of(prepare(given_rows, with_url=True)) == [
        row(id_, method="POST", url=CHAT) for id_ in ("a", "b", "c")
    ]


@pytest.mark.parametrize(
    "content",
    [
        b'\xef\xbb\xbf{"custom_id": "a", "body": {}}\n{"custom_id": "b", "body": {}}\n',
        b'{"custom_id": "a", "body": {}}\r\n{"custom_id": "b", "body": {}}\r\n',
        b'\n\n{"custom_id": "a", "body": {}}\n  \n{"custom_id": "b", "body": {}}\n\n',
        b'{"custom_id": "a", "body": {}}\n{"custom_id": "b", "body": {}}',
    ],
    ids=["byte order mark", "CR LF", "blank lines", "no last newline"],
)
def test_harmless_forms_of_files(prepare, tmp_path, content):
    path = tmp_path / "in.jsonl"
    path.write_bytes(content)
    prepared = prepare(path)
    assert rows_of(prepared) == [row("a"), row("b")]
    assert b"\r" not in prepared.paths[0].read_bytes()


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.compress], ids=["plain", "gz", "zst"])
@pytest.mark.parametrize("store", ["local", "file://", "memory://"])
def test_sources_of_every_kind(prepare, tmp_path, bucket, compress, store):
    name = {bytes: "in.jsonl", gzip.compress: "in.jsonl.gz"}.get(compress, "in.jsonl.zst")
    folder = {"local": tmp_path, "file://": ObjectStoragePath(f"file://{tmp_path}")}.get(store, bucket)
    parent, folder = folder, folder / "nightly"
    folder.mkdir()
    content = compress(b"".join(b'{"custom_id":"%d","body":{}}\n' % number for number in range(5000)))
    for copy in ("1-", "2-"):
        (folder / f"{copy}{name}").write_bytes(
            content.replace(b'{"custom_id":"', b'{"custom_id":"' + copy.encode())
        )
    if compress is bytes:
        assert prepare([folder / f"1-{name}", folder / f"2-{name}"]).request_count == 10_000
        assert prepare(folder / "*-in.jsonl*").request_count == 10_000
        assert prepare(parent / "night*" / "[12]-in.jsonl").request_count == 10_000
    assert prepare(folder / f"1-{name}").request_count == 5000


def test_a_string_is_a_local_path_or_glob(prepare, tmp_path):
    write(tmp_path / "in[1].jsonl", [row("a")])
    write(tmp_path / "in1.jsonl", [row("b")])
    assert rows_of(prepare(str(tmp_path / "in[1].jsonl"))) == [row("a")]
    assert rows_of(prepare(str(tmp_path / "in*.jsonl"))) == [row("b"), row("a")]


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (CHAT, {"messages": [{"role": "user", "content": "Hi"}]}),
        ("/v1/embeddings", {"input": "Hi"}),
        ("/v1/fim/completions", {"prompt": "Hi"}),
        ("/v1/moderations", {"input": "Hi"}),
        ("/v1/chat/moderations", {"input": [{"role": "user", "content": "Hi"}]}),
        ("/v1/ocr", {"document": {"type": "document_url", "document_url": "Hi"}}),
        ("/v1/classifications", {"input": "Hi"}),
        ("/v1/chat/classifications", {"input": {"messages": [{"role": "user", "content": "Hi"}]}}),
        ("/v1/conversations", {"inputs": "Hi"}),
        ("/v1/audio/transcriptions", {"file_url": "Hi"}),
    ],
)
def test_prompts_become_bodies(prepare, endpoint, body):
    assert rows_of(prepare(["Hi"], endpoint=endpoint)) == [row("row-1", body)]


def test_every_endpoint_takes_prompts(prepare):
    for endpoint in ENDPOINTS:
        assert prepare(["Hi"], endpoint=endpoint).request_count == 1


def test_a_conversation_has_its_parameters_in_completion_args(prepare):
    template = RowTemplate(
        system="Be brief.",
        max_tokens=5,
        temperature=0.1,
        parameters={"store": False, "completion_args": {"top_p": 0.5, "max_tokens": 9}},
    )
    own = {"inputs": "Ho", "completion_args": {"max_tokens": 7}}
    prepared = prepare(["Hi"], endpoint="/v1/conversations", template=template)
    arguments = {"top_p": 0.5, "max_tokens": 5, "temperature": 0.1}
    body = {"store": False, "completion_args": arguments, "inputs": "Hi", "instructions": "Be brief."}
    assert rows_of(prepared) == [row("row-1", body)]
    prepared = prepare([row("own", own)], endpoint="/v1/conversations", template=template)
    assert rows_of(prepared) == [row("own", {"store": False, **own})]


def test_prompts_get_all_of_a_template_and_bodies_what_they_lack(prepare, tmp_path):
    template = RowTemplate(
        system="Be brief.",
        model="m",
        max_tokens=5,
        temperature=0.0,
        response_format={"type": "json_object"},
        parameters={"top_p": 0.5},
    )
    own = {"max_tokens": 9, "messages": [], "temperature": None}
    prepared = prepare(["Hi", row("own", own), row("empty")], template=template)
    defaults = {
        "model": "m",
        "max_tokens": 5,
        "temperature": 0.0,
        "response_format": {"type": "json_object"},
        "top_p": 0.5,
    }
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert rows_of(prepared) == [
        row("row-1", {**defaults, "messages": messages}),
        row("own", {**defaults, **own}),
        row("empty", defaults),
    ]
    assert prepared.model == "m"
    path = write(tmp_path / "in.jsonl", [b'{"custom_id":"a","body": { "n": 1.50, "model": "m" }}', row("b")])
    prepared = prepare(path, template=RowTemplate(model="m", max_tokens=5))
    assert (
        prepared.paths[0]
        .read_bytes()
        .startswith(b'{"custom_id":"a","body":{"max_tokens":5, "n": 1.50, "model": "m" }}')
    )


def test_rows_without_id_are_numbered_around_the_ids_that_were_given(prepare):
    given_rows = [row(), row("row-3"), row(), row(None), row("row_3"), row("x", body={"a": 1})]
    prepared = prepare(given_rows)
    assert [found["custom_id"] for found in rows_of(prepared)] == [
        "row-1",
        "row-3",
        "row.3",
        "row-4",
        "row_3",
        "x",
    ]
    assert prepared.numbered == 3
    (shard,) = prepared.shards
    assert shard.sha256 == hashlib.sha256(shard.path.read_bytes()).hexdigest()
    assert shard.size == shard.path.stat().st_size


def test_numbering_that_collides_in_another_shard(prepare):
    prepared = prepare([row("row-4"), row("b"), row("c"), row(), row()], max_job_requests=2)
    assert [found["custom_id"] for found in rows_of(prepared)] == ["row-4", "b", "c", "row_4", "row-5"]
    for shard in prepared.shards:
        assert shard.sha256 == hashlib.sha256(shard.path.read_bytes()).hexdigest()


def test_every_name_that_is_taken_is_passed_over(prepare):
    given_rows = [row(), row(), *(row(f"{prefix}1") for prefix in PREFIXES[:-1]), row("row-2"), row("row_2")]
    assert [found["custom_id"] for found in rows_of(prepare(given_rows))][:2] == ["ROW-1", "row.2"]
    with pytest.raises(InvalidInputError, match="row 1 has none, and all names"):
        prepare([*given_rows, row("ROW-1")])


@pytest.mark.parametrize("max_job_requests", [7, 1000])
def test_many_names_that_are_taken(prepare, monkeypatch, max_job_requests):
    passes = []
    windows = CustomIds._windows
    monkeypatch.setattr(CustomIds, "_windows", lambda ids: (passes.append(ids), windows(ids))[1])
    monkeypatch.setattr(prepare_module, "_MAX_SUSPECTS", 3)
    taken = [f"row-{number}" for number in range(1, 301)]
    prepared = prepare([*[row()] * 300, *map(row, taken)], max_job_requests=max_job_requests)
    assert [found["custom_id"] for found in rows_of(prepared)] == [
        *(f"row_{number}" for number in range(1, 301)),
        *taken,
    ]
    assert len(passes) < 20
    for shard in prepared.shards:
        assert shard.sha256 == hashlib.sha256(shard.path.read_bytes()).hexdigest()


def test_duplicates_are_counted_beside_names_that_are_taken(prepare, monkeypatch):
    monkeypatch.setattr(prepare_module, "_MAX_SUSPECTS", 3)
    taken = [f"row-{number}" for number in range(1, 11)]
    error = problems_of(lambda: prepare([*[row()] * 10, *map(row, taken), *map(row, taken)]))
    assert error.total == 10
    assert error.problems[0].line == 21


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=40),
    max_shard_bytes=st.integers(100, 400),
    max_job_requests=st.integers(1, 50),
)
def test_shards_keep_order_and_limits(tmp_path_factory, sizes, max_shard_bytes, max_job_requests):
    given_rows = [row(f"{number}", {"x": "x" * size}) for number, size in enumerate(sizes)]
    prepared = prepare_requests(
        given_rows,
        endpoint=CHAT,
        directory=tmp_path_factory.mktemp("out"),
        max_shard_bytes=max_shard_bytes,
        max_job_requests=max_job_requests,
    )
    assert rows_of(prepared) == given_rows
    requests_by_job = Counter()
    for shard in prepared.shards:
        requests_by_job[shard.job] += shard.request_count
    assert max(requests_by_job.values()) <= max_job_requests
    for shard in prepared.shards:
        content = shard.path.read_bytes()
        assert shard.size == len(content) <= max_shard_bytes
        assert shard.request_count == content.count(b"\n") > 0
        assert shard.sha256 == hashlib.sha256(content).hexdigest()
    assert list(requests_by_job) == list(range(-(-len(sizes) // max_job_requests)))


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


def test_bodies_of_python_values(prepare):
    body = {
        "when": datetime.date(2026, 1, 2),
        "t": decimal.Decimal("0.20"),
        "n": 10**30,
        "s": "\u2028",
        "none": None,
    }
    prepared = prepare([row("a", body)])
    assert rows_of(prepared)[0]["body"] == {
        "when": "2026-01-02",
        "t": 0.2,
        "n": 10**30,
        "s": "\u2028",
        "none": None,
    }


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
        fields = {"custom_id": f"{number}{text}", "body": body}
        if shape["extra"]:
            fields |= {"method": "POST", "url": CHAT}
        line = {name: fields[name] for name in shape["order"] if name in fields}
        lines.append(json.dumps(line, separators=shape["separators"], ensure_ascii=shape["ascii"]).encode())
        # One model a batch is another test's matter.
        expected.append({"custom_id": fields["custom_id"], "body": {**template.defaults(), **body}})
        if with_url:
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
    added = {"method": "POST", "url": CHAT} if with_url else {}
    assert rows_of(prepared) == [
        {"custom_id": line["custom_id"], **added, "body": {**template, **line["body"]}} for line in given_rows
    ]


def test_json_that_is_written_already(prepare):
    raw = msgspec.Raw(b'{"a": null}')
    (found,) = rows_of(prepare([{"custom_id": "a", "body": raw}]))
    assert found["body"] == {"a": None}


def test_a_body_that_is_nested_deeply(prepare):
    deep = None
    for _ in range(600):
        deep = [deep]
    (found,) = rows_of(prepare([row("a", {"x": deep})]))
    assert found["body"]["x"] == deep


def test_parameters_of_python_values_are_written_as_in_rows(prepare):
    template = RowTemplate(
        temperature=decimal.Decimal("0.20"), parameters={"when": datetime.date(2026, 1, 2)}
    )
    prompt, body = (line["body"] for line in rows_of(prepare(["Hi", row("a")], template=template)))
    assert body == {"temperature": 0.2, "when": "2026-01-02"}
    assert prompt == {**body, "messages": [{"role": "user", "content": "Hi"}]}


# What is refused


@dataclasses.dataclass
class Reading:
    value: float


def problems_of(call):
    with pytest.raises(InvalidRequestsError) as raised:
        call()
    return raised.value


BAD_LINES = {
    "not JSON": (b'{"custom_id": "z", "body": {]}', "body", None, "not JSON"),
    "cut": (b'{"custom_id": "z", "body": {"x": 1', None, None, "ends too early"),
    "not UTF-8": (b'{"custom_id": "z", "body": {"x": "\xff"}}', None, 35, "0xff is not UTF-8"),
    "NUL byte": (b'{"custom_id": "z", "body": {"x": "\x00"}}', None, 35, "NUL"),
    "NaN": (b'{"custom_id": "z", "body": {"x": NaN}}', None, 34, "NaN"),
    "Infinity": (b'{"custom_id": "z", "body": {"x": -Infinity}}', None, 35, "Infinity"),
    "an array": (b"[1, 2]", None, None, "not an object"),
    "two rows": (
        b'{"custom_id": "y", "body": {}} {"custom_id": "z", "body": {}}',
        None,
        None,
        "more than one JSON value",
    ),
    "a comma too many": (
        b'{"custom_id": "z", "body": {"x": 1,}}',
        None,
        35,
        "not JSON: trailing comma in object",
    ),
    "a comma too many in a list": (
        b'{"custom_id": "z", "body": {"x": [1,]}}',
        None,
        36,
        "trailing comma in array",
    ),
    "a brace too many": (b'{"custom_id": "z", "body": {}}}', None, 31, "more than one JSON value"),
    "no body": (b'{"custom_id": "z"}', "body", None, "missing"),
    "body is null": (b'{"custom_id": "z", "body": null}', "body", None, "must be an object"),
    "body is a list": (b'{"custom_id": "z", "body": [{}]}', "body", None, "must be an object"),
    "custom_id is a number": (b'{"custom_id": 17, "body": {}}', "custom_id", None, "must be a string"),
    "custom_id is empty": (b'{"custom_id": "", "body": {}}', "custom_id", None, "not empty"),
    "unknown field": (b'{"custom_id": "z", "messages": [], "body": {}}', "messages", None, "unknown field"),
    "other endpoint": (b'{"custom_id": "z", "url": "/v1/ocr", "body": {}}', "url", None, CHAT),
    "other method": (b'{"custom_id": "z", "method": "GET", "body": {}}', "method", None, "must be POST"),
    "model is a number": (
        b'{"custom_id": "z", "body": {"model": 1}}',
        "body.model",
        None,
        "must be a string",
    ),
    "nested too deeply": (
        b'{"custom_id": "z", "body": {"x": ' + b"[" * 5000 + b"]" * 5000 + b"}}",
        None,
        None,
        "deeply",
    ),
    "lone surrogate": (
        b'{"custom_id": "z", "body": {"x": "\\ud800"}}',
        None,
        35,
        "\\ud800 is half a character",
    ),
    "lone surrogate, and more": (
        b'{"custom_id": "z", "body": {"x": "\\\\\\ud83d\\ude00 \\uDE00", "y": 1, "z": [2, 3, 4]}}',
        None,
        50,
        "\\uDE00 is half a character (a lone surrogate)",
    ),
    "same custom_id": (b'{"custom_id": "first", "body": {}}', "custom_id", None, "the same as on line 1"),
}


@pytest.mark.parametrize("kind", BAD_LINES)
@pytest.mark.parametrize("place", [2, 3000], ids=["near the beginning", "far into a gzip file"])
@pytest.mark.parametrize("with_url", [False, True])
def test_a_bad_line_is_named(prepare, out, tmp_path, kind, place, with_url):
    line, field, byte, reason = BAD_LINES[kind]
    lines = [row("first"), *(row(f"r{n}", {"x": "x" * 100}) for n in range(2, place)), line, row("last")]
    path = tmp_path / "in.jsonl.gz"
    path.write_bytes(gzip.compress(write(tmp_path / "in.jsonl", lines).read_bytes()))
    error = problems_of(lambda: prepare(path, with_url=with_url))
    assert error.total == len(error.problems) == 1
    (problem,) = error.problems
    assert (problem.file, problem.line) == (str(path), place)
    assert reason in problem.reason
    if kind != "not JSON":
        assert problem.field == field
    if byte is not None:
        assert problem.byte == byte
    assert f"{path}, line {place}" in str(error)
    assert list(out.iterdir()) == []


def test_every_problem_of_a_line_is_named(prepare):
    error = problems_of(
        lambda: prepare([{"custom_id": 3, "method": "PUT", "url": "/x", "body": [], "extra": 1}])
    )
    assert {problem.field for problem in error.problems} == {"custom_id", "method", "url", "body", "extra"}
    assert {problem.line for problem in error.problems} == {1}
    assert "row 1" in str(error)


def test_many_problems_are_listed_in_order_and_counted(prepare, tmp_path, out):
    lines = [b"oops" if number % 3 == 0 else row(f"{number // 2}") for number in range(1, 901)]
    error = problems_of(lambda: prepare(write(tmp_path / "in.jsonl", lines)))
    good = [str(number // 2) for number in range(1, 901) if number % 3]
    assert error.total == 300 + len(good) - len(set(good))
    assert len(error.problems) == MAX_PROBLEMS_SHOWN
    places = [problem.line for problem in error.problems]
    assert places == sorted(places)
    assert places[:3] == [3, 5, 6] or places[:2] == [3, 6]
    assert f"and {error.total - MAX_PROBLEMS_SHOWN:,} more" in str(error)
    assert list(out.iterdir()) == []
    assert isinstance(error, MistralBatchError)
    assert isinstance(error, ValueError)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_early_problems_that_are_found_late_come_first(prepare, tmp_path):
    lines = [row("a"), row("a"), *[b"oops"] * 100]
    error = problems_of(lambda: prepare(write(tmp_path / "in.jsonl", lines)))
    assert error.total == 101
    assert [problem.line for problem in error.problems] == list(range(2, 2 + MAX_PROBLEMS_SHOWN))


def test_a_file_for_another_endpoint(prepare, tmp_path):
    lines = [row(str(number), method="POST", url="/v1/embeddings") for number in range(30)]
    published = [
        {"custom_id": line["custom_id"], "method": "POST", "url": line["url"], "body": {}} for line in lines
    ]
    error = problems_of(lambda: prepare(write(tmp_path / "in.jsonl", published)))
    assert error.total == 30
    assert {problem.field for problem in error.problems} == {"url"}


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


def test_one_model_for_a_batch(prepare, tmp_path):
    lines = [
        row("a"),
        row("b", {"model": "m"}),
        row("c", {"model": "n"}),
        row("d", {"model": "n"}),
        row("e", {"model": "m"}),
    ]
    error = problems_of(lambda: prepare(write(tmp_path / "in.jsonl", lines)))
    (problem,) = error.problems
    assert (problem.line, problem.field, problem.value) == (3, "body.model", '"n"')
    assert 'line 2 names "m"' in problem.reason


def test_a_template_model_beside_another_one(prepare):
    error = problems_of(
        lambda: prepare([row("a"), row("b", {"model": "n"})], template=RowTemplate(model="m"))
    )
    assert error.problems[0].line == 2


def test_a_row_that_is_too_long(prepare, tmp_path):
    path = write(tmp_path / "in.jsonl", [row("a"), row("b", {"x": "x" * 5000}), row("c")])
    error = problems_of(lambda: prepare(path, max_row_bytes=1000))
    assert [(problem.line, problem.reason) for problem in error.problems] == [
        (2, "the row has more than 1,000 bytes")
    ]


LONGEST = {"x": "x" * 960}


@pytest.mark.parametrize("with_url", [False, True])
@pytest.mark.parametrize(
    "given_rows",
    [[row("b", LONGEST)], [row(body=LONGEST)], [row("a"), row("b", LONGEST), row("c")]],
    ids=["ready", "to be numbered", "between others"],
)
def test_a_row_that_becomes_too_long_by_what_is_added(prepare, out, tmp_path, given_rows, with_url):
    lines = [json.dumps(line, separators=(",", ":")).encode() for line in given_rows]
    path = write(tmp_path / "in.jsonl", lines)
    assert max(map(len, lines)) <= 1000
    assert prepare(path, max_row_bytes=1000).request_count == len(given_rows)
    template = RowTemplate(max_tokens=123, parameters={"safe_prompt": True})
    error = problems_of(lambda: prepare(path, max_row_bytes=1000, template=template, with_url=with_url))
    assert [(problem.line, problem.reason) for problem in error.problems] == [
        (1 + len(given_rows) // 2, "the row has more than 1,000 bytes with what is added to it")
    ]
    assert list(out.iterdir()) == []


def test_rows_that_become_too_long_in_a_block_of_several(prepare):
    given_rows = [row(str(number), {"x": "x" * (number % 100)}) for number in range(300)]
    added = {"y": "y" * 30}
    error = problems_of(
        lambda: prepare(given_rows, max_shard_bytes=150, template=RowTemplate(parameters=added))
    )
    written = [row(line["custom_id"], {**added, **line["body"]}) for line in given_rows]
    lengths = [len(json.dumps(line, separators=(",", ":"))) for line in written]
    too_long = [number for number, length in enumerate(lengths, 1) if length + 1 > 150]
    assert [problem.line for problem in error.problems] == too_long[:MAX_PROBLEMS_SHOWN]
    assert error.total == len(too_long) < 70


def test_a_row_that_fits_no_shard(prepare):
    error = problems_of(lambda: prepare([row("a", {"x": "x" * 100})], max_shard_bytes=100))
    assert "99 bytes" in str(error)


@pytest.mark.parametrize(
    ("item", "field", "reason"),
    [
        (17, None, "expected a row"),
        (None, None, "expected a row"),
        (b"bytes", None, "expected a row"),
        (row("a", {"t": float("nan"), "none": None}), "body.t", "NaN"),
        (row("a", {"list": [1, {"deep": float("inf")}]}), "body.list[1].deep", "NaN"),
        (row("a", {"x": Reading(float("nan"))}), "body.x.value", "NaN"),
        (row("a", {"x": {float("-inf")}}), "body.x[0]", "NaN"),
        (row("a", {"x": object()}), None, "cannot be written as JSON"),
        (row("a", {"x": "\ud800"}), None, "cannot be written as JSON"),
        ({"messages": []}, "body", "missing"),
        ("requests.jsonl", None, "file name"),
        ("s3://bucket/part-0.jsonl.gz", None, "file name"),
    ],
)
def test_a_bad_item_is_named(prepare, out, item, field, reason):
    error = problems_of(lambda: prepare([row("fine"), item, row("fine, too")]))
    problem = error.problems[-1]
    assert (problem.file, problem.line, problem.field) == (None, 2, field)
    assert reason in problem.reason
    assert list(out.iterdir()) == []


def test_a_bad_first_item_is_named(prepare):
    error = problems_of(lambda: prepare([None, row("fine")]))
    assert [(problem.line, problem.reason) for problem in error.problems] == [
        (1, "expected a row (dict) or a prompt (str), got NoneType")
    ]


@pytest.mark.parametrize("item", ["more-*.jsonl", None, {"custom_id": "a", "body": {}}])
def test_what_is_no_path_among_paths(prepare, tmp_path, item):
    with pytest.raises(InvalidInputError, match=r"requests: item 2, .*, is no path object"):
        prepare([write(tmp_path / "in.jsonl", [row("a")]), item])


def test_a_missing_object_in_a_store(prepare, bucket):
    error = problems_of(lambda: prepare([bucket / "missing.jsonl", bucket / "missing.jsonl.gz"]))
    assert [str(problem) for problem in error.problems] == [
        f"memory://bucket/folder/{name}: there is no such file. Check path."
        for name in ("missing.jsonl", "missing.jsonl.gz")
    ]


@pytest.mark.parametrize("source", [[], (), iter(()), ["missing-file"]])
def test_nothing_to_send(prepare, tmp_path, source):
    source = [] if source == ["missing-file"] else source
    with pytest.raises(InvalidInputError, match="no requests"):
        prepare(source)


@pytest.mark.parametrize("content", [b"", b"\n\n \n", b"\xef\xbb\xbf"])
def test_an_empty_file(prepare, tmp_path, content):
    path = tmp_path / "empty.jsonl"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"no requests in .*empty\.jsonl"):
        prepare(path)


def test_files_that_cannot_be_read_are_problems_beside_the_others(prepare, tmp_path, out):
    whole = gzip.compress(b"".join(b'{"custom_id":"%d","body":{}}\n' % number for number in range(30_000)))
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(whole[: len(whole) // 2])
    bad = write(tmp_path / "bad.jsonl", [b"oops"])
    error = problems_of(lambda: prepare([cut, tmp_path / "missing.jsonl", tmp_path, bad]))
    assert [problem.file for problem in error.problems] == [
        str(cut),
        str(tmp_path / "missing.jsonl"),
        str(tmp_path),
        str(bad),
    ]
    assert "is cut" in error.problems[0].reason
    assert error.problems[0].line > 1000
    assert list(out.iterdir()) == []


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


@pytest.mark.parametrize("prompts", [["Hi"], [{"custom_id": "a", "body": {}}]])
@pytest.mark.parametrize(
    ("template", "message"),
    [
        ({"temperature": float("nan")}, "^temperature = NaN: NaN and Infinity are not JSON"),
        ({"parameters": {"top_p": float("inf")}}, "^top_p = Infinity: NaN and Infinity"),
        ({"parameters": {"top_p": decimal.Decimal("NaN")}}, "^top_p = .*NaN and Infinity"),
        ({"parameters": {"x": {"y": [float("nan")]}}}, r"^x\.y\[0\] = .*NaN and Infinity"),
        ({"parameters": {"x": object()}}, "^x = <object .*cannot be written as JSON"),
        ({"parameters": {"x": "\ud800"}}, "^x = .*cannot be written as JSON"),
        ({"parameters": {5: 1}}, "^parameters=.*keys are strings"),
        ({"parameters": [1]}, r"^parameters=\[1\]: expected a dict"),
        ({"parameters": None}, "^parameters=None: expected a dict"),
        ({"response_format": "json"}, "^response_format='json': expected a dict"),
        ({"model": 5}, "^model = 5: must be a string"),
    ],
)
def test_bad_templates(prepare, out, prompts, template, message):
    with pytest.raises(InvalidInputError, match=message):
        prepare(prompts, template=RowTemplate(**template))
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parameters": {"completion_args": None}}, "^completion_args=None: expected a dict"),
        ({"temperature": float("nan"), "parameters": {}}, r"^completion_args\.temperature = .*NaN"),
    ],
)
def test_bad_templates_of_conversations(prepare, options, message):
    with pytest.raises(InvalidInputError, match=message):
        prepare(["Hi"], endpoint="/v1/conversations", template=RowTemplate(max_tokens=5, **options))


def test_an_error_in_the_users_generator_leaves_nothing_behind(prepare, out):
    def rows():
        yield from (row(str(number), {"x": "x" * 1000}) for number in range(500))
        raise RuntimeError("the warehouse is gone")

    with pytest.raises(RuntimeError, match="the warehouse is gone"):
        prepare(rows())
    assert list(out.iterdir()) == []


# Inline


def test_inline_requests_are_validated_and_numbered():
    found, model, numbered = validate_inline(
        [row("a", {"n": 10**25}), "Hi", row(), row("row-3")], endpoint=CHAT
    )
    assert (model, numbered) == (None, 2)
    assert [request["custom_id"] for request in found] == ["a", "row-2", "row_3", "row-3"]
    assert found[0]["body"] == {"n": 10**25}
    assert all(set(request) == {"custom_id", "body"} for request in found)


def test_inline_requests_of_the_published_form():
    assert validate_inline([row("a", method="POST", url=CHAT)], endpoint=CHAT) == ([row("a")], None, 0)


@pytest.mark.parametrize("number", [decimal.Decimal("1E+400"), decimal.Decimal("9" * 5000)])
def test_inline_numbers_that_python_cannot_hold(number):
    error = problems_of(lambda: validate_inline([row("a"), row("b", {"n": number}), row("a")], endpoint=CHAT))
    assert [(problem.line, problem.field) for problem in error.problems] == [(2, None), (3, "custom_id")]
    assert "out of range" in error.problems[0].reason


def test_inline_duplicates():
    error = problems_of(lambda: validate_inline([row("a"), row("b"), row("a")], endpoint=CHAT))
    assert [(problem.line, problem.reason) for problem in error.problems] == [(3, "the same as on row 1")]


def test_inline_limit():
    rows, _, numbered = validate_inline([row()] * MAX_INLINE_REQUESTS, endpoint=CHAT)
    assert len(rows) == numbered == MAX_INLINE_REQUESTS
    with pytest.raises(InvalidInputError, match=r"10,000.*input_files"):
        validate_inline([row()] * (MAX_INLINE_REQUESTS + 1), endpoint=CHAT)


def test_inline_nothing():
    with pytest.raises(InvalidInputError, match="requests is empty"):
        validate_inline([], endpoint=CHAT)
