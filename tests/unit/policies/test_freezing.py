"""Which jobs tell what a source gave before them, and what is no such note."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from airflow_provider_mistral_batch.api.models import BatchJobOut
from airflow_provider_mistral_batch.policies.freezing import FROZEN, FrozenNote, frozen_batches
from airflow_provider_mistral_batch.policies.ownership import PART

NOTE = FrozenNote(source="s", key="k", content="c", jobs=2, model="m")


def job(number: int, note: FrozenNote | str = NOTE, *, round_: int = 0, **fields: Any) -> BatchJobOut:
    text = note if isinstance(note, str) else msgspec.json.encode(note).decode()
    metadata = {PART: f"k/{round_}/{number}", FROZEN: text}
    fields = {"id": f"job-{number}", "created_at": 1, "input_files": [f"file-{number}"], **fields}
    return BatchJobOut(status="completed", raw_status="SUCCESS", metadata=metadata, **fields)


def test_a_complete_round_comes_before_an_older_part_of_another() -> None:
    other = msgspec.structs.replace(NOTE, key="other")
    jobs = [job(0, other, id="old", created_at=0), job(1), job(0), job(0, id="twin", created_at=2)]
    complete, part = frozen_batches(jobs, "s")
    assert complete.is_complete
    assert {number: found.id for number, (found, _) in complete.jobs.items()} == {0: "job-0", 1: "job-1"}
    assert (part.note.key, part.is_complete) == ("other", False)


@pytest.mark.parametrize(
    "stranger",
    [
        job(0, msgspec.structs.replace(NOTE, source="another")),
        job(0, round_=1),
        job(2),
        job(0, ""),
        job(0, "[1, 2]"),
        job(0, '["s", "k", "c", "2"]'),
        msgspec.structs.replace(job(0), metadata=None),
        msgspec.structs.replace(job(0), metadata={FROZEN: job(0).metadata[FROZEN]}),  # type: ignore[index]
        msgspec.structs.replace(job(0), metadata={FROZEN: 5, PART: ["k/0/0"]}),
    ],
)
def test_what_does_not_count(stranger: BatchJobOut) -> None:
    assert frozen_batches([stranger], "s") == []


def test_jobs_whose_files_the_api_does_not_tell_are_no_complete_round() -> None:
    (batch,) = frozen_batches([job(0, input_files=[]), job(1)], "s")
    assert not batch.is_complete


def test_a_note_that_is_too_long_for_metadata_is_left_out() -> None:
    assert list(NOTE.metadata()) == [FROZEN]
    assert msgspec.structs.replace(NOTE, model="m" * 600).metadata() == {}
