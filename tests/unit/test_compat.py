"""Airflow's names come from where every supported version has them; a version that is too old is named at once."""

from __future__ import annotations

import ast
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


@pytest.mark.parametrize(
    "module",
    [
        "operators",
        "operators.mistral_batch",
        "sensors",
        "hooks.mistral_batch",
        "decorators",
        "decorators.mistral_batch",
        "links.mistral_batch",
        "inference.batch",
        "triggers.starting",
    ],
)
@pytest.mark.parametrize("version", ["2.11.2", "3.0.4"])
def test_an_airflow_that_is_too_old_is_named(version: str, module: str, tmp_path: Path) -> None:
    # An Airflow that has nothing but its version.
    (tmp_path / "airflow").mkdir()
    (tmp_path / "airflow" / "__init__.py").write_text(f"__version__ = {version!r}\n")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; import airflow_provider_mistral_batch.{module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert last == (
        "ImportError: airflow-provider-mistral-batch needs Airflow 3.0.6 or newer, "
        f"and this is {version}: upgrade Airflow"
    )


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
