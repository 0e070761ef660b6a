"""Airflow's ``task``. Imported from here, it also shows ``mistral_batch`` to editors and type checkers."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import task

__all__ = ["task"]
