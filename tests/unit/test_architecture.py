"""The house: which room imports which, in what order they stand, and what a process loads."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

CHECKOUT = Path(__file__).parents[2]
PACKAGE = "airflow_provider_mistral_batch"
SOURCES = CHECKOUT / PACKAGE


def _rooms() -> dict[str, set[str]]:
    """The table of rooms in ARCHITECTURE.md: what each imports, from the top of the house to its ground."""
    page = (CHECKOUT / "ARCHITECTURE.md").read_text("utf-8")
    table = page.partition("## The rooms")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([\w/]+)` \|[^|]*\|([^|]*)\|$", table, re.MULTILINE)
    return {room: set(re.findall(r"[\w/]+", imports)) for room, imports in rows}


ROOMS = _rooms()
WITHOUT_AIRFLOW = ("api", "policies", "storage", "jsonl", "emulator")


class Import(NamedTuple):
    """One import of a module: by which other one, in which line, and whether it runs or is for types alone."""

    by: str
    module: str
    line: int
    at_run_time: bool


@cache
def modules() -> dict[str, ast.Module]:
    """All modules of the package by their names, read."""
    return {
        ".".join(path.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__"): ast.parse(
            path.read_text("utf-8")
        )
        for path in sorted(SOURCES.rglob("*.py"))
    }


@cache
def imports() -> tuple[Import, ...]:
    """Every import of every module, at any depth of its code."""
    return tuple(_imports())


def _imports() -> Iterator[Import]:
    for name, tree in modules().items():
        for_types_only = {
            id(node)
            for branch in ast.walk(tree)
            if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.dump(branch.test)
            for statement in branch.body
            for node in ast.walk(statement)
        }
        for node in ast.walk(tree):
            at_run_time = id(node) not in for_types_only
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{name}, line {node.lineno}: imports are absolute here"
                # `from package import module` names a module, too.
                targets = [
                    full if (full := f"{node.module}.{alias.name}") in modules() else str(node.module)
                    for alias in node.names
                ]
            else:
                continue
            yield from (Import(name, target, node.lineno, at_run_time) for target in dict.fromkeys(targets))


def in_room(module: str, room: str) -> bool:
    """Whether a module is in a room, or in one within it."""
    return f"{module}.".startswith(f"{PACKAGE}.{room}.")


@cache
def room_of(module: str) -> str | None:
    """The room of a module, the innermost that has a row; none for the package itself and for what is not ours."""
    package, *parts = module.split(".")
    if package != PACKAGE or not parts:
        return None
    for depth in range(len(parts), 0, -1):
        if (room := "/".join(parts[:depth])) in ROOMS:
            return room
    raise AssertionError(f"{module} is in no room of ARCHITECTURE.md")


def test_every_room_has_its_place() -> None:
    assert {room for module in modules() if (room := room_of(module))} == set(ROOMS)


def test_the_house_can_be_overlooked() -> None:
    names = {path.name for path in SOURCES.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert len(names - {"__pycache__", "__init__.py", "__main__.py"}) <= 22


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_what_is_written_and_nothing_else(room: str) -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for one in imports():
        target = room_of(one.module)
        if target is not None and room_of(one.by) == room != target:
            found[target].append(f"{one.by}, line {one.line}")
    undeclared = {target: places for target, places in found.items() if target not in ROOMS[room]}
    assert undeclared == {}
    assert ROOMS[room] - set(found) == set(), "no longer imported"


def test_arrows_go_down() -> None:
    order = list(ROOMS)
    upward = [
        f"{room} -> {target}"
        for room, targets in ROOMS.items()
        for target in targets
        if order.index(target) <= order.index(room)
    ]
    assert upward == []


def test_modules_import_each_other_in_no_circle() -> None:
    graph: dict[str, set[str]] = defaultdict(set)
    for one in imports():
        if one.module in modules():
            graph[one.by].add(one.module)
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize(
    ("floor", "above"), [("requests", {"results"}), ("lines|custom_ids|row_ids", {"results", "requests"})]
)
def test_the_floors_of_the_data_path(floor: str, above: set[str]) -> None:
    upward = [
        one
        for one in imports()
        if re.match(rf"{PACKAGE}\.jsonl\.({floor})\b", one.by)
        and one.module.startswith(tuple(f"{PACKAGE}.jsonl.{wing}" for wing in above))
    ]
    assert upward == []


@pytest.mark.parametrize("room", WITHOUT_AIRFLOW)
def test_rooms_without_airflow_do_not_name_it(room: str) -> None:
    # Object storage is Airflow's: it is imported where a path turns out to be in one.
    wrong = [
        one
        for one in imports()
        if in_room(one.by, room)
        and one.at_run_time
        and one.module.split(".")[0] == "airflow"
        and one.by != f"{PACKAGE}.storage.paths"
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("room", "never"),
    [
        ("api", r"airflow(\.|$)"),
        ("policies", r"airflow(\.|$)"),
        ("storage", r"airflow(\.|$)"),
        ("jsonl", r"airflow(\.|$)"),
        ("emulator", rf"airflow(\.|$)|{PACKAGE}\.(?!emulator(\.|$))"),
    ],
)
def test_a_fresh_interpreter_stays_clean(room: str, never: str) -> None:
    of_room = [name for name in modules() if in_room(name, room) and not name.endswith("__main__")]
    loaded = modules_after(*of_room)
    assert set(of_room) <= loaded
    assert [name for name in loaded if re.match(never, name) and name != PACKAGE] == []


def test_parsing_a_dag_loads_only_what_parsing_needs() -> None:
    # As any Dag does that has a ``@task``. Airflow 3.0 itself loads some of its models for that.
    airflow = ("airflow.sdk", "airflow.sdk.bases.decorator")
    added = modules_after(*airflow, f"{PACKAGE}.operators", f"{PACKAGE}.sensors") - modules_after(*airflow)
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
