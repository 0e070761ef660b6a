"""One emulator for all contract tests, and what the API itself publishes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator, FormatChecker
from requests import Response
from requests_toolbelt.sessions import BaseUrlSession

from airflow_provider_mistral_batch.emulator import Emulator

REFERENCE = Path(__file__).parent.parent / "reference"


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    with Emulator(embedding_dimension=8) as emulator:
        yield emulator


@pytest.fixture
def wait(api: BaseUrlSession) -> Callable[[str], dict[str, Any]]:
    """Waits until a job is over."""

    def wait(job_id: str) -> dict[str, Any]:
        deadline = time.monotonic() + 30
        while True:
            job: dict[str, Any] = api.get(f"/v1/batch/jobs/{job_id}").json()
            if job["completed_at"] is not None:
                return job
            assert time.monotonic() < deadline, f"the job does not end: {job}"
            time.sleep(0.01)

    return wait


@pytest.fixture
def run(api: BaseUrlSession, wait: Callable[[str], dict[str, Any]]) -> Callable[..., list[dict[str, Any]]]:
    """Runs rows as a job and gives their results, succeeded and failed ones."""

    def run(endpoint: str, rows: list[dict[str, Any]] | bytes, **fields: Any) -> list[dict[str, Any]]:
        content = rows if isinstance(rows, bytes) else "\n".join(json.dumps(row) for row in rows)
        upload = api.post("/v1/files", files={"file": ("rows.jsonl", content)}, data={"purpose": "batch"})
        body = {"input_files": [upload.json()["id"]], "endpoint": endpoint, "model": "some-model", **fields}
        job = wait(api.post("/v1/batch/jobs", json=body).json()["id"])
        results = []
        for file_id in filter(None, (job["output_file"], job["error_file"])):
            lines = api.get(f"/v1/files/{file_id}/content").text.splitlines()
            results += [json.loads(line) for line in lines]
        return results

    return run


@pytest.fixture(scope="session")
def openapi() -> dict[str, Any]:
    """The API's own description."""
    text = (REFERENCE / "mistral-batch-openapi.yaml").read_text()
    description: dict[str, Any] = yaml.safe_load(text)
    return description


@pytest.fixture(scope="session")
def check(openapi: dict[str, Any]) -> Callable[[str, str, Response], Any]:
    """Validates an answer against what the description says of its operation."""

    def check(method: str, path: str, answer: Response) -> Any:
        assert answer.status_code == 200, answer.text
        content = openapi["paths"][path][method]["responses"]["200"]["content"]
        assert answer.headers["content-type"] in content
        if "application/json" in content:
            schema = {**content["application/json"]["schema"], "components": openapi["components"]}
            Draft202012Validator(schema, format_checker=FormatChecker()).validate(answer.json())
            return answer.json()
        return answer.content

    return check


@pytest.fixture(scope="session")
def samples() -> Callable[[str], bytes]:
    """The published request and result files, by name."""
    return lambda name: (REFERENCE / "samples" / f"{name}.jsonl").read_bytes()
