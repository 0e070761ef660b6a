"""Every endpoint's answer becomes one typed row."""

from __future__ import annotations

import pytest

from airflow_provider_mistral_batch.jsonl.results.rows import result_row

from .answers import BODIES, CHAT_BODY
from .result_rows import row_line


@pytest.mark.parametrize("kind", BODIES)
def test_every_endpoint_has_its_content(kind):
    body, expected = BODIES[kind]
    line = row_line("a", body)
    row = result_row(line)
    assert (row.content, row.finish_reason, row.prompt_tokens, row.completion_tokens, row.model) == expected
    assert (row.custom_id, row.status_code, row.error, row.succeeded, row.raw) == ("a", 200, None, True, line)
    assert row.body == body


def test_a_failed_row_has_an_error_and_what_there_is_beside():
    row = result_row(row_line("a", CHAT_BODY, error={"code": "invalid_output", "message": "no number"}))
    assert (row.error, row.content, row.succeeded) == ("no number", "Hé", False)
    row = result_row(row_line("a", None, status_code=0))
    assert (row.error, row.status_code, row.body) == ("no answer (status code 0)", 0, None)


@pytest.mark.parametrize("line", [b"oops", b"[]", b"{}", b'{"response": 1}', b"\xff", b'{"custom_id": 5}'])
def test_what_is_no_row_is_a_failed_row(line):
    row = result_row(line)
    assert not row.succeeded
    assert (row.custom_id, row.content) == (None, None)
