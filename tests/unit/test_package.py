"""The house: which room may import which, and what the built package contains."""

from __future__ import annotations

import ast
import email
import importlib
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import airflow
import jsonschema
import pytest

import airflow_provider_mistral_batch
from airflow_provider_mistral_batch.get_provider_info import get_provider_info

CHECKOUT = Path(__file__).parents[2]
PACKAGE = "airflow_provider_mistral_batch"
SOURCES = CHECKOUT / PACKAGE

#: The rooms, and those that each may import beside itself. Modules beside the rooms belong to the upper floors.
ARROWS: dict[str, set[str]] = {
    "api": set(),
    "emulator": set(),
    "jsonl": {"api"},
    "policies": {"api"},
    "hooks": {"api", "jsonl"},
    "inference": {"api", "jsonl", "policies", "hooks"},
    "links": {"api", "hooks"},
    "triggers": {"api", "policies", "hooks", "inference", "links"},
    "sensors": {"api", "policies", "hooks", "links", "triggers"},
    "operators": {"api", "jsonl", "policies", "hooks", "inference", "links", "triggers", "sensors"},
    "decorators": {
        "api",
        "jsonl",
        "policies",
        "hooks",
        "inference",
        "links",
        "triggers",
        "sensors",
        "operators",
    },
}
WITHOUT_AIRFLOW = ("api", "jsonl", "emulator")
#: The emulator's floors, and those that each may import beside itself. Modules beside the floors may import all.
EMULATOR_ARROWS: dict[str, set[str]] = {
    "state": set(),
    "answers": set(),
    "engine": {"answers", "state"},
    "http": {"answers", "state"},
}


class Import(NamedTuple):
    """One imported module, where, and whether it is imported when the program runs."""

    module: str
    where: str
    at_run_time: bool


def imports_of(room: str) -> Iterator[Import]:
    """Every import below a room, at any depth of its code."""
    for path in sorted((SOURCES / room).rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        for_types_only = {
            id(node)
            for branch in ast.walk(tree)
            if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.dump(branch.test)
            for statement in branch.body
            for node in ast.walk(statement)
        }
        for node in ast.walk(tree):
            where = f"{path.relative_to(CHECKOUT)}:{getattr(node, 'lineno', 0)}"
            at_run_time = id(node) not in for_types_only
            if isinstance(node, ast.Import):
                yield from (Import(alias.name, where, at_run_time) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                if node.level:
                    package = path.relative_to(CHECKOUT).parts[: -node.level]
                    base = ".".join([*package, *([node.module] if node.module else [])])
                else:
                    base = node.module or ""
                # `from package import room` names a module, too.
                names = [f"{base}.{alias.name}" for alias in node.names] if base == PACKAGE else [base]
                yield from (Import(name, where, at_run_time) for name in names)


def rooms_and_modules() -> set[str]:
    """Names of everything right below the package."""
    return {path.stem for path in SOURCES.iterdir() if path.suffix == ".py" or path.is_dir()}


def test_every_room_has_its_arrows() -> None:
    rooms = {path.name for path in SOURCES.iterdir() if (path / "__init__.py").exists()}
    assert rooms == set(ARROWS)


@pytest.mark.parametrize("room", ARROWS)
def test_arrows_go_one_way(room: str) -> None:
    foreign = set(ARROWS) if room not in WITHOUT_AIRFLOW else rooms_and_modules()
    allowed = {room, *ARROWS[room]}
    wrong = [
        found
        for found in imports_of(room)
        if found.module.startswith(f"{PACKAGE}.") and found.module.split(".")[1] in foreign - allowed
    ]
    assert wrong == []


def test_every_floor_of_the_emulator_has_its_arrows() -> None:
    floors = {path.parent.name for path in (SOURCES / "emulator").glob("*/__init__.py")}
    assert floors == set(EMULATOR_ARROWS)


@pytest.mark.parametrize("floor", EMULATOR_ARROWS)
def test_arrows_go_one_way_in_the_emulator(floor: str) -> None:
    allowed = {floor, *EMULATOR_ARROWS[floor]}
    wrong = [
        found
        for found in imports_of(f"emulator/{floor}")
        if f"{found.module}.".startswith(f"{PACKAGE}.emulator.")
        and not allowed.intersection(found.module.split(".")[2:3])
    ]
    assert wrong == []


@pytest.mark.parametrize("room", WITHOUT_AIRFLOW)
def test_rooms_without_airflow_do_not_name_it(room: str) -> None:
    wrong = [
        found for found in imports_of(room) if found.at_run_time and found.module.split(".")[0] == "airflow"
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("room", "never"),
    [
        ("api", r"airflow(\.|$)"),
        ("jsonl", r"airflow(\.|$)"),
        ("emulator", rf"airflow(\.|$)|{PACKAGE}\.(?!emulator(\.|$))"),
    ],
)
def test_a_fresh_interpreter_stays_clean(room: str, never: str) -> None:
    modules = [
        ".".join(path.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((SOURCES / room).rglob("*.py"))
        if path.name != "__main__.py"
    ]
    loaded = modules_after(*modules)
    assert set(modules) <= loaded
    assert [name for name in loaded if re.match(never, name) and name != PACKAGE] == []


def test_parsing_a_dag_loads_only_what_parsing_needs() -> None:
    ours = modules_after("airflow.sdk", f"{PACKAGE}.operators", f"{PACKAGE}.sensors")
    added = ours - modules_after("airflow.sdk")
    heavy = {"requests", "requests_toolbelt", "httpx", "fastapi", "uvicorn", "pyarrow", "numpy", "zstandard"}
    assert {name.split(".")[0] for name in added} & heavy == set()
    # Slow to import, and of use to workers and triggerers alone.
    late = (f"{PACKAGE}.api.transport", f"{PACKAGE}.jsonl", f"{PACKAGE}.triggers.poller", "airflow.models")
    assert [name for name in added if name.startswith(late)] == []


def modules_after(*modules: str) -> set[str]:
    """Names of all modules that a fresh interpreter has after importing these."""
    code = f"import sys, {', '.join(modules)}\nprint('\\n'.join(sys.modules))"
    command = [sys.executable, "-c", code]
    return set(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split())


def test_provider_info_is_valid() -> None:
    schema = json.loads(Path(airflow.__path__[0], "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_connection_form_is_valid() -> None:
    path = Path(airflow.__path__[0], "provider.yaml.schema.json")
    if not path.exists():
        pytest.skip("this Airflow does not ship the schema of connection forms")
    schema = json.loads(path.read_text())["properties"]["connection-types"]
    jsonschema.validate(get_provider_info()["connection-types"], schema)


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


def test_changelog_has_this_version() -> None:
    heading = f"## {airflow_provider_mistral_batch.__version__} "
    assert any(line.startswith(heading) for line in (CHECKOUT / "CHANGELOG.md").read_text().splitlines())
