"""``MistralDownloadBatchResultsOperator``: what lands, what does not, and that nobody sees half of it."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from airflow.sdk import ObjectStoragePath

from airflow_provider_mistral_batch.emulator.client import Control
from airflow_provider_mistral_batch.operators.mistral_batch import (
    MistralCreateBatchJobOperator,
    MistralDownloadBatchResultsOperator,
    MistralUploadBatchFileOperator,
)
from airflow_provider_mistral_batch.tasks.destination import Destination

LANDED = ["errors.jsonl", "manifest.json", "results.jsonl"]
CONTENT = "GET /v1/files/{id}/content"
ROWS = [
    {"custom_id": f"row-{n}", "body": {"messages": [{"role": "user", "content": f"Say {n}"}]}}
    for n in range(6)
]


@pytest.fixture
def download(airflow: Any, tmp_path: Path) -> Callable[..., Any]:
    def download(batch_id: Any, destination: Any = tmp_path / "out", ti: Any = None, **options: Any) -> Any:
        return airflow.run(
            lambda: MistralDownloadBatchResultsOperator(
                task_id="download", batch_id=batch_id, destination=destination, **options
            ),
            ti,
        )

    return download


@pytest.fixture
def ended(airflow: Any, new_ti: Any, control: Control, jobs: Any, hook: Any) -> Callable[..., str]:
    """Makes a job from an uploaded file, or inline, that is over."""

    def ended(*, inline: bool = False, **plan: Any) -> str:
        control.plan_jobs(**plan)
        source: dict[str, Any] = {"requests": ROWS}
        if not inline:
            upload = airflow.run(lambda: MistralUploadBatchFileOperator(task_id="upload", requests=ROWS))
            source = {"input_files": upload.value}
        create = airflow.run(
            lambda: MistralCreateBatchJobOperator(
                task_id="create", model="m", wait_for_completion=True, poll_interval=0.02, **source
            ),
            new_ti(task_id="create"),
        )
        return create.xcoms["batch_id"]

    return ended


def ids(path: Any) -> list[str]:
    return [json.loads(line)["custom_id"] for line in Path(path).read_text().splitlines()]


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize(
    ("plan", "succeeded", "failed"),
    [
        ({}, 6, 0),
        ({"failed_rows": 2}, 4, 2),
        ({"failed_rows": 2, "error_style": "error"}, 4, 2),
        ({"zero_rows": 1}, 5, 1),
        ({"failed_rows": "all"}, 0, 6),
        ({"end": "CANCELLED", "end_after": 0.5}, 3, 0),
        ({"end": "TIMEOUT_EXCEEDED", "end_after": 0.5, "failed_rows": 1}, 2, 1),
        ({"end": "FAILED", "end_after": 0.5}, 3, 0),
    ],
    ids=["completed", "partly", "by error", "status 0", "all failed", "cancelled", "expired", "failed"],
)
def test_each_row_is_in_exactly_one_file(
    plan: dict[str, Any],
    succeeded: int,
    failed: int,
    inline: bool,
    download: Any,
    ended: Any,
    jobs: Any,
    tmp_path: Path,
) -> None:
    batch_id = ended(inline=inline, **plan)
    outcome = download(batch_id)
    assert outcome.state == "success", outcome.message
    results, errors = tmp_path / "out" / "results.jsonl", tmp_path / "out" / "errors.jsonl"
    assert (len(ids(results)), len(ids(errors))) == (succeeded, failed)
    assert not set(ids(results)) & set(ids(errors))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == LANDED
    (job,) = jobs()
    manifest = outcome.value
    assert manifest["batch_ids"] == [batch_id]
    assert (manifest["results_path"], manifest["errors_path"]) == (str(results), str(errors))
    assert (manifest["counts"]["succeeded"], manifest["counts"]["failed"]) == (succeeded, failed)
    assert (manifest["started_at"], manifest["completed_at"]) == (job["started_at"], job["completed_at"])
    assert (manifest["usage"]["total_tokens"] > 0) == (succeeded > 0)
    assert sum(error["count"] for error in manifest["errors"]) == failed
    assert outcome.xcoms["output_file_id"] == job["output_file"]
    assert outcome.xcoms["error_file_id"] == job["error_file"]
    assert outcome.xcoms["return_value"] == manifest
    assert json.loads((tmp_path / "out" / "manifest.json").read_text()) == manifest


def test_what_fails_is_summed_up(download: Any, ended: Any, logged: Any) -> None:
    download(ended(failed_rows=2, failed_statuses=[429]))
    (warning,) = [line for line in logged() if line.startswith("warning: Most frequent row errors")]
    assert "2 x 429" in warning


def test_fewer_rows_than_requests_are_pointed_out(download: Any, ended: Any, logged: Any) -> None:
    batch_id = ended(missing_rows=2)
    outcome = download(batch_id)
    assert outcome.state == "success"
    counts = outcome.value["counts"]
    assert (counts["total"], counts["succeeded"], counts["failed"], counts["missing"]) == (6, 4, 0, 2)
    assert f"warning: Batch job {batch_id} has 6 requests, but only 4 result rows." in logged()


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize("end", ["FAILED", "CANCELLED", "TIMEOUT_EXCEEDED"])
def test_nothing_to_land(end: str, inline: bool, download: Any, ended: Any, tmp_path: Path) -> None:
    outcome = download(ended(inline=inline, end=end, end_after=0.0, errors=["No GPU"]))
    assert outcome.state == "failed"
    assert "without results" in outcome.message
    assert ("No GPU" in outcome.message) == (end == "FAILED")
    assert outcome.xcoms["status"]
    assert not (tmp_path / "out").exists()


def test_a_job_that_still_runs(download: Any, make_job: Any, control: Control, tmp_path: Path) -> None:
    outcome = download(make_job(wait=False, job_seconds=1000))
    assert outcome.state == "retry"
    assert "MistralBatchJobSensor" in outcome.message
    assert CONTENT not in control.requests()


def test_an_unknown_job(download: Any) -> None:
    outcome = download("00000000-0000-4000-8000-000000000000")
    assert outcome.state == "failed"
    assert "404" in outcome.message


@pytest.mark.parametrize("where", ["text", "a path", "a file URL", "an object store", "an ObjectStoragePath"])
def test_destinations(
    where: str, download: Any, ended: Any, tmp_path: Path, bucket: ObjectStoragePath
) -> None:
    destination = {
        "text": str(tmp_path / "new" / "folder"),
        "a path": tmp_path / "new" / "folder",
        "a file URL": f"file://{tmp_path}/new/folder",
        "an object store": str(bucket),
        "an ObjectStoragePath": bucket / "again",
    }[where]
    outcome = download(ended(), destination)
    assert outcome.state == "success", outcome.message
    with ObjectStoragePath(outcome.value["results_path"]).open("rb") as file:
        assert len(file.read().splitlines()) == 6


def a_file_in_the_way(folder: Path) -> Path:
    (folder / "out").write_text("")
    return folder / "out"


UNWRITABLE = ["destination=", "cannot be written", "choose another one"]
IN_THE_WAY = ["destination=", "has a directory", "choose another one"]
UNUSABLE: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "a file": (a_file_in_the_way, UNWRITABLE),
    "below a file": (lambda folder: a_file_in_the_way(folder) / "deep", UNWRITABLE),
    "no store": (lambda folder: "weird://x/y", ["destination='weird://x/y'", "Install"]),
    "empty": (lambda folder: "", ["destination=''", "local path or a URL"]),
    "no path": (lambda folder: 7, ["destination=7", "local path or a URL"]),
    "a folder named like the file": (
        lambda folder: (folder / "d" / "results.jsonl").mkdir(parents=True) or folder / "d",
        IN_THE_WAY,
    ),
    "the other folder named like the file": (
        lambda folder: (folder / "d" / "errors.jsonl").mkdir(parents=True) or folder / "d",
        IN_THE_WAY,
    ),
    "nobody's": (lambda folder: "/proc/nobody/out", UNWRITABLE),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_an_unusable_destination_is_found_before_the_download(
    case: str, download: Any, ended: Any, control: Control, tmp_path: Path
) -> None:
    make, words = UNUSABLE[case]
    batch_id = ended()
    control.reset()
    outcome = download(batch_id, make(tmp_path))
    assert outcome.state == "failed", outcome
    assert [word for word in words if word not in outcome.message] == [], outcome.message
    assert control.requests() == {}


@pytest.mark.parametrize("cuts", [1, 3])
def test_a_download_that_is_cut_goes_on(
    cuts: int, download: Any, ended: Any, connect: Any, control: Control, tmp_path: Path
) -> None:
    connect(retries=5)
    batch_id = ended()
    control.fault("cut", "GET", "*/content", bytes=300, times=cuts)
    outcome = download(batch_id)
    assert outcome.state == "success"
    assert ids(tmp_path / "out" / "results.jsonl") == [row["custom_id"] for row in ROWS]
    assert control.requests()[CONTENT] == cuts + 1


def test_a_download_that_never_ends_well_leaves_nothing(
    download: Any, ended: Any, connect: Any, control: Control, tmp_path: Path
) -> None:
    connect(retries=2)
    batch_id = ended()
    control.fault("cut", "GET", "*/content", bytes=0, times=None)
    outcome = download(batch_id)
    assert outcome.state == "retry"
    assert not (tmp_path / "out").exists()
    # The next try leaves one copy.
    control.clear_faults()
    assert download(batch_id).state == "success"
    assert download(batch_id).state == "success"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == LANDED
    assert len(ids(tmp_path / "out" / "results.jsonl")) == 6


def test_a_file_that_is_cut_on_the_server_is_landed_but_for_its_last_row(
    download: Any, ended: Any, control: Control, tmp_path: Path, logged: Any
) -> None:
    batch_id = ended(cut_last_line=True)
    control.reset()
    outcome = download(batch_id)
    assert outcome.state == "success", outcome.message
    assert control.requests()[CONTENT] == 2
    assert ids(tmp_path / "out" / "results.jsonl") == [row["custom_id"] for row in ROWS[:-1]]
    (cut,) = (tmp_path / "out" / "errors.jsonl").read_text().splitlines()
    assert json.loads(cut)["error"]["code"] == "malformed_row"
    assert [line for line in logged() if "the last row is cut after" in line]


def test_another_runs_results_are_left_alone_unless_told(
    download: Any, ended: Any, control: Control, other_run: Any, tmp_path: Path
) -> None:
    batch_id = ended()
    assert download(batch_id).state == "success"
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    control.reset()
    outcome = download(batch_id, ti=other_run)
    assert outcome.state == "failed"
    assert "has results of task 'task' of Dag 'dag', run 'run'" in outcome.message
    assert "if_exists='replace'" in outcome.message
    assert control.requests() == {}
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    outcome = download(batch_id, ti=other_run, if_exists="replace")
    assert outcome.state == "success", outcome.message
    assert outcome.value["task"]["run_id"] == "another run"


def test_unknown_ways_to_treat_what_exists_are_refused(download: Any) -> None:
    outcome = download("x", if_exists="ignore")
    assert outcome.state == "failed"
    assert "if_exists='ignore' is not known: use one of fail, replace" in outcome.message


def test_a_result_file_that_was_deleted(download: Any, ended: Any, hook: Any, jobs: Any) -> None:
    batch_id = ended()
    hook.delete_file(jobs()[0]["output_file"])
    outcome = download(batch_id)
    assert outcome.state == "failed"
    assert jobs()[0]["output_file"] in outcome.message


def test_answers_land_although_the_file_of_failed_rows_was_deleted(
    download: Any, ended: Any, hook: Any, jobs: Any, tmp_path: Path, logged: Any
) -> None:
    batch_id = ended(failed_rows=2)
    hook.delete_file(jobs()[0]["error_file"])
    outcome = download(batch_id)
    assert outcome.state == "success", outcome.message
    counts = {name: outcome.value["counts"][name] for name in ("total", "succeeded", "failed", "missing")}
    assert counts == {"total": 6, "succeeded": 4, "failed": 0, "missing": 2}
    assert len(ids(tmp_path / "out" / "results.jsonl")) == 4
    assert [line for line in logged() if "the failed rows count as missing" in line]


def test_an_error_between_results_and_manifest_costs_a_try_and_nothing_else(
    download: Any, ended: Any, new_ti: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_full(*_: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    batch_id, ti = ended(), new_ti()
    with monkeypatch.context() as patch:
        patch.setattr(Destination, "write_manifest", disk_full)
        assert download(batch_id, ti=ti).state == "retry"
    outcome = download(batch_id, ti=ti.next_try())
    assert outcome.state == "success", outcome.message
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == LANDED


def test_a_try_that_airflow_took_for_dead_may_end_first(
    airflow: Any, download: Any, ended: Any, new_ti: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stream_after_the_older(job: Any) -> Any:
        yield from streams(job)
        assert download(batch_id, ti=ti).state == "success"

    batch_id, ti = ended(), new_ti()
    newer = MistralDownloadBatchResultsOperator(
        task_id="download", batch_id=batch_id, destination=str(tmp_path / "out")
    )
    streams = newer._streams
    monkeypatch.setattr(newer, "_streams", stream_after_the_older)
    outcome = airflow.run(lambda: newer, ti.next_try())
    assert outcome.state == "success", outcome.message
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == LANDED


def test_a_store_that_is_away_for_a_moment_costs_a_try(
    download: Any, ended: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> NoReturn:
        raise ConnectionError("503 Slow Down")

    batch_id = ended()
    monkeypatch.setattr(Path, "open", away)
    assert download(batch_id).state == "retry"
