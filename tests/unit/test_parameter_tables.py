"""The tables of the documentation have every parameter, option and field that the code has, with its default."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mistral_batch.emulator.state.faults import Fault
from airflow_provider_mistral_batch.emulator.state.plans import JobPlan
from airflow_provider_mistral_batch.emulator.state.settings import Settings
from airflow_provider_mistral_batch.get_provider_info import get_provider_info
from airflow_provider_mistral_batch.hooks import MistralBatchHook
from airflow_provider_mistral_batch.operators import (
    MistralBatchInferenceOperator,
    MistralCancelBatchJobOperator,
    MistralCreateBatchJobOperator,
    MistralDownloadBatchResultsOperator,
    MistralUploadBatchFileOperator,
)
from airflow_provider_mistral_batch.sensors import MistralBatchJobSensor
from airflow_provider_mistral_batch.tables import AnswerColumns, Documents, FileRows, SqlRows, SqlTable
from airflow_provider_mistral_batch.triggers.event import MistralBatchEventTrigger

CHECKOUT = Path(__file__).parents[2]

TASKS: dict[str, Any] = {
    "operators/inference": MistralBatchInferenceOperator,
    "operators/upload": MistralUploadBatchFileOperator,
    "operators/create": MistralCreateBatchJobOperator,
    "operators/cancel": MistralCancelBatchJobOperator,
    "operators/download": MistralDownloadBatchResultsOperator,
    "operators/sensor": MistralBatchJobSensor,
}

#: Parameters of Airflow's own that a table shows beside ours.
OF_AIRFLOW = {"poke_interval", "timeout", "mode", "soft_fail", "…"}


def page(name: str) -> str:
    return (CHECKOUT / "docs" / f"{name}.md").read_text("utf-8")


def rows(text: str) -> list[list[str]]:
    """The cells of the tables in a text, without their heads."""
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [
        [cell.strip() for cell in line.strip("|\n").split(" | ")]
        for table in tables
        for line in table.splitlines()[2:]
    ]


def section(name: str) -> str:
    return page(name).split("## Parameters\n")[1].split("\n## ")[0]


def names(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


def parameters(callable_: Any) -> dict[str, inspect.Parameter]:
    return {
        name: one
        for name, one in inspect.signature(callable_).parameters.items()
        if one.kind is not inspect.Parameter.VAR_KEYWORD
    }


@pytest.mark.parametrize("name", TASKS)
def test_a_page_has_exactly_the_parameters(name: str) -> None:
    own = set(parameters(TASKS[name]))
    shown = [one for row in rows(section(name)) for one in names(row[0])]
    assert len(shown) == len(set(shown))
    assert own - set(shown) == set()
    assert set(shown) - own - OF_AIRFLOW == set()


@pytest.mark.parametrize("name", TASKS)
def test_a_page_has_the_defaults(name: str) -> None:
    own = parameters(TASKS[name])
    for row in rows(section(name)):
        of_row = [one for one in names(row[0]) if one in own]
        literals = [one.strip("`").replace(",", "") for one in re.split(r", |; ", row[2])] if row[2:] else []
        for one, shown in zip(of_row, literals, strict=False):
            default = own[one].default
            if isinstance(default, (bool, str)) and one != "deferrable":
                assert shown.strip('"') == str(default), one
            elif isinstance(default, (int, float)):
                assert one == "deferrable" or float(shown) == default, one


@pytest.mark.parametrize("name", ["operators/upload", "operators/download", "operators/sensor"])
def test_a_page_has_the_templated_parameters(name: str) -> None:
    line = re.search(r"^Templated: (.*)\.", section(name), re.MULTILINE)
    assert line is not None
    assert names(line[1]) == list(TASKS[name].template_fields)


def test_all_parameters_of_sources_and_targets_are_on_their_page() -> None:
    told = page("tables")
    for part in (SqlRows, FileRows, Documents, SqlTable, AnswerColumns):
        for name in parameters(part):
            assert re.search(rf"\b{name}\b", told), f"{part.__name__}: {name}"


def test_all_arguments_of_the_event_trigger_are_on_their_page() -> None:
    told = page("events_and_assets")
    assert [name for name in parameters(MistralBatchEventTrigger) if f"`{name}`" not in told] == []


def test_all_methods_of_the_hook_are_on_its_page() -> None:
    public = [
        name
        for name, one in vars(MistralBatchHook).items()
        if inspect.isfunction(one) and not name.startswith("_")
    ]
    told = page("hook")
    # The first two are Airflow's interface; the others serve our own tasks.
    others = {"get_conn", "test_connection", "model_of_job", "model_of_rows", "known_jobs"}
    assert [name for name in public if name not in others and not re.search(rf"`{name}\b", told)] == []
    assert [name for name in parameters(MistralBatchHook) if f"{name}=" not in told] == []


def test_the_readme_has_all_fields_of_the_connection() -> None:
    fields = get_provider_info()["connection-types"][0]["conn-fields"]
    told = (CHECKOUT / "README.md").read_text("utf-8")
    table = {
        names(row[0])[0]: row
        for row in rows(told.split("## Connection\n")[1].split("\n## ")[0])
        if names(row[0])
    }
    assert set(table) == set(fields)
    for name, field in fields.items():
        default = field["schema"].get("default")
        if default is not None:
            assert table[name][2].strip("`") == str(default), name


def test_the_page_of_the_emulator_has_its_settings_faults_and_plans() -> None:
    told = page("emulator")
    options = told.split("## Options\n")[1].split("\n## ")[0]
    shown = {names(row[0])[0]: row for row in rows(options) if names(row[0])}
    for name, setting in Settings.model_fields.items():
        literal = shown[name][1].strip("`").replace(",", "")
        assert literal == setting.default or float(literal) == setting.default, name
    for model in (Fault, JobPlan):
        # A fault's kind heads its table.
        assert [name for name in model.model_fields if name != "kind" and f"`{name}`" not in told] == []
