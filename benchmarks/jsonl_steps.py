"""The measured steps of the data path, and the steps that limit them; each runs in its own process."""

from __future__ import annotations

import itertools
import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

ENDPOINT = "/v1/chat/completions"
CHUNK_BYTES = 1 << 18

#: Environment variable with the URL of the server for uploads and downloads.
URL = "MEASURED_URL"

#: Name of the file with the ids of the result files on that server.
STORED = "stored.json"

WORDS = [
    "the",
    "of",
    "answers",
    "summary",
    "topic",
    "language",
    "model",
    "request",
    "result",
    "warehouse",
    "bucket",
]
WORDS += [
    "nightly",
    "morning",
    "engineer",
    "pipeline",
    "token",
    "customer",
    "order",
    "invoice",
    "ticket",
    "café",
]


def make_files(directory: Path, rows: int) -> None:
    """
    Write request files of about 350 bytes a row, and their results in another order.

    ``requests.jsonl`` has rows as Mistral documents them; ``published.jsonl`` also has ``method`` and ``url``.
    """
    random = Random(1)
    order = list(range(rows))
    random.shuffle(order)
    directory.mkdir(parents=True, exist_ok=True)
    with (
        (directory / "requests.jsonl").open("w") as requests,
        (directory / "published.jsonl").open("w") as published,
    ):
        for number in range(rows):
            extra = {"method": "POST", "url": ENDPOINT}
            for file, fields, words in ((requests, {}, 20), (published, extra, 14)):
                row = {"custom_id": f"order-{number:07d}", **fields, "body": _body(random, words)}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    with (directory / "results.jsonl").open("w") as results:
        for number in order:
            answer = " ".join(random.choices(WORDS, k=20))
            results.write(
                json.dumps(
                    result(random, number, f"order-{number:07d}", answer),
                    ensure_ascii=False,
                    separators=(",", ":"),
                )
                + "\n"
            )


def _body(random: Random, words: int) -> dict[str, Any]:
    text = " ".join(random.choices(WORDS, k=words))
    return {
        "model": "mistral-small-latest",
        "messages": [
            {"role": "system", "content": "Summarize the ticket in one sentence."},
            {"role": "user", "content": text},
        ],
        "max_tokens": 100,
    }


def result(random: Random, number: int, custom_id: str, content: str) -> dict[str, Any]:
    """Make the result of a chat."""
    message = {"role": "assistant", "content": content, "tool_calls": None}
    body = {
        "id": f"{random.getrandbits(128):032x}",
        "object": "chat.completion",
        "model": "mistral-small-latest",
        "usage": {"prompt_tokens": 61, "completion_tokens": 33, "total_tokens": 94},
        "created": 1761577934,
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
    }
    return {
        "id": f"batch-cd0da3ab-{number}-377e2e82-7cbb-4f72-bc67-533512f70955",
        "custom_id": custom_id,
        "response": {"status_code": 200, "body": body},
        "error": None,
    }


def _copy(name: str) -> Callable[[Path, int], None]:
    def copy(directory: Path, rows: int) -> None:
        with (directory / name).open("rb") as source, (directory / "copy").open("wb") as target:
            shutil.copyfileobj(source, target, CHUNK_BYTES)

    return copy


def decode(name: str) -> Callable[[Path, int], None]:
    """
    Make a step that only decodes a file.

    :param name: The file.
    """

    def decode(directory: Path, rows: int) -> None:
        import msgspec

        with (directory / name).open("rb") as file:
            for line in file:
                msgspec.json.decode(line)

    return decode


def _prepare(name: str, **parameters: Any) -> Callable[[Path, int], None]:
    def prepare(directory: Path, rows: int) -> None:
        from airflow_provider_mistral_batch.jsonl.requests.prepare import prepare_requests
        from airflow_provider_mistral_batch.jsonl.requests.template import RowTemplate

        prepared = prepare_requests(
            directory / name,
            endpoint=ENDPOINT,
            directory=directory / "shards",
            template=RowTemplate(**parameters),
        )
        assert prepared.request_count == rows

    return prepare


def _split(output_format: str, fault: bool = False) -> Callable[[Path, int], None]:
    def split(directory: Path, rows: int) -> None:
        from airflow_provider_mistral_batch.jsonl.results.split import split_results

        chunks = _download(directory / "results.jsonl")
        if fault:
            chunks = itertools.chain([next(chunks).partition(b"\n")[2]], chunks)
        summary = split_results(
            [chunks],
            directory / "landed" / "results",
            directory / "landed" / "errors",
            requests=[directory / "requests.jsonl"],
            output_format=output_format,  # type: ignore[arg-type]
        )
        assert summary.counts["missing"] == fault
        assert summary.counts["succeeded"] + fault == rows

    return split


def _download(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def client() -> Any:
    """Make a client for the server that the environment names."""
    from airflow_provider_mistral_batch.api.client import MistralBatchClient

    return MistralBatchClient("any", os.environ[URL])


def _upload(directory: Path, rows: int) -> None:
    path = directory / "requests.jsonl"
    with client() as api:
        assert api.upload_file(path).bytes == path.stat().st_size


def _stored_streams(directory: Path, api: Any) -> list[Iterator[bytes]]:
    return [api.stream_file(file_id) for file_id in json.loads((directory / STORED).read_text())]


def _fetch(directory: Path, rows: int) -> None:
    with client() as api, (directory / "copy").open("wb") as target:
        for stream in _stored_streams(directory, api):
            target.writelines(stream)
        assert target.tell() == (directory / "results.jsonl").stat().st_size


def _fetch_and_split(directory: Path, rows: int) -> None:
    from airflow_provider_mistral_batch.jsonl.results.split import split_results

    with client() as api:
        summary = split_results(
            _stored_streams(directory, api),
            directory / "landed" / "results",
            directory / "landed" / "errors",
            requests=[directory / "requests.jsonl"],
        )
    assert (summary.counts["succeeded"], summary.counts["missing"]) == (rows, 0)


def _read(directory: Path, rows: int) -> None:
    from airflow_provider_mistral_batch.jsonl.results.reader import read_rows

    assert sum(1 for _ in read_rows(directory / "results.jsonl")) == rows


def _sdk_input(directory: Path, rows: int) -> None:
    from mistralai.client.models import ChatCompletionRequest
    from mistralai.extra.batch import BatchInput

    with (directory / "requests.jsonl").open() as file:
        payload = {
            row["custom_id"]: ChatCompletionRequest.model_validate(row["body"])
            for row in map(json.loads, file)
        }
    (directory / "copy").write_bytes(BatchInput.from_payload(payload).to_jsonl_bytes())
    assert len(payload) == rows


def _sdk_output(directory: Path, rows: int) -> None:
    from mistralai.client.models import ChatCompletionResponse
    from mistralai.extra.batch import BatchOutput

    raw = (directory / "results.jsonl").read_bytes()
    output = BatchOutput.from_jsonl_bytes(raw, ChatCompletionResponse)
    assert len(output.responses) == rows


STEPS: dict[str, Callable[[Path, int], None]] = {
    "copy requests": _copy("requests.jsonl"),
    "decode requests": decode("requests.jsonl"),
    "prepare": _prepare("requests.jsonl"),
    "prepare with parameters": _prepare("requests.jsonl", temperature=0.1),
    "decode published": decode("published.jsonl"),
    "prepare published": _prepare("published.jsonl"),
    "copy results": _copy("results.jsonl"),
    "decode results": decode("results.jsonl"),
    "split": _split("jsonl"),
    "split with missing rows": _split("jsonl", fault=True),
    "split to parquet": _split("parquet"),
    "upload requests": _upload,
    "download results": _fetch,
    "download and split": _fetch_and_split,
    "read": _read,
    "sdk input": _sdk_input,
    "sdk output": _sdk_output,
}


def main() -> None:
    """Run one step and print its time and memory: ``python benchmarks/jsonl_steps.py STEP DIRECTORY ROWS``."""
    name, directory, rows = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    if name == "make files":
        make_files(directory, rows)
        return
    step = STEPS[name]
    for leftover in ("shards", "landed"):
        shutil.rmtree(directory / leftover, ignore_errors=True)
    # Imported before the clock starts, so that the measurement excludes imports.
    _import_everything(name)
    started, busy = time.perf_counter(), time.process_time()
    step(directory, rows)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - busy
    took = {"rows": rows, "seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mb": peak_mb()}
    print(json.dumps({**took, "mb": (directory / _source(name)).stat().st_size / 1e6}))


def _source(name: str) -> str:
    """Name the file that a step reads."""
    if "published" in name:
        return "published.jsonl"
    asks = any(word in name for word in ("requests", "prepare", "input"))
    return "requests.jsonl" if asks else "results.jsonl"


def _import_everything(name: str) -> None:
    import msgspec  # noqa: F401

    if name.startswith("sdk"):
        import mistralai.client.models
        import mistralai.extra.batch  # noqa: F401
    elif not name.startswith(("copy", "decode")):
        import airflow_provider_mistral_batch.api.client
        import airflow_provider_mistral_batch.jsonl.requests.prepare
        import airflow_provider_mistral_batch.jsonl.results.parquet
        import airflow_provider_mistral_batch.jsonl.results.split  # noqa: F401
    if "parquet" in name:
        import pyarrow.parquet  # noqa: F401


def peak_mb() -> float:
    """Give the most memory that this process has had, in MB."""
    try:
        # getrusage of a child starts with its parent's memory at the time of the fork.
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
