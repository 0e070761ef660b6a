"""``MistralUploadBatchFileOperator``: what arrives, from which sources, and what is refused before anything is sent."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import ObjectStoragePath

from airflow_provider_mistral_batch.api import limits
from airflow_provider_mistral_batch.emulator.client import Control
from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
from airflow_provider_mistral_batch.jsonl.requests import prepare as jsonl_requests
from airflow_provider_mistral_batch.operators.mistral_batch import MistralUploadBatchFileOperator


def row(custom_id: str | None = "a", content: str = "Hi", **more: Any) -> dict[str, Any]:
    named = {} if custom_id is None else {"custom_id": custom_id}
    return {**named, "body": {"messages": [{"role": "user", "content": content}]}, **more}


def lines(*rows: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in rows)


ROWS = [row("a"), row("b"), row("c")]


@pytest.fixture
def upload(airflow: Any) -> Callable[..., Any]:
    return lambda **arguments: airflow.run(
        lambda: MistralUploadBatchFileOperator(task_id="upload", **arguments)
    )


@pytest.fixture
def memory(bucket: ObjectStoragePath) -> str:
    """A folder in an object store."""
    return str(bucket)


def content(hook: MistralBatchHook, file_ids: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for one in file_ids for line in hook.download_file(one).splitlines()]


SOURCES: dict[str, Callable[[Path, str], dict[str, Any]]] = {
    "a list": lambda folder, memory: {"requests": ROWS},
    "ids and prompts": lambda folder, memory: {
        "requests": [{"custom_id": one["custom_id"], "prompt": "Hi"} for one in ROWS]
    },
    "a tuple": lambda folder, memory: {"requests": tuple(ROWS)},
    "a path as text": lambda folder, memory: {"path": str(written(folder / "a.jsonl"))},
    "a path": lambda folder, memory: {"path": written(folder / "a.jsonl")},
    "gzip": lambda folder, memory: {"path": written(folder / "a.jsonl.gz")},
    "a file URL": lambda folder, memory: {"path": f"file://{written(folder / 'a.jsonl')}"},
    "an object store's URL": lambda folder, memory: {
        "path": str(written(ObjectStoragePath(f"{memory}/a.jsonl")))
    },
    "an ObjectStoragePath": lambda folder, memory: {"path": written(ObjectStoragePath(f"{memory}/b.jsonl"))},
    "gzip in an object store": lambda folder, memory: {
        "path": written(ObjectStoragePath(f"{memory}/c.jsonl.gz"))
    },
    "several paths": lambda folder, memory: {
        "path": [str(written(folder / "1.jsonl", ROWS[:2])), written(folder / "2.jsonl", ROWS[2:])]
    },
    "a glob": lambda folder, memory: {
        "path": str(written(folder / "g1.jsonl", ROWS[:1]).parent / "g*.jsonl")
        if written(folder / "g2.jsonl", ROWS[1:])
        else None
    },
}


def written(path: Any, rows: list[dict[str, Any]] = ROWS) -> Any:
    data = lines(*rows)
    with path.open("wb") as file:
        file.write(gzip.compress(data) if str(path).endswith(".gz") else data)
    return path


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_the_same_file(
    source: str, upload: Any, hook: Any, control: Control, tmp_path: Path, memory: str
) -> None:
    outcome = upload(**SOURCES[source](tmp_path, memory))
    assert outcome.state == "success", outcome.message
    assert content(hook, outcome.value) == ROWS
    (file_id,) = outcome.value
    assert outcome.xcoms == {"return_value": [file_id], "file_ids": [file_id], "request_count": 3}
    file = hook.get_file(file_id)
    assert (file.purpose, file.num_lines) == ("batch", 3)


def test_rows_without_an_id_are_numbered_and_it_is_said(upload: Any, hook: Any, logged: Any) -> None:
    outcome = upload(requests=[row(None), row("mine"), row(None)])
    assert [one["custom_id"] for one in content(hook, outcome.value)] == ["row-1", "mine", "row-3"]
    assert "info: 2 of 3 requests had no custom_id and were numbered." in logged()


def test_url_and_method_of_the_published_examples(upload: Any, hook: Any) -> None:
    outcome = upload(requests=[row("a", method="POST", url="/v1/chat/completions")])
    assert content(hook, outcome.value) == [row("a", method="POST", url="/v1/chat/completions")]


def test_what_is_too_much_for_one_file_becomes_several(
    upload: Any, hook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A limit of the API, made small.
    defaults = {**(jsonl_requests.prepare_requests.__kwdefaults__ or {}), "max_shard_bytes": 600}
    monkeypatch.setattr(jsonl_requests.prepare_requests, "__kwdefaults__", defaults)
    rows = [row(f"row-{number}", "x" * 150) for number in range(10)]
    outcome = upload(requests=rows)
    assert len(outcome.value) > 2
    assert content(hook, outcome.value) == rows
    assert all(hook.get_file(one).bytes <= 600 for one in outcome.value)
    assert outcome.xcoms["request_count"] == 10


#: Input, and words that its error must have: the field or place, and the remedy.
BAD: dict[str, tuple[Callable[[Path], dict[str, Any]], list[str]]] = {
    "neither": (lambda folder: {}, ["requests, path and source are all missing", "exactly one"]),
    "both": (lambda folder: {"requests": ROWS, "path": "x"}, ["requests and path are both given"]),
    "no rows": (lambda folder: {"requests": []}, ["requests", "empty"]),
    "one row": (lambda folder: {"requests": ROWS[0]}, ["requests=", "not a list", "pass a list"]),
    "the text of a template": (
        lambda folder: {"requests": str(ROWS)},
        ["requests=", "not a list", "native_obj"],
    ),
    "a number": (lambda folder: {"requests": 3}, ["requests=3", "not a list"]),
    "a row that is none": (lambda folder: {"requests": [*ROWS, 4]}, ["row 4", "dict"]),
    "no body": (lambda folder: {"requests": [{"custom_id": "a"}]}, ["row 1", "body"]),
    "body no object": (lambda folder: {"requests": [{"custom_id": "a", "body": "x"}]}, ["row 1", "body"]),
    "an id twice": (lambda folder: {"requests": [*ROWS, row("b")]}, ["row 4", "row 2", "custom_id", '"b"']),
    "another url": (
        lambda folder: {"requests": [row(url="/v1/embeddings")]},
        ["row 1", "url", "/v1/embeddings", "/v1/chat/completions"],
    ),
    "an unknown endpoint": (
        lambda folder: {"requests": ROWS, "endpoint": "/v1/chat"},
        ["endpoint", "/v1/chat", "/v1/chat/completions"],
    ),
    "not JSON": (
        lambda folder: {"path": text(folder / "a.jsonl", lines(*ROWS) + b"{oops\n")},
        ["a.jsonl", "line 4", "JSON"],
    ),
    "an id twice in files": (
        lambda folder: {"path": text(folder / "a.jsonl", lines(*ROWS, row("a")))},
        ["a.jsonl", "line 4", "line 1", "custom_id"],
    ),
    "no such file": (lambda folder: {"path": folder / "none.jsonl"}, ["none.jsonl", "no such file"]),
    "nothing for a glob": (lambda folder: {"path": f"{folder}/*.jsonl"}, ["*.jsonl", "no file"]),
    "an empty file": (lambda folder: {"path": text(folder / "a.jsonl", b"")}, ["a.jsonl", "no requests"]),
    "an empty path": (lambda folder: {"path": " "}, ["path=' '", "local path or a URL"]),
    "no path": (lambda folder: {"path": 7}, ["path=7", "local path or a URL"]),
    "an unknown store": (lambda folder: {"path": "weird://x/y"}, ["path='weird://x/y'", "Install"]),
    "a cut gzip": (
        lambda folder: {"path": text(folder / "a.jsonl.gz", gzip.compress(lines(*ROWS * 50))[:-30])},
        ["a.jsonl.gz", "again"],
    ),
}


def text(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("case", BAD)
def test_bad_input_names_itself_and_sends_nothing(
    case: str, upload: Any, control: Control, tmp_path: Path
) -> None:
    arguments, words = BAD[case]
    outcome = upload(**arguments(tmp_path))
    assert outcome.state == "failed", outcome
    assert [word for word in words if word not in outcome.message] == [], outcome.message
    assert control.requests() == {}
    assert outcome.xcoms == {}


@pytest.mark.parametrize("given", ["requests", "path"])
def test_more_than_a_job_may_have_is_refused_before_anything_is_sent(
    given: str, upload: Any, control: Control, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_REQUESTS_PER_JOB", 2)
    source = {"requests": ROWS, "path": str(written(tmp_path / "a.jsonl"))}
    outcome = upload(**{given: source[given]})
    assert (outcome.state, outcome.xcoms) == ("failed", {})
    assert " ".join(outcome.message.split()) == (
        f"{given} has 3 requests, and a job may have at most 2: use MistralBatchInferenceOperator, which creates "
        "several jobs, or split the input"
    )
    assert control.requests() == {}
    assert upload(requests=ROWS[:2]).state == "success"


@pytest.mark.parametrize(
    ("status", "state", "words"),
    [
        (401, "failed", ["the password of connection 'mistral_default'"]),
        (402, "failed", ["set up billing"]),
        (403, "failed", ["Use the API key"]),
        (413, "failed", ["Split the request file"]),
        (422, "failed", ["422"]),
        (500, "retry", ["500"]),
        (429, "retry", ["429"]),
    ],
)
def test_refusals_are_final_and_trouble_is_not(
    status: int, state: str, words: list[str], upload: Any, control: Control
) -> None:
    control.fault(
        "status", "POST", "/v1/files", status=status, retry_after=0 if status == 429 else None, times=None
    )
    outcome = upload(requests=ROWS)
    assert outcome.state == state
    assert [word for word in words if word not in outcome.message] == [], outcome.message
    assert control.api_key not in outcome.message
    # Sent again when the server said that it did not act, or when a look showed it.
    assert control.requests()["POST /v1/files"] == (2 if state == "retry" else 1)


def test_a_retry_uses_the_file_of_the_try_before(
    upload: Any, hook: Any, control: Control, logged: Any
) -> None:
    first = upload(requests=ROWS)
    assert upload(requests=ROWS).value == first.value
    assert [line for line in logged() if f"as file {first.value[0]}: using that file" in line]
    assert control.requests()["POST /v1/files"] == 1
    # Other content is another file, and one that somebody deleted is sent again.
    assert upload(requests=ROWS[:2]).value != first.value
    hook.delete_file(first.value[0])
    assert upload(requests=ROWS).value != first.value


def test_the_openai_dialect_too(upload: Any, hook: Any, connect: Any, control: Control) -> None:
    connect(dialect="openai")
    first = upload(requests=ROWS)
    assert first.state == "success", first.message
    assert [(one["method"], one["url"]) for one in content(hook, first.value)] == [
        ("POST", "/v1/chat/completions")
    ] * 3
    assert upload(requests=ROWS).value == first.value


@pytest.mark.parametrize(
    ("dialect", "own", "named"),
    [("openai", {}, "m"), ("openai", {"model": "own"}, "own"), ("mistral", {}, None)],
)
def test_the_connections_model_is_in_the_rows_where_jobs_have_none(
    dialect: str, own: dict[str, str], named: str | None, upload: Any, hook: Any, connect: Any
) -> None:
    connect(dialect=dialect, default_model="m")
    outcome = upload(requests=[{**row, "body": {**row["body"], **own}} for row in ROWS])
    assert {one["body"].get("model") for one in content(hook, outcome.value)} == {named}


@pytest.mark.parametrize(
    "fault", [{"kind": "drop", "when": "after"}, {"kind": "html"}, {"kind": "status", "status": 500}]
)
def test_a_lost_answer_leaves_one_file_in_use(
    fault: dict[str, Any], upload: Any, hook: Any, control: Control
) -> None:
    control.fault(method="POST", path="/v1/files", **fault)
    outcome = upload(requests=ROWS)
    assert outcome.state == "success"
    assert content(hook, outcome.value) == ROWS
    assert [file.id for file in hook.list_files().data] == outcome.value
    acted = fault.get("when") == "after"
    assert control.requests()["POST /v1/files"] == (1 if acted else 2)


@pytest.mark.parametrize("status", [500, 504])
def test_a_look_after_the_upload_that_fails_costs_no_try(
    status: int, upload: Any, hook: Any, connect: Any, control: Control
) -> None:
    connect(retries=1)
    control.fault("status", "GET", "/v1/files", status=status, skip=1)
    outcome = upload(requests=ROWS)
    assert outcome.state == "success", outcome.message
    assert [file.id for file in hook.list_files().data] == outcome.value
    assert control.requests()["POST /v1/files"] == 1


def test_of_two_files_that_were_uploaded_at_once_all_take_the_older(
    upload: Any, hook: Any, control: Control
) -> None:
    first = upload(requests=ROWS).value
    twin = hook.get_file(first[0])
    # As if the other had not been there yet when this one looked.
    time.sleep(1.1)
    hook.upload_file(io.BytesIO(hook.download_file(first[0])), filename=twin.filename)
    assert len(hook.list_files().data) == 2
    assert upload(requests=ROWS).value == first


def test_a_lost_answer_is_found_where_files_do_not_last(upload: Any, hook: Any, control: Control) -> None:
    soon = int(time.time()) + 3 * 24 * 3600
    control.fault("alter", "GET", "/v1/files", fields={"expires_at": soon}, times=None)
    control.fault("drop", "POST", "/v1/files", when="after")
    assert upload(requests=ROWS).state == "success"
    assert control.requests()["POST /v1/files"] == 1


def test_a_file_whose_size_the_api_does_not_tell_is_found_again(upload: Any, control: Control) -> None:
    # As in the examples of the API's description.
    control.fault("alter", path="/v1/files", fields={"bytes": None}, times=None)
    control.fault("alter", path="/v1/files/*", fields={"bytes": None}, times=None)
    first = upload(requests=ROWS)
    assert first.state == "success", first.message
    assert upload(requests=ROWS).value == first.value
    assert control.requests()["POST /v1/files"] == 1


def test_a_lost_answer_is_found_where_the_api_tells_no_sizes(
    upload: Any, hook: Any, control: Control
) -> None:
    control.fault("alter", "GET", "/v1/files", fields={"bytes": None}, times=None)
    control.fault("drop", "POST", "/v1/files", when="after")
    outcome = upload(requests=ROWS)
    assert outcome.state == "success", outcome.message
    assert [file.id for file in hook.list_files().data] == outcome.value
    assert control.requests()["POST /v1/files"] == 1


def test_a_file_of_another_size_is_another_file(upload: Any, control: Control) -> None:
    first = upload(requests=ROWS)
    control.fault("alter", "GET", "/v1/files", fields={"bytes": 1}, times=None)
    assert upload(requests=ROWS).value != first.value


def test_a_file_that_does_not_last_is_not_used_again(upload: Any, hook: Any) -> None:
    first = hook.get_file(upload(requests=ROWS).value[0])
    content = hook.download_file(first.id)
    hook.delete_file(first.id)
    passing = hook.upload_file(io.BytesIO(content), filename=first.filename, expiry=24)
    # The API tells whole seconds, and this is to be the older one.
    time.sleep(1.1)
    assert upload(requests=ROWS).value not in ([first.id], [passing.id])


def test_of_two_tries_that_upload_at_once_one_file_stays(
    upload: Any, hook: Any, control: Control, logged: Any
) -> None:
    held = control.fault("hold", "POST", "/v1/files", times=1)
    with ThreadPoolExecutor() as pool:
        late = pool.submit(upload, requests=ROWS)
        control.wait_for_fault(held)
        first = upload(requests=ROWS).value
        # The API tells whole seconds, and the held upload is to be the newer one.
        time.sleep(1.1)
        control.release(held)
        assert late.result().value == first
    assert control.requests()["POST /v1/files"] == 2
    assert [file.id for file in hook.list_files().data] == first
    assert any("and is older: using that file" in line for line in logged())


def test_a_newer_file_that_cannot_be_deleted_stops_nothing(upload: Any, hook: Any, control: Control) -> None:
    held = control.fault("hold", "POST", "/v1/files", times=1)
    control.fault("status", "DELETE", "/v1/files/*", status=403)
    with ThreadPoolExecutor() as pool:
        late = pool.submit(upload, requests=ROWS)
        control.wait_for_fault(held)
        first = upload(requests=ROWS).value
        time.sleep(1.1)
        control.release(held)
        assert late.result().value == first


@pytest.mark.parametrize("dialect", ["mistral", "openai"])
def test_a_document_is_uploaded_once_whatever_its_name(
    dialect: str, connect: Any, hook: Any, control: Control, tmp_path: Path
) -> None:
    connect(dialect=dialect)
    content = b"%PDF-1.7 of somebody"
    (tmp_path / "Report.PDF").write_bytes(content)
    first = hook.upload_file(tmp_path / "Report.PDF", purpose="ocr", once=True)
    assert first.filename == f"airflow-{hashlib.sha256(content).hexdigest()}.pdf"
    assert hook.download_file(first.id) == content
    opened = io.BytesIO(content)
    opened.read()
    assert hook.upload_file(opened, purpose="ocr", once=True, filename="other.pdf").id == first.id
    assert hook.upload_file(str(tmp_path / "Report.PDF"), purpose="ocr", once=True).id == first.id
    assert control.requests()["POST /v1/files"] == 1
    # Another purpose, other content, and a call without `once` are other files.
    others = [
        hook.upload_file(io.BytesIO(content), purpose="batch", once=True, filename="a.pdf"),
        hook.upload_file(io.BytesIO(content + b"!"), purpose="ocr", once=True, filename="a.pdf"),
        hook.upload_file(tmp_path / "Report.PDF", purpose="ocr"),
    ]
    assert len({first.id, *(other.id for other in others)}) == 4
    # Its end may hold anything, and only what tells a kind is taken over.
    odd = hook.upload_file(io.BytesIO(b"odd"), purpose="ocr", once=True, filename="x.p/d f")
    assert odd.filename == f"airflow-{hashlib.sha256(b'odd').hexdigest()}"
