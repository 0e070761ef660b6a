"""The page of batches in a real Airflow: what users see, may do and may not see, in a browser and past it."""

from __future__ import annotations

import re
import time
from urllib.parse import quote

import pytest
import requests
from fastapi.routing import APIRoute

from airflow_provider_mistral_batch.overview.ui.routes import router
from lively_jobs import HOSTILE, of_task

from .conftest import FORBIDDEN_DAG, WRONG_KEY, token

pytestmark = [pytest.mark.timeout(300)]

PAGE = "plugin/mistral-batches"
ROW = ".mb-table tr[data-id]"


def answer(airflow, path, user="chief", method="GET", **options):
    headers = (
        {"Authorization": f"Bearer {token(airflow, user)}", **options.pop("headers", {})} if user else {}
    )
    return requests.request(
        method, f"{airflow.url}/mistral-batches/{path}", headers=headers, timeout=30, **options
    )


def job_of(airflow, **wanted):
    """The newest job with these fields."""
    jobs = answer(airflow, "api/jobs?page_size=1000").json()["jobs"]
    return next(job for job in jobs if all(job[name] == value for name, value in wanted.items()))


def wait_for(condition, seconds=60):
    """Ask until it is so."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come to be"
        time.sleep(0.3)


def open_at(page, airflow, fragment=""):
    page.goto(f"{airflow.url}/{PAGE}{fragment}")
    return page


def test_no_route_answers_strangers(airflow):
    for route in router.routes:
        assert isinstance(route, APIRoute)
        path = re.sub(r"\{\w+\}", "x", route.path).lstrip("/")
        for method in route.methods:
            given = answer(airflow, path, user=None, method=method, json={})
            assert given.status_code == 401, (method, path)


def test_reader_sees_neither_jobs_of_a_forbidden_dag_nor_foreign_ones(airflow):
    chief = answer(airflow, "api/jobs?page_size=1000").json()
    reader = answer(airflow, "api/jobs?page_size=1000", user="reader").json()
    assert FORBIDDEN_DAG in chief["dags"]
    assert FORBIDDEN_DAG not in reader["dags"]
    assert {job["dag_id"] for job in reader["jobs"]} == {job["dag_id"] for job in chief["jobs"]} - {
        FORBIDDEN_DAG,
        None,
    }
    forbidden = job_of(airflow, dag_id=FORBIDDEN_DAG)["id"]
    assert answer(airflow, f"api/jobs/{forbidden}").status_code == 200
    assert answer(airflow, f"api/jobs/{forbidden}", user="reader").status_code == 404
    assert answer(airflow, f"api/dags/{FORBIDDEN_DAG}", user="reader").json()["runs"] == []
    assert forbidden not in answer(airflow, "api/overview", user="reader").text


def test_only_who_may_edit_cancels_and_the_audit_log_says_so(airflow, emulator):
    (job_id,) = emulator.control.make_jobs(
        1, status="RUNNING", metadata=of_task("mistral_batch_nightly", run=9)
    )
    wait_for(lambda: job_id in answer(airflow, "api/jobs?page_size=1000").text)
    path = f"api/jobs/{job_id}/cancel"
    assert answer(airflow, path, user="reader", method="POST", json={}).status_code == 403
    assert answer(airflow, path, method="POST", data="a=b").status_code == 403
    cross_site = {"Sec-Fetch-Site": "cross-site"}
    assert answer(airflow, path, method="POST", json={}, headers=cross_site).status_code == 403
    assert answer(airflow, f"api/jobs/{job_id}").json()["job"]["status"] == "in_progress"
    assert answer(airflow, path, method="POST", json={}).status_code == 200
    assert answer(airflow, f"api/jobs/{job_id}").json()["job"]["status"] in ("cancelling", "cancelled")
    headers = {"Authorization": f"Bearer {token(airflow, 'chief')}"}
    events = requests.get(
        f"{airflow.url}/api/v2/eventLogs?event=mistral_batch_cancel", headers=headers, timeout=30
    ).json()["event_logs"]
    assert [
        (event["owner"], event["dag_id"], job_id in event["extra"])
        for event in events
        if job_id in event["extra"]
    ] == [("chief", "mistral_batch_nightly", True)]


def test_bad_connection_says_so_beside_the_others_jobs(airflow):
    for user in ("chief", "reader"):
        given = answer(airflow, "api/jobs", user=user)
        states = {state["conn_id"]: state for state in given.json()["connections"]}
        assert states["mistral_default"]["ok"]
        assert not states["mistral_wrong"]["ok"]
        assert ("401" in states["mistral_wrong"]["error"]) is (user == "chief")
        assert WRONG_KEY not in given.text


def test_bad_input_names_the_field(airflow):
    given = answer(airflow, "api/jobs?sort=colour")
    assert given.status_code == 422
    assert "sort='colour'" in given.json()["detail"]
    assert answer(airflow, "api/jobs/no-such-job").status_code == 404


def test_table_filters_and_opens_a_job_whose_texts_stay_texts(airflow, page_of):
    page = open_at(page_of("chief"), airflow)
    page.wait_for_selector(ROW)
    page.get_by_label("Status").select_option("expired")
    page.wait_for_function(f"document.querySelectorAll('{ROW}').length === 1")
    page.get_by_label("Status").select_option("")
    job = job_of(airflow, dag_id="mistral_batch_inference")
    page.locator(f"tr[data-id='{job['id']}'] code").click()
    page.wait_for_selector(".mb-timeline")
    assert page.get_by_text(HOSTILE, exact=True).first.is_visible()
    assert page.title() != "run"
    assert page.locator(".mb-page script, .mb-page img").count() == 0
    page.go_back()
    page.wait_for_selector(ROW)


def test_a_failed_job_says_why_in_a_text(airflow, page_of):
    page = open_at(page_of("chief"), airflow, f"#view=job&id={job_of(airflow, status='failed')['id']}")
    page.get_by_role("heading", name="Errors of the job").wait_for()
    assert page.get_by_text(HOSTILE, exact=True).is_visible()
    assert page.title() != "run"
    assert page.locator(".mb-page script, .mb-page img").count() == 0


def test_cancel_asks_first_by_keyboard(airflow, page_of, emulator):
    job = job_of(airflow, dag_id=None, status="in_progress")
    page = open_at(page_of("chief"), airflow, f"#view=job&id={job['id']}")
    cancel = page.get_by_role("button", name="Cancel…")
    cancel.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog[open]", state="hidden")
    cancel.click()
    page.get_by_role("button", name="Cancel the job").click()
    page.wait_for_selector("[data-status=cancelled], [data-status=cancelling]")


def test_reader_has_no_button_to_cancel(airflow, page_of):
    page = open_at(page_of("reader"), airflow)
    page.wait_for_selector(ROW)
    assert page.get_by_role("button", name="Cancel…").count() == 0


def test_overview_shows_orphans(airflow, page_of):
    page = open_at(page_of("chief"), airflow, "#view=overview")
    page.wait_for_selector(".mb-tile")
    page.wait_for_selector(ROW)
    assert "its task instance no longer exists" in page.inner_text(".mb-page")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_a_phone_and_follows_the_colour_scheme(airflow, page_of, scheme):
    page = page_of("chief", viewport={"width": 400, "height": 800}, color_scheme=scheme)
    page.add_init_script(f"localStorage.setItem('theme', '{scheme}')")
    open_at(page, airflow).wait_for_selector(ROW)
    assert page.evaluate("(p => p.scrollWidth - p.clientWidth)(document.querySelector('.mb-page'))") == 0
    # What the browser draws, whatever notation the colour has.
    red = page.evaluate(
        """() => {
            const drawing = document.createElement("canvas").getContext("2d");
            drawing.fillStyle = getComputedStyle(document.querySelector(".mb-page")).color;
            drawing.fillRect(0, 0, 1, 1);
            return drawing.getImageData(0, 0, 1, 1).data[0];
        }"""
    )
    assert (red > 127) is (scheme == "dark")


@pytest.mark.parametrize("width", [400, 1400])
def test_long_names_leave_the_other_columns_in_sight(airflow, page_of, emulator, width):
    metadata = {**of_task("d" * 240, "t" * 240), "team": "long names"}
    (job_id,) = emulator.control.make_jobs(1, model="m" * 500, metadata=metadata, total_requests=5)
    try:
        wait_for(lambda: any(job["id"] == job_id for job in answer(airflow, "api/jobs").json()["jobs"]))
        page = open_at(page_of("chief", viewport={"width": width, "height": 800}), airflow)
        page.wait_for_selector(f"tr[data-id='{job_id}']")
        right_edges = page.evaluate(
            """id => [...document.querySelectorAll(`tr[data-id='${id}'] td[data-title]`)].flatMap(
                cell => [cell, ...cell.children].map(one => one.getBoundingClientRect().right))""",
            job_id,
        )
        assert max(right_edges) <= width
        open_at(page, airflow, f"#view=job&id={job_id}")
        page.wait_for_selector(".mb-timeline")
        assert page.evaluate("(p => p.scrollWidth - p.clientWidth)(document.querySelector('.mb-page'))") == 0
        # The keyboard goes on where the eye is.
        assert "All batches" in page.evaluate("document.activeElement.innerText")
    finally:
        emulator.control.end_jobs([job_id])


def test_task_has_a_tab_with_its_jobs(airflow, page_of, emulator):
    headers = {"Authorization": f"Bearer {token(airflow, 'chief')}"}
    runs = f"{airflow.url}/api/v2/dags/mistral_batch_nightly/dagRuns"
    given = requests.post(
        runs, headers=headers, json={"logical_date": None, "dag_run_id": "seen+here"}, timeout=30
    )
    assert given.ok, given.text
    tasks = requests.get(f"{runs}/seen%2Bhere/taskInstances", headers=headers, timeout=30).json()[
        "task_instances"
    ]
    task_id = tasks[0]["task_id"]
    metadata = {**of_task("mistral_batch_nightly", task_id), "airflow_run_id": "seen+here"}
    (job_id,) = emulator.control.make_jobs(1, status="SUCCESS", metadata=metadata)
    wait_for(lambda: job_id in answer(airflow, "api/jobs?page_size=1000").text)
    page = page_of("chief")
    page.goto(
        f"{airflow.url}/dags/mistral_batch_nightly/runs/seen%2Bhere/tasks/{task_id}/plugin/mistral-batch"
    )
    page.wait_for_selector(f"tr[data-id='{job_id}']")
    page.goto(f"{airflow.url}/dags/mistral_batch_nightly/plugin/mistral-batch-runs")
    page.get_by_text("Requests by run").wait_for()
    # With the cost of what has landed, the page tells what runs will cost.
    manifest = {"results_path": "/nowhere/results.jsonl", "batch_ids": [job_id], "estimated_cost_usd": 2.5}
    returned = f"{runs}/seen%2Bhere/taskInstances/{task_id}/xcomEntries/return_value"
    # Once the task has returned something.
    wait_for(lambda: requests.patch(returned, headers=headers, json={"value": manifest}, timeout=30).ok)
    metadata = {**of_task("mistral_batch_nightly", task_id), "airflow_run_id": "next"}
    (running,) = emulator.control.make_jobs(1, total_requests=2, metadata=metadata)
    page = open_at(page_of("chief"), airflow, f"#text={running}")
    page.locator(f"tr[data-id='{running}']").get_by_text("about $5.00").wait_for(timeout=60_000)
    page.locator(f"tr[data-id='{running}']").get_by_role("link", name=running[:8]).click()
    page.get_by_text("about $5.00 (by earlier jobs of this task)").wait_for()


def test_task_shows_one_map_index_or_all(airflow, emulator):
    metadata = of_task("mistral_batch_mapped", "translate", run=4)
    ids = [
        emulator.control.make_jobs(1, status="SUCCESS", metadata={**metadata, "airflow_map_index": index})[0]
        for index in ("0", "1")
    ]
    wait_for(lambda: set(ids) <= {job["id"] for job in answer(airflow, "api/jobs").json()["jobs"]})
    path = f"api/tasks/mistral_batch_mapped/{quote(metadata['airflow_run_id'], safe='')}/translate"

    def shown(query=""):
        return {job["id"] for job in answer(airflow, path + query).json()["jobs"]}

    assert shown("?map_index=0") == {ids[0]}
    assert shown("?map_index=1") == {ids[1]}
    assert shown() == set(ids)


def test_dead_api_leaves_the_jobs_with_their_age_and_delays_no_other_page(airflow, page_of, emulator):
    page = open_at(page_of("chief"), airflow)
    page.wait_for_selector(ROW)
    rows = page.locator(ROW).count()
    fault = emulator.control.fault("hold", path="/v1/batch/jobs*", times=None)
    try:
        page.reload()
        page.get_by_text("Its jobs are shown as they were").wait_for(timeout=60_000)
        assert page.locator(ROW).count() == rows
        headers = {"Authorization": f"Bearer {token(airflow, 'chief')}"}
        for path in ("api/v2/dags", "mistral-batches/api/jobs"):
            assert requests.get(f"{airflow.url}/{path}", headers=headers, timeout=10).ok
    finally:
        emulator.control.remove_fault(fault)


def test_viewers_share_one_listing(airflow, emulator):
    headers = {"Authorization": f"Bearer {token(airflow, 'chief')}"}
    emulator.control.reset()
    begun = time.monotonic()
    for _ in range(50):
        assert requests.get(f"{airflow.url}/mistral-batches/api/jobs", headers=headers, timeout=30).ok
    refreshes = 1 + (time.monotonic() - begun) / 5
    # Each of two connections: the newest jobs, the running ones, and single jobs that ended meanwhile.
    assert sum(emulator.control.requests().values()) <= 8 * refreshes


def test_five_thousand_jobs(airflow, page_of, emulator):
    emulator.control.make_jobs(5000, status="SUCCESS", metadata=of_task("mistral_batch_nightly", run=3))
    wait_for(lambda: answer(airflow, "api/jobs").json()["total"] >= 5000)
    page = open_at(page_of("chief"), airflow)
    with page.expect_response(re.compile("/mistral-batches/api/jobs")) as given:
        page.reload()
    assert given.value.ok
    page.wait_for_selector(ROW)
    assert re.search(r"page 1 of 1\d\d", page.inner_text(".mb-page"))
    page.get_by_role("button", name="Next").click()
    page.wait_for_function("document.querySelector('.mb-page').innerText.includes('page 2 of')")
