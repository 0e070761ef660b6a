"""Which refusals of a create call may pass: those that are about one of its files."""

from __future__ import annotations

import pytest

from airflow_provider_mistral_batch.api.errors import MistralConnectionError, error_from_answer
from airflow_provider_mistral_batch.policies.refusals import file_may_appear, results_may_appear

ID = "6f1c7f7e-0d1e-4d6e-8a43-4f0e5a2a1b7c"


@pytest.mark.parametrize(
    ("status", "body", "passes"),
    [
        (404, b'{"detail": "Input file not found"}', True),
        (404, f'{{"detail": "No such object: {ID}"}}'.encode(), True),
        (400, b'{"message": "Cannot find file", "code": "file_not_found"}', True),
        (400, b'{"message": "still being processed", "param": "input_files[0]"}', True),
        (400, b'{"message": "Not ready", "type": "FileNotFoundError"}', True),
        (422, b'{"detail": [{"loc": ["body", "input_files", 0], "msg": "not ready"}]}', True),
        (422, b'{"message": "fileId is not available yet"}', True),
        (400, b'{"message": "Invalid model: mistral-tiny"}', False),
        (400, b'{"message": "unknown profile"}', False),
        (404, b'{"message": "Agent not found"}', False),
        (401, b'{"message": "no access to file"}', False),
        (402, b'{"message": "files need a paid plan"}', False),
        (403, b'{"message": "file is of another workspace"}', False),
        (413, b'{"message": "file too large"}', False),
        (500, b'{"message": "file system is full"}', False),
    ],
)
def test_which_refusals_may_pass(status: int, body: bytes, passes: bool) -> None:
    error = error_from_answer(status, body, operation="POST /v1/batch/jobs")
    assert file_may_appear(error, [ID]) is passes
    assert not file_may_appear(error, []), "a job without files"


def test_a_lost_answer_is_no_refusal() -> None:
    assert not file_may_appear(MistralConnectionError(f"file {ID}"), [ID])


@pytest.mark.parametrize(
    ("status", "ended_at", "appears"),
    [
        (404, 990, True),
        (404, None, True),
        (404, 1005, True),
        (404, 300, False),
        (410, 990, False),
        (403, 990, False),
        (500, 990, False),
    ],
)
def test_results_of_a_job_that_has_just_ended_may_appear(
    status: int, ended_at: int | None, appears: bool
) -> None:
    error = error_from_answer(status, b"{}", operation="GET /v1/files/x/content")
    assert results_may_appear(error, ended_at=ended_at, now=1000.0) is appears
    assert not results_may_appear(MistralConnectionError("no file"), ended_at=990, now=1000.0)
