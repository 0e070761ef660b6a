"""What the tests of requests share: rows, files of rows, and a look at what was written."""

from __future__ import annotations

import json

import pytest

from airflow_provider_mistral_batch.jsonl.requests.problems import InvalidRequestsError

CHAT = "/v1/chat/completions"


def row(custom_id=None, body=None, **extra):
    return {**({} if custom_id is None else {"custom_id": custom_id}), "body": body or {}, **extra}


def write(path, rows):
    path.write_bytes(
        b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in rows)
    )
    return path


def rows_of(prepared):
    return [json.loads(line) for path in prepared.paths for line in path.read_bytes().split(b"\n")[:-1]]


def problems_of(call):
    with pytest.raises(InvalidRequestsError) as raised:
        call()
    return raised.value
