"""Prepares docstrings for the API page: shows cross-references as code, and defaults by value instead of name."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:attr|class|func|meth|mod):`(~)?([\w.]+)`")


class ReadableDocstrings(griffe.Extension):
    """Converts docstrings written for Sphinx to Markdown."""

    def on_instance(self, *, obj: Any, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = _ROLE.sub(_as_code, obj.docstring.value)

    def on_package(self, *, pkg: Any, **_: Any) -> None:
        modules = [pkg]
        for module in modules:
            modules += [member for member in module.modules.values() if not member.is_alias]
            for owner in (module, *module.classes.values()):
                if owner.is_alias:
                    continue
                for function in owner.functions.values():
                    if not function.is_alias:
                        _say_defaults(function, pkg)


def _as_code(role: re.Match[str]) -> str:
    """Return a cross-reference as code; ``~`` means only the last part of the name."""
    return f"`{role[2].rpartition('.')[2] if role[1] else role[2]}`"


def _say_defaults(function: Any, package: Any) -> None:
    """Replace default values that name one of our constants by the constant's value."""
    for parameter in function.parameters:
        path = getattr(parameter.default, "canonical_path", "")
        if path.startswith(f"{package.path}."):
            # Not all can be resolved: names of Airflow that come through one of our modules, and others seen too early.
            with contextlib.suppress(griffe.AliasResolutionError, KeyError):
                constant = package[path.removeprefix(f"{package.path}.")]
                if constant.is_attribute and constant.value is not None:
                    parameter.default = constant.value
