"""What Airflow learns of the page, and what the plugin costs where nobody looks at it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from airflow.api_fastapi.core_api.security import get_user
from fastapi.routing import APIRoute

from airflow_provider_mistral_batch.overview.ui import plugin
from airflow_provider_mistral_batch.overview.ui.plugin import MistralBatchPlugin

from ....airflow_versions import since


@since("3.1.1", "it shows the page")
def test_every_route_depends_on_a_user() -> None:
    (given,) = MistralBatchPlugin().fastapi_apps
    for route in given["app"].routes:
        assert isinstance(route, APIRoute), f"{route} has no dependencies"
        dependencies, calls = [route.dependant], []
        while dependencies:
            one = dependencies.pop()
            calls.append(one.call)
            dependencies += one.dependencies
        assert get_user in calls, f"{route.path} is open to anyone"


@pytest.mark.parametrize(("version", "parts"), [("3.0.6", 0), ("3.1.0", 0), ("3.1.1", 3), ("3.3.2", 3)])
def test_page_is_where_airflow_can_show_it(monkeypatch: pytest.MonkeyPatch, version: str, parts: int) -> None:
    monkeypatch.setattr(plugin, "__version__", version)
    assert len(MistralBatchPlugin().react_apps) == parts
    assert len(MistralBatchPlugin().fastapi_apps) == min(1, parts)


def test_addresses_have_the_path_of_base_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://example.org/deep/airflow/")
    urls = [app["bundle_url"] for app in MistralBatchPlugin().react_apps]
    assert all(url.startswith("/deep/airflow/mistral-batches/static/page.js?part=") for url in urls)


def test_import_loads_no_web_framework() -> None:
    code = (
        "import sys, airflow.plugins_manager; before = set(sys.modules); "
        "import airflow_provider_mistral_batch.overview.ui.plugin; "
        "print(*sorted(name for name in set(sys.modules) - before if not name.startswith('airflow_provider')))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert not [
        name
        for name in loaded
        if name.partition(".")[0] in ("fastapi", "starlette", "requests", "pydantic", "airflow")
    ]
