"""Each promise of docs/reliability.md names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "docs" / "reliability.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_the_named_test_exists(path: str, name: str) -> None:
    # The cases of the chaos suite are functions too, and tests by being in its list.
    tree = ast.parse((CHECKOUT / path).read_text("utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_each_promise_names_a_test() -> None:
    promises = [
        line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| Promise")
    ]
    assert len(promises) > 30
    assert [line for line in promises if "::" not in line] == []


def test_each_chaos_case_is_a_promise() -> None:
    tree = ast.parse((CHECKOUT / "tests/chaos/test_faults.py").read_text("utf-8"))
    cases = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and [arg.arg for arg in node.args.args] == ["new_trial", "emulators"]
    }
    assert cases - {name for _, name in NAMED} == set()
