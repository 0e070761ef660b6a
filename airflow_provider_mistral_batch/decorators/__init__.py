"""Airflow's ``task``. Imported from here, it also shows ``mistral_batch`` to editors and type checkers."""

from __future__ import annotations

# First, because it names an Airflow that is too old. It has no ``task`` itself, which parsing a Dag may not need.
import airflow_provider_mistral_batch.compat  # noqa: F401

# isort: split
from airflow.sdk import task

__all__ = ["task"]
