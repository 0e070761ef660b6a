"""The emulator's guide leaves out nothing that can be set; tests/e2e runs its code, as that of all pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from airflow_provider_mistral_batch.emulator.http.control import router
from airflow_provider_mistral_batch.emulator.http.phantoms import JobsIn
from airflow_provider_mistral_batch.emulator.state.faults import Fault
from airflow_provider_mistral_batch.emulator.state.plans import JobPlan
from airflow_provider_mistral_batch.emulator.state.settings import Settings

GUIDE = (Path(__file__).parents[2] / "docs" / "emulator.md").read_text()


@pytest.mark.parametrize("model", [Settings, Fault, JobPlan, JobsIn])
def test_every_field_is_named(model: type[BaseModel]) -> None:
    missing = {name for name in model.model_fields if not re.search(rf"[`(, ]{name}[`=, )]", GUIDE)}
    assert missing <= {"kind", "count"}


def test_every_control_route_is_named() -> None:
    for route in router.routes:
        path = re.sub(r"\{\w+\}", "{id}", route.path)  # type: ignore[attr-defined]
        assert path in GUIDE
