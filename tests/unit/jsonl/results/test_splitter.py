"""Rows that are cut, odd, too long or not acceptable."""

from __future__ import annotations

import pytest

from airflow_provider_mistral_batch.api.errors import MistralBatchError
from airflow_provider_mistral_batch.jsonl.lines import MAX_ROW_BYTES
from airflow_provider_mistral_batch.jsonl.results import placeholder_rows, reader, splitter
from airflow_provider_mistral_batch.jsonl.results import split as split_module
from airflow_provider_mistral_batch.jsonl.results.outcomes import failure
from airflow_provider_mistral_batch.jsonl.results.placeholder_rows import missing_row
from airflow_provider_mistral_batch.jsonl.results.splitter import TruncatedResultsError
from airflow_provider_mistral_batch.results import read_results

from .result_rows import answer, counts, lines, result


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
    assert [len(row.content or "") for row in read_results(split.results)] == [MAX_ROW_BYTES]


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


def deep(levels, opening="["):
    return opening * levels + "1" + {"[": "]", '{"a":': "}"}[opening] * levels


DEEP_PLACES = {
    "body": '{"custom_id":"b","response":{"status_code":200,"body":{"usage":{"prompt_tokens":3},"x":%s}},"error":null}',
    "error": '{"id":"1","custom_id":"b","response":null,"error":%s}',
    "id comes last": '{"error":null,"response":{"status_code":200,"body":{"custom_id":"c","x":%s}},"custom_id":"b"}',
    "unknown field": '{"custom_id":"b","response":{"status_code":200,"body":{}},"more":%s}',
}


@pytest.mark.parametrize("place", DEEP_PLACES)
@pytest.mark.parametrize("levels", [647, 651, 1_500, 100_000])
@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize("output_format", ["jsonl", "parquet"])
def test_a_row_that_is_nested_too_deeply_costs_that_row_only(
    split, place, levels, opening, checked, output_format
):
    if output_format == "parquet":
        pytest.importorskip("pyarrow")
    line = DEEP_PLACES[place].replace("%s", deep(levels, opening)).encode()
    check = (lambda row: None) if checked else None
    summary = split(
        lines(answer("a")) + line + b"\n" + lines(answer("c")),
        asked="abc",
        check=check,
        output_format=output_format,
    )
    readable = levels == 647
    failed = [] if readable and place != "error" else ["b"]
    assert summary.counts["missing"] == 0
    assert [
        row.custom_id for row in read_results(summary.as_dict(), failed=True) if not row.succeeded
    ] == failed
    if not readable:
        assert summary.counts["failed"] == 1
        (kind,) = summary.errors
        assert (kind["code"], kind["example"], kind["may_pass"]) == ("row_too_deep", "b", False)
        assert "line 2 of the job's file is nested more than 650 levels deep" in kind["message"]
        assert summary.usage["rows_not_measured"] == 1


def test_a_landed_row_that_is_nested_too_deeply_is_read_as_failed(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(DEEP_PLACES["body"].replace("%s", deep(1_500)).encode())
    (row,) = read_results(str(path))
    assert (row.custom_id, row.content, row.prompt_tokens, row.body) == ("b", None, None, None)
    assert row.error == "the row is nested more than 650 levels deep"


@pytest.mark.parametrize("escape", [r"\ud83d", r"\x", "\x01"])
def test_an_id_that_cannot_be_read_stops_nothing(split, escape):
    line = DEEP_PLACES["body"].replace("%s", deep(1_500)).replace('"b"', f'"{escape}"').encode()
    summary = split(lines(answer("a")) + line + b"\n", asked="ab")
    assert summary.counts["succeeded"] == 1
    assert {failure(row).code for row in split.errors.read_bytes().splitlines()} == {
        "missing_row",
        "row_too_deep",
    }
