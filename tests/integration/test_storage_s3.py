"""Batches in a real object store: what it costs, what it refuses, and what stays in it."""

from __future__ import annotations

import io
import json
import logging
import random
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from airflow.sdk import ObjectStoragePath
from airflow.sdk.io.store import attach
from pyarrow import feather
from s3fs import S3FileSystem

from airflow_provider_mistral_batch.api.errors import InvalidInputError, StorageError
from airflow_provider_mistral_batch.jsonl.requests.sources import open_sources
from airflow_provider_mistral_batch.jsonl.requests.template import RowTemplate
from airflow_provider_mistral_batch.operators.inference import MistralBatchInferenceOperator
from airflow_provider_mistral_batch.overview.landed import read_landed
from airflow_provider_mistral_batch.policies.ownership import TaskIdentity
from airflow_provider_mistral_batch.results import read_results, read_table
from airflow_provider_mistral_batch.storage.ahead import SMALL_BYTES, FileAhead, read_ahead
from airflow_provider_mistral_batch.storage.atomic import AtomicFiles
from airflow_provider_mistral_batch.storage.many import AT_ONCE
from airflow_provider_mistral_batch.tables import FileRows
from airflow_provider_mistral_batch.tasks.destination import Destination
from tests.s3_server import S3Server

from ..airflow_versions import since

REFUSED = r"cannot be {} with connection 'store' \(PermissionError: (Forbidden|Access Denied)\):\s.*allow its account"
SOURCE_OPTIONS: Any = {"template": RowTemplate(), "max_row_bytes": 1 << 30, "refuse": None}
DELETES = r"DELETE |POST /\w+/?\?delete"


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = S3Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def store(server: S3Server) -> S3FileSystem:
    # Hurried: a store that is away is asked once.
    once = {"retries": {"total_max_attempts": 1}}
    store = S3FileSystem(
        key="k", secret="s", endpoint_url=server.url, config_kwargs=once, skip_instance_cache=True
    )
    store.retries = 1
    attach("s3", "store", fs=store)
    store.mkdir("bucket")
    return store


@pytest.fixture
def folder(server: S3Server, store: S3FileSystem, monkeypatch: pytest.MonkeyPatch) -> ObjectStoragePath:
    """A folder of this test's own."""
    monkeypatch.setenv("AIRFLOW_CONN_STORE", "aws://")
    server.reset()
    return ObjectStoragePath(f"s3://store@bucket/{uuid.uuid4().hex}")


#: Paths of older versions look at each folder before they use it.
FEW_REQUESTS = since("3.2", "paths in object stores ask little of the store")


@pytest.fixture
def infer(airflow: Any, folder: ObjectStoragePath) -> Callable[..., Any]:
    def infer(ti: Any = None, **options: Any) -> Any:
        source = {} if "path" in options else {"requests": [f"Say {n}" for n in range(10)]}
        options = {"destination": str(folder), "model": "mistral-small-latest", **source, **options}
        return airflow.run(lambda: MistralBatchInferenceOperator(task_id="task", **options), ti)

    return infer


def sizes(folder: ObjectStoragePath) -> dict[str, int]:
    """Every object in the folder with its size."""
    folder.fs.invalidate_cache()
    found = folder.fs.find(folder.path, detail=True)
    return {name.partition(f"{folder.name}/")[2]: about["size"] for name, about in found.items()}


@FEW_REQUESTS
def test_a_batch_takes_few_requests(infer: Any, server: S3Server, folder: ObjectStoragePath) -> None:
    outcome = infer()
    assert outcome.state == "success", outcome.message
    requests = list(server.requests)
    assert len(requests) <= 24, "\n".join(requests)
    assert sorted(sizes(folder)) == ["errors.jsonl", "manifest.json", "results.jsonl"]
    assert len(list(read_results(outcome.value))) == 10


def test_airflow_is_told_of_no_file_but_those_that_a_user_reads(
    infer: Any, folder: ObjectStoragePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    lineage = pytest.importorskip(
        "airflow.sdk.lineage", reason="the collector is elsewhere before Airflow 3.2"
    )
    collector = lineage.HookLineageCollector()
    monkeypatch.setattr(lineage, "get_hook_lineage_collector", lambda: collector)
    folder.fs.pipe_file(f"{folder.path}-in.jsonl", b'{"prompt": "Hi"}\n')
    outcome = infer(path=f"{folder}-in.jsonl", deferrable=True)
    assert outcome.state == "success", outcome.message
    assert not collector.has_collected
    assert len(list(read_results(outcome.value, failed=True))) == 1
    table = infer(
        path=None,
        requests=None,
        source=FileRows(f"{folder}-in.jsonl"),
        key="prompt",
        prompt="{prompt}",
        destination=f"{folder}-table",
    )
    assert read_table(table.value).read_all().num_rows == 1
    read = [str(one.asset.uri) for one in collector.collected_assets.inputs]
    assert read == [f"s3://bucket/{folder.name}/{name}" for name in ("results.jsonl", "errors.jsonl")] + [
        f"s3://bucket/{folder.name}-table/results.parquet"
    ]
    assert not collector.collected_assets.outputs


@FEW_REQUESTS
def test_a_table_takes_few_requests_and_is_read_in_ranges(
    infer: Any, server: S3Server, folder: ObjectStoragePath
) -> None:
    rows = pa.table({"id": range(20_000), "body": [uuid.uuid4().hex for _ in range(20_000)]})
    with (folder.parent / f"{folder.name}-in.parquet").open("wb") as file:
        pq.write_table(rows, file, row_group_size=5_000)
    server.requests.clear()
    source = FileRows(f"{folder}-in.parquet")
    outcome = infer(path=None, source=source, key="id", prompt="Say {body}", keep=["body"], max_tokens=5)
    assert outcome.state == "success", outcome.message
    assert len(server.requests) <= 80, "\n".join(server.requests)
    assert sorted(sizes(folder)) == ["errors.parquet", "manifest.json", "results.parquet"]
    server.requests.clear()
    table = read_table(outcome.value).read_all()
    assert table.column("body").to_pylist() == rows.column("body").to_pylist()
    assert len(server.requests) <= 20, "\n".join(server.requests)


@pytest.mark.parametrize("output_format", ["jsonl", "parquet"])
def test_first_rows_are_shown_of_this_batch_and_of_no_other(
    output_format: str, infer: Any, folder: ObjectStoragePath, server: S3Server
) -> None:
    outcome = infer(output_format=output_format)
    assert outcome.state == "success", outcome.message
    (batch_id,) = outcome.value["batch_ids"]
    server.requests.clear()
    landed = read_landed(outcome.value, batch_id, str, seconds=60)
    assert landed.problem is None
    assert landed.answers is not None
    assert (landed.answers.problem, landed.answers.rows_read, landed.answers.is_whole) == (None, 10, True)
    assert landed.failures is not None
    assert (landed.failures.problem, landed.failures.rows) == (None, [])
    assert len(server.requests) <= 20, "\n".join(server.requests)
    other = read_landed(outcome.value, "another", str, seconds=60)
    assert "is another batch's" in str(other.problem)
    assert other.answers is None


def requests_of(path: str) -> list[str]:
    blocks = (source.blocks for source in open_sources(ObjectStoragePath(path), **SOURCE_OPTIONS))
    lines = [line for some in blocks for block in some for line in block.data.splitlines()]
    return [json.loads(line)["custom_id"] for line in lines]


def rows_of(path: str) -> list[str]:
    return [str(id_) for batch in FileRows(path).read(["id"]) for id_ in batch.column("id").to_pylist()]


def table_of(path: str) -> list[str]:
    tables = [
        {"results_path": path.replace("*", f"{number:02}"), "table": {"key": ["id"]}} for number in range(12)
    ]
    return [str(id_) for id_ in read_table(tables).read_all().column("id").to_pylist()]


def content(name: str, number: int, size: int = 1) -> bytes:
    """A file with one row, and about as many bytes as are asked for."""
    sink = io.BytesIO()
    table = pa.table({"id": [number], "body": [random.Random(number).randbytes(size // 2).hex()]})
    if name.endswith("parquet"):
        pq.write_table(table, sink, compression="none")
    elif name.endswith("arrow"):
        feather.write_feather(table, sink, compression="uncompressed")
    elif name.endswith("csv"):
        sink.write(f"id,body\n{number},{table['body'][0]}\n".encode())
    else:
        sink.write(f'{{"custom_id": "{number}", "id": {number}, "prompt": "{table["body"][0]}"}}\n'.encode())
    return sink.getvalue()


@FEW_REQUESTS
@pytest.mark.parametrize(
    ("read", "names", "opened"),
    [
        (requests_of, "*.jsonl", 1),
        (rows_of, "*.jsonl", 1),
        (rows_of, "*.csv", 1),
        (rows_of, "*.parquet", 1),
        (rows_of, "*.arrow", 1),
        # For its columns, and for its rows.
        (table_of, "*.parquet", 2),
    ],
    ids=["requests", "jsonl", "csv", "parquet", "arrow", "results"],
)
def test_small_files_are_read_ahead_and_once(
    read: Any, names: str, opened: int, server: S3Server, folder: ObjectStoragePath
) -> None:
    files = [f"{folder.path}/{names.replace('*', f'{number:02}')}" for number in range(12)]
    for number, file in enumerate(files):
        folder.fs.pipe_file(file, content(names, number))
    server.wait_for_each_other(rf"GET /{folder.path}/", AT_ONCE)
    assert read(f"{folder}/{names}") == [str(number) for number in range(12)]
    assert server.most_waiting == AT_ONCE
    asked = Counter(request for request in server.requests if request.startswith("GET /bucket/"))
    assert asked == {f"GET /{file}": opened for file in files}


def test_large_files_are_read_at_their_turn(server: S3Server, folder: ObjectStoragePath) -> None:
    for number in range(5):
        size = SMALL_BYTES if number == 3 else 1
        folder.fs.pipe_file(f"{folder.path}/{number}.jsonl", content("jsonl", number, size))
    files = list(read_ahead(folder / f"{number}.jsonl" for number in range(5)))
    assert [isinstance(file, FileAhead) for file in files] == [True, True, True, False, True]
    assert server.count(f"GET /{folder.path}/3") == 0
    assert requests_of(f"{folder}/*.jsonl") == ["0", "1", "2", "3", "4"]
    assert server.count(f"GET /{folder.path}/3") == 1


def test_few_files_are_ahead(server: S3Server, folder: ObjectStoragePath) -> None:
    for number in range(24):
        folder.fs.pipe_file(f"{folder.path}/{number:02}.jsonl", content("jsonl", number))
    files = read_ahead(folder / f"{number:02}.jsonl" for number in range(24))
    next(files)
    # It waits for those that are under way.
    files.close()  # type: ignore[attr-defined]
    assert server.count(rf"GET /{folder.path}/") <= 2 * AT_ONCE
    assert 2 * AT_ONCE * SMALL_BYTES == 32 << 20


@pytest.mark.parametrize(
    ("name", "size"), [("3.csv", 1), ("3.csv", SMALL_BYTES), ("3.parquet", 1), ("3.parquet", SMALL_BYTES)]
)
def test_a_file_of_a_table_that_may_not_be_read_is_named(
    name: str, size: int, infer: Any, server: S3Server, folder: ObjectStoragePath, jobs: Any
) -> None:
    for number in range(5):
        folder.fs.pipe_file(f"{folder.path}/{name.replace('3', str(number))}", content(name, number, size))
    server.refuse(rf"GET /{folder.path}/3")
    outcome = infer(
        path=None,
        requests=None,
        source=FileRows(str(folder)),
        key="id",
        prompt="{id}",
        destination=f"{folder}-out",
    )
    assert (outcome.state, jobs()) == ("failed", [])
    assert outcome.message.startswith(f"path='{folder}/{name}' cannot be read"), outcome.message
    assert re.search(REFUSED.format("read"), outcome.message), outcome.message


def test_a_store_that_keeps_everything_keeps_no_copy(
    infer: Any, server: S3Server, folder: ObjectStoragePath, logged: Any, other_run: Any
) -> None:
    server.refuse(DELETES)
    assert infer().state == "success"
    (warning,) = [line for line in logged() if "may not be removed" in line]
    assert warning.startswith("warning: s3://store@bucket/")
    assert "with connection 'store'" in warning
    assert "empty file(s) stay there. Allow Delete" in warning
    final = {"errors.jsonl", "manifest.json", "results.jsonl"}
    assert {name for name, size in sizes(folder).items() if size} == final - {"errors.jsonl"}
    # What stays keeps no other run out, and its results replace these.
    assert infer(other_run).state == "failed"
    assert infer(other_run, if_exists="replace").state == "success"
    assert "another run" in (folder / "manifest.json").read_text()


@pytest.mark.parametrize("path", ["in.jsonl", "in*.jsonl"])
def test_a_source_that_may_not_be_read_is_named(
    path: str, infer: Any, server: S3Server, folder: ObjectStoragePath
) -> None:
    (folder / "in.jsonl").write_text('{"body": {}}\n')
    server.refuse(r"(GET|HEAD) /bucket(/\w+/in|/?\?.*prefix=\w+%2F(in|&))")
    outcome = infer(path=str(folder / path), destination=str(folder / "out"))
    assert outcome.state == "failed"
    assert str(folder / path) in outcome.message
    assert re.search(REFUSED.format("read"), outcome.message), outcome.message


@pytest.mark.parametrize(
    "refused", ["PUT ", r"GET /bucket/?\?list", r"(GET|HEAD) /bucket/\w+/"], ids=["put", "list", "get"]
)
def test_a_destination_that_may_not_be_used_is_named(
    refused: str, infer: Any, server: S3Server, folder: ObjectStoragePath, jobs: Any
) -> None:
    server.refuse(refused)
    outcome = infer()
    assert (outcome.state, jobs()) == ("failed", [])
    assert outcome.message.startswith(f"destination='{folder}'")
    assert re.search(REFUSED.format("(read|written)"), outcome.message), outcome.message


def test_results_land_when_the_store_is_back(
    infer: Any, server: S3Server, folder: ObjectStoragePath, jobs: Any, new_ti: Any
) -> None:
    server.break_down_at(r"PUT /bucket/\w+/\.rounds/\w+/0/results")
    ti = new_ti()
    outcome = infer(ti)
    assert outcome.state == "retry"
    assert f"{folder}/.rounds/" in outcome.message
    assert "cannot be written with connection 'store'" in outcome.message
    server.reset()
    assert infer(ti.next_try()).state == "success"
    assert len(jobs()) == 1


def test_an_upload_is_in_bounded_parts(server: S3Server, folder: ObjectStoragePath) -> None:
    def upload(name: str) -> None:
        with AtomicFiles() as files:
            with files.spool(folder / name).open("wb") as spool:
                spool.truncate(48 << 20)
            files.publish()

    upload("large")
    asked = zip(server.requests, server.sizes, strict=True)
    parts = [size for request, size in asked if "partNumber=" in request]
    assert len(parts) == 6
    assert max(parts) < 9 << 20
    assert server.most_parts_at_once <= 4
    server.break_down_at(r"PUT /bucket/\w+/lost\?partNumber=5")
    with pytest.raises(StorageError, match="/lost cannot be written with connection 'store'"):
        upload("lost")
    server.reset()
    assert list(sizes(folder)) == ["large"]


def test_of_two_at_the_same_moment_one_goes_on_at_most(folder: ObjectStoragePath) -> None:
    first, second = (
        Destination(folder, TaskIdentity(dag_id="d", task_id="t", run_id=run_id), "jsonl")
        for run_id in ("first", "second")
    )
    first.claim("fail")
    # As if both had looked before either wrote.
    second._occupant = lambda: None  # type: ignore[method-assign]
    with pytest.raises(InvalidInputError, match="run 'first'"):
        second.claim("fail")
    first.check_claim()


def test_a_bucket_that_does_not_exist_is_named(infer: Any) -> None:
    outcome = infer(destination="s3://store@nowhere/out")
    assert outcome.state == "failed"
    assert outcome.message.startswith("destination='s3://store@nowhere/out' cannot be written")
