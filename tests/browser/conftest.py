"""A real Airflow with the page of batches, two users, and a Chromium that looks at it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from airflow_provider_mistral_batch.emulator import Emulator
from lively_jobs import make_lively_jobs
from local_airflow import LocalAirflow

#: The Dag that the user ``reader`` may not read.
FORBIDDEN_DAG = "mistral_batch_table"

#: The key of the connection ``mistral_wrong``, which the API refuses.
WRONG_KEY = "wrong-key-of-nobody"

#: Path of Airflow's address. With one, each link and call that leaves it out fails.
PATH = "/air/flow"

AUTH_MANAGER = f'''"""Airflow's simple auth manager, with one Dag that the user reader may not read."""

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager


class OneForbiddenDag(SimpleAuthManager):
    def is_authorized_dag(self, *, user, details=None, **kwargs):
        if details is not None and details.id == "{FORBIDDEN_DAG}" and user.get_name() == "reader":
            return False
        return super().is_authorized_dag(user=user, details=details, **kwargs)
'''


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    with Emulator() as emulator:
        emulator.control.revoke_key(WRONG_KEY)
        make_lively_jobs(emulator)
        yield emulator


@pytest.fixture(scope="session")
def airflow(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAirflow]:
    home = tmp_path_factory.mktemp("airflow")
    (home / "config").mkdir()
    (home / "config" / "one_forbidden_dag.py").write_text(AUTH_MANAGER)
    passwords = home / "passwords.json"
    passwords.write_text(json.dumps({"chief": "chief", "reader": "reader"}))
    connection = {"conn_type": "mistral", "host": emulator.url, "password": emulator.api_key}
    with LocalAirflow(
        home,
        Path(__file__).parents[2] / "example_dags",
        connections={
            "mistral_default": connection,
            "mistral_wrong": {**connection, "password": WRONG_KEY},
        },
        settings={
            "core": {
                "simple_auth_manager_all_admins": False,
                "simple_auth_manager_users": "chief:admin,reader:viewer",
                "simple_auth_manager_passwords_file": passwords,
                "auth_manager": "one_forbidden_dag.OneForbiddenDag",
            }
        },
        path=PATH,
    ) as airflow:
        airflow.cli("dags", "reserialize")
        yield airflow


def token(airflow: LocalAirflow, user: str) -> str:
    answer = requests.post(f"{airflow.url}/auth/token", json={"username": user, "password": user}, timeout=30)
    answer.raise_for_status()
    return str(answer.json()["access_token"])


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="install the group browser")
    chromium = shutil.which("chromium") or pytest.skip("install the Debian package chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page_of(browser, airflow: LocalAirflow):
    """Open a page as a user: ``page_of("chief")``."""
    contexts = []

    def open_page(user: str, **options):
        context = browser.new_context(**{"viewport": {"width": 1400, "height": 900}, **options})
        context.add_cookies([{"name": "_token", "value": token(airflow, user), "url": airflow.url}])
        contexts.append(context)
        return context.new_page()

    yield open_page
    for context in contexts:
        context.close()
