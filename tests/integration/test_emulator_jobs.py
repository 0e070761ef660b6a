"""The emulator's batch jobs over a socket: their course, their results, and what goes wrong with them."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest
from requests_toolbelt.sessions import BaseUrlSession

from airflow_provider_mistral_batch.emulator import Emulator
from airflow_provider_mistral_batch.emulator.client import Control

JOBS = "/v1/batch/jobs"
CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "What is this?"}]}

Create = Callable[..., dict[str, Any]]
Until = Callable[..., dict[str, Any]]


@pytest.fixture
def create(api: BaseUrlSession) -> Create:
    """Makes a job from a number of good rows, or from the text of a file."""

    def create(rows: int | str | bytes = 4, **fields: Any) -> dict[str, Any]:
        if isinstance(rows, int):
            rows = "\n".join(json.dumps({"custom_id": f"row-{n}", "body": BODY}) for n in range(rows))
        upload = api.post("/v1/files", files={"file": ("rows.jsonl", rows)}, data={"purpose": "batch"})
        body = {"input_files": [upload.json()["id"]], "endpoint": CHAT, "model": "some-model", **fields}
        answer = api.post(JOBS, json=body)
        assert answer.status_code == 200, answer.text
        job: dict[str, Any] = answer.json()
        return job

    return create


@pytest.fixture
def until(api: BaseUrlSession) -> Until:
    """Polls a job until something is so; without a condition until it is over."""

    def until(job_id: str, condition: Callable[[dict[str, Any]], object] | None = None) -> dict[str, Any]:
        deadline = time.monotonic() + 30
        while True:
            job: dict[str, Any] = api.get(f"{JOBS}/{job_id}").json()
            if condition(job) if condition else job["completed_at"] is not None:
                return job
            assert time.monotonic() < deadline, job
            time.sleep(0.01)

    return until


@pytest.fixture
def results(api: BaseUrlSession) -> Callable[[str | None], list[dict[str, Any]]]:
    """The rows of a result file; none if there is none."""

    def results(file_id: str | None) -> list[dict[str, Any]]:
        if file_id is None:
            return []
        return [json.loads(line) for line in api.get(f"/v1/files/{file_id}/content").text.splitlines()]

    return results


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["custom_id"] for row in rows]


def test_a_job_moves_through_its_statuses_and_its_counts_grow(
    control: Control, create: Create, until: Until
) -> None:
    control.plan_jobs(validation_seconds=0.2, job_seconds=0.6)
    seen: list[tuple[str, int, int]] = []
    job_id = create(20)["id"]

    def look(job: dict[str, Any]) -> bool:
        assert job["completed_requests"] == job["succeeded_requests"] + job["failed_requests"]
        seen.append((job["status"], job["total_requests"], job["completed_requests"]))
        return job["completed_at"] is not None

    until(job_id, look)
    statuses = list(dict.fromkeys(status for status, _, _ in seen))
    assert statuses == ["QUEUED", "RUNNING", "SUCCESS"]
    assert {total for status, total, _ in seen if status == "QUEUED"} == {0}
    assert {total for status, total, _ in seen if status != "QUEUED"} == {20}
    counts = [done for _, _, done in seen]
    assert counts == sorted(counts)
    assert any(0 < done < 20 for done in counts)


def test_a_row_is_in_one_of_the_two_files(
    control: Control, create: Create, until: Until, results: Any
) -> None:
    rows = [{"custom_id": f"row-{n}", "body": BODY if n % 2 else {"messages": "text"}} for n in range(7)]
    job = until(create("\n".join(map(json.dumps, rows)))["id"])
    assert (job["status"], job["succeeded_requests"], job["failed_requests"]) == ("SUCCESS", 3, 4)
    succeeded, failed = results(job["output_file"]), results(job["error_file"])
    assert ids(succeeded) == ["row-1", "row-3", "row-5"]
    assert ids(failed) == ["row-0", "row-2", "row-4", "row-6"]
    assert {row["response"]["status_code"] for row in succeeded} == {200}
    for row in failed:
        assert row["response"]["status_code"] == 422
        assert row["response"]["body"]["detail"][0]["loc"][:2] == ["body", "messages"]
        assert row["error"] is None


def test_a_row_at_which_the_emulator_fails_does_not_fail_the_job(
    emulator: Emulator, create: Create, until: Until, results: Any
) -> None:
    # No value satisfies it: each needs another one inside.
    endless = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    asked = {"type": "json_schema", "json_schema": {"name": "endless", "schema": endless}}
    rows = [
        {"custom_id": "bad", "body": {**BODY, "response_format": asked}},
        {"custom_id": "good", "body": BODY},
    ]
    job = until(create("\n".join(map(json.dumps, rows)))["id"])
    assert (job["status"], job["succeeded_requests"], job["failed_requests"]) == ("SUCCESS", 1, 1)
    [failed] = results(job["error_file"])
    assert (failed["custom_id"], failed["response"]["status_code"]) == ("bad", 500)
    assert f"Row 1 of batch job {job['id']} cannot be answered" in emulator.log
    assert "RecursionError" in emulator.log


def test_without_success_there_is_no_output_file(create: Create, until: Until, results: Any) -> None:
    job = until(create('{"body": {}}\n{"body": {}}')["id"])
    assert (job["status"], job["output_file"]) == ("SUCCESS", None)
    assert ids(results(job["error_file"])) == ["0", "1"]


def test_without_failure_there_is_no_error_file(create: Create, until: Until) -> None:
    job = until(create(2)["id"])
    assert job["output_file"] is not None
    assert job["error_file"] is None


def test_rows_without_an_id_are_numbered(create: Create, until: Until, results: Any) -> None:
    row = json.dumps({"body": BODY})
    job = until(create(f'{row}\n\n{{"custom_id": "named", "body": {json.dumps(BODY)}}}\n{row}')["id"])
    assert ids(results(job["output_file"])) == ["0", "named", "2"]


def test_several_input_files_are_one_job(
    api: BaseUrlSession, create: Create, until: Until, results: Any
) -> None:
    files = []
    for number in range(3):
        row = json.dumps({"custom_id": f"file-{number}", "body": BODY})
        answer = api.post("/v1/files", files={"file": ("a.jsonl", row)}, data={"purpose": "batch"})
        files.append(answer.json()["id"])
    job = until(create(input_files=files)["id"])
    assert job["input_files"] == files
    assert ids(results(job["output_file"])) == ["file-0", "file-1", "file-2"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no requests"),
        ("\n\n", "no requests"),
        ('{"body": {}}\n{"body": ', "Line 2: not valid JSON"),
        (b'{"body": {"a": "\xff"}}', "Line 1: not valid JSON"),
        ('{"custom_id": "a"}', "Line 1: not a request"),
        ('{"body": []}', "Line 1: not a request"),
        ("[]", "Line 1: not a request"),
        ('{"custom_id": 7, "body": {}}', "Line 1: not a request"),
        ('{"url": "/v1/embeddings", "body": {}}', "Line 1: url is '/v1/embeddings'"),
        ('{"method": "GET", "body": {}}', "Line 1: method is 'GET'"),
        (
            '{"custom_id": "a", "body": {}}\n\n{"custom_id": "a", "body": {}}',
            "Line 3: custom_id 'a' is already on line 1",
        ),
        ('{"custom_id": "1", "body": {}}\n{"body": {}}', "Line 2: custom_id '1' is already on line 1"),
    ],
)
def test_an_input_that_is_not_as_it_must_be_fails_the_job(
    create: Create, until: Until, content: str | bytes, message: str
) -> None:
    job = until(create(content)["id"])
    assert (job["status"], job["total_requests"], job["output_file"]) == ("FAILED", 0, None)
    [error] = job["errors"]
    assert set(error) == {"message", "count"}
    assert message in error["message"]


def test_problems_of_the_same_kind_are_counted(create: Create, until: Until) -> None:
    job = until(create('{"body": {}}\nnothing\nnothing\n{"body": 1}')["id"])
    assert [error["count"] for error in job["errors"]] == [2, 1]


def test_method_and_url_are_tolerated(create: Create, until: Until) -> None:
    row = {"custom_id": "a", "method": "POST", "url": CHAT, "body": BODY}
    assert until(create(json.dumps(row))["id"])["succeeded_requests"] == 1


@pytest.mark.parametrize(
    ("job_fields", "body_fields", "model"),
    [
        ({"model": "job-model"}, {}, "job-model"),
        ({"model": "job-model"}, {"model": "row-model"}, "row-model"),
        ({"model": None}, {"model": "row-model"}, "row-model"),
        ({"model": None, "agent_id": "ag_1"}, {}, "agent:ag_1"),
        ({"model": None}, {}, None),
    ],
)
def test_the_model_comes_from_the_row_or_the_job(
    create: Create,
    until: Until,
    results: Any,
    job_fields: dict[str, Any],
    body_fields: dict[str, Any],
    model: str | None,
) -> None:
    row = json.dumps({"custom_id": "a", "body": {**BODY, **body_fields}})
    job = until(create(row, **job_fields)["id"])
    if model is None:
        [failed] = results(job["error_file"])
        assert failed["response"]["body"]["detail"][0] == {
            "loc": ["body", "model"],
            "msg": "Field required",
            "type": "missing",
        }
    else:
        assert results(job["output_file"])[0]["response"]["body"]["model"] == model


def test_the_same_job_gives_the_same_answers(create: Create, until: Until, results: Any) -> None:
    bodies = []
    for _ in range(2):
        rows = results(until(create(3)["id"])["output_file"])
        bodies.append([{**row["response"]["body"], "created": 0} for row in rows])
    assert bodies[0] == bodies[1]


def test_a_cancelled_job_keeps_what_was_done(
    control: Control, api: BaseUrlSession, create: Create, until: Until, results: Any
) -> None:
    control.settings(cancel_seconds=0.2)
    control.plan_jobs(job_seconds=2)
    job_id = create(100)["id"]
    until(job_id, lambda job: job["completed_requests"] > 3)
    assert api.post(f"{JOBS}/{job_id}/cancel").json()["status"] == "CANCELLATION_REQUESTED"
    assert api.post(f"{JOBS}/{job_id}/cancel").json()["status"] == "CANCELLATION_REQUESTED"
    job = until(job_id)
    assert job["status"] == "CANCELLED"
    assert 3 < job["completed_requests"] < 100
    assert len(results(job["output_file"])) == job["succeeded_requests"]


def test_a_job_that_is_cancelled_at_once_has_no_output(
    control: Control, api: BaseUrlSession, create: Create, until: Until
) -> None:
    control.plan_jobs(validation_seconds=60)
    job_id = create()["id"]
    api.post(f"{JOBS}/{job_id}/cancel")
    job = until(job_id)
    assert (job["status"], job["started_at"], job["output_file"]) == ("CANCELLED", None, None)


@pytest.mark.parametrize(("setting", "status"), [("unchanged", 200), ("error", 400)])
def test_cancelling_a_finished_job(
    control: Control, api: BaseUrlSession, create: Create, until: Until, setting: str, status: int
) -> None:
    control.settings(cancel_finished=setting)
    job = until(create()["id"])
    answer = api.post(f"{JOBS}/{job['id']}/cancel")
    assert answer.status_code == status
    assert answer.json().get("status", "SUCCESS") == "SUCCESS"
    assert api.get(f"{JOBS}/{job['id']}").json() == job


def test_a_job_times_out_with_what_was_done(
    control: Control, create: Create, until: Until, results: Any
) -> None:
    # An hour passes in a second.
    control.settings(speed=3600)
    control.plan_jobs(job_seconds=7200)
    job = until(create(100, timeout_hours=1)["id"])
    assert job["status"] == "TIMEOUT_EXCEEDED"
    assert 0 < job["completed_requests"] < 100
    assert len(results(job["output_file"])) == job["completed_requests"]


def test_speed_changes_jobs_that_run(control: Control, create: Create, until: Until) -> None:
    control.plan_jobs(job_seconds=3600)
    job_id = create()["id"]
    until(job_id, lambda job: job["status"] == "RUNNING")
    control.settings(speed=100_000)
    assert until(job_id)["status"] == "SUCCESS"


def test_a_deleted_job_stops(control: Control, api: BaseUrlSession, create: Create, until: Until) -> None:
    control.plan_jobs(job_seconds=60)
    job_id = create()["id"]
    until(job_id, lambda job: job["status"] == "RUNNING")
    assert api.delete(f"{JOBS}/{job_id}").json() == {"id": job_id, "object": "batch", "deleted": True}
    assert api.get(f"{JOBS}/{job_id}").status_code == 404
    assert api.get(JOBS).json()["total"] == 0
    [record] = [job for job in control.jobs() if job["id"] == job_id]
    assert record["deleted"]


def test_a_deleted_input_is_read_to_its_end(
    control: Control, api: BaseUrlSession, create: Create, until: Until, results: Any
) -> None:
    control.plan_jobs(validation_seconds=0.2, job_seconds=0.3)
    job = create(20)
    assert api.delete(f"/v1/files/{job['input_files'][0]}").status_code == 200
    assert len(results(until(job["id"])["output_file"])) == 20


def test_room_for_pending_requests(control: Control, api: BaseUrlSession, create: Create) -> None:
    control.settings(max_pending_requests=10)
    control.plan_jobs(job_seconds=60, times=None)
    create(6)
    inline = {"requests": [{"body": BODY}] * 5, "endpoint": CHAT}
    answer = api.post(JOBS, json=inline)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "60")
    assert "6 are pending" in answer.json()["message"]
    answer = api.post(JOBS, json={**inline, "requests": [{"body": BODY}] * 11})
    assert answer.status_code == 400
    assert api.post(JOBS, json={**inline, "requests": [{"body": BODY}] * 4}).status_code == 200


def test_an_input_of_another_purpose_is_refused(api: BaseUrlSession) -> None:
    file_id = api.post("/v1/files", files={"file": ("a.jsonl", "{}")}, data={"purpose": "fine-tune"}).json()[
        "id"
    ]
    answer = api.post(JOBS, json={"input_files": [file_id], "endpoint": CHAT})
    assert answer.status_code == 400
    assert answer.json()["param"] == "input_files"


def test_listing_lags(control: Control, api: BaseUrlSession, create: Create) -> None:
    control.settings(listing_lag=0.4)
    job_id = create()["id"]
    assert api.get(JOBS).json() == {"data": [], "object": "list", "total": 0}
    assert api.get("/v1/batches").json()["data"] == []
    assert api.get(f"{JOBS}/{job_id}").status_code == 200
    deadline = time.monotonic() + 30
    while not api.get(JOBS).json()["total"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    "parameters",
    [{"metadata": '{"team": "red"}'}, {"metadata[team]": "red"}, {"team": "red"}],
    ids=["json", "deep object", "exploded form"],
)
def test_metadata_can_be_written_in_three_ways(
    api: BaseUrlSession, create: Create, parameters: dict[str, str]
) -> None:
    wanted = create(metadata={"team": "red", "part": "1"})["id"]
    create(metadata={"team": "blue"})
    create()
    listed = api.get(JOBS, params=parameters).json()
    assert ([job["id"] for job in listed["data"]], listed["total"]) == ([wanted], 1)


def test_empty_parameters_are_none(api: BaseUrlSession, create: Create) -> None:
    create()
    parameters = {"model": "", "agent_id": "", "metadata": "", "created_after": ""}
    assert api.get(JOBS, params=parameters).json()["total"] == 1


@pytest.mark.parametrize("model", ["' OR 1=1 --", "%", '"'])
def test_hostile_filters_match_nothing(api: BaseUrlSession, create: Create, model: str) -> None:
    create()
    assert api.get(JOBS, params={"model": model}).json()["total"] == 0
    assert api.get(JOBS, params={f"metadata[{model}]": model}).json()["total"] == 0


def test_created_after_is_strict_and_knows_fractions(
    control: Control, api: BaseUrlSession, create: Create
) -> None:
    made = create()["id"]
    [created] = [job["created"] for job in control.jobs() if job["id"] == made]
    for seconds, total in ((created - 0.001, 1), (created, 0), (created + 0.001, 0)):
        moment = datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="microseconds")
        assert api.get(JOBS, params={"created_after": moment}).json()["total"] == total, seconds


def test_workspaces_see_nothing_of_each_other(
    control: Control, api: BaseUrlSession, create: Create, until: Until
) -> None:
    job = until(create()["id"])
    stranger = {"Authorization": "Bearer stranger-" + uuid.uuid4().hex}
    for path in (f"{JOBS}/{job['id']}", f"/v1/files/{job['output_file']}", f"/v1/batches/{job['id']}"):
        assert api.get(path).status_code == 200
        assert api.get(path, headers=stranger).status_code == 404
    assert api.get(JOBS, headers=stranger).json()["total"] == 0
    assert api.post(f"{JOBS}/{job['id']}/cancel", headers=stranger).status_code == 404
    body = {"input_files": job["input_files"], "endpoint": CHAT}
    assert api.post(JOBS, json=body, headers=stranger).status_code == 404


def test_a_rotated_key_keeps_its_workspace(control: Control, api: BaseUrlSession, create: Create) -> None:
    job_id = create()["id"]
    new_key = "new-" + uuid.uuid4().hex
    control.add_key(new_key, same_workspace_as=control.api_key)
    control.revoke_key(control.api_key)
    answer = api.get(f"{JOBS}/{job_id}")
    assert (answer.status_code, answer.json()["type"]) == (401, "unauthorized")
    api.headers["Authorization"] = f"Bearer {new_key}"
    assert api.get(f"{JOBS}/{job_id}").status_code == 200
    assert api.get(JOBS, params={"created_by_me": "true"}).json()["total"] == 0
    control.add_key(control.api_key, same_workspace_as=new_key)
    api.headers["Authorization"] = f"Bearer {control.api_key}"
    assert api.get(f"{JOBS}/{job_id}").status_code == 200


def test_clock_skew(control: Control, api: BaseUrlSession, create: Create, until: Until) -> None:
    control.settings(clock_skew=-300)
    answer = api.get(JOBS)
    date = datetime.strptime(answer.headers["Date"], "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=timezone.utc)
    assert -310 < date.timestamp() - time.time() < -290
    job = until(create()["id"])
    assert -310 < job["created_at"] - time.time() < -290
    assert job["created_at"] <= job["started_at"] <= job["completed_at"]


def test_jobs_out_of_thin_air(control: Control, api: BaseUrlSession, until: Until) -> None:
    own = control.make_jobs(250, metadata={"team": "red"}, age_seconds=600, total_requests=7)
    control.make_jobs(50, key="stranger-" + uuid.uuid4().hex)
    active = {"status": ["QUEUED", "RUNNING", "CANCELLATION_REQUESTED"], "page_size": 100}
    pages = [api.get(JOBS, params={**active, "page": page}).json() for page in range(4)]
    assert [len(page["data"]) for page in pages] == [100, 100, 50, 0]
    assert {page["total"] for page in pages} == {250}
    assert {job["id"] for page in pages for job in page["data"]} == set(own)
    assert 590 < time.time() - pages[0]["data"][0]["created_at"] < 630
    assert control.end_jobs(own[:1], status="FAILED") == 1
    assert until(own[0])["errors"]
    assert control.end_jobs(metadata={"team": "red"}) == 249
    job = until(own[249])
    assert (job["status"], job["succeeded_requests"]) == ("SUCCESS", 7)
    assert api.get(f"/v1/files/{job['output_file']}/content").content == b""
    assert control.record()["jobs"] == [
        one for one in control.record(phantoms=True)["jobs"] if not one["phantom"]
    ]


def test_jobs_out_of_thin_air_end_when_their_time_has_come(control: Control, until: Until) -> None:
    soon, later = control.make_jobs(2, ends_after=[0.1, 3600])
    assert until(soon)["status"] == "SUCCESS"
    assert until(later, lambda job: True)["status"] == "RUNNING"


def test_a_job_out_of_thin_air_that_has_failed_says_why(control: Control, api: BaseUrlSession) -> None:
    for plan, said in (
        (None, ["The job failed"]),
        ({"errors": ["no such model", "no"]}, ["no such model", "no"]),
    ):
        (job_id,) = control.make_jobs(1, status="FAILED", plan=plan)
        assert [error["message"] for error in api.get(f"{JOBS}/{job_id}").json()["errors"]] == said
    (job_id,) = control.make_jobs(1, status="CANCELLED")
    assert api.get(f"{JOBS}/{job_id}").json()["errors"] == []


@pytest.mark.parametrize("status", ["SUCCESS", "FAILED", "TIMEOUT_EXCEEDED", "CANCELLED"])
def test_a_job_can_be_ended_now(
    control: Control, create: Create, until: Until, results: Any, status: str
) -> None:
    control.plan_jobs(job_seconds=3600)
    job_id = create(9)["id"]
    until(job_id, lambda job: job["status"] == "RUNNING")
    control.end_jobs([job_id], status=status)
    job = until(job_id)
    assert job["status"] == status
    assert len(results(job["output_file"])) == (9 if status == "SUCCESS" else 0)


def test_the_record_counts_requests(control: Control, api: BaseUrlSession, create: Create) -> None:
    control.reset()
    job_id = create()["id"]
    for _ in range(3):
        api.get(f"{JOBS}/{job_id}")
    api.get(f"{JOBS}/{uuid.uuid4()}")
    record = control.record()
    assert record["requests"] == {"POST /v1/files": 1, f"POST {JOBS}": 1, f"GET {JOBS}/{{id}}": 4}
    assert record["answers"][f"GET {JOBS}/{{id}} 404"] == 1
    assert (record["total_requests"], record["most_in_flight"]) == (6, 1)


def test_latency(control: Control, api: BaseUrlSession) -> None:
    control.settings(latency=0.2)
    started = time.monotonic()
    api.get(JOBS)
    assert time.monotonic() - started >= 0.2


def test_unknown_settings_are_refused(control: Control) -> None:
    before = control.settings()
    for changes in ({"nonsense": 1}, {"speed": 0}, {"latency": -1}, {"cancel_finished": "maybe"}):
        with pytest.raises(ValueError, match="422"):
            control.settings(**changes)
    assert control.settings() == before


def test_many_jobs_at_once(control: Control, api: BaseUrlSession) -> None:
    # A worker a job would be too slow, a transaction a job too.
    control.settings(validation_seconds=0.5)
    made = [
        api.post(JOBS, json={"requests": [{"body": BODY}], "endpoint": CHAT, "model": "m"})
        for _ in range(200)
    ]
    assert {answer.status_code for answer in made} == {200}
    deadline = time.monotonic() + 30
    while api.get(JOBS, params={"status": "SUCCESS"}).json()["total"] < 200:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("tool", "name"),
    [
        ({"type": "web_search"}, "web_search"),
        ({"type": "web_search_premium"}, "web_search_premium"),
        ({"type": "image_generation"}, "image_generation"),
        ({"type": "code_interpreter"}, "code_interpreter"),
        ({"type": "document_library", "library_ids": ["a"]}, "document_library"),
        ({"type": "connector", "connector_id": "my-connector"}, "my-connector"),
    ],
)
def test_tools_that_the_api_runs_give_choices_with_messages(
    create: Create, until: Until, results: Any, tool: dict[str, Any], name: str
) -> None:
    models = pytest.importorskip("mistralai.client.models", reason="the official SDK is not installed")
    function = {"type": "function", "function": {"name": "f", "parameters": {}}}
    bodies = [{**BODY, "tools": [function, tool]}, {**BODY, "tools": [tool], "tool_choice": "none"}]
    bodies.append({**BODY, "tools": [tool, function], "tool_choice": "any"})
    rows = "\n".join(json.dumps({"custom_id": str(n), "body": body}) for n, body in enumerate(bodies))
    job = until(create(rows)["id"])
    answers = [row["response"]["body"]["choices"] for row in results(job["output_file"])]
    [choice] = answers[0]
    assert "message" not in choice
    assert choice["finish_reason"] == "stop"
    models.ChatCompletionChoice.model_validate(choice)
    call, result, answer = choice["messages"]
    assert call["tool_calls"][0]["function"]["name"] == name
    assert result["tool_call_id"] == call["tool_calls"][0]["id"]
    assert answer["content"][0]["text"]
    assert "messages" not in answers[1][0]
    assert answers[2][0]["message"]["tool_calls"][0]["function"]["name"] == "f"


@pytest.mark.parametrize(
    "tool", [{"type": "document_library"}, {"type": "connector"}, {"type": "nonsense"}, {}]
)
def test_tools_that_are_incomplete_fail_their_row(create: Create, until: Until, tool: dict[str, Any]) -> None:
    job = until(create(json.dumps({"custom_id": "a", "body": {**BODY, "tools": [tool]}}))["id"])
    assert job["failed_requests"] == 1


def test_finish_reasons_can_be_planned(create: Create, until: Until, results: Any, control: Control) -> None:
    whole = until(create(1)["id"])
    control.plan_jobs(failed_rows=1, unfinished_rows=3, finish_reasons=["error", "model_length"])
    job = until(create(5)["id"])
    [text] = [
        row["response"]["body"]["choices"][0]["message"]["content"] for row in results(whole["output_file"])
    ]
    choices = [row["response"]["body"]["choices"][0] for row in results(job["output_file"])]
    assert [choice["finish_reason"] for choice in choices] == [
        "model_length",
        "error",
        "model_length",
        "stop",
    ]
    assert [choice["message"]["content"] for choice in choices] == [text[: len(text) // 2]] * 3 + [text]
    control.plan_jobs(unfinished_rows="all", finish_reasons=["length"])
    tool = json.dumps({"custom_id": "a", "body": {**BODY, "tools": [{"type": "web_search"}]}})
    [row] = results(until(create(tool)["id"])["output_file"])
    assert row["response"]["body"]["choices"][0]["finish_reason"] == "length"
