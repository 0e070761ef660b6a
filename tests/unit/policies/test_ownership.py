"""Which batch job is ours: re-attach, submit anew, cancel."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from airflow_provider_mistral_batch.api import limits
from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.api.models import BatchJobIn, BatchJobOut, BatchStatus
from airflow_provider_mistral_batch.policies.ownership import (
    KEY,
    TaskIdentity,
    decide,
    merged_metadata,
    noted_number,
    ownership_metadata,
)

ME = TaskIdentity(dag_id="d", task_id="t", run_id="r", map_index=3)
ASKED: dict[str, Any] = {"endpoint": "/v1/chat/completions", "model": "m", "content": ["f1", "f2"]}
OURS = ownership_metadata(ME, ASKED)
CHANGED = ownership_metadata(ME, {**ASKED, "content": ["f3"]})

#: A status that nobody knows is no end: the job is paid for.
LIVE = [*sorted(BatchStatus.ACTIVE - {"cancelling"}), "PAUSED"]
USABLE = [*LIVE, "completed"]
LOST = ["failed", "expired", "cancelled", "cancelling"]


def _job(
    batch_id: str, status: str = "in_progress", at: int = 100, metadata: dict | None = OURS
) -> BatchJobOut:
    return BatchJobOut(id=batch_id, status=status, raw_status=status, created_at=at, metadata=metadata)


def _decided(*jobs: BatchJobOut, ours: dict = OURS):
    """The decision by ids; the same whatever the order of the jobs."""
    decisions = {
        (
            decision.attach_to and decision.attach_to.id,
            tuple(job.id for job in decision.cancel),
            tuple(job.id for job in decision.duplicates),
            decision.reason,
        )
        for order in itertools.permutations(jobs)
        for decision in [decide(iter(order), ours)]
    }
    assert len(decisions) == 1
    return decisions.pop()


def test_no_job_yet():
    assert _decided() == (None, (), (), "this task instance has no job yet")


@pytest.mark.parametrize("status", USABLE)
def test_a_job_that_does_the_work_is_ours(status):
    reason = f"it does the same work for this task instance and is {status}"
    assert _decided(_job("a", status)) == ("a", (), (), reason)


@pytest.mark.parametrize("status", LOST)
def test_a_job_that_did_not_and_will_not_is_followed_by_a_new_one(status):
    assert _decided(_job("a", status)) == (None, (), (), f"the previous job a is {status}")


@pytest.mark.parametrize("lost", LOST)
@pytest.mark.parametrize("usable", USABLE)
def test_a_usable_job_after_lost_ones(lost, usable):
    decided = _decided(_job("a", lost, 1), _job("b", lost, 2), _job("c", usable, 3))
    assert decided[:3] == ("c", (), ())


@pytest.mark.parametrize("lost", LOST)
@pytest.mark.parametrize("usable", USABLE)
def test_partial_results_are_no_reason_to_leave_a_job_that_has_or_brings_all(lost, usable):
    partial = msgspec.structs.replace(_job("a", lost, 1), output_file_id="out")
    decision = decide([partial, _job("b", usable, 2)], OURS, keep_partial=True)
    assert decision.attach_to is not None
    assert (decision.attach_to.id, decision.cancel, decision.duplicates) == ("b", [], [])


@pytest.mark.parametrize(
    ("first", "second", "cancelled"),
    [
        ("in_progress", "in_progress", ("b",)),
        ("in_progress", "completed", ()),
        ("completed", "in_progress", ("b",)),
        ("completed", "completed", ()),
        ("validating", "finalizing", ("b",)),
    ],
)
def test_of_several_the_oldest_and_the_others_are_named(first, second, cancelled):
    decided = _decided(_job("a", first, 1), _job("b", second, 2))
    assert decided[:3] == ("a", cancelled, ("b",))


def test_of_several_of_the_same_second_the_same_one_each_time():
    assert _decided(_job("b", at=5), _job("a", at=5))[0] == "a"


@pytest.mark.parametrize(
    ("status", "cancelled"),
    [*((status, ("old",)) for status in LIVE), *((status, ()) for status in ["completed", *LOST])],
)
def test_changed_input_is_submitted_and_the_old_job_cancelled_if_it_runs(status, cancelled):
    assert _decided(_job("old", status), ours=CHANGED) == (
        None,
        cancelled,
        (),
        "the requests or their parameters have changed since batch job old",
    )


def test_changed_input_that_was_submitted_already():
    decided = _decided(_job("old", at=1), _job("new", at=2, metadata=CHANGED), ours=CHANGED)
    assert decided[:3] == ("new", ("old",), ())


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {},
        {"description": "by hand"},
        ownership_metadata(TaskIdentity(dag_id="d", task_id="t", run_id="r", map_index=4), ASKED),
        ownership_metadata(TaskIdentity(dag_id="d", task_id="t", run_id="r2", map_index=3), ASKED),
        ownership_metadata(TaskIdentity(dag_id="d", task_id="u", run_id="r", map_index=3), ASKED),
        ownership_metadata(TaskIdentity(dag_id="e", task_id="t", run_id="r", map_index=3), ASKED),
        {KEY: OURS[KEY]},
        {**OURS, "airflow_map_index": 3},
    ],
)
def test_foreign_jobs_are_neither_taken_nor_cancelled(metadata):
    assert _decided(_job("foreign", metadata=metadata))[:3] == (None, (), ())


def test_metadata_of_others_on_our_job_does_no_harm():
    assert _decided(_job("a", metadata={**OURS, "team": "x"}))[0] == "a"


# The key


def test_the_key_stands_for_who_asks_what():
    assert {
        "airflow_dag_id": "d",
        "airflow_task_id": "t",
        "airflow_run_id": "r",
        "airflow_map_index": "3",
        "airflow_key": OURS["airflow_key"],
    } == OURS
    assert len(OURS["airflow_key"]) == 64


def test_the_key_does_not_depend_on_the_order_of_fields():
    assert ownership_metadata(ME, dict(reversed(ASKED.items()))) == OURS
    nested = [{"body": {"a": 1, "b": 2}}], [{"body": {"b": 2, "a": 1}}]
    assert ownership_metadata(ME, {"content": nested[0]}) == ownership_metadata(ME, {"content": nested[1]})


def test_whatever_differs_gives_another_key():
    who = [
        ME,
        TaskIdentity(dag_id="d", task_id="t", run_id="r"),
        TaskIdentity(dag_id="dt", task_id="", run_id="r", map_index=3),
    ]
    other: list[dict[str, Any]] = [{"model": "n"}, {"content": ["f2", "f1"]}, {"more": None}]
    what = [ASKED, *({**ASKED, **fields} for fields in other), {}]
    keys = {ownership_metadata(identity, asked)[KEY] for identity in who for asked in what}
    assert len(keys) == len(who) * len(what)


def test_ours_are_within_the_apis_limits():
    longest = TaskIdentity(dag_id="d" * 250, task_id="t" * 250, run_id="r" * 250, map_index=10**9)
    metadata = ownership_metadata(longest, ASKED)
    assert BatchJobIn(input_files=["f"], metadata=metadata)
    assert max(map(len, metadata)) <= limits.MAX_METADATA_KEY_LENGTH


# The user's metadata


@pytest.mark.parametrize("users", [None, {}])
def test_no_metadata_of_the_users(users):
    assert merged_metadata(OURS, users) == OURS


def test_the_users_metadata_is_kept():
    assert merged_metadata(OURS, {"team": "x", "AIRFLOW_KEY": "y"}) == {
        "team": "x",
        "AIRFLOW_KEY": "y",
        **OURS,
    }


@pytest.mark.parametrize("key", [KEY, "airflow_dag_id", "airflow_anything"])
def test_collisions_are_refused_and_named(key):
    with pytest.raises(InvalidInputError, match=rf"metadata has {key}, .*: rename them"):
        merged_metadata(OURS, {"a": "b", key: "x"})


# Partial results, and task instances with several jobs


@pytest.mark.parametrize(
    ("status", "files", "kept"),
    [
        *((status, {"output_file_id": "out"}, True) for status in ("expired", "cancelled", "failed")),
        *((status, {"error_file_id": "err"}, True) for status in ("expired", "cancelled", "failed")),
        # All its time was over: what is missing is asked again, not all of it.
        ("expired", {}, True),
        ("cancelled", {}, False),
        ("failed", {}, False),
        # It may have more in a moment.
        ("cancelling", {"output_file_id": "out"}, False),
    ],
)
def test_partial_results_can_be_kept(status, files, kept):
    job = BatchJobOut(id="a", status=status, raw_status=status, created_at=1, metadata=OURS, **files)
    assert decide([job], OURS).attach_to is None
    decision = decide([job], OURS, keep_partial=True)
    assert (decision.attach_to and decision.attach_to.id, decision.cancel) == ("a" if kept else None, [])


def _part(part: str) -> dict[str, str]:
    return ownership_metadata(
        TaskIdentity(dag_id="d", task_id="t", run_id="r", map_index=3, part=part), ASKED
    )


def test_parts_of_one_task_instance_leave_each_other_alone():
    first, second = _part("x-1"), _part("x-2")
    assert first[KEY] != second[KEY]
    assert _decided(_job("a", metadata=first), ours=second)[:3] == (None, (), ())


def test_parts_of_what_was_asked_before():
    jobs = [
        _job("now", metadata=_part("x-1")),
        _job("before", metadata=_part("w-1")),
        _job("before, over", "completed", metadata=_part("w-2")),
        _job("before, going", "cancelling", metadata=_part("w-3")),
        _job("before, odd", "PAUSED", metadata=_part("w-4")),
        _job("of one job", metadata=OURS),
        _job("foreign", metadata={}),
    ]
    decision = decide(jobs, _part("x-1"), parts_prefix="x-")
    assert decision.attach_to is jobs[0]
    assert [job.id for job in decision.cancel] == ["before", "before, odd", "of one job"]


def test_another_deployment_is_another_owner() -> None:
    staging, production = (
        TaskIdentity(dag_id="d", task_id="t", run_id="r", deployment=name)
        for name in ("staging", "production")
    )
    ours, theirs = ownership_metadata(staging, {}), ownership_metadata(production, {})
    assert ours["airflow_deployment"] == "staging"
    assert ours[KEY] != theirs[KEY]
    running = BatchJobOut(
        id="theirs", status="in_progress", raw_status="RUNNING", created_at=1, metadata=theirs
    )
    assert decide([running], ours) == decide([], ours)


@pytest.mark.parametrize("names", [("", "staging"), ("staging", "")])
def test_a_deployment_without_a_name_is_another_owner(names: tuple[str, str]) -> None:
    me, other = (TaskIdentity(dag_id="d", task_id="t", run_id="r", deployment=name) for name in names)
    running = _job("theirs", metadata=ownership_metadata(other, {}))
    decision = decide([running], ownership_metadata(me, {"changed": True}), parts_prefix="x")
    assert (decision.attach_to, decision.cancel) == (None, [])


@pytest.mark.parametrize(
    ("value", "number"),
    [("12", 12), ("0", 0), ("", None), ("-1", None), ("1.5", None), ("1" * 12, None), ("١٢", None), (12, 12)],
)
def test_numbers_in_metadata(value, number):
    assert noted_number(_job("a", metadata={"airflow_requests": value}), "airflow_requests") == number
    assert noted_number(_job("a", metadata=None), "airflow_requests") is None


def test_a_deployment_without_a_name_is_not_mentioned() -> None:
    identity = TaskIdentity(dag_id="d", task_id="t", run_id="r")
    assert "airflow_deployment" not in ownership_metadata(identity, {})
