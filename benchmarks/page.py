"""Writes results into ``docs/performance.md``: ``python benchmarks/page.py benchmarks/results/<when>.json``."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"

#: The text between these markers is replaced.
_PLACE = re.compile(r"(<!-- results of (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(page: str, found: Mapping[str, Any]) -> str:
    """
    Replace the text between the page's markers.

    :param page: The page's text.
    :param found: Results from ``python -m benchmarks``; the text for benchmarks that did not run stays.
    """

    def replaced(place: re.Match[str]) -> str:
        name = place[2]
        if name == "machine":
            return f"{place[1]}{_machine(found)}\n{place[3]}"
        if name not in found["benchmarks"]:
            return place[0]
        tables = "\n".join(
            _tables(title, result) for title, result in found["benchmarks"][name]["results"].items()
        )
        return f"{place[1]}{tables}{place[3]}"

    return _PLACE.sub(replaced, page)


def _machine(found: Mapping[str, Any]) -> str:
    facts = found["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items() if version)
    machine = f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gb']} GB, {facts['system']}"
    when = f"{found['begun'][:16].replace('T', ' ')} UTC; load averages before: {facts['load_before']}"
    return f"{machine}. Python {facts['python']}; {packages}. {when}."


def _tables(title: str, result: Mapping[str, Any]) -> str:
    """Write one table, or one for each size, and a table of claims."""
    if "sizes" in result:
        text = "\n".join(
            _table(f"{title}, {int(size):,} rows", rows) for size, rows in result["sizes"].items()
        )
    else:
        text = _table(title, result["rows"])
    if result.get("targets"):
        text += "\n| claim | measured | target | |\n|---|---|---|---|\n"
        for claim in result["targets"]:
            verdict = "met" if claim["met"] else "**missed**"
            text += f"| {claim['what']} | {claim['measured']:g} | {claim['target']} | {verdict} |\n"
    return text


def _table(title: str, rows: Mapping[str, Mapping[str, Any]]) -> str:
    fields = dict.fromkeys(
        field for row in rows.values() for field, value in row.items() if not isinstance(value, list)
    )
    lines = [
        f"| {title} | {' | '.join(field.replace('_', ' ') for field in fields)} |",
        "|---" * (len(fields) + 1) + "|",
        *(
            f"| {name} | {' | '.join(_shown(row.get(field)) for field in fields)} |"
            for name, row in rows.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, (int, float)) else str(value)


def main() -> None:
    """Fill the page from a results file."""
    found = json.loads(Path(sys.argv[1]).read_text())
    PAGE.write_text(fill(PAGE.read_text(), found))


if __name__ == "__main__":
    main()
