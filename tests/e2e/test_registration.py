"""Airflow's own commands know the provider."""

from __future__ import annotations

import json

import pytest

import airflow_provider_mistral_batch
from local_airflow import LocalAirflow


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (
            "list",
            {
                "package_name": "airflow-provider-mistral-batch",
                "version": airflow_provider_mistral_batch.__version__,
            },
        ),
        ("hooks", {"connection_type": "mistral"}),
        (
            "links",
            {
                "extra_link_class_name": "airflow_provider_mistral_batch.links.mistral_batch.MistralBatchJobLink"
            },
        ),
    ],
)
def test_provider_is_listed(airflow: LocalAirflow, command: str, shown: dict[str, str]) -> None:
    # The command logs before it prints its rows.
    rows = json.loads(airflow.cli("providers", command, "--output", "json").splitlines()[-1])
    assert [row for row in rows if shown.items() <= row.items()]
