"""Result streams become a file of answers and a file of failures, and every request is accounted for."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_mistral_batch.api.errors import InvalidInputError, MistralBatchError
from airflow_provider_mistral_batch.jsonl.lines import MAX_ROW_BYTES
from airflow_provider_mistral_batch.jsonl.results import placeholder_rows, reader, splitter
from airflow_provider_mistral_batch.jsonl.results import split as split_module
from airflow_provider_mistral_batch.jsonl.results.manifest import read_manifest, write_manifest
from airflow_provider_mistral_batch.jsonl.results.outcomes import failure, may_pass
from airflow_provider_mistral_batch.jsonl.results.placeholder_rows import MISSING_MESSAGE, missing_row
from airflow_provider_mistral_batch.jsonl.results.split import inline_stream, split_results
from airflow_provider_mistral_batch.jsonl.results.splitter import TruncatedResultsError
from airflow_provider_mistral_batch.results import read_results
from airflow_provider_mistral_batch.storage import atomic
from airflow_provider_mistral_batch.storage.atomic import AtomicFiles, check_writable


def answer(custom_id, content="Hello", **body):
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    choices = [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}]
    return result(custom_id, body={"model": "m", "usage": usage, "choices": choices, **body})


def result(custom_id, status_code=200, body=None, error=None):
    response = {"status_code": status_code, "body": body}
    return {"id": f"batch-{custom_id}", "custom_id": custom_id, "response": response, "error": error}


def lines(*rows):
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@pytest.fixture
def split(tmp_path):
    folder = tmp_path / "out"

    def split(*streams, asked=None, **options):
        requests = None
        if asked is not None:
            requests = [tmp_path / "requests.jsonl"]
            requests[0].write_bytes(lines(*({"custom_id": id_, "body": {}} for id_ in asked)))
        summary = split_results(
            [[stream] if isinstance(stream, bytes) else stream for stream in streams],
            folder / "results.jsonl",
            folder / "errors.jsonl",
            requests=requests,
            **options,
        )
        assert sorted(path.name for path in folder.iterdir()) == ["errors.jsonl", "results.jsonl"]
        return summary

    split.folder = folder
    split.results = folder / "results.jsonl"
    split.errors = folder / "errors.jsonl"
    return split


def counts(**changes):
    zero = dict.fromkeys(("total", "succeeded", "failed", "missing", "unknown", "duplicates"), 0)
    return {**zero, "by_status": {}, **changes}


# What a row says

OUTCOMES = {
    "answer": (answer("a"), True, None),
    "201": (result("a", 201, {}), True, None),
    "error beside 200": (result("a", 200, {}, {"message": "no"}), False, False),
    "error as text": (result("a", 200, {}, "no"), False, False),
    "status 0": (result("a", 0, None), False, True),
    "status 0, body": (result("a", 0, {"message": "upstream"}), False, True),
    "200 without body": (result("a", 200, None), False, True),
    "no status": (result("a", None, {}), False, True),
    "no response": ({"custom_id": "a", "response": None, "error": None}, False, True),
    "expired": (
        {"custom_id": "a", "response": None, "error": {"code": "batch_expired", "message": "x"}},
        False,
        True,
    ),
    "cancelled": (
        {"custom_id": "a", "response": None, "error": {"code": "batch_cancelled", "message": "x"}},
        False,
        False,
    ),
    **{
        str(code): (result("a", code, {"message": "x"}), False, True)
        for code in (408, 409, 429, 500, 502, 503, 504, 529)
    },
    **{
        str(code): (result("a", code, {"message": "x"}), False, False)
        for code in (300, 400, 401, 402, 403, 404, 413, 422)
    },
    "body is text": (result("a", 200, "done"), True, None),
    "body is a list": (result("a", 200, [1]), True, None),
    "odd usage": (result("a", 200, {"usage": {"prompt_tokens": "many"}}), True, None),
    "status is text": (result("a", "200", {}), False, True),
    "response is text": ({"custom_id": "a", "response": "x", "error": None}, False, True),
}


@pytest.mark.parametrize("kind", OUTCOMES)
def test_verdicts(split, kind):
    row, succeeds, passes = OUTCOMES[kind]
    summary = split(lines(answer("first"), row))
    assert summary.counts["succeeded"] == 1 + succeeds
    assert summary.counts["failed"] == (not succeeds)
    assert (split.results if succeeds else split.errors).read_bytes().splitlines()[-1:] == [
        lines(row).strip()
    ]
    assert summary.may_pass == bool(passes)
    (read,) = (
        read_results(split.results if succeeds else split.errors)
        if not succeeds
        else [list(read_results(split.results))[1]]
    )
    assert read.succeeded == succeeds
    assert read.custom_id == "a"


@pytest.mark.parametrize(
    ("row", "code", "message"),
    [
        (result("a", 429, {"object": "error", "message": "Slow\ndown", "code": "1300"}), "1300", "Slow down"),
        (
            result("a", 422, {"detail": [{"loc": ["body", "n"], "msg": "bad", "type": "t"}]}),
            None,
            "body.n: bad",
        ),
        (result("a", 422, {"message": {"detail": [{"loc": ["body"], "msg": "x"}]}}), None, "body: x"),
        (result("a", 500, {"error": {"message": "inner", "code": 7}}), "7", "inner"),
        (result("a", 500, {"error": "text"}), None, "text"),
        (result("a", 500, "plain"), None, "plain"),
        (result("a", 500, None), None, ""),
        (result("a", 400, {"message": "body"}, {"code": "c"}), "c", "body"),
        (result("a", 400, {"message": "body"}, {"message": "error"}), None, "error"),
        (result("a", 400, {"strange": True}), None, '{"strange":true}'),
    ],
)
def test_reasons_are_found_wherever_they_are(row, code, message):
    found = failure(lines(row).strip())
    assert (found.code, found.message) == (code, message)


def test_long_reasons_are_cut():
    assert len(failure(lines(result("a", 500, "x" * 10_000)).strip()).message) < 400


def test_an_answer_that_was_not_acceptable_never_passes_by_itself():
    assert not may_pass(200, "invalid_output", "timed out")


# Splitting


def test_rows_stay_byte_for_byte(split):
    good = (
        b'{"custom_id":"a", "response" : {"status_code":200,"body":{"s":"\\u00e9\xc3\xa9"}},"error":null}\n'
    )
    bad = b'{"custom_id":"b","response":{"body":{"message":"x"}, "status_code":500},"error":null, "extra": [1]}\n'
    split(good + bad)
    assert split.results.read_bytes() == good
    assert split.errors.read_bytes() == bad


@settings(deadline=None)
@given(
    kinds=st.lists(st.sampled_from(["good", "bad", "malformed", "odd"]), max_size=30),
    places=st.lists(st.integers(0, 4000), max_size=10),
    last_newline=st.booleans(),
)
def test_every_row_lands_once_wherever_the_stream_is_cut(tmp_path_factory, kinds, places, last_newline):
    folder = tmp_path_factory.mktemp("split")
    make = {
        "good": lambda n: json.dumps(answer(f"r{n}")),
        "bad": lambda n: json.dumps(result(f"r{n}", 500, {"message": f"no {n}"})),
        "malformed": lambda n: f"oops {n}",
        "odd": lambda n: json.dumps(result(f"r{n}", 200, "text")),
    }
    rows = [make[kind](number) for number, kind in enumerate(kinds)]
    data = "\n".join(rows).encode() + (b"\n" if last_newline or kinds[-1:] == ["malformed"] else b"")
    ends = sorted({min(place, len(data)) for place in places})
    chunks = [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]
    summary = split_results([chunks], folder / "r", folder / "e")
    landed = (folder / "r").read_text().splitlines()
    failed = (folder / "e").read_text().splitlines()
    assert landed == [row for row, kind in zip(rows, kinds, strict=True) if kind in ("good", "odd")]
    assert [line for line in failed if "malformed_row" not in line] == [
        row for row, kind in zip(rows, kinds, strict=True) if kind == "bad"
    ]
    assert sum("malformed_row" in line for line in failed) == kinds.count("malformed")
    assert summary.counts["total"] == len(rows) == len(landed) + len(failed)
    assert summary.usage["total_tokens"] == 5 * kinds.count("good")


def test_usage_of_each_endpoint(split):
    summary = split(
        lines(
            answer("a"),
            result("b", body={"pages": [], "usage_info": {"pages_processed": 24, "doc_size_bytes": 5}}),
            result(
                "c",
                body={
                    "text": "x",
                    "usage": {"prompt_audio_seconds": 12, "prompt_tokens": 1, "total_tokens": 1},
                },
            ),
            result(
                "d",
                body={
                    "data": [],
                    "usage": {"prompt_tokens": 7, "completion_tokens": None, "total_tokens": 7},
                },
            ),
            result("e", 500, {"usage": {"prompt_tokens": 100, "completion_tokens": 0, "total_tokens": 100}}),
        )
    )
    assert summary.usage == {
        "prompt_tokens": 111,
        "completion_tokens": 2,
        "total_tokens": 113,
        "pages_processed": 24,
        "prompt_audio_seconds": 12,
    }
    assert summary.counts["by_status"] == {"200": 4, "500": 1}


def test_an_odd_amount_costs_no_other(split):
    usage = {"prompt_tokens": 7, "completion_tokens": None, "prompt_audio_seconds": 2.5, "total_tokens": "9"}
    summary = split(lines(result("a", body={"usage": usage})))
    assert summary.usage == {
        "prompt_tokens": 7,
        "completion_tokens": 0,
        "total_tokens": 0,
        "prompt_audio_seconds": 2.5,
    }


def test_the_digest_counts_kinds_of_failure(split):
    rows = [result(f"r{n}", 429, {"message": f"Limit of {n} tokens, request {n:032x}"}) for n in range(30)]
    rows += [result(f"s{n}", 422, {"message": "bad"}) for n in range(3)]
    summary = split(lines(*rows))
    assert [(kind["status_code"], kind["count"], kind["example"]) for kind in summary.errors] == [
        (429, 30, "r0"),
        (422, 3, "s0"),
    ]
    assert summary.errors[0]["message"].startswith("Limit of 0 tokens")
    assert summary.may_pass == 30


def test_the_digest_is_bounded(split):
    words = ["".join(chr(97 + digit) for digit in divmod(n, 26)) for n in range(600)]
    summary = split(lines(*(result(word, 500, {"message": word}) for word in words)))
    assert len(summary.errors) == 21
    assert sum(kind["count"] for kind in summary.errors) == 600
    assert summary.errors[-1]["message"] == "other errors"


# Accounting


def test_every_request_is_accounted_for(split):
    output = lines(answer("a"), answer("stranger"), answer("b"), answer("a", "again"))
    errors = lines(
        result("c", 500, {}), result("b", 500, {}), result(None, 500, {}), result("stranger", 500, {})
    )
    summary = split(output, errors, asked="abcde")
    assert summary.counts == counts(
        total=5, succeeded=2, failed=1, missing=2, unknown=3, duplicates=2, by_status={"200": 2, "500": 1}
    )
    assert summary.may_pass == 3
    assert summary.usage["total_tokens"] == 10
    assert split.results.read_bytes() == lines(answer("a"), answer("b"))
    aside = [answer("stranger"), result(None, 500, {}), result("stranger", 500, {})]
    assert sorted(split.errors.read_bytes().splitlines()) == sorted(
        [*lines(result("c", 500, {}), *aside).splitlines(), missing_row("d"), missing_row("e")]
    )


def test_each_request_without_a_row_gets_one(split):
    asked = ['q"1', "é", "c", "d"]
    summary = split(lines(answer("c")), asked=asked)
    assert summary.counts == counts(total=4, succeeded=1, missing=3, by_status={"200": 1})
    assert [json.loads(line) for line in split.errors.read_bytes().splitlines()] == [
        {
            "id": None,
            "custom_id": id_,
            "response": None,
            "error": {"code": "missing_row", "message": MISSING_MESSAGE},
        }
        for id_ in ('q"1', "é", "d")
    ]
    kind = {"status_code": None, "code": "missing_row", "message": MISSING_MESSAGE, "count": 3}
    assert summary.errors == [{**kind, "example": 'q"1', "may_pass": True}]
    assert summary.may_pass == 3
    assert [(row.custom_id, row.error) for row in read_results(summary.as_dict(), failed=True)] == [
        ("c", None),
        *((id_, MISSING_MESSAGE) for id_ in ('q"1', "é", "d")),
    ]


def test_missing_rows_of_several_request_files_in_parquet(tmp_path):
    files = [tmp_path / f"requests-{number}" for number in range(3)]
    for number, file in enumerate(files):
        ids = [f"{number}-{row:05d}" for row in range(5000)]
        file.write_bytes(lines(*({"custom_id": id_, "body": {}} for id_ in ids)))
    gone = {"0-00000", "0-04999", "1-02500", "2-00000", "2-04999"}
    rows = [json.loads(line) for file in files for line in file.read_bytes().splitlines()]
    stream = [lines(answer(row["custom_id"])) for row in rows if row["custom_id"] not in gone]
    summary = split_results(
        [stream], tmp_path / "r", tmp_path / "e", requests=iter(files), output_format="parquet"
    )
    assert [row.custom_id for row in read_results(tmp_path / "e")] == sorted(gone)
    assert (summary.counts["missing"], summary.counts["failed"]) == (5, 0)


def test_a_duplicate_does_not_make_up_for_a_missing_row(split):
    summary = split(lines(answer("a"), answer("a", "again")), asked="ab")
    assert summary.counts == counts(total=2, succeeded=1, missing=1, duplicates=1, by_status={"200": 1})


def test_without_requests_duplicates_are_found_all_the_same(split):
    summary = split(
        lines(answer("a"), answer("b"), answer("a", "again"), result(None, 500, {}), result(None, 500, {}))
    )
    assert summary.counts == counts(
        total=4, succeeded=2, failed=2, duplicates=1, by_status={"200": 2, "500": 2}
    )
    assert split.results.read_bytes() == lines(answer("a"), answer("b"))


@pytest.mark.parametrize("asked", [None, "ab"])
def test_an_answer_counts_before_the_failures_that_it_followed(split, asked):
    first = [result("b", 500, {}), result("b", 429, {}), answer("b", "late"), answer("b", "later")]
    summary = split(
        lines(*first, result("b", 503, {})), lines(result("a", 500, {}), result("a", 429, {})), asked=asked
    )
    assert summary.counts == counts(
        total=2, succeeded=1, failed=1, duplicates=5, by_status={"200": 1, "500": 1}
    )
    assert split.results.read_bytes() == lines(answer("b", "late"))
    assert split.errors.read_bytes() == lines(result("a", 500, {}))


def test_a_job_in_which_every_row_failed_has_only_an_error_file(split):
    summary = split(lines(result("a", 422, {}), result("b", 422, {})), asked="ab")
    assert summary.counts == counts(total=2, failed=2, by_status={"422": 2})
    assert split.results.read_bytes() == b""
    assert summary.may_pass == 0


def test_a_job_without_any_output(split):
    assert split(asked="ab").counts == counts(total=2, missing=2)
    assert list(read_results(split.results)) == []
    assert [row.custom_id for row in read_results(split.errors)] == ["a", "b"]


@settings(deadline=None)
@given(
    asked=st.sets(st.integers(0, 40)),
    answered=st.lists(st.tuples(st.integers(0, 45), st.booleans()), max_size=60),
)
def test_accounts_balance(tmp_path_factory, asked, answered):
    folder = tmp_path_factory.mktemp("accounts")
    (folder / "requests").write_bytes(lines(*({"custom_id": str(id_), "body": {}} for id_ in asked)))
    rows = [answer(str(id_)) if good else result(str(id_), 500, {}) for id_, good in answered]
    summary = split_results([[lines(*rows)]], folder / "r", folder / "e", requests=[folder / "requests"])
    found = summary.counts
    ids = [id_ for id_, _ in answered]
    best = {id_: (id_, True) in answered for id_, _ in answered if id_ in asked}
    assert found["total"] == len(asked) == found["succeeded"] + found["failed"] + found["missing"]
    assert found["succeeded"] == sum(best.values())
    assert found["missing"] == len(asked - set(ids))
    assert found["unknown"] == sum(id_ not in asked for id_ in ids)
    assert found["duplicates"] == len(ids) - found["unknown"] - len(set(ids) & asked)
    assert {row.custom_id for row in read_results(folder / "r")} == {
        str(id_) for id_, good in best.items() if good
    }
    failed = [row.custom_id for row in read_results(folder / "e") if int(row.custom_id) in asked]
    assert sorted(failed) == sorted(str(id_) for id_ in asked if not best.get(id_))


# Streams that are not what they should be


@pytest.mark.parametrize("keep", [1, 20, -2, -3])
def test_a_cut_last_line_is_an_error_and_nothing_is_published(split, keep):
    split.folder.mkdir()
    split.results.write_text("an older run's\n")
    row = lines(answer("b"))
    with pytest.raises(TruncatedResultsError, match="result file 2, line 2: the last row is cut") as raised:
        split(lines(answer("x")), lines(answer("a")) + row[:keep])
    assert isinstance(raised.value, MistralBatchError)
    assert [path.name for path in split.folder.iterdir()] == ["results.jsonl"]
    assert split.results.read_text() == "an older run's\n"


def test_a_last_line_without_newline_is_whole(split):
    assert split(lines(answer("a"), answer("b")).rstrip(b"\n")).counts["succeeded"] == 2


@pytest.mark.parametrize("checked", [False, True])
def test_a_row_that_is_not_utf8_is_malformed(split, checked):
    bad = lines(answer("b", "?")).replace(b"?", b"\xff")
    check = (lambda row: None) if checked else None
    summary = split(lines(answer("a")) + bad + lines(answer("c", "é")), asked="abc", check=check)
    assert (summary.counts["succeeded"], summary.counts["missing"], summary.may_pass) == (2, 1, 1)
    assert split.results.read_bytes() == lines(answer("a"), answer("c", "é"))
    malformed, missing = split.errors.read_bytes().splitlines()
    assert failure(malformed).code == "malformed_row"
    assert missing == missing_row("b")


LONE_SURROGATES = {
    r"\ud83d": "\ufffd",
    r"\uDE00 after": "\ufffd after",
    r"\ud83d\ud83d\ude00": "\ufffd\U0001f600",
    r"\\\ud83d\u00e9": "\\\ufffdé",
    r"\ud83d\n\\ud83d": "\ufffd\n\\ud83d",
}


@pytest.mark.parametrize("escape", LONE_SURROGATES)
@pytest.mark.parametrize("output_format", ["jsonl", "parquet"])
@pytest.mark.parametrize("checked", [False, True])
def test_half_an_emoji_costs_no_answer(split, escape, output_format, checked):
    text = LONE_SURROGATES[escape]
    rows = lines(answer("a", "?"), result("b", 500, {"message": "?"})).replace(b"?", escape.encode())
    check = (lambda row: "wrong" if row.content != text else None) if checked else None
    summary = split(rows, asked="ab", check=check, output_format=output_format)
    assert summary.counts == counts(total=2, succeeded=1, failed=1, by_status={"200": 1, "500": 1})
    assert summary.usage["total_tokens"] == 5
    assert summary.errors[0]["message"] == " ".join(text.split())
    found = list(read_results(summary.as_dict(), failed=True))
    assert [(row.content, row.custom_id) for row in found] == [(text, "a"), (None, "b")]
    assert [row.raw for row in found] == rows.splitlines()
    assert found[0].body["choices"][0]["message"]["content"] == text


def test_an_answer_longer_than_any_request_may_be(split):
    row = lines(answer("a", "x" * MAX_ROW_BYTES))
    summary = split(row[start : start + (1 << 20)] for start in range(0, len(row), 1 << 20))
    assert summary.counts == counts(total=1, succeeded=1, by_status={"200": 1})
    assert [len(row.content) for row in read_results(split.results)] == [MAX_ROW_BYTES]


@pytest.mark.parametrize("newline", [b"\n", b""])
def test_an_answer_that_cannot_be_held_is_not_paid_for_again(split, newline, monkeypatch):
    for module in (placeholder_rows, reader, split_module, splitter):
        monkeypatch.setattr(module, "MAX_RESULT_ROW_BYTES", 500)
    rows = lines(answer("a"), answer("b", "x" * 1000)).rstrip() + newline
    summary = split((rows[start : start + 100] for start in range(0, len(rows), 100)), asked="ab")
    assert summary.counts == counts(total=2, succeeded=1, failed=1, by_status={"200": 1, "none": 1})
    assert summary.may_pass == 0
    (row,) = read_results(split.errors)
    assert (row.custom_id, row.error) == ("b", "line 2 of the job's file has more than 500 bytes")


def test_an_error_of_the_download_leaves_nothing_behind(split):
    def download():
        yield lines(answer("a"))
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        split(download())
    assert list(split.folder.iterdir()) == []


def test_bytearrays_and_tiny_chunks(split):
    data = lines(answer("a", "é"), result("b", 500, {}))
    assert split(bytearray(data[n : n + 1]) for n in range(len(data))).counts["total"] == 2


def test_inline_outputs(split):
    summary = split(inline_stream([answer("a", "é"), result("b", 500, {"message": "x"})]), asked="ab")
    assert summary.counts == counts(total=2, succeeded=1, failed=1, by_status={"200": 1, "500": 1})


def test_rows_that_do_not_pass_a_check_fail_and_keep_their_text(split):
    def check(row):
        return "not a number" if not row.content.isdigit() else None

    summary = split(
        lines(answer("a", "12"), answer("b", "twelve"), result("c", 500, {})), asked="abc", check=check
    )
    assert (summary.counts["succeeded"], summary.counts["failed"]) == (1, 2)
    assert summary.may_pass == 1
    assert split.results.read_bytes() == lines(answer("a", "12"))
    rows = {row.custom_id: row for row in read_results(summary.as_dict(), failed=True)}
    assert (rows["b"].error, rows["b"].content, rows["b"].succeeded) == ("not a number", "twelve", False)
    assert {kind["code"] for kind in summary.errors} == {"invalid_output", None}
    assert summary.usage["total_tokens"] == 10


@pytest.mark.parametrize(
    ("row", "failed"),
    [
        (
            b'{ "custom_id":"a", "response" : {"status_code":200,"body":{"error":null}} ,"error" : null }',
            b'{ "custom_id":"a", "response" : {"status_code":200,"body":{"error":null}} ,"error" : %s }',
        ),
        (
            b'{"custom_id":"a","error":null,"response":{"status_code":200,"body":{"n":1.0e5}}}',
            b'{"custom_id":"a","error":%s,"response":{"status_code":200,"body":{"n":1.0e5}}}',
        ),
        (
            b'{"custom_id":"a","response":{"body":{"n":1.0e5,"error":null},"status_code":200}}',
            b'{"custom_id":"a","response":{"body":{"n":1.0e5,"error":null},"status_code":200},"error":%s}',
        ),
    ],
)
def test_rows_that_do_not_pass_a_check_stay_as_they_are_but_for_their_error(split, row, failed):
    split(row + b"\n", check=lambda _: 'no "n"')
    error = b'{"code":"invalid_output","message":"no \\"n\\""}'
    assert split.errors.read_bytes() == failed % error + b"\n"


# Where results land


@pytest.mark.parametrize("output_format", ["jsonl", "parquet"])
def test_object_stores(bucket, output_format, tmp_path):
    results, errors = bucket / "night" / "results", bucket / "night" / "errors"
    rows = [answer("a", "Hé"), result("b", 500, {"message": "x"})]
    summary = split_results([[lines(*rows)]], results, errors, output_format=output_format)
    assert (summary.results_path, summary.errors_path) == (str(results), str(errors))
    assert {path.name for path in (bucket / "night").iterdir()} == {"results", "errors"}
    assert [(row.custom_id, row.content) for row in read_results(results)] == [("a", "Hé")]
    assert [(row.custom_id, row.error) for row in read_results(errors)] == [("b", "x")]
    write_manifest(summary.as_dict(), bucket / "manifest.json")
    assert read_manifest(bucket / "manifest.json") == summary.as_dict()


class RefusingStore:
    """A path in a store that refuses to take files."""

    protocol = "memory"

    def __init__(self, path):
        self.path = path
        self.parent = path.parent
        self.name = path.name
        self.fs = self

    def put_file(self, source, target):
        raise PermissionError("no room")

    def is_dir(self):
        return False


def test_both_files_appear_or_none(bucket):
    with pytest.raises(PermissionError):
        split_results([[lines(answer("a"))]], bucket / "results", RefusingStore(bucket / "errors"))
    assert not (bucket / "results").exists()


def test_a_store_without_atomic_uploads_gets_a_temporary_name(bucket, monkeypatch, tmp_path):
    monkeypatch.setattr(atomic, "_COMMITTING_PROTOCOLS", frozenset())
    moved = []
    store = bucket.fs
    real = type(store).mv
    monkeypatch.setattr(
        type(store), "mv", lambda self, *paths, **kw: (moved.append(paths), real(self, *paths, **kw))[1]
    )
    split_results([[lines(answer("a"))]], bucket / "results", bucket / "errors")
    assert [target for _, target in moved] == ["/bucket/folder/results", "/bucket/folder/errors"]
    assert {path.name for path in bucket.iterdir()} == {"results", "errors"}


def test_published_files_are_readable_by_others(split):
    old = os.umask(0o022)
    try:
        split(lines(answer("a")))
    finally:
        os.umask(old)
    assert split.results.stat().st_mode & 0o777 == 0o644


def test_leaving_a_landing_unpublished_removes_everything(tmp_path):
    with AtomicFiles() as landing_:
        landing_.spool(tmp_path / "a").write_text("x")
        landing_.scratch(tmp_path / "a").write_text("x")
    assert list(tmp_path.iterdir()) == []


def test_check_writable(tmp_path, bucket):
    check_writable(tmp_path / "new" / "folder" / "results.jsonl", field="to")
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    check_writable(bucket / "results.jsonl", field="to")
    assert bucket.fs.find(bucket.path) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInputError, match=r"^to='.*/file' cannot be written"):
        check_writable(tmp_path / "file" / "results.jsonl", field="to")
    with pytest.raises(InvalidInputError, match=r"^to='.*' has a directory new"):
        check_writable(tmp_path / "new", field="to")


@pytest.mark.parametrize("content", ["{", "[]", "{}", "\udcff"])
def test_what_is_no_manifest(tmp_path, content):
    path = tmp_path / "manifest.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InvalidInputError, match=r"manifest\.json is not a manifest"):
        read_manifest(path)
