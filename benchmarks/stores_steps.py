"""The measured steps of object stores; each runs in its own process, on the local disk or in S3."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import jsonl_steps

#: Environment variable with the URL of the S3 server.
S3_URL = "MEASURED_S3_URL"
BUCKET = "bucket"

EMBEDDINGS = "results.jsonl"
_NUMBERS = 1024
_SMALL_FILES = 200
#: Vectors that the rows repeat: making a new one for each takes longer than all that is measured.
_VECTORS = 500
#: 40,000 rows make a file of 600 MB.
_BODY_BYTES = 15_000
_ROWS_IN_GROUP = 10_000


def make_files(where: str, directory: Path, rows: int) -> None:
    """Write results with embeddings, their requests' rows, and a table of about the same size."""
    import pyarrow
    from pyarrow import parquet

    random = Random(1)
    directory.mkdir(parents=True, exist_ok=True)
    vectors = [json.dumps([random.uniform(-0.1, 0.1) for _ in range(_NUMBERS)]) for _ in range(_VECTORS)]
    with (directory / EMBEDDINGS).open("w") as results:
        for number in range(rows):
            data = f'[{{"index":0,"object":"embedding","embedding":{vectors[number % _VECTORS]}}}]'
            body = f'{{"model":"mistral-embed","data":{data}}}'
            results.write(
                f'{{"custom_id":"{number}","response":{{"status_code":200,"body":{body}}},"error":null}}\n'
            )
    (directory / "errors.jsonl").touch()
    beside = pyarrow.table({"id": range(rows), "skipped ": [False] * rows})
    parquet.write_table(beside, directory / "beside.parquet")
    folder = _folder(where, directory)
    if where == "local":
        (folder / "small").mkdir(parents=True)
    for number in range(_SMALL_FILES):
        with (folder / "small" / f"{number:03}.jsonl").open("wb") as file:
            file.write(b'{"custom_id": "%d", "prompt": "Hello"}\n' % number)
    schema = pyarrow.schema([("id", pyarrow.int64()), ("body", pyarrow.string())])
    with (
        (folder / "table.parquet").open("wb") as file,
        parquet.ParquetWriter(file, schema, compression="none", use_dictionary=False) as writer,
    ):
        for start in range(0, rows, _ROWS_IN_GROUP):
            ids = range(start, min(start + _ROWS_IN_GROUP, rows))
            bodies = [random.randbytes(_BODY_BYTES // 2).hex() for _ in ids]
            writer.write_table(pyarrow.table({"id": ids, "body": bodies}))


def _folder(where: str, directory: Path) -> Any:
    """Give the folder of a storage."""
    if where == "local":
        return directory / "local"
    from airflow.sdk import ObjectStoragePath
    from airflow.sdk.io.store import attach
    from s3fs import S3FileSystem

    store = S3FileSystem(key="k", secret="s", endpoint_url=os.environ[S3_URL])
    attach("s3", "store", fs=store)
    os.environ["AIRFLOW_CONN_STORE"] = "aws://"
    if not store.exists(BUCKET):
        store.mkdir(BUCKET)
    return ObjectStoragePath(f"s3://store@{BUCKET}/{directory.name}")


def _land(folder: Any, directory: Path, rows: int) -> None:
    """Download, split and publish results."""
    from airflow_provider_mistral_batch.jsonl.results.split import split_results

    with jsonl_steps.client() as api:
        streams = [
            api.stream_file(file_id) for file_id in json.loads((directory / jsonl_steps.STORED).read_text())
        ]
        summary = split_results(streams, folder / "results.jsonl", folder / "errors.jsonl")
    assert summary.counts["succeeded"] == rows


def _columns(folder: Any, directory: Path, rows: int) -> None:
    """Read landed results, and publish a Parquet file of them."""
    from airflow_provider_mistral_batch.storage.atomic import AtomicFiles
    from airflow_provider_mistral_batch.tables.answers import AnswerColumns, AnswerTable
    from airflow_provider_mistral_batch.tables.shapes import shape_of

    with AtomicFiles() as files:
        AnswerTable(
            [directory / "beside.parquet"],
            key=["id"],
            shape=shape_of("/v1/embeddings", None, embedding="float32"),
            columns=AnswerColumns(),
        ).write(
            folder / "results.jsonl",
            directory / "errors.jsonl",
            results_path=files.spool(folder / "results.parquet"),
            errors_path=files.spool(folder / "errors.parquet"),
        )
        files.publish()


def _read_table(folder: Any, directory: Path, rows: int) -> None:
    """Read a Parquet file as a source."""
    from airflow_provider_mistral_batch.tables.sources.files import FileRows

    count = sum(batch.num_rows for batch in FileRows(folder / "table.parquet").read(["id", "body"]))
    assert count == rows


def _read_small(folder: Any, directory: Path, rows: int) -> None:
    """Make one request file of many small ones."""
    from airflow_provider_mistral_batch.jsonl.requests.prepare import prepare_requests
    from airflow_provider_mistral_batch.jsonl.requests.template import RowTemplate

    shutil.rmtree(directory / "shards", ignore_errors=True)
    prepared = prepare_requests(
        folder / "small" / "*.jsonl",
        endpoint=jsonl_steps.ENDPOINT,
        directory=directory / "shards",
        template=RowTemplate(max_tokens=5),
    )
    assert prepared.request_count == _SMALL_FILES


STEPS: dict[str, Callable[[Any, Path, int], None]] = {
    "download and publish": _land,
    "embeddings to Parquet": _columns,
    "read a large Parquet": _read_table,
    "read 200 small files": _read_small,
}


def main() -> None:
    """Run one step: ``python benchmarks/stores_steps.py STEP WHERE DIRECTORY ROWS``; ``WHERE`` is local or s3."""
    name, where, directory, rows = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
    if name == "make files":
        make_files(where, directory, rows)
        return
    _import_everything()
    folder = _folder(where, directory)
    before = jsonl_steps.peak_mb()
    started = time.perf_counter()
    STEPS[name](folder, directory, rows)
    print(json.dumps({"seconds": time.perf_counter() - started, "peak_mb": jsonl_steps.peak_mb() - before}))


def _import_everything() -> None:
    import msgspec  # noqa: F401
    import pyarrow.dataset
    import pyarrow.parquet  # noqa: F401

    import airflow_provider_mistral_batch.api.client
    import airflow_provider_mistral_batch.jsonl.requests.prepare
    import airflow_provider_mistral_batch.jsonl.results.split
    import airflow_provider_mistral_batch.tables.answers
    import airflow_provider_mistral_batch.tables.sources.files  # noqa: F401


if __name__ == "__main__":
    main()
