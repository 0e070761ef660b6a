"""How benchmarks report: a table for people and a line of JSON for ``python -m benchmarks``."""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping, Sequence
from typing import Any

_COMPARISONS = {"at least": operator.ge, "at most": operator.le, "under": operator.lt}


def report(
    title: str, columns: Mapping[str, str], rows: Mapping[str, Mapping[str, Any]], **more: Any
) -> None:
    """
    Print a table and a line of JSON.

    :param title: What was measured.
    :param columns: Heading of each column, by field.
    :param rows: Values by field, for each row's name.
    :param more: Additional fields of the JSON.
    """
    print(f"\n{title}")
    first = max([len(name) for name in rows] + [4]) + 2
    widths = {field: max(len(heading), 8) + 2 for field, heading in columns.items()}
    print(
        "  " + "".ljust(first) + "".join(heading.rjust(widths[field]) for field, heading in columns.items())
    )
    for name, row in rows.items():
        cells = (_shown(row.get(field)).rjust(widths[field]) for field in columns)
        print("  " + name.ljust(first) + "".join(cells))
    print(json.dumps({title: {"rows": rows, **more}}), flush=True)


def check(claims: Sequence[tuple[str, float, str, float]]) -> list[dict[str, Any]]:
    """
    Compare measured values with their targets, and print the result.

    :param claims: For each claim its name, the measured value, ``at least``, ``at most`` or ``under``, and the target.
    """
    checked = []
    for what, measured, comparison, target in claims:
        met = _COMPARISONS[comparison](measured, target)
        checked.append({"what": what, "measured": measured, "target": f"{comparison} {target:g}", "met": met})
        print(f"  {'met   ' if met else 'MISSED'}  {what}: {measured:g}, {comparison} {target:g}")
    return checked


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) < 10 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
