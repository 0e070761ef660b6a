"""The API page of the documentation has every name that users may import, once, and nothing else."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

PACKAGE = "airflow_provider_mistral_batch"
PAGE = Path(__file__).parents[2] / "docs" / "api.md"

#: The modules that users import from; everything else may change in any release.
PUBLIC_MODULES = (
    "operators",
    "sensors",
    "decorators",
    "hooks",
    "results",
    "inference.estimate",
    "tasks.retry_policy",
    "exceptions",
    "emulator",
    "tables",
    "triggers.mistral_batch",
    "triggers.inference",
    "triggers.event",
    "links.mistral_batch",
)

#: ``task`` is Airflow's own; what we add to it is one method, which the stub file describes.
DOCUMENTED_AS = {"decorators.task": "decorators.MistralTaskDecoratorCollection.mistral_batch"}


def public_names() -> list[str]:
    names = []
    for path in PUBLIC_MODULES:
        module = importlib.import_module(f"{PACKAGE}.{path}")
        for name in module.__all__:
            assert hasattr(module, name), f"{path} has no {name}"
            names.append(f"{path}.{name}")
    return names


def test_the_api_page_has_exactly_the_public_names() -> None:
    on_page = re.findall(rf"^::: {PACKAGE}\.(\S+)$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert sorted(on_page) == sorted(DOCUMENTED_AS.get(name, name) for name in public_names())


def test_every_directive_of_the_page_is_read() -> None:
    lines = PAGE.read_text("utf-8").splitlines()
    assert [line for line in lines if line.startswith(":::") and f"::: {PACKAGE}." not in line] == []
