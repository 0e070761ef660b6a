"""Rounds: what can pass is asked again, and in the end each request has exactly one outcome."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_mistral_batch.jsonl.lines import MAX_ROW_BYTES
from airflow_provider_mistral_batch.jsonl.requests.prepare import prepare_requests
from airflow_provider_mistral_batch.jsonl.results.merge import merge_rounds
from airflow_provider_mistral_batch.jsonl.results.placeholder_rows import MISSING_MESSAGE
from airflow_provider_mistral_batch.jsonl.results.resubmission import write_resubmission
from airflow_provider_mistral_batch.jsonl.results.split import split_results
from airflow_provider_mistral_batch.results import read_results

CHAT = "/v1/chat/completions"
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


def row_line(custom_id, outcome, text="ok"):
    """A result row; outcome: a status code, or "invalid"."""
    good = outcome in (200, "invalid")
    body = (
        {"usage": USAGE, "choices": [{"message": {"content": text}}]}
        if good
        else {"message": f"failed {outcome}"}
    )
    response = {"status_code": 200 if good else outcome, "body": body}
    return json.dumps({"custom_id": custom_id, "response": response, "error": None}).encode() + b"\n"


def check(row):
    return "not acceptable" if row.content == "bad" else None


class Rounds:
    """Runs rounds as an operator does, with a script instead of the API."""

    def __init__(self, folder, ids, with_url=False, output_format="jsonl"):
        self.folder = folder
        self.output_format = output_format
        rows = [{"custom_id": id_, "body": {"messages": [{"role": "user", "content": id_}]}} for id_ in ids]
        prepared = prepare_requests(rows, endpoint=CHAT, directory=folder / "q0", with_url=with_url)
        self.first = self.files = prepared.paths
        self.landed = []

    def run(self, outcomes, reask=None):
        """Land one round's outcomes, by id; ids without one stay missing. Returns the lines of the next round."""
        number = len(self.landed)
        asked = [
            # Some tests have numbers that Python cannot hold.
            json.loads(line, parse_int=str)["custom_id"]
            for path in self.files
            for line in path.read_bytes().splitlines()
        ]
        stream = [
            row_line(id_, outcomes[id_], "bad" if outcomes[id_] == "invalid" else f"{id_} in {number}")
            for id_ in reversed(asked)
            if id_ in outcomes
        ]
        self.landed.append(
            split_results(
                [stream],
                self.folder / f"r{number}",
                self.folder / f"e{number}",
                requests=self.files,
                check=check,
                output_format=self.output_format,
            ).as_dict()
        )
        shards = write_resubmission(
            self.files,
            self.folder / f"r{number}",
            self.folder / f"e{number}",
            directory=self.folder / f"q{number + 1}",
            reask=reask,
        )
        self.files = [shard.path for shard in shards]
        lines = [line for path in self.files for line in path.read_bytes().splitlines()]
        assert sum(shard.request_count for shard in shards) == len(lines)
        return lines

    def merge(self):
        summary = merge_rounds(
            self.landed,
            self.folder / "results",
            self.folder / "errors",
            requests=self.first,
            output_format=self.output_format,
        )
        return summary, {row.custom_id: row for row in read_results(summary.as_dict(), failed=True)}


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


@pytest.mark.parametrize("output_format", ["jsonl", "parquet"])
def test_merging_keeps_the_last_word_on_each_request(tmp_path, output_format):
    rounds = Rounds(tmp_path, "abcdefg", output_format=output_format)
    rounds.run({"a": 200, "b": 429, "c": 422, "d": 500, "e": 500})
    rounds.run({"b": 200, "d": 503, "f": 200})
    rounds.run({"d": 400})
    summary, rows = rounds.merge()
    outcome = {id_: (row.status_code, row.content or row.error) for id_, row in rows.items()}
    assert outcome == {
        "a": (200, "a in 0"),
        "b": (200, "b in 1"),
        "c": (422, "failed 422"),
        "d": (400, "failed 400"),
        "e": (500, "failed 500"),
        "f": (200, "f in 1"),
        "g": (None, MISSING_MESSAGE),
    }
    assert summary.counts == {
        "total": 7,
        "succeeded": 3,
        "failed": 3,
        "missing": 1,
        "unknown": 0,
        "duplicates": 0,
        "by_status": {"200": 3, "400": 1, "422": 1, "500": 1},
    }
    assert summary.usage["total_tokens"] == 6
    kinds = {(kind["status_code"] or kind["code"], kind["count"]) for kind in summary.errors}
    assert kinds == {(400, 1), (422, 1), (500, 1), ("missing_row", 1)}
    assert summary.may_pass == 2


def test_missing_rows_are_merged_though_the_request_files_are_gone(tmp_path):
    rounds = Rounds(tmp_path, "abcd")
    rounds.run({"a": 200, "b": 500})
    rounds.run({"c": 200})
    summary = merge_rounds(rounds.landed, tmp_path / "r", tmp_path / "e", requests=None)
    outcome = {row.custom_id: row.status_code for row in read_results(summary.as_dict(), failed=True)}
    assert outcome == {"a": 200, "b": 500, "c": 200, "d": None}
    counts = summary.counts
    assert (counts["total"], counts["succeeded"], counts["failed"], counts["missing"]) == (4, 2, 1, 1)


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
    stream = [ODD_ROWS[kind] + b"\n", row_line("b", 200), row_line("c", 500)]
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
            [[row_line(str(id_), 200 if id_ % 2 else 400, "x" * 100_000)] for id_ in range(300)],
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
    split_results([[row_line("a", 200), row_line("b", 200)]], *files, check=lambda row: "no")
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
    summary = split_results([[row_line("row-1", 200)]], *files, requests=prepared.paths)
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
        [[row_line("a", 200), row_line("b", 500)]], bucket / "r0", bucket / "e0", requests=rounds.files
    )
    shards = write_resubmission(rounds.files, bucket / "r0", bucket / "e0", directory=tmp_path / "next")
    assert [shard.request_count for shard in shards] == [2]


@settings(deadline=None, max_examples=30)
@given(
    script=st.lists(
        st.dictionaries(st.sampled_from("abcdefghij"), st.sampled_from([200, 422, 429, 500, 0])),
        min_size=1,
        max_size=4,
    )
)
def test_each_request_has_exactly_one_final_outcome(tmp_path_factory, script):
    rounds = Rounds(tmp_path_factory.mktemp("rounds"), "abcdefghij")
    expected: dict[str, int] = {}
    for outcomes in script:
        expected.update(
            {id_: code for id_, code in outcomes.items() if expected.get(id_, 500) not in (200, 422)}
        )
        again = rounds.run(outcomes)
        assert {json.loads(line)["custom_id"] for line in again} == {
            id_ for id_ in "abcdefghij" if expected.get(id_, 500) not in (200, 422)
        }
    summary, rows = rounds.merge()
    assert {id_: row.status_code for id_, row in rows.items()} == {**dict.fromkeys("abcdefghij"), **expected}
    counts = summary.counts
    assert counts["succeeded"] + counts["failed"] + counts["missing"] == counts["total"] == 10
    assert counts["succeeded"] == list(expected.values()).count(200)
