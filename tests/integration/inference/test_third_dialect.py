"""A new dialect is a class and an entry in the list of dialects: hook, upload and a whole batch work as it says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from airflow_provider_mistral_batch.api.dialects.base import Call
from airflow_provider_mistral_batch.api.dialects.mistral import MistralDialect
from airflow_provider_mistral_batch.api.dialects.registry import DIALECTS
from airflow_provider_mistral_batch.api.models import BatchJobIn
from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook
from airflow_provider_mistral_batch.jsonl.requests import prepare
from airflow_provider_mistral_batch.operators.mistral_batch import (
    MistralCreateBatchJobOperator,
    MistralUploadBatchFileOperator,
)

ROWS = [{"body": {"messages": [{"role": "user", "content": f"Say {number}"}]}} for number in range(5)]


class AcmeDialect(MistralDialect):
    """Mistral's calls, on a server that can do other things than either dialect of ours: it cannot search."""

    name: ClassVar[str] = "acme"
    jobs_have_model: ClassVar[bool] = True
    rows_have_url: ClassVar[bool] = True
    files_per_job: ClassVar[int | None] = 1
    searches_files: ClassVar[bool] = False

    def create_job(self, job: BatchJobIn) -> Call:
        assert len(job.input_files or ()) == 1
        return super().create_job(job)

    def list_files(self, filters: Mapping[str, Any], cursor: str | None, page_size: int) -> Call:
        assert filters.get("search") is None
        return super().list_files(filters, cursor, page_size)


class ModelsInRowsDialect(AcmeDialect):
    """The same, but for where the model is named, and with rows as Mistral wants them."""

    jobs_have_model: ClassVar[bool] = False
    rows_have_url: ClassVar[bool] = False


@pytest.fixture(params=[AcmeDialect, ModelsInRowsDialect])
def dialect(request: Any, connect: Any, monkeypatch: pytest.MonkeyPatch) -> AcmeDialect:
    dialect: AcmeDialect = request.param()
    monkeypatch.setitem(DIALECTS, "acme", dialect)
    connect(dialect="acme", default_model="mistral-small-latest")
    # Files of two rows each.
    defaults = {**(prepare.prepare_requests.__kwdefaults__ or {}), "max_shard_bytes": 420}
    monkeypatch.setattr(prepare.prepare_requests, "__kwdefaults__", defaults)
    return dialect


def _check_rows(hook: MistralBatchHook, files: list[str], dialect: AcmeDialect) -> None:
    rows = [json.loads(line) for file in files for line in hook.download_file(file).splitlines()]
    assert len(rows) == 5
    for row in rows:
        assert row.get("url") == ("/v1/chat/completions" if dialect.rows_have_url else None)
        assert row["body"].get("model") == (None if dialect.jobs_have_model else "mistral-small-latest")


def test_upload_and_create(airflow: Any, hook: MistralBatchHook, jobs: Any, dialect: AcmeDialect) -> None:
    assert hook.get_conn().dialect is dialect
    upload = airflow.run(lambda: MistralUploadBatchFileOperator(task_id="upload", requests=ROWS))
    assert upload.state == "success", upload.message
    assert len(upload.value) > 1
    _check_rows(hook, upload.value, dialect)
    again = airflow.run(lambda: MistralUploadBatchFileOperator(task_id="upload", requests=ROWS))
    assert again.value == upload.value
    create = airflow.run(
        lambda: MistralCreateBatchJobOperator(task_id="create", input_files=upload.value[:1])
    )
    assert create.state == "success", create.message
    (job,) = jobs()
    assert job["model"] == ("mistral-small-latest" if dialect.jobs_have_model else None)
    assert [listed.id for listed in hook.iter_jobs()] == [job["id"]]


def test_a_whole_batch(
    airflow: Any,
    batch: Any,
    hook: MistralBatchHook,
    jobs: Any,
    rows_of: Any,
    way: dict[str, Any],
    dialect: AcmeDialect,
) -> None:
    outcome = airflow.run(batch(model=None, requests=ROWS, **way))
    assert outcome.state == "success", outcome.message
    assert len(rows_of(outcome.value["results_path"])) == 5
    files = [job["input_files"] for job in jobs()]
    assert len(files) > 1
    assert all(len(of_job) == 1 for of_job in files)
    _check_rows(hook, [file for of_job in files for file in of_job], dialect)
