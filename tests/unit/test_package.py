"""What the built package contains, and what Airflow is told of it."""

from __future__ import annotations

import email
import importlib
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import airflow
import jsonschema
import pytest

import airflow_provider_mistral_batch
from airflow_provider_mistral_batch.api.retries import RetryPolicy
from airflow_provider_mistral_batch.api.transport import DEFAULT_TIMEOUT
from airflow_provider_mistral_batch.get_provider_info import get_provider_info

CHECKOUT = Path(__file__).parents[2]
PACKAGE = "airflow_provider_mistral_batch"
SOURCES = CHECKOUT / PACKAGE


def test_provider_info_is_valid() -> None:
    schema = json.loads(Path(airflow.__path__[0], "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_connection_form_is_valid() -> None:
    path = Path(airflow.__path__[0], "provider.yaml.schema.json")
    if not path.exists():
        pytest.skip("this Airflow does not ship the schema of connection forms")
    schema = json.loads(path.read_text())["properties"]["connection-types"]
    jsonschema.validate(get_provider_info()["connection-types"], schema)


def test_registries_find_what_is_named() -> None:
    (entry,) = get_provider_info()["integrations"]
    for guide in entry["how-to-guide"]:
        page = guide.removeprefix("/docs/airflow-provider-mistral-batch/")
        assert (CHECKOUT / "docs" / page).is_file(), guide
    path = Path(airflow.__path__[0], "provider.yaml.schema.json")
    schema = json.loads(path.read_text()) if path.exists() else {"properties": {}}
    if (
        tags := schema["properties"]
        .get("integrations", {})
        .get("items", {})
        .get("properties", {})
        .get("tags")
    ) and tags.get("maxItems") != 1:  # Before it was read by registries, the field took one tag.
        jsonschema.validate(entry["tags"], tags)


def test_provider_info_names_what_exists() -> None:
    info = get_provider_info()
    for kind in ("hooks", "operators", "sensors", "triggers"):
        for entry in info[kind]:
            for module in entry["python-modules"]:
                importlib.import_module(module)
    classes = [entry["hook-class-name"] for entry in info["connection-types"]] + info["extra-links"]
    for name in classes:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


def test_the_connection_form_shows_the_defaults_that_count() -> None:
    (entry,) = get_provider_info()["connection-types"]
    shown = {name: field["schema"].get("default") for name, field in entry["conn-fields"].items()}
    defaults = {"dialect": "mistral", "timeout": DEFAULT_TIMEOUT[1], "retries": RetryPolicy().attempts}
    assert shown == {**dict.fromkeys(shown), **defaults}


def test_airflows_page_of_providers_links_to_a_page_that_exists() -> None:
    # Without this, it makes up a page in Airflow's own documentation.
    urls = importlib.metadata.metadata("airflow-provider-mistral-batch").get_all("Project-URL") or []
    (entry,) = get_provider_info()["integrations"]
    assert f"Documentation, {entry['external-doc-url']}" in urls


def test_connection_type_is_the_hooks() -> None:
    (entry,) = get_provider_info()["connection-types"]
    module, _, attribute = entry["hook-class-name"].rpartition(".")
    hook = getattr(importlib.import_module(module), attribute)
    assert (hook.conn_type, hook.hook_name) == (entry["connection-type"], entry["hook-name"])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built from a copy of its sources: building leaves files beside them."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    shutil.copytree(SOURCES, source / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.cfg", "LICENSE", "README.md"):
        if (CHECKOUT / name).exists():
            shutil.copy(CHECKOUT / name, source)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    (built,) = out.glob("*.whl")
    return built


def test_wheel_has_every_source_file(wheel: Path) -> None:
    expected = {
        str(path.relative_to(CHECKOUT))
        for path in SOURCES.rglob("*")
        if path.is_file() and not any(part.startswith((".", "__pycache__")) for part in path.parts)
    }
    packed = set(zipfile.ZipFile(wheel).namelist())
    assert expected == {name for name in packed if name.startswith(f"{PACKAGE}/")}
    assert f"{PACKAGE}/py.typed" in packed
    assert any(name.endswith("licenses/LICENSE") for name in packed)


def test_wheel_is_found_as_a_provider(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    (found,) = importlib.metadata.distributions(path=[str(tmp_path)])
    assert found.name == "airflow-provider-mistral-batch"
    assert found.version == airflow_provider_mistral_batch.__version__
    (entry,) = found.entry_points.select(group="apache_airflow_provider")
    assert entry.value == f"{get_provider_info.__module__}:{get_provider_info.__name__}"


def test_every_dependency_is_pinned(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = email.message_from_bytes(archive.read(name))
    needed = {re.match(r"[\w.-]+", line)[0] for line in metadata.get_all("Requires-Dist", [])}  # type: ignore[index]
    pinned = {line.partition("==")[0] for line in (CHECKOUT / "constraints.txt").read_text().splitlines()}
    assert needed <= pinned


def test_every_pin_has_hashes() -> None:
    text = (CHECKOUT / "constraints.txt").read_text("utf-8")
    without = re.findall(r"^[\w.-]+==(?!.*\\\n    --hash=sha256:).*$", text, re.MULTILINE)
    assert text.count("==") > 100
    assert without == []


def test_changelog_has_this_version() -> None:
    heading = f"## {airflow_provider_mistral_batch.__version__} "
    assert any(line.startswith(heading) for line in (CHECKOUT / "CHANGELOG.md").read_text().splitlines())
