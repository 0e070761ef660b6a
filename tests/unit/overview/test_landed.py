"""What is shown of a destination that an XCom names: rows of this job's batch, a bounded part, and no other file."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_provider_mistral_batch.jsonl.results import parquet
from airflow_provider_mistral_batch.overview import landed
from airflow_provider_mistral_batch.overview.heads import HEAD_BYTES
from airflow_provider_mistral_batch.overview.landed import Landed, read_landed
from airflow_provider_mistral_batch.storage.inside import Inside

ID = "0f0e"
SECRET = "sk-of-the-server"


def row(number: int, text: str = "hello") -> str:
    body = {
        "choices": [{"message": {"content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3},
    }
    return json.dumps(
        {"custom_id": f"row-{number}", "response": {"status_code": 200, "body": body}, "error": None}
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A destination where a batch has landed."""
    folder = tmp_path / "out"
    folder.mkdir()
    write_manifest(folder)
    (folder / "results.jsonl").write_text("".join(f"{row(number)}\n" for number in range(12)))
    (folder / "errors.jsonl").write_text("")
    return folder


def write_manifest(folder: Path, **fields: Any) -> None:
    paths = {f"{kind}_path": str(folder / f"{kind}.jsonl") for kind in ("results", "errors")}
    (folder / "manifest.json").write_text(json.dumps({"batch_ids": ["other", ID], **paths, **fields}))


def look(folder: Path, **options: Any) -> Landed:
    told = {"results_path": str(folder / "results.jsonl"), "batch_ids": [ID]}
    return read_landed(told, ID, lambda text: text.replace(SECRET, "***"), **options)


def test_first_rows_are_shown(folder: Path) -> None:
    found = look(folder)
    assert found.problem is None
    assert found.answers is not None
    assert (len(found.answers.rows), found.answers.rows_read, found.answers.is_whole) == (10, 12, True)
    assert found.answers.rows[0].text == "hello"
    assert found.failures is not None
    assert (found.failures.rows, found.failures.problem) == ([], None)


def test_a_large_file_is_not_read_to_its_end(folder: Path) -> None:
    with (folder / "results.jsonl").open("a") as file:
        file.writelines(f"{row(number, 'x' * 1000)}\n" for number in range(2000))
    answers = look(folder).answers
    assert answers is not None
    assert not answers.is_whole
    assert 100 < answers.rows_read < HEAD_BYTES / 1000


def test_texts_are_cut_clean_and_without_secrets(folder: Path) -> None:
    hostile = f"<script>\x1b[2J {SECRET} " + "y" * 100_000
    (folder / "results.jsonl").write_text(
        row(1, hostile) + "\n" + "no JSON \ud83d".encode("utf-8", "replace").decode()
    )
    answers = look(folder).answers
    assert answers is not None
    text = answers.rows[0].text
    assert text is not None
    assert "\x1b" not in text
    assert SECRET not in text
    assert len(text) < 3000
    assert answers.rows[1].error


def test_parquet_shows_rows_and_tables(folder: Path) -> None:
    write_manifest(folder, results_path="results.parquet", errors_path="errors.parquet")
    pq.write_table(
        pa.table({"raw": [row(number).encode() for number in range(30)]}), folder / "results.parquet"
    )
    pq.write_table(pa.table({"key": [1, 2], "answer": ["a\x1b", SECRET]}), folder / "errors.parquet")
    found = look(folder)
    assert found.answers is not None
    assert [one.custom_id for one in found.answers.rows][:2] == ["row-0", "row-1"]
    assert not found.answers.is_whole
    assert found.failures is not None
    assert [one.text for one in found.failures.rows] == ["key: 1\nanswer: a ", "key: 2\nanswer: ***"]
    assert found.failures.is_whole


@pytest.mark.parametrize("rows", [1, 30_000])
def test_parquet_that_is_not_cheap_to_read_says_so(
    folder: Path, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landed, "_PARQUET_BYTES", 10_000)
    write_manifest(folder, results_path="results.parquet")
    # One large group, or a large footer.
    table = pa.table({"raw": ["x" * 20_000] if rows == 1 else list(range(rows))})
    pq.write_table(
        table, folder / "results.parquet", row_group_size=1 if rows > 1 else None, use_dictionary=False
    )
    answers = look(folder).answers
    assert answers is not None
    assert "too many to read for a look" in str(answers.problem)


def test_parquet_without_pyarrow_names_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_manifest(folder, results_path="results.parquet")
    pq.write_table(pa.table({"raw": [b"x"]}), folder / "results.parquet")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    answers = look(folder).answers
    assert answers is not None
    assert "airflow-provider-mistral-batch[parquet]" in str(answers.problem)


def linked(folder: Path, name: str, secret: Path) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(secret)


def hard_linked(folder: Path, name: str, secret: Path) -> None:
    (folder / name).unlink(missing_ok=True)
    os.link(secret, folder / name)


def a_pipe(folder: Path, name: str, secret: Path) -> None:
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)


@pytest.mark.parametrize("replace", [linked, hard_linked, a_pipe])
@pytest.mark.parametrize("name", ["manifest.json", "results.jsonl", "errors.jsonl"])
def test_no_other_file_is_shown_in_place_of_ours(
    folder: Path, tmp_path: Path, name: str, replace: Callable[..., None]
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(json.dumps({"batch_ids": [ID], "hidden": "yes"}))
    replace(folder, name, secret)
    found = look(folder)
    assert "hidden" not in repr(found)
    problems = [
        found.problem,
        *(head.problem for head in (found.answers, found.failures) if head is not None),
    ]
    assert any("not a regular file" in problem for problem in problems if problem)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"batch_ids": ["other"]}, "is another batch's"),
        ({"batch_ids": ID}, "is another batch's"),
        ({"results_path": "/etc/passwd"}, "names no results that this provider writes"),
        ({"results_path": "results.jsonl/../secret"}, "names no results that this provider writes"),
        ({"results_path": None}, "names no results that this provider writes"),
        ({"note": "x" * (2 << 20)}, "more than any manifest has"),
    ],
)
def test_only_our_manifest_opens_our_files(folder: Path, fields: dict[str, Any], problem: str) -> None:
    (folder / "secret").write_text("secret")
    write_manifest(folder, **fields)
    found = look(folder)
    said = found.problem or (found.answers and found.answers.problem)
    assert problem in str(said)
    assert not (found.answers and found.answers.rows)


@pytest.mark.parametrize("content", ["", '{"batch_ids": ["0f0', "[" * 100_000, "[]", "\x00"])
def test_a_manifest_that_is_cut_says_so(folder: Path, content: str) -> None:
    (folder / "manifest.json").write_text(content)
    assert "manifest.json there is" in str(look(folder).problem)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/etc/passwd", "there is no manifest.json in /etc"),
        ("/nowhere/at/all/results.jsonl", "there is no manifest.json"),
        ("/dev/null/x", "cannot be read"),
        ("results.jsonl", "is a relative path"),
        ("nostore://bucket/results.jsonl", "Install the Airflow provider of this storage"),
        ("s3://no_such_conn@bucket/results.jsonl", "does not exist"),
        ("a\x00b/results.jsonl", "relative path"),
        ("/a\x00b/results.jsonl", "null"),
        (7, "names no results_path"),
    ],
)
def test_a_destination_out_of_reach_says_so(path: Any, problem: str) -> None:
    found = read_landed({"results_path": path}, ID, str)
    assert (found.manifest, found.answers) == (None, None)
    assert problem in str(found.problem)


def test_a_store_that_hangs_keeps_nobody_waiting(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = threading.Event()
    beginning = Inside.beginning

    def hang(*arguments: Any) -> Any:
        goes_on.wait(30)
        return beginning(*arguments)

    monkeypatch.setattr(Inside, "beginning", hang)
    begun = time.monotonic()
    problems = [look(folder, seconds=0.1).problem for _ in range(6)]
    assert time.monotonic() - begun < 10
    assert "does not answer within 0.1 s" in str(problems[0])
    # Four threads wait for it, and no fifth.
    assert "other destinations answer slowly" in str(problems[-1])
    goes_on.set()
    until = time.monotonic() + 30
    while look(folder).problem is not None:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_folder_that_is_replaced_meanwhile_is_not_followed(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "results.jsonl").write_text("secret")
    with Inside(folder) as inside:
        folder.rename(tmp_path / "away")
        folder.symlink_to(other)
        assert inside.beginning("results.jsonl", 10).content != b"secret"


def test_parquet_is_known_by_its_end(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"PAR1" + b"\xff" * 100)
    with path.open("rb") as file, pytest.raises(ValueError, match="not a Parquet file, or is cut"):
        parquet.first_parquet_rows(file, 104, most_rows=1, most_bytes=10)
