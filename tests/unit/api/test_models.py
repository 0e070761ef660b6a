"""What is asked is checked before anything is sent: each bad input names field, value and remedy."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_mistral_batch.api.endpoints import ENDPOINTS
from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.api.models import (
    BatchError,
    BatchJobIn,
    BatchJobOut,
    BatchStatus,
)

ROW = {"custom_id": "a", "body": {"messages": []}}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, ["input_files and requests", "both missing", "exactly one"]),
        (
            {"input_files": ["f"], "requests": [ROW]},
            ["input_files and requests", "both given", "exactly one"],
        ),
        ({"input_files": []}, ["input_files is empty", "at least one file id"]),
        ({"input_files": "file-1"}, ["input_files='file-1'", "a list of file ids"]),
        ({"input_files": {"file-1": 1}}, ["input_files=", "a list of file ids"]),
        ({"input_files": ["ok", ""]}, ["input_files=''", "as the API returned it"]),
        ({"input_files": ["../batch/jobs/x"]}, ["input_files='../batch/jobs/x'", "as the API returned it"]),
        ({"input_files": [7]}, ["input_files=7", "as the API returned it"]),
        ({"requests": []}, ["requests is empty", "at least one request"]),
        ({"requests": [ROW] * 10_001}, ["requests has 10,001 rows", "10,000", "input_files"]),
        ({"requests": "rows"}, ["requests='rows'", "a list of rows"]),
        ({"requests": iter([ROW])}, ["requests=", "a list of rows"]),
        ({"requests": [ROW, {"custom_id": "b"}]}, ["requests[1]={'custom_id': 'b'}", '"body"']),
        ({"requests": [{"custom_id": "b", "body": "text"}]}, ["requests[0]=", '"body"']),
        ({"requests": ["row"]}, ["requests[0]='row'", '"body"']),
        ({"input_files": ["f"], "endpoint": "/v1/images"}, ["endpoint='/v1/images'", "/v1/chat/completions"]),
        ({"input_files": ["f"], "endpoint": None}, ["endpoint=None", "/v1/chat/completions"]),
        ({"input_files": ["f"], "completion_window": "24"}, ["completion_window='24'", "'24h'"]),
        ({"input_files": ["f"], "completion_window": "1w"}, ["completion_window='1w'", "'24h'"]),
        ({"input_files": ["f"], "completion_window": " 24h"}, ["completion_window=' 24h'", "'24h'"]),
        ({"input_files": ["f"], "completion_window": "٣h"}, ["completion_window=", "'24h'"]),
        ({"input_files": ["f"], "completion_window": 24}, ["completion_window=24", "'24h'"]),
        (
            {"input_files": ["f"], "completion_window": "0h"},
            ["completion_window='0h'", "between 1 and 168 hours"],
        ),
        (
            {"input_files": ["f"], "completion_window": "8d"},
            ["completion_window='8d'", "between 1 and 168 hours"],
        ),
        ({"input_files": ["f"], "metadata": ["a"]}, ["metadata=['a']", "a mapping"]),
        ({"input_files": ["f"], "metadata": {"": "v"}}, ["metadata key ''", "1 to 32"]),
        ({"input_files": ["f"], "metadata": {"k" * 33: "v"}}, ["metadata key 'kkk", "1 to 32"]),
        ({"input_files": ["f"], "metadata": {1: "v"}}, ["metadata key 1", "a string"]),
        ({"input_files": ["f"], "metadata": {"k": ""}}, ["metadata['k']=''", "1 to 512"]),
        (
            {"input_files": ["f"], "metadata": {"k": "v" * 513}},
            ["metadata['k']='vvv", "513 characters", "1 to 512"],
        ),
        ({"input_files": ["f"], "metadata": {"k": 5}}, ["metadata['k']=5", "a string", "convert it"]),
        ({"input_files": ["f"], "model": "m", "agent_id": "a"}, ["model='m'", "agent_id='a'", "one of them"]),
    ],
)
def test_bad_input_names_field_value_and_remedy(fields, words):
    with pytest.raises(InvalidInputError) as caught:
        BatchJobIn(**fields)
    for word in words:
        assert word in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("fields", "hours"),
    [
        ({"completion_window": "24h"}, 24),
        ({"completion_window": "1h"}, 1),
        ({"completion_window": "7d"}, 168),
        ({"completion_window": "168h"}, 168),
        ({}, 24),
    ],
)
def test_completion_window_in_hours(fields, hours):
    assert BatchJobIn(input_files=("f",), **fields).timeout_hours == hours


@pytest.mark.parametrize(
    "fields",
    [
        {"metadata": {"k" * 32: "v" * 512}},
        {"metadata": {}},
        {"requests": [{**ROW, "custom_id": str(n)} for n in range(10_000)], "input_files": None},
        {"requests": [{"body": {}}] * 10_000, "input_files": None},
        *({"endpoint": endpoint} for endpoint in ENDPOINTS),
    ],
)
def test_input_at_the_limits_is_accepted(fields):
    assert BatchJobIn(**{"input_files": ["f"], **fields})


@pytest.mark.parametrize(
    ("status", "is_terminal"),
    [
        ("validating", False),
        ("in_progress", False),
        ("finalizing", False),
        ("cancelling", False),
        ("completed", True),
        ("failed", True),
        ("expired", True),
        ("cancelled", True),
        ("PAUSED", False),
    ],
)
def test_which_statuses_are_an_end(status, is_terminal):
    assert BatchJobOut(id="b", status=status, raw_status=status, created_at=1).is_terminal is is_terminal


def test_published_statuses_are_all_there():
    assert sorted(BatchStatus.ALL) == sorted(
        [
            "validating",
            "in_progress",
            "finalizing",
            "completed",
            "failed",
            "expired",
            "cancelling",
            "cancelled",
        ]
    )
    assert not BatchStatus.ACTIVE & BatchStatus.TERMINAL


@pytest.mark.parametrize("field", ["completed_at", "failed_at", "expired_at", "cancelled_at"])
def test_ended_at_whichever_way_it_ended(field):
    at: dict[str, Any] = {field: 9}
    job = BatchJobOut(id="b", status="failed", raw_status="FAILED", created_at=1, **at)
    assert job.ended_at == 9


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (BatchError(message="bad row", line=3, count=2), "bad row (line 3) (2 times)"),
        (BatchError(message="bad row"), "bad row"),
        (BatchError(code="1800"), "1800"),
        (BatchError(), "unknown error"),
    ],
)
def test_batch_error_in_words(error, text):
    assert str(error) == text
