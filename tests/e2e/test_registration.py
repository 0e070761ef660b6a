"""Airflow's own commands know the provider."""

from __future__ import annotations

import json
from typing import Any

import pytest

import airflow_provider_mistral_batch
from local_airflow import LocalAirflow


def listed(airflow: LocalAirflow, *command: str) -> list[dict[str, Any]]:
    """Rows that an ``airflow`` command prints as JSON, behind whatever it logs before."""
    return list(json.loads(airflow.cli(*command, "--output", "json").splitlines()[-1]))


def test_dags_have_no_import_errors(airflow: LocalAirflow, runs: dict[str, str]) -> None:
    assert "No data found" in airflow.cli("dags", "list-import-errors")


@pytest.mark.parametrize(
    ("command", "column", "value"),
    [
        (("providers", "list"), "package_name", "airflow-provider-mistral-batch"),
        (("providers", "list"), "version", airflow_provider_mistral_batch.__version__),
        (("providers", "hooks"), "connection_type", "mistral"),
        (
            ("providers", "links"),
            "extra_link_class_name",
            "airflow_provider_mistral_batch.links.mistral_batch.MistralBatchJobLink",
        ),
    ],
)
def test_provider_is_listed(airflow: LocalAirflow, command: tuple[str, ...], column: str, value: str) -> None:
    assert value in [row[column] for row in listed(airflow, *command)]
