"""Documents and recordings go in, and their texts come out; each file is uploaded once, and paid for once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from airflow.sdk import DAG, task

from airflow_provider_mistral_batch.results import read_table
from airflow_provider_mistral_batch.tables import AnswerColumns, Documents

PDF = b"%PDF-1.4\n%%EOF\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three documents, two of them equal, in a folder and in one below it; and a hidden file."""
    folder = tmp_path / "in"
    (folder / "more").mkdir(parents=True)
    (folder / "a.pdf").write_bytes(PDF + b"a")
    (folder / "b.PNG").write_bytes(b"\x89PNG b")
    (folder / "more" / "a.pdf").write_bytes(PDF + b"a")
    (folder / ".DS_Store").write_bytes(b"hidden")
    return folder


@pytest.fixture(params=[False, True], ids=["worker", "deferrable"])
def way(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"deferrable": request.param}


@pytest.fixture
def read(run_batch: Any, folder: Path) -> Callable[..., Any]:
    """Runs an inference task over the documents."""

    def read(*, ti: Any = None, fails: bool = False, **options: Any) -> Any:
        given = {
            "source": Documents(str(folder)),
            "endpoint": "/v1/ocr",
            "model": "mistral-ocr-latest",
        }
        outcome = run_batch(ti, **{**given, **options})
        assert fails or outcome.state == "success", outcome.message
        return outcome if fails else outcome.value

    return read


def uploads(hook: Any, purpose: str = "ocr") -> dict[str, str]:
    """The mimetype of each upload in the account."""
    return {file.id: hook.get_conn().get_file(file.id).filename for file in hook.iter_files(purpose=purpose)}


def sent(hook: Any, job: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in hook.download_file(job["input_files"][0]).splitlines()]


def test_each_file_is_a_row_with_the_id_of_its_upload(read, hook, jobs, folder, way):
    manifest = read(keep=["name", "size", "file_id"], **way)
    rows = read_table(manifest).read_all().to_pylist()
    assert [(row["path"], row["name"], row["size"]) for row in rows] == [
        (str(folder / "a.pdf"), "a.pdf", 16),
        (str(folder / "b.PNG"), "b.PNG", 6),
        (str(folder / "more" / "a.pdf"), "a.pdf", 16),
    ]
    assert all("as the emulator imagines it" in row["markdown"] for row in rows)
    assert rows[0]["file_id"] == rows[2]["file_id"]
    names = uploads(hook)
    assert sorted(name.rpartition(".")[2] for name in names.values()) == ["pdf", "png"]
    [job] = jobs()
    assert [row["body"] for row in sent(hook, job)] == [
        {"document": {"type": "file", "file_id": row["file_id"]}} for row in rows
    ]


def test_a_clear_finds_uploads_and_job_again(read, hook, jobs, new_ti, way):
    ti = new_ti()
    read(ti=ti, if_exists="replace", **way)
    before = uploads(hook)
    read(ti=ti.cleared(), if_exists="replace", **way)
    assert uploads(hook) == before
    assert len(jobs()) == 1
    assert len(list(hook.iter_files(purpose="batch", source=["upload"]))) == 1


class Killed(BaseException):
    """The end of a process."""


def test_a_retry_reads_no_file_again(read, airflow, hook, jobs, control, folder, new_ti):
    def die() -> None:
        raise Killed

    ti = new_ti()
    control.settings(job_seconds=3600)
    airflow.on_deferral = die
    with pytest.raises(Killed):
        read(ti=ti, deferrable=True)
    airflow.on_deferral = lambda: control.end_jobs([jobs()[0]["id"]])
    (folder / "new.pdf").write_bytes(PDF + b"new")
    (folder / "b.PNG").unlink()
    manifest = read(ti=ti.next_try(), deferrable=True)
    assert manifest["counts"]["succeeded"] == 3
    assert len(uploads(hook)) == 2
    assert len(jobs()) == 1


@pytest.mark.parametrize("plan", [{"end": "FAILED"}, {"failed_rows": 2}], ids=["job", "rows"])
def test_a_retry_after_a_failure_lands_all_it_pays_for(read, hook, jobs, control, new_ti, way, plan):
    control.plan_jobs(**plan)
    ti = new_ti()
    assert read(ti=ti, fails=True, max_failed_ratio=0.0, **way).state == "retry"
    manifest = read(ti=ti.next_try(), max_failed_ratio=0.0, **way)
    assert len(read_table(manifest).read_all()) == 3
    assert len(uploads(hook)) == 2
    assert len(jobs()) == 2
    assert len(jobs()[-1]["input_files"]) == 1


def test_own_uploads_are_deleted_at_the_end_and_no_others(read, hook, jobs, other_run, new_ti, tmp_path, way):
    read(ti=other_run, destination=str(tmp_path / "shared"))
    shared = uploads(hook)
    files = {file.id for file in hook.iter_files()}
    ti = new_ti()
    read(ti=ti, delete_files="on_success", **way)
    assert uploads(hook) == shared
    assert {file.id for file in hook.iter_files()} == files
    # The results are where they were, so a clear pays for nothing, although the uploads are new ones.
    read(ti=ti.cleared(), delete_files="on_success", **way)
    assert len(jobs()) == 2
    assert {file.id for file in hook.iter_files()} == files


def test_recordings_are_transcribed(read, hook, jobs, tmp_path, way):
    (tmp_path / "calls").mkdir()
    (tmp_path / "calls" / "one.mp3").write_bytes(b"ID3 one")
    manifest = read(
        source=Documents(f"{tmp_path}/calls/*.mp3"),
        endpoint="/v1/audio/transcriptions",
        model="voxtral-mini-latest",
        delete_files="never",
        parameters={"language": "fr"},
        columns=AnswerColumns(markdown=True),
        **way,
    )
    [row] = read_table(manifest).read_all().to_pylist()
    [file_id] = uploads(hook, "audio")
    assert file_id in row["answer"]
    [job] = jobs()
    assert [row["body"] for row in sent(hook, job)] == [{"language": "fr", "file_id": file_id}]
    assert (tmp_path / "out" / "markdown" / "one.md").read_text() == row["answer"]
    assert hook.get_file(file_id).mimetype == "audio/mpeg"


def test_a_chat_is_asked_about_documents(read, hook, jobs):
    content = [{"type": "text", "text": "Who signed {name}?"}, {"type": "file", "file_id": "{file_id}"}]
    manifest = read(
        endpoint="/v1/chat/completions",
        model="mistral-small-latest",
        messages=[{"role": "user", "content": content}],
        keep=["file_id"],
    )
    rows = read_table(manifest).read_all().to_pylist()
    [job] = jobs()
    assert [row["body"]["messages"][0]["content"][1]["file_id"] for row in sent(hook, job)] == [
        row["file_id"] for row in rows
    ]


def test_a_function_returns_documents(airflow, hook, folder, tmp_path):
    def make(**options: Any) -> Any:
        with DAG("dag", schedule=None):
            ask = task.mistral_batch(
                task_id="ask",
                endpoint="/v1/ocr",
                model="mistral-ocr-latest",
                destination=str(tmp_path / "out"),
                poll_interval=0.05,
                poll_interval_min=0.02,
                **options,
            )
            return cast("Any", ask(lambda: Documents(folder))()).operator

    outcome = airflow.run(lambda: make(key="path"))
    assert outcome.state == "success", outcome.message
    assert len(read_table(outcome.value).read_all()) == 3
    outcome = airflow.run(make)
    assert "for documents pass key='path'" in outcome.message


def test_each_answer_is_a_markdown_file_with_a_name_of_its_own(read, tmp_path, folder, new_ti, way):
    hostile = ["..", "ä", "A", "a\nb", "x" * 200, "$(rm -rf ~)", "-"]
    for number, name in enumerate(hostile):
        (folder / f"{name}.pdf").write_bytes(PDF + str(number).encode())
    manifest = read(columns=AnswerColumns(markdown=True, failed=True), **way)
    files = sorted(path.name for path in (tmp_path / "out" / "markdown").iterdir())
    assert manifest["table"]["markdown"] == {"path": str(tmp_path / "out" / "markdown"), "files": 10 - 1}
    assert len(files) == 9
    assert {"b.md", "ä.md", "A.md", "a_b.md", "x" * 120 + ".md", "_rm -rf _.md", "-.md"} < set(files)
    rows = {row["path"]: row["markdown"] for row in read_table(manifest).read_all().to_pylist()}
    assert (tmp_path / "out" / "markdown" / "b.md").read_text() == rows[str(folder / "b.PNG")]


def test_markdown_of_another_batch_is_replaced_and_nothing_of_others(read, tmp_path, folder, other_run, jobs):
    markdown = tmp_path / "out" / "markdown"
    markdown.mkdir(parents=True)
    (markdown / "mine.txt").write_text("mine")
    outcome = read(fails=True, columns=AnswerColumns(markdown=True))
    assert "has a folder 'markdown' that no batch has written" in outcome.message
    assert not jobs()
    (markdown / "mine.txt").unlink()
    read(columns=AnswerColumns(markdown=True))
    assert (markdown / "b.md").exists()
    (folder / "b.PNG").unlink()
    read(ti=other_run, columns=AnswerColumns(markdown=True), if_exists="replace")
    assert not (markdown / "b.md").exists()
    assert (markdown / "a.md").exists()


def test_markdown_of_another_batch_is_removed_by_one_without_and_nothing_of_others(
    read, tmp_path, other_run, new_ti
):
    markdown = tmp_path / "out" / "markdown"
    third_run = new_ti()
    third_run.run_id = "third run"
    read(columns=AnswerColumns(markdown=True))
    assert (markdown / "b.md").exists()

    read(ti=other_run, if_exists="replace")
    assert not markdown.exists()

    read(ti=third_run, columns=AnswerColumns(markdown=True), if_exists="replace")
    assert (markdown / "b.md").exists()


def test_a_folder_of_others_stays_beside_results_without_markdown(read, tmp_path, other_run):
    mine = tmp_path / "out" / "markdown" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    read()
    read(ti=other_run, if_exists="replace")
    assert mine.read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"endpoint": "/v1/embeddings"}, "its requests need more than a document"),
        ({"endpoint": "/v1/chat/completions"}, "messages that have {file_id} in a content of type 'file'"),
        ({"prompt": "{path}"}, "source=Documents: no request names the file"),
        ({"keep": ["title"]}, "keep: the source has no column 'title'"),
        ({"source": Documents("/nowhere/x")}, "there is no such file or folder"),
        ({"source": Documents("/nowhere/*.pdf")}, "no file matches"),
        ({"key": "nam"}, "key: the source has no column 'nam'"),
        ({"max_cost_usd": 1.0}, "depends on documents or recordings that only the API opens"),
    ],
)
def test_what_cannot_be_read_is_refused_before_an_upload(read, hook, jobs, options, said):
    outcome = read(fails=True, **options)
    assert outcome.state == "failed"
    assert said in outcome.message
    assert not jobs()
    assert not uploads(hook)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("notes.xyz", b"x", "1 of 4 files are of a kind that the endpoint does not read"),
        ("empty.pdf", b"", "1 of 4 files are empty"),
        (b"caf\xe9.pdf", b"x", "1 of 4 files have names that are not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_sent_is_named_before_any_is(read, hook, folder, name, content, said):
    import os

    Path(os.fsdecode(os.fsencode(folder) + b"/" + os.fsencode(name))).write_bytes(content)
    outcome = read(fails=True)
    assert outcome.state == "failed"
    assert said in outcome.message
    assert not uploads(hook)


def test_an_empty_folder_is_named(read, folder):
    for path in folder.rglob("*.*"):
        path.unlink()
    assert "there are no files but hidden ones" in read(fails=True).message
