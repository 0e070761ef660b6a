"""Result streams become a file of answers and a file of failures."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_mistral_batch.jsonl.results.manifest import read_manifest, write_manifest
from airflow_provider_mistral_batch.jsonl.results.split import split_results
from airflow_provider_mistral_batch.results import read_results

from .result_rows import answer, counts, lines, result


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


def test_a_job_in_which_every_row_failed_has_only_an_error_file(split):
    summary = split(lines(result("a", 422, {}), result("b", 422, {})), asked="ab")
    assert summary.counts == counts(total=2, failed=2, by_status={"422": 2})
    assert split.results.read_bytes() == b""
    assert summary.may_pass == 0


def test_a_job_without_any_output(split):
    assert split(asked="ab").counts == counts(total=2, missing=2)
    assert list(read_results(split.results)) == []
    assert [row.custom_id for row in read_results(split.errors)] == ["a", "b"]


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
