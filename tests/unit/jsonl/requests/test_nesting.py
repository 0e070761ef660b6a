"""The limit of nesting is the same on every Python, and only what is nested counts."""

from __future__ import annotations

import pytest

from airflow_provider_mistral_batch.jsonl.requests.nesting import MAX_LEVELS, any_too_deep, is_too_deep


@pytest.mark.parametrize(
    ("line", "deep"),
    [
        (b"[" * MAX_LEVELS + b"]" * MAX_LEVELS, False),
        (b"[" * (MAX_LEVELS + 1) + b"]" * (MAX_LEVELS + 1), True),
        (b'{"a":' * (MAX_LEVELS + 1) + b"1" + b"}" * (MAX_LEVELS + 1), True),
        (b"[" * 100_000, True),
        (b"[" + b"[]," * 5_000 + b"[]]", False),
        (b'["' + b"[" * 5_000 + b'"]', False),
        (b'["\\"' + b"[" * 5_000 + b'"]', False),
    ],
)
def test_levels(line: bytes, deep: bool) -> None:
    assert is_too_deep(line) == deep
    assert any_too_deep([b"{}", line]) == deep
