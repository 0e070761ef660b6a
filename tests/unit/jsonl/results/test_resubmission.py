"""What can pass is asked again, as it was sent or with another body."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from airflow_provider_mistral_batch.jsonl.lines import MAX_ROW_BYTES
from airflow_provider_mistral_batch.jsonl.requests.prepare import prepare_requests
from airflow_provider_mistral_batch.jsonl.results.merge import merge_rounds
from airflow_provider_mistral_batch.jsonl.results.resubmission import write_resubmission
from airflow_provider_mistral_batch.jsonl.results.split import split_results
from airflow_provider_mistral_batch.results import read_results

from .rounds import CHAT, Rounds, outcome_line


@pytest.mark.parametrize("with_url", [False, True])
@pytest.mark.parametrize("output_format", ["jsonl", "parquet"])
def test_only_what_can_pass_is_asked_again_as_it_was(tmp_path, with_url, output_format):
    codes = [200, 0, 400, 401, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504]
    rounds = Rounds(tmp_path, [*map(str, codes), "missing"], with_url, output_format)
    sent = rounds.first[0].read_bytes().splitlines()
    again = rounds.run({str(code): code for code in codes})
    ids = [json.loads(line)["custom_id"] for line in again]
    assert ids == ["0", "408", "409", "429", "500", "502", "503", "504", "missing"]
    assert again == [line for line in sent if json.loads(line)["custom_id"] in ids]
    assert rounds.landed[0]["counts"]["missing"] == 1


def test_nothing_to_ask_again(tmp_path):
    rounds = Rounds(tmp_path, "ab")
    assert rounds.run({"a": 200, "b": 422}) == []
    assert list((tmp_path / "q1").iterdir()) == []


ODD_ROWS = {
    "an id that is a number": b'{"custom_id":1,"response":{"status_code":200,"body":{}},"error":null}',
    "half an emoji": b'{"custom_id":"a","response":{"status_code":200,"body":{"x":"\\ud83d"}},"error":null}',
    "half an emoji in an error": b'{"custom_id":"a","response":null,"error":{"message":"\\ud83d"}}',
    "not UTF-8": b'{"custom_id":"a","response":{"status_code":200,"body":{"x":"\xff"}},"error":null}',
    "an id that is a number, and half an emoji": b'{"custom_id":1,"response":"\\ud83d","error":null}',
    "no object": b"[1]",
}


@pytest.mark.parametrize("kind", ODD_ROWS)
@pytest.mark.parametrize("asked", [False, True])
def test_an_odd_row_stops_no_round(tmp_path, kind, asked):
    rounds = Rounds(tmp_path, "abc")
    stream = [ODD_ROWS[kind] + b"\n", outcome_line("b", 200), outcome_line("c", 500)]
    landed = split_results(
        [stream], tmp_path / "r0", tmp_path / "e0", requests=rounds.files if asked else None
    ).as_dict()
    (shard,) = write_resubmission(rounds.files, tmp_path / "r0", tmp_path / "e0", directory=tmp_path / "q1")
    again = [json.loads(line)["custom_id"] for line in shard.path.read_bytes().splitlines()]
    assert again == (["c"] if "half an emoji" in kind and "number" not in kind else ["a", "c"])
    merged = merge_rounds([landed], tmp_path / "r", tmp_path / "e", requests=rounds.first)
    assert merged.counts["succeeded"] + merged.counts["failed"] + merged.counts["missing"] == 3


@pytest.mark.parametrize("output_format", ["jsonl", "parquet"])
def test_long_rows_are_not_gathered_in_memory(tmp_path, output_format):
    rounds = Rounds(tmp_path, map(str, range(300)), output_format=output_format)
    rounds.landed = [
        split_results(
            [[outcome_line(str(id_), 200 if id_ % 2 else 400, "x" * 100_000)] for id_ in range(300)],
            tmp_path / "r0",
            tmp_path / "e0",
            requests=rounds.files,
            output_format=output_format,
        ).as_dict()
    ]
    results, errors = tmp_path / "results", tmp_path / "errors"
    tracemalloc.start()
    write_resubmission(rounds.files, tmp_path / "r0", tmp_path / "e0", directory=tmp_path / "q1")
    merge_rounds(rounds.landed, results, errors, requests=rounds.first, output_format=output_format)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < (2_000_000 if output_format == "jsonl" else 16_000_000)


def test_invalid_answers_are_asked_again_with_what_was_wrong(tmp_path):
    seen = []

    def reask(body, failed):
        seen.append((failed.custom_id, failed.content, failed.error))
        if failed.custom_id == "hopeless":
            return None
        return {"messages": [*body["messages"], {"role": "user", "content": failed.error}]}

    rounds = Rounds(tmp_path, ["a", "b", "c", "hopeless"])
    again = rounds.run({"a": 200, "b": "invalid", "c": 500, "hopeless": "invalid"}, reask)
    assert sorted(seen) == [("b", "bad", "not acceptable"), ("hopeless", "bad", "not acceptable")]
    assert [json.loads(line)["custom_id"] for line in again] == ["b", "c"]
    assert json.loads(again[0])["body"]["messages"][1:] == [{"role": "user", "content": "not acceptable"}]
    rounds.run({"b": 200, "c": 200}, reask)
    summary, rows = rounds.merge()
    assert {id_: row.error for id_, row in rows.items()} == {
        "a": None,
        "b": None,
        "c": None,
        "hopeless": "not acceptable",
    }
    # Both answers to "b" were paid for, and so was the one that was given up.
    assert summary.usage["total_tokens"] == 10
    assert rows["hopeless"].content == "bad"


def test_invalid_answers_stay_failed_without_a_way_to_reask(tmp_path):
    assert Rounds(tmp_path, "ab").run({"a": "invalid", "b": 200}) == []


@pytest.mark.parametrize("number", ["1e400", "9" * 5_000])
def test_a_body_that_python_cannot_hold_is_not_asked_anew(tmp_path, number):
    rounds = Rounds(tmp_path, "abc")
    path = rounds.files[0]
    path.write_text(path.read_text().replace('"body":{', f'"body":{{"n":{number},', 2))
    again = rounds.run({"a": 500, "b": "invalid", "c": "invalid"}, lambda body, failed: body)
    assert [json.loads(line, parse_int=str)["custom_id"] for line in again] == ["a", "c"]
    # What failed by chance is asked as it was.
    assert again[0] == path.read_bytes().splitlines()[0]


def test_a_conversation_that_has_grown_too_long_is_not_asked_again(tmp_path):
    rounds = Rounds(tmp_path, "ab")
    files = tmp_path / "r0", tmp_path / "e0"
    split_results([[outcome_line("a", 200), outcome_line("b", 200)]], *files, check=lambda row: "no")
    (shard,) = write_resubmission(
        rounds.files,
        *files,
        directory=tmp_path / "q1",
        reask=lambda body, failed: {**body, "more": "x" * (200 if failed.custom_id == "a" else 1)},
        max_shard_bytes=200,
    )
    assert [json.loads(line)["custom_id"] for line in shard.path.read_bytes().splitlines()] == ["b"]


def test_request_rows_of_any_length_are_read_back(tmp_path):
    long = {"body": {"x": "x" * MAX_ROW_BYTES}}
    prepared = prepare_requests(
        [long, {"custom_id": "row-1", "body": {}}],
        endpoint=CHAT,
        directory=tmp_path / "q0",
        max_row_bytes=2 * MAX_ROW_BYTES,
    )
    files = tmp_path / "r0", tmp_path / "e0"
    summary = split_results([[outcome_line("row-1", 200)]], *files, requests=prepared.paths)
    assert (summary.counts["succeeded"], summary.counts["missing"]) == (1, 1)
    assert [row.custom_id for row in read_results(files[1])] == ["row_1"]
    (shard,) = write_resubmission(prepared.paths, *files, directory=tmp_path / "q1")
    assert shard.path.read_bytes() == prepared.paths[0].read_bytes().splitlines(keepends=True)[0]


def test_an_error_in_reask_leaves_no_files(tmp_path):
    def reask(body, failed):
        raise KeyError("oops")

    rounds = Rounds(tmp_path, "ab")
    with pytest.raises(KeyError):
        rounds.run({"a": "invalid"}, reask)
    assert list((tmp_path / "q1").iterdir()) == []


def test_rounds_may_land_in_an_object_store(tmp_path, bucket):
    rounds = Rounds(tmp_path, "abc")
    split_results(
        [[outcome_line("a", 200), outcome_line("b", 500)]],
        bucket / "r0",
        bucket / "e0",
        requests=rounds.files,
    )
    shards = write_resubmission(rounds.files, bucket / "r0", bucket / "e0", directory=tmp_path / "next")
    assert [shard.request_count for shard in shards] == [2]
