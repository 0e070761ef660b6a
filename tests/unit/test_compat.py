"""Airflow's names come from where every supported version has them; a version that is too old is named at once."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_mistral_batch import compat

SOURCES = Path(compat.__file__).parent

#: What Airflow has had in one place since 3.0.6.
IN_ONE_PLACE = {"airflow", "airflow.plugins_manager", "airflow.sdk", "airflow.triggers.base"}
#: What is imported only where it is installed, or by the API server.
OPTIONAL = (
    "airflow.api_fastapi.",
    "airflow.providers.common.ai.",
    "airflow.providers.common.compat.openlineage.",
    "airflow.providers.openlineage.",
)


def imports_at_the_top() -> dict[str, list[str]]:
    """What modules import of Airflow while they are imported themselves."""
    found: dict[str, list[str]] = {}
    for path in SOURCES.rglob("*.py"):
        nodes = [node for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.ImportFrom)]
        names = [str(node.module) for node in nodes if str(node.module).partition(".")[0] == "airflow"]
        names = [name for name in names if not name.startswith(OPTIONAL)]
        if names and path.name != "compat.py":
            found[str(path.relative_to(SOURCES))] = names
    return found


def test_names_that_moved_come_from_one_module() -> None:
    wrong = {path: names for path, names in imports_at_the_top().items() if set(names) - IN_ONE_PLACE}
    assert wrong == {}, "import these from airflow_provider_mistral_batch.compat"


def test_no_newer_provider_is_needed() -> None:
    # Airflow 3.0.6 came with a common-compat provider that has no such module.
    users = [path for path in SOURCES.rglob("*.py") if "common.compat.sdk" in path.read_text("utf-8")]
    assert users == [], (
        "import these from airflow_provider_mistral_batch.compat, or in a function from airflow.sdk"
    )


#: What users import, and what an Airflow or a shell loads by itself.
ENTRANCES = (
    "decorators",
    "decorators.mistral_batch",
    "hooks.mistral_batch",
    "inference.batch",
    "links.mistral_batch",
    "operators",
    "operators.mistral_batch",
    "overview.command_line.commands",
    "results",
    "sensors",
    "triggers.event",
    "triggers.mistral_batch",
    "triggers.starting",
)


@pytest.fixture(params=["2.11.2", "3.0.4"])
def too_old(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The version of an Airflow that lies in a folder and has nothing but what Airflow 2 has there already."""
    (tmp_path / "airflow" / "triggers").mkdir(parents=True)
    (tmp_path / "airflow" / "__init__.py").write_text(f"__version__ = {request.param!r}\n")
    (tmp_path / "airflow" / "triggers" / "base.py").write_text(
        "class BaseTrigger: ...\nclass TriggerEvent: ...\n"
    )
    return str(request.param)


def test_an_airflow_that_is_too_old_is_named(too_old: str, tmp_path: Path) -> None:
    sentence = (
        f"airflow-provider-mistral-batch needs Airflow 3.0.6 or newer, and this is {too_old}: upgrade Airflow"
    )
    code = f"""
import importlib, json, sys
said = {{}}
for name in {ENTRANCES!r}:
    try:
        importlib.import_module(f"airflow_provider_mistral_batch.{{name}}")
    except ImportError as error:
        said[name] = str(error)
print(json.dumps(said))
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, check=True)
    assert json.loads(done.stdout) == dict.fromkeys(ENTRANCES, sentence)
    command = [sys.executable, "-m", "airflow_provider_mistral_batch", "jobs"]
    asked = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, check=False)
    assert (asked.returncode, asked.stderr.splitlines()) == (1, [sentence])


def test_what_needs_no_airflow_works_beside_an_older_one(tmp_path: Path) -> None:
    (tmp_path / "airflow").mkdir()
    (tmp_path / "airflow" / "__init__.py").write_text("__version__ = '2.11.2'\n")
    code = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}]\n"
        "from airflow_provider_mistral_batch import emulator, exceptions\n"
        "from airflow_provider_mistral_batch.api.client import MistralBatchClient\n"
        "from airflow_provider_mistral_batch.jsonl.results import reader"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
