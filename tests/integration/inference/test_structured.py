"""Answers of a given form: asked for, checked, kept when they do not have it, and asked for again."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, model_validator

BOOK = {
    "title": "Book",
    "type": "object",
    "properties": {"name": {"type": "string"}, "pages": {"type": "integer"}},
    "required": ["name", "pages"],
    "additionalProperties": False,
}


class Book(BaseModel):
    """A form that can be told to refuse some answers."""

    refusals: ClassVar[int] = 0

    name: str
    pages: int

    @model_validator(mode="after")
    def _refused(self) -> Book:
        if Book.refusals:
            Book.refusals -= 1
            raise ValueError("a book without an index is no book")
        return self


@pytest.fixture(autouse=True)
def _no_refusals() -> None:
    Book.refusals = 0


def requests_of(hook: Any, job: dict[str, Any]) -> list[dict[str, Any]]:
    content = hook.download_file(job["input_files"][0])
    return [json.loads(line) for line in content.splitlines()]


@pytest.mark.parametrize("form", [Book, BOOK], ids=["pydantic", "schema"])
def test_answers_have_the_form(
    form: Any, airflow: Any, batch: Any, way: dict[str, Any], rows_of: Any, hook: Any, jobs: Any
) -> None:
    outcome = airflow.run(batch(response_model=form, max_tokens=200, **way))
    assert outcome.state == "success", outcome.message
    assert outcome.value["counts"]["succeeded"] == 5
    body = requests_of(hook, jobs()[0])[0]["body"]
    assert body["response_format"]["type"] == "json_schema"
    assert body["response_format"]["json_schema"]["name"] == "Book"
    assert body["response_format"]["json_schema"]["strict"] is True
    assert body["response_format"]["json_schema"]["schema"]["additionalProperties"] is False
    for row in rows_of(outcome.value["results_path"]).values():
        Book.model_validate_json(row["response"]["body"]["choices"][0]["message"]["content"])


def test_an_answer_without_the_form_is_a_failed_row_that_keeps_its_text(
    airflow: Any, batch: Any, way: dict[str, Any], rows_of: Any, jobs: Any
) -> None:
    Book.refusals = 2
    outcome = airflow.run(batch(response_model=Book, max_tokens=200, **way))
    assert outcome.state == "success", outcome.message
    assert len(jobs()) == 1
    assert outcome.value["counts"]["failed"] == 2
    errors = rows_of(outcome.value["errors_path"])
    assert len(errors) == 2
    for row in errors.values():
        assert row["error"]["code"] == "invalid_output"
        assert "without an index" in row["error"]["message"]
        assert json.loads(row["response"]["body"]["choices"][0]["message"]["content"])["name"]
    assert outcome.value["errors"][0]["code"] == "invalid_output"


def test_it_is_asked_for_again_with_what_is_wrong(
    airflow: Any, batch: Any, way: dict[str, Any], rows_of: Any, jobs: Any, hook: Any, control: Any
) -> None:
    Book.refusals = 2
    control.plan_jobs(failed_ids=["row-5"])
    outcome = airflow.run(batch(response_model=Book, reask_invalid=True, max_tokens=200, **way))
    assert outcome.state == "success", outcome.message
    assert [job["total_requests"] for job in jobs()] == [5, 3]
    assert outcome.value["counts"]["succeeded"] == 5
    again = {row["custom_id"]: row["body"]["messages"] for row in requests_of(hook, jobs()[1])}
    assert len(again.pop("row-5")) == 1
    for messages in again.values():
        assert [message["role"] for message in messages] == ["user", "assistant", "user"]
        assert "without an index" in messages[2]["content"]


def test_answers_that_never_get_the_form_stay_failed(
    airflow: Any, batch: Any, rows_of: Any, jobs: Any
) -> None:
    Book.refusals = 1_000
    outcome = airflow.run(batch(response_model=Book, reask_invalid=True, row_retries=2, max_tokens=200))
    # A retry of the task asks once more.
    assert outcome.state == "retry"
    assert "no request succeeded" in outcome.message
    assert "invalid_output" in outcome.message
    assert len(jobs()) == 3


def test_the_form_is_checked_where_a_worker_goes_on(airflow: Any, batch: Any, at_deferral: Any) -> None:
    at_deferral(lambda: setattr(Book, "refusals", 1))
    outcome = airflow.run(batch(response_model=Book, max_tokens=200, deferrable=True))
    assert outcome.value["counts"]["failed"] == 1
